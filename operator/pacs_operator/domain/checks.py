"""The catalog of conformance checks: what each one tries, and which threat it covers.

A result refers to a check by its value and says by enumerated layer and code what answered. Codes are

* ``tls``: ``alert-<name of the TLS alert>``, ``closed``, ``reset``, ``timeout``, ``handshake-failed``;
* ``gate``: ``rj-<result>-<source>-<reason>`` (A-ASSOCIATE-RJ, PS3.8 9.3.4), ``abort``, ``closed``, ``reset``,
  ``timeout``, ``accepted``, ``held-<n>`` (idle connections open while a peer was served), ``late``;
* ``dicom``: ``status-<hex>`` (DIMSE status), ``closed-after-request``, ``context-refused``, ``differs``, ``missing``,
  ``unexpected``, ``matches-<n>``;
* ``network``: ``timeout`` (dropped), ``connected``, ``reset``, ``prohibited`` (ICMP), ``replicas-<n>``;
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
    "handshake-failed|late|missing|no-managed-database|not-reached|nothing-stored|other|out-of-time|prohibited|"
    "reset|server-not-verified|timeout|unexpected|unresolved"
)
#: Of a check that cannot be made while the archive is contained: the gate tells its probes, too, to try later.
CONTAINED = "contained"
_COUNTED = "held|matches|removed|removed-earlier|remains|replicas"
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
    NO_CERTIFICATE_REFUSED = "NoCertificateRefused"
    FOREIGN_CERTIFICATE_REFUSED = "ForeignCertificateRefused"
    BORROWED_AE_TITLE_REFUSED = "BorrowedAETitleRefused"
    WRONG_CALLED_AE_TITLE_REFUSED = "WrongCalledAETitleRefused"
    UNGRANTED_ECHO_REFUSED = "UngrantedEchoRefused"
    UNGRANTED_FIND_REFUSED = "UngrantedFindRefused"
    UNGRANTED_GET_REFUSED = "UngrantedGetRefused"
    PROBE_CONFINED = "ProbeConfined"
    IDLE_CONNECTIONS_HARMLESS = "IdleConnectionsHarmless"
    ORTHANC_UNREACHABLE = "OrthancUnreachable"
    POSTGRES_UNREACHABLE = "PostgresUnreachable"
    CONTROL_FOREIGN_REFUSED = "ControlForeignRefused"
    CONTROL_ROUTE_REFUSED = "ControlRouteRefused"
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


CHECKS: dict[Check, CheckInfo] = {
    Check.GATE_REPLICAS: CheckInfo(
        Group.AVAILABILITY,
        "Every gate replica that the archive wants has an address of its own",
        "A replica that nobody attacked may enforce nothing",
    ),
    Check.ECHO: CheckInfo(
        Group.SERVICE,
        "C-ECHO by the good peer is answered with success",
        "Modalities cannot reach the archive",
        each_replica=True,
    ),
    Check.STORE_IMAGE: CheckInfo(
        Group.SERVICE, "C-STORE of a CT image with pixels is acknowledged", "Images cannot be archived"
    ),
    Check.STORE_REPORT: CheckInfo(
        Group.SERVICE, "C-STORE of a structured report is acknowledged", "Reports and dose records are lost"
    ),
    Check.STORE_DOCUMENT: CheckInfo(
        Group.SERVICE, "C-STORE of an encapsulated PDF is acknowledged", "Scanned documents are lost"
    ),
    Check.STORE_COMPRESSED: CheckInfo(
        Group.SERVICE,
        "C-STORE of an RLE compressed image is acknowledged without transcoding",
        "Compressed images are refused or altered",
    ),
    Check.STORE_CHARACTER_SETS: CheckInfo(
        Group.SERVICE,
        "C-STORE of names in Latin, Cyrillic, Greek, Japanese and Unicode character sets is acknowledged",
        "A patient's name becomes unreadable or matches somebody else",
    ),
    Check.FIND_PATIENT: CheckInfo(
        Group.SERVICE, "C-FIND at PATIENT level finds exactly the probe's patient", "Images cannot be found"
    ),
    Check.FIND_STUDY: CheckInfo(
        Group.SERVICE,
        "C-FIND at STUDY level, by patient and by study, finds the probe's study",
        "Images cannot be found",
    ),
    Check.FIND_SERIES: CheckInfo(
        Group.SERVICE, "C-FIND at SERIES level finds all the probe's series", "Images cannot be found"
    ),
    Check.FIND_IMAGE: CheckInfo(
        Group.SERVICE, "C-FIND at IMAGE level finds every image of a series", "Images cannot be found"
    ),
    Check.GET_EQUAL: CheckInfo(
        Group.SERVICE,
        "C-GET returns every stored object with its transfer syntax and every element unchanged",
        "The archive alters what it was trusted with",
    ),
    Check.PLAINTEXT_REFUSED: CheckInfo(
        Group.TRANSPORT,
        "An association request without TLS is not accepted",
        "Images travel readable through the hospital's network",
        "The same request inside TLS",
        each_replica=True,
    ),
    Check.OLD_TLS_REFUSED: CheckInfo(
        Group.TRANSPORT,
        "A client that speaks at most TLS 1.1 is refused",
        "Traffic is decrypted by attacks on retired protocols (RFC 8996)",
        "The same client with TLS 1.2",
        each_replica=True,
    ),
    Check.NO_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A client without certificate gets no association",
        "Anybody on the network reads and writes images",
        "The same client with its certificate",
        each_replica=True,
    ),
    Check.FOREIGN_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A certificate with the right name signed by another authority gets no association",
        "Whoever can make a certificate becomes a modality",
        "The same name signed by the archive's authority",
        each_replica=True,
    ),
    Check.BORROWED_AE_TITLE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A valid certificate with the AE title of another peer gets no association",
        "One stolen device acts as every other",
        "The same certificate with its own AE title",
        each_replica=True,
    ),
    Check.WRONG_CALLED_AE_TITLE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "An association for another called AE title is rejected",
        "Images meant for another archive end in this one",
        "The same request for the archive's AE title",
        each_replica=True,
    ),
    Check.UNGRANTED_ECHO_REFUSED: CheckInfo(
        Group.RIGHTS,
        "A peer without the right Echo gets no answer to C-ECHO",
        "Orthanc answers to titles it was not told about",
        "C-STORE by the same peer, and C-ECHO by a peer that has the right",
    ),
    Check.UNGRANTED_FIND_REFUSED: CheckInfo(
        Group.RIGHTS,
        "A peer that may only store gets no answer to C-FIND",
        "A stolen modality lists every patient of the hospital",
        "C-STORE by the same peer, and the same C-FIND by a peer that has the right",
    ),
    Check.UNGRANTED_GET_REFUSED: CheckInfo(
        Group.RIGHTS,
        "A peer that may only store gets nothing by C-GET",
        "A stolen modality copies images",
        "C-STORE by the same peer, and the same C-GET by a peer that has the right",
    ),
    Check.PROBE_CONFINED: CheckInfo(
        Group.RIGHTS,
        "The probe's own certificate cannot store an object outside the reserved patient prefix",
        "Who steals the probe's identity plants images in real patients' folders",
        "The same object with the reserved prefix",
    ),
    Check.IDLE_CONNECTIONS_HARMLESS: CheckInfo(
        Group.AVAILABILITY,
        "With idle TCP connections and idle TLS sessions held open, a good peer is served in time",
        "One silent socket stops all modalities",
        "The same echo without idle connections",
        each_replica=True,
    ),
    Check.ORTHANC_UNREACHABLE: CheckInfo(
        Group.NETWORK,
        "Orthanc's DICOM port does not answer a zone that has no business there",
        "Who is in the cluster walks around the gate",
        "The control port of the same pod answers",
    ),
    Check.POSTGRES_UNREACHABLE: CheckInfo(
        Group.NETWORK,
        "PostgreSQL's port does not answer a zone that has no business there",
        "Who is in the cluster reads the index of all patients",
        "The control port of the same pod answers",
    ),
    Check.CONTROL_FOREIGN_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A modality's certificate opens nothing on the control port",
        "A stolen modality removes objects or reads status",
        "The same request with the clean-up certificate",
    ),
    Check.CONTROL_ROUTE_REFUSED: CheckInfo(
        Group.RIGHTS,
        "The clean-up certificate is refused every route but its own",
        "One leaked identity opens all of the control port",
        "Its own route with the same certificate",
    ),
    Check.OBJECTS_REMOVED: CheckInfo(
        Group.CLEANUP,
        "The run's objects are removed by the restricted route and cannot be found any more",
        "Probes fill the archive, and test patients appear in doctors' lists",
    ),
    Check.NO_RESIDUE: CheckInfo(
        Group.CLEANUP,
        "No object of any earlier run is left",
        "A run that died left test patients in doctors' lists",
    ),
}

NETWORK_CHECKS: frozenset[Check] = frozenset(check for check, info in CHECKS.items() if info.group is Group.NETWORK)


def checks_of(*, managed_database: bool) -> frozenset[Check]:
    """Return the checks that an archive can be put to.

    Parameters
    ----------
    managed_database
        Whether it runs its own PostgreSQL; somebody else's is not ours to attack.
    """
    return frozenset(Check) if managed_database else frozenset(Check) - {Check.POSTGRES_UNREACHABLE}
