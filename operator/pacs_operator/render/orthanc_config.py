"""``orthanc.json``: the hardened settings; the agent adds the peers (``DicomModalities``) in the pod.

Misspelt keys are ignored by Orthanc without a word: a test compares every key with those that Orthanc documents.
Facts behind the values were measured with Orthanc 1.13.0.
"""

from typing import Any

from pacs_operator.domain import names, storable
from pacs_operator.domain.agentconfig import IMAGES_DIR, TLS_DIR
from pacs_operator.domain.database import ORTHANC_CONNECTIONS
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Port
from pacs_operator.render import database, web

CONFIG_FILE = "/run/pacs/orthanc/orthanc.json"  # assembled by the agent

_PLUGINS = "/usr/share/orthanc/plugins"
_STORAGE_PLUGIN = "/opt/pacs/storage/libpacs-storage.so"  # the encrypting storage area

# RFC 9325 4.2, OpenSSL's names (IANA's make Orthanc exit); TLS 1.3 suites are not listed here.
TLS12_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
_TLS_1_2 = 4

# Beyond the gate's own limit of associations: health checks, and associations that are still being closed.
_SPARE_THREADS = 8

_USUAL_REPLICAS = 3

_AGENT_THREADS = 10  # of HTTP: the agent's own calls

DICOMWEB = {
    "Enable": True,
    "Root": "/dicom-web/",
    "EnableWado": False,  # WADO-URI is not offered
    "Ssl": True,  # the addresses in answers are the gate's
    "Servers": {},  # it is never a client itself
    "StudiesMetadata": "Full",  # as sent, not what the index has of it
    "SeriesMetadata": "Full",
    "EnableMetadataCache": False,  # a second copy of patients' data beside each image
}

_FIND_LIMIT = 50_000


def render(desired: Desired) -> dict[str, Any]:
    """Return Orthanc's configuration without peers."""
    return {
        "Name": desired.archive.name,
        "DatabaseServerIdentifier": desired.archive.name,  # stays when the pod's host name does not
        **_dicom(desired),
        **_accepted(desired),
        **_dicom_tls(),
        **_rights(),
        **_http(desired),
        **_storage(),
        **_memory(),
        **_plugins(desired),
    }


def _dicom(desired: Desired) -> dict[str, Any]:
    return {
        "DicomServerEnabled": True,
        "DicomPort": Port.ORTHANC_DICOM,
        "DicomAet": desired.archive.spec.dicom.ae_title,
        # Orthanc knows one title: with aliases the gate alone checks, and nobody else reaches this port.
        "DicomCheckCalledAet": not desired.archive.spec.dicom.aliases,
        "StrictAetComparison": True,
        # Orthanc sees the gate's address for every peer: the gate and the network policies check sources.
        "DicomCheckModalityHost": False,
        # Silent associations hold threads in turn: with fewer threads than associations everybody waits.
        "DicomThreadsCount": associations(desired) + _SPARE_THREADS,
        # Modalities pause between series; threads suffice, so patience costs nothing.
        "DicomScpTimeout": 120,
        "MaximumPduLength": 131072,
        # Answers are in UTF-8 or lose characters silently: other encodings turn names into something else.
        "DefaultEncoding": "Utf8",
        # A limit crops priors and ends with success, so it must be out of any real query's reach.
        "LimitFindResults": _FIND_LIMIT,
        "LimitFindInstances": _FIND_LIMIT,
        # Attributes outside the index are read from disk for the answer, not for a search through all files.
        "StorageAccessOnFind": "Answers",
        "TranscodeDicomProtocol": True,  # for a peer that does not know the stored transfer syntax; files stay as sent
        "SynchronousCMove": True,
        # What is sent is a job each, and a device that hangs holds its own: others go on beside it. The plugin looks
        # at jobs that are over, so enough of them have to be remembered.
        "ConcurrentJobs": 16,
        "JobsHistorySize": 1000,
        "DeidentifyLogs": True,
    }


def _accepted(desired: Desired) -> dict[str, Any]:
    """Return what is negotiated at an association; our plugin holds uploads against the same lists."""
    accept = desired.archive.spec.dicom.accept
    return {
        "AcceptedSopClasses": storable.expand(accept.sop_classes, storable.SOP_CLASSES),
        "AcceptedTransferSyntaxes": storable.expand(accept.transfer_syntaxes, storable.TRANSFER_SYNTAXES),
        "UnknownSopClassAccepted": False,
    }


def associations(desired: Desired) -> int:
    """Return how many associations all gate replicas may open together, a rollout's surge included.

    Each replica holds the limit for itself. Up to three replicas count as three, so that adding one does not
    restart Orthanc; not more, since each waiting thread wakes ten times a second.
    """
    gate = desired.archive.spec.gate
    return gate.max_associations * (max(gate.replicas, _USUAL_REPLICAS) + 1)


def _dicom_tls() -> dict[str, Any]:
    """Return TLS towards the gate; minimum version and suites always together (alone each widens the other)."""
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": f"{TLS_DIR}/dicom-server.crt",
        "DicomTlsPrivateKey": f"{TLS_DIR}/dicom-server.key",
        "DicomTlsTrustedCertificates": f"{TLS_DIR}/ca-internal.pem",
        "DicomTlsRemoteCertificateRequired": True,
        "DicomTlsMinimumProtocolVersion": _TLS_1_2,
        "DicomTlsCiphersAccepted": list(TLS12_SUITES),
    }


def _rights() -> dict[str, Any]:
    """Return that nobody may do anything; each peer's entry then says what it may.

    Only with all six false is an unknown title turned away at the association.
    """
    services = ("Echo", "Store", "Find", "FindWorklist", "Get", "Move")
    return {
        **{f"DicomAlwaysAllow{service}": False for service in services},
        # The spec is the source of truth, not what somebody wrote into the database.
        "DicomModalitiesInDatabase": False,
        "OrthancPeersInDatabase": False,
    }


def _web_threads(desired: Desired) -> int:
    """Return one for each request that all gates may have open, a rollout's surge too, and each kept connection."""
    spec = desired.archive.spec
    if spec.dicomweb is None:
        return 0
    gates = max(spec.gate.replicas, _USUAL_REPLICAS) + 1
    return spec.dicomweb.limits.max_concurrent * gates + web.KEPT_CONNECTIONS


def _http(desired: Desired) -> dict[str, Any]:
    """Return HTTP for the agent alone.

    It listens on loopback of a pod whose only other process is the agent, and Orthanc refuses other sources
    itself: a password there would be a secret to keep, and would protect from nobody. Never TLS: Debian's build
    crashes on the first HTTPS request.
    """
    return {
        "HttpServerEnabled": True,
        "HttpPort": Port.ORTHANC_HTTP,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "SslEnabled": False,
        "HttpThreadsCount": _AGENT_THREADS + _web_threads(desired),
        "HttpDescribeErrors": False,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "OrthancExplorerEnabled": False,
        "WebDavEnabled": False,
        "ExecuteLuaEnabled": False,
        "RestApiWriteToFileSystemEnabled": False,
        "MetricsEnabled": True,
    }


def _storage() -> dict[str, Any]:
    """Return an archive that never deletes by itself, and says so when it is full."""
    return {
        "StorageDirectory": IMAGES_DIR,  # not used while the storage plugin keeps the images
        "MaximumStorageSize": 0,
        "MaximumPatientCount": 0,
        "MaximumStorageMode": "Reject",
        # With "Never" the C-STORE filter is skipped and the modality is told that a lost image was stored.
        "OverwriteInstances": "IfChanged",
        "StoreMD5ForAttachments": True,
        "SyncStorageArea": True,
        "StorageCompression": False,
        # Asynchronous archives go there in clear: memory, never a disk. The folder must exist.
        "TemporaryDirectory": "/tmp",  # noqa: S108  # a memory-backed volume of this pod alone
    }


def _memory() -> dict[str, Any]:
    """Return caches and arenas.

    Storage and parser caches are off: storage commitment and integrity checks must read the disk, not what they
    remember. The capacities bound what readers hold at once; a larger object still passes.
    """
    return {
        "MaximumStorageCacheSize": 0,
        "DicomParserCacheSize": 0,
        "TranscoderCacheSize": 0,
        "StorageMemoryCapacity": 256,
        "DicomParserMemoryCapacity": 128,
        "TranscoderMemoryCapacity": 128,
        "MallocArenaMax": 4,
    }


def _plugins(desired: Desired) -> dict[str, Any]:
    """Return the plugins; a path that does not exist stops Orthanc, a missing ``PythonScript`` would not.

    DICOMweb is left out as long as the gate does not offer it.
    """
    encryption = desired.archive.spec.encryption
    plugins = [f"{_PLUGINS}/libOrthancPostgreSQLIndex.so", f"{_PLUGINS}/libOrthancPython.so"]
    if desired.archive.spec.dicomweb:
        plugins.append(f"{_PLUGINS}/libOrthancDicomWeb.so")
    return {
        "Plugins": [_STORAGE_PLUGIN, *plugins] if encryption.on else plugins,
        "PythonScript": "/opt/pacs/plugin/pacs_archive.py",
        "PythonVerbose": False,
        "PacsArchive": {  # read by our Python plugin
            "ReservedPatientPrefix": names.PROBE_PATIENT_PREFIX,
            "ReservedUidRoot": names.PROBE_UID_ROOT,
            "ProbeAETitles": [names.PROBE_AE_TITLE, names.PROBE_STORE_ONLY_AE_TITLE],
            # Orthanc ends when its images lie otherwise; absent, they have to lie in clear.
            **({"StorageEncryption": encryption.mode} if encryption.on else {}),
            "Quarantine": _quarantine(desired),
            **_largest(desired),
        },
        **({"DicomWeb": DICOMWEB} if desired.archive.spec.dicomweb else {}),
        "PostgreSQL": {
            "EnableIndex": True,
            "EnableStorage": False,
            "ConnectionUri": database.connection_uri(desired),
            "Lock": True,  # a second Orthanc on the same data refuses to start
            "IndexConnectionsCount": ORTHANC_CONNECTIONS,
            "MaximumConnectionRetries": 60,
            "ConnectionRetryInterval": 5,
        },
    }


def _largest(desired: Desired) -> dict[str, int]:
    largest = desired.archive.spec.storage.max_object_mi
    return {} if largest is None else {"MaxObjectBytes": largest * 2**20}


def _quarantine(desired: Desired) -> dict[str, int]:
    limits = desired.archive.spec.storage.quarantine
    return {"MaxObjects": limits.max_objects, "MaxBytes": limits.max_gi * 2**30}
