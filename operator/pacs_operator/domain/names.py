"""The names every part agrees on: API group, labels, zones, components, ports."""

from enum import StrEnum

GROUP = "pacs-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FIELD_MANAGER = "pacs-operator"
FINALIZER = f"{GROUP}/archive"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "pacs-operator"
LABEL_ARCHIVE = f"{GROUP}/archive"
LABEL_ARCHIVE_UID = f"{GROUP}/archive-uid"
LABEL_LINEAGE = f"{GROUP}/lineage"
LABEL_ZONE = f"{GROUP}/zone"
LABEL_COMPONENT = f"{GROUP}/component"
LABEL_CONSENT = f"{GROUP}/consent"  # on a namespace made for us beforehand; value: the archive's name

ANNOTATION_REASON = f"{GROUP}/reason"  # why a policy rule exists, for the auditor
ANNOTATION_CONFIG_HASH = f"{GROUP}/config-hash"  # in a pod template: what a restart depends on
ANNOTATION_LIVE_HASH = f"{GROUP}/live-config-hash"  # on a running pod: makes the kubelet refresh volumes at once
ANNOTATION_ENCRYPTION = f"{GROUP}/encryption"  # on the images' volume claim: how they lie there
ANNOTATION_DATABASE = f"{GROUP}/database"  # on the same claim: whose index finds them, where it is not our own
ANNOTATION_IMPORT = f"{GROUP}/import"  # on the Job of a slice: uid of its PacsImport
REENCRYPTING = "Reencrypting"  # value of ANNOTATION_ENCRYPTION until nothing lies in clear any more
ANNOTATION_REENCRYPT = f"{GROUP}/reencrypt-images"  # a token; compared with status.lastHandledReencryptToken
ANNOTATION_RUN_NOW = f"{GROUP}/run-conformance"  # a token; compared with status.lastHandledConformanceToken

# On the zones' namespaces, so that they outlive the resource; admission and adoption read them.
ANNOTATION_LEGAL_HOLD = f"{GROUP}/legal-hold"
ANNOTATION_MINIMUM_YEARS = f"{GROUP}/minimum-years"
ANNOTATION_NEWEST_STORE = f"{GROUP}/newest-store"  # day (UTC) of the last C-STORE that an agent told
ANNOTATION_RELEASE = f"{GROUP}/release-data"  # its value is the object's own name: it may be deleted

MAX_ARCHIVE_NAME = 40

# Reserved for our own probes; ingest refuses it from anyone else (blueprint, decision 10).
PROBE_PATIENT_PREFIX = "PACSPROBE-"
# UUID-derived root (PS3.5 B.2) drawn once for this project; probe objects are "<root>.<run>.<n>".
PROBE_UID_ROOT = "2.25.165380477124072533651147298639174204053"
PROBE_AE_TITLE = "PACSPROBE"
PROBE_STORE_ONLY_AE_TITLE = "PACSPROBE-STORE"
IMPORT_AE_TITLE = "PACSPROBE-IMPORT"  # begins like the probes' titles, so that no DicomPeer can bear it


class Zone(StrEnum):
    """A network zone of one archive; its namespace is ``<archive>-<zone>``."""

    EDGE = "edge"
    ARCHIVE = "archive"
    DATA = "data"
    OPS = "ops"


class Component(StrEnum):
    """A workload of one archive; also the name of its ServiceAccount and its component label."""

    GATE = "gate"
    ORTHANC = "orthanc"
    POSTGRES = "postgres"
    CONFORMANCE = "conformance"
    IMPORTER = "importer"  # has account, policies and pods only while a PacsImport asks for it


ZONE_OF: dict[Component, Zone] = {
    Component.GATE: Zone.EDGE,
    Component.ORTHANC: Zone.ARCHIVE,
    Component.POSTGRES: Zone.DATA,
    Component.CONFORMANCE: Zone.OPS,
    Component.IMPORTER: Zone.OPS,
}


class Port:
    """TCP ports inside the zones."""

    DICOM_TLS = 2762  # IANA dicom-tls, PS3.15
    ORTHANC_DICOM = 4242
    GATE_OUTBOUND = 4243  # Orthanc alone, over mutual TLS
    ORTHANC_HTTP = 8042  # loopback only
    GATE_WEB = 4443  # DICOMweb; the Service has it at 443
    ORTHANC_WEB = 4444  # DICOMweb from the gate alone, over mutual TLS
    HTTPS = 443
    POSTGRES = 5432
    AGENT_HEALTH = 8080  # plain, for the kubelet: two booleans and nothing else
    AGENT_CONTROL = 8443  # mutual TLS: certificate times, per-peer counts, probe clean-up
    DNS = 53


def namespace_of(archive: str, zone: Zone) -> str:
    """Return the namespace of one zone of an archive."""
    return f"{archive}-{zone.value}"


def service_dns(component: Component, archive: str) -> str:
    """Return the cluster-internal DNS name of a component's Service (``<svc>.<ns>.svc``)."""
    return f"{component.value}.{namespace_of(archive, ZONE_OF[component])}.svc"


OUTBOUND_SERVICE = "gate-outbound"


def outbound_dns(archive: str) -> str:
    """Return the cluster-internal DNS name by which Orthanc reaches the gate's outbound side."""
    return f"{OUTBOUND_SERVICE}.{namespace_of(archive, Zone.EDGE)}.svc"


class CaName(StrEnum):
    """The three certificate authorities of one archive; what one vouches for opens nothing of another.

    ``peers`` signs what meets modalities (gate's server leaves, modalities' client leaves), ``internal``
    signs gate, Orthanc and PostgreSQL among themselves, ``control`` signs the agents' control ports and
    those who may ask them.
    """

    PEERS = "peers"
    INTERNAL = "internal"
    CONTROL = "control"


def pki_mount(lineage_id: str, ca: CaName) -> str:
    """Return the Vault mount of one of an archive's authorities, without leading or trailing slash."""
    return f"pacs/{lineage_id}/{ca.value}"


def data_mount(lineage_id: str) -> str:
    """Return the Transit mount that wraps the data keys of an archive's images, without leading or trailing slash."""
    return f"pacs/{lineage_id}/data"


def data_key(archive: str) -> str:
    """Return the Transit key that Orthanc's agent wraps data keys with.

    It bears the ServiceAccount's name: static policies let a pod use the key of its own name and no other.
    """
    return f"{namespace_of(archive, ZONE_OF[Component.ORTHANC])}.{Component.ORTHANC.value}"


def component_role(archive: str, component: Component, leaf: str) -> str:
    """Return the PKI role under which a component's pod has one named leaf signed.

    Static policies are templated on namespace and name of the ServiceAccount, so a pod can only ever use
    roles that start with its own ``<namespace>.<serviceaccount>.``.
    """
    return f"{namespace_of(archive, ZONE_OF[component])}.{component.value}.{leaf}"


def peer_role(namespace: str, name: str) -> str:
    """Return the PKI role (in the ``peers`` mount) that signs exactly one DicomPeer's identity."""
    return f"peer.{namespace}.{name}"
