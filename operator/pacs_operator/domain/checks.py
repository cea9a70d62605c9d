"""The conformance checks by name, and the words in which their results are told; what each tries: `checkcatalog`.

A result refers to a check by its value and says by enumerated layer and code what answered. Codes are

* ``tls``: ``alert-<name of the TLS alert>``, ``closed``, ``reset``, ``timeout``, ``handshake-failed``,
  ``full-handshake`` (nothing was resumed), ``resumed``;
* ``gate``: ``rj-<result>-<source>-<reason>`` (A-ASSOCIATE-RJ, PS3.8 9.3.4), ``http-<status>``, ``abort``, ``closed``,
  ``reset``, ``timeout``, ``accepted``, ``held-<n>`` (idle connections, or silent associations, open while a peer was
  served), ``late``;
* ``dicom``: ``status-<hex>`` (DIMSE status), ``closed-after-request``, ``context-refused``, ``differs``, ``missing``,
  ``unexpected``, ``matches-<n>``;
* ``network``: ``timeout`` (dropped), ``connected``, ``reset``, ``prohibited`` (ICMP), ``replicas-<n>``, ``ports-<n>``
  (of legacy devices there are so many);
* ``control``: ``http-<status>``, ``alert-<name>``, ``closed``, ``remains-<n>``, ``removed-earlier-<n>``;
* ``probe``: why a check did not run: ``client-cannot``, ``contained`` (the gate serves no probe either),
  ``out-of-time``, ``archive-slow``, ``not-reached``, ``unresolved``, ``server-not-verified``, ``nothing-stored``,
  ``no-managed-database``, ``error``;
* everywhere: ``other`` for an answer without a word here. ``CODE`` is this list as a pattern.
"""

from dataclasses import dataclass
from enum import StrEnum

# RFC 8446, 6 and its forerunners, as OpenSSL spells them; the number where it has no name here.
_ALERTS = (
    "close-notify|unexpected-message|bad-record-mac|decryption-failed|record-overflow|decompression-failure|"
    "handshake-failure|no-certificate|bad-certificate|unsupported-certificate|certificate-revoked|"
    "certificate-expired|certificate-unknown|illegal-parameter|unknown-ca|access-denied|decode-error|decrypt-error|"
    "export-restriction|protocol-version|insufficient-security|internal-error|inappropriate-fallback|"
    "user-cancelled|no-renegotiation|missing-extension|unsupported-extension|certificate-unobtainable|"
    "unrecognized-name|bad-certificate-status-response|bad-certificate-hash-value|unknown-psk-identity|"
    "certificate-required|no-application-protocol|[0-9]{1,3}"
)
_WORDS = (
    "abort|accepted|archive-slow|client-cannot|closed|closed-after-request|connected|contained|context-refused|differs|error|"
    "full-handshake|handshake-failed|late|missing|no-managed-database|not-reached|nothing-stored|other|out-of-time|"
    "prohibited|reset|resumed|server-not-verified|timeout|unexpected|unresolved"
)
#: Of a check that cannot be made while the archive is contained: the gate tells its probes, too, to try later.
CONTAINED = "contained"
_COUNTED = "held|matches|ports|removed|removed-earlier|remains|replicas"
CODE = (
    f"^(?:{_WORDS}|alert-(?:{_ALERTS})|(?:{_COUNTED})-[0-9]{{1,6}}|rj-[0-9]{{1,3}}-[0-9]{{1,3}}-[0-9]{{1,3}}|"
    "status-[0-9a-f]{4}|http-[0-9]{3})$"
)


class Layer(StrEnum):
    """Where an attack was refused, or where an act went wrong."""

    NETWORK = "network"
    TLS = "tls"
    GATE = "gate"
    DICOM = "dicom"
    CONTROL = "control"
    PROBE = "probe"


class Group(StrEnum):
    """What a check speaks for."""

    SERVICE = "Service"
    TRANSPORT = "Transport"
    IDENTITY = "Identity"
    RIGHTS = "Rights"
    AVAILABILITY = "Availability"
    INGEST = "Ingest"
    NETWORK = "Network"
    CLEANUP = "Cleanup"


class Check(StrEnum):
    """Every check of a conformance run, in the order of the run."""

    GATE_REPLICAS = "GateReplicas"
    ECHO = "Echo"
    STORE_IMAGE = "StoreImage"
    STORE_REPORT = "StoreReport"
    STORE_DOCUMENT = "StoreDocument"
    STORE_COMPRESSED = "StoreCompressed"
    STORE_CHARACTER_SETS = "StoreCharacterSets"
    FIND_PATIENT = "FindPatient"
    FIND_STUDY = "FindStudy"
    FIND_SERIES = "FindSeries"
    FIND_IMAGE = "FindImage"
    GET_EQUAL = "GetEqual"
    PLAINTEXT_REFUSED = "PlaintextRefused"
    OLD_TLS_REFUSED = "OldTlsRefused"
    STATIC_RSA_REFUSED = "StaticRsaRefused"
    CBC_SUITES_REFUSED = "CbcSuitesRefused"
    NO_CERTIFICATE_REFUSED = "NoCertificateRefused"
    FOREIGN_CERTIFICATE_REFUSED = "ForeignCertificateRefused"
    IMITATED_AUTHORITY_REFUSED = "ImitatedAuthorityRefused"
    PADDED_CHAIN_REFUSED = "PaddedChainRefused"
    SERVER_CERTIFICATE_REFUSED = "ServerCertificateRefused"
    BORROWED_AE_TITLE_REFUSED = "BorrowedAETitleRefused"
    UNKNOWN_AE_TITLE_REFUSED = "UnknownAETitleRefused"
    WRONG_CALLED_AE_TITLE_REFUSED = "WrongCalledAETitleRefused"
    CALLED_AE_TITLE_CASE_REFUSED = "CalledAETitleCaseRefused"
    EXPIRED_CERTIFICATE_REFUSED = "ExpiredCertificateRefused"
    SESSION_RESUMPTION_REFUSED = "SessionResumptionRefused"
    UNGRANTED_ECHO_REFUSED = "UngrantedEchoRefused"
    UNGRANTED_FIND_REFUSED = "UngrantedFindRefused"
    UNGRANTED_GET_REFUSED = "UngrantedGetRefused"
    PROBE_CONFINED = "ProbeConfined"
    UNLISTED_SOP_CLASS_REFUSED = "UnlistedSopClassRefused"
    UNLISTED_TRANSFER_SYNTAX_REFUSED = "UnlistedTransferSyntaxRefused"
    IDLE_CONNECTIONS_HARMLESS = "IdleConnectionsHarmless"
    SLOW_REQUESTS_HARMLESS = "SlowRequestsHarmless"
    SILENT_ASSOCIATIONS_HARMLESS = "SilentAssociationsHarmless"
    ASSOCIATION_LIMIT_HELD = "AssociationLimitHeld"
    ORTHANC_UNREACHABLE = "OrthancUnreachable"
    POSTGRES_UNREACHABLE = "PostgresUnreachable"
    OUTBOUND_GATE_UNREACHABLE = "OutboundGateUnreachable"
    LEGACY_PORTS_CLOSED = "LegacyPortsClosed"
    CONTROL_FOREIGN_REFUSED = "ControlForeignRefused"
    CONTROL_ROUTE_REFUSED = "ControlRouteRefused"
    DIFFERING_DUPLICATE_REFUSED = "DifferingDuplicateRefused"
    WEB_QUERY = "WebQuery"
    WEB_RETRIEVE_EQUAL = "WebRetrieveEqual"
    WEB_NO_CERTIFICATE_REFUSED = "WebNoCertificateRefused"
    WEB_FOREIGN_CERTIFICATE_REFUSED = "WebForeignCertificateRefused"
    WEB_UNGRANTED_REFUSED = "WebUngrantedRefused"
    WEB_ROUTE_REFUSED = "WebRouteRefused"
    WEB_METHOD_REFUSED = "WebMethodRefused"
    OBJECTS_REMOVED = "ObjectsRemoved"
    NO_RESIDUE = "NoResidue"


@dataclass(frozen=True)
class CheckInfo:
    """What people read about a check.

    Parameters
    ----------
    title
        What is tried and what must come of it.
    threat
        What could happen to patients or their data if the check failed.
    twin
        The allowed act that differs in one property and must succeed; None for a positive check, which needs none.
    each_replica
        Whether it is done against every gate replica by address.
    """

    group: Group
    title: str
    threat: str
    twin: str | None = None
    each_replica: bool = False


#: Of an archive that offers DICOMweb.
WEB_CHECKS = frozenset(check for check in Check if check.value.startswith("Web"))


def checks_of(*, managed_database: bool, dicomweb: bool = False) -> frozenset[Check]:
    """Return the checks that an archive can be put to.

    Parameters
    ----------
    managed_database
        Whether it runs its own PostgreSQL; somebody else's is not ours to attack.
    dicomweb
        Whether it offers DICOMweb.
    """
    absent = frozenset() if managed_database else frozenset({Check.POSTGRES_UNREACHABLE})
    return frozenset(Check) - absent - (frozenset() if dicomweb else WEB_CHECKS)
