"""``agent.json``: the contract between the renderers and the sidecar.

Every path is inside the pod. ``/tls`` is a memory-backed volume that the agent writes and its neighbour reads:
``<leaf>.crt`` (chain), ``<leaf>.key`` (0600), ``<leaf>.pem`` (key then chain, for HAProxy), ``ca-<ca>.pem`` and
``crl-<ca>.pem``.
"""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from pacs_operator.domain.model import Model
from pacs_operator.domain.names import CaName, Component
from pacs_operator.domain.offline import Recipient
from pacs_operator.domain.times import parse_time

TLS_DIR = "/tls"
RUN_DIR = "/run/pacs"  # memory-backed: sockets, assembled configuration
WEB_TLS_DIR = "/run/pacs-web/tls"  # memory-backed: copies for the HAProxy beside Orthanc, which has them as TLS_DIR
WEB_RUN_DIR = "/run/pacs-web/run"  # memory-backed: its socket; it has this folder as RUN_DIR
CONFIG_DIR = "/etc/pacs"  # ConfigMap: agent.json and the component's own configuration
PEERS_DIR = "/etc/pacs-peers"  # ConfigMap of its own, so that peers change without touching the rest
VAULT_CA_FILE = "/etc/pacs/vault-ca.pem"
IMAGES_DIR = "/var/lib/orthanc/db"  # the images' volume
SEALED_DIR = f"{IMAGES_DIR}/sealed"  # encrypted images, in the layout of images/archive/storage
STORAGE_KEYS_DIR = f"{IMAGES_DIR}/keys"  # their data keys, wrapped by Vault
DATABASE_CA_FILE = f"{CONFIG_DIR}/database-ca.pem"  # of an external index
DATABASE_SECRET_DIR = "/etc/pacs-database"  # noqa: S105  # a path: Secret with its password, the agent's alone
DATABASE_PASS_FILE = f"{RUN_DIR}/orthanc/pgpass"  # the password as libpq reads it, in memory
STORAGE_RING_FILE = f"{RUN_DIR}/storage.keys"  # the data keys for the storage plugin, in memory
OFFLINE_DIR = "/var/lib/pacs-offline"  # on the node's disk: the one sealed file
OFFLINE_KEY_DIR = "/etc/pacs-offline"  # Secret of a person's, where there is one: the private half and its end
POD_UID = "PACS_POD_UID"  # environment of agents that seal: a sealed file is of one pod
SEALING_FILE = "sealing.json"  # in PEERS_DIR of Orthanc's pod
TOKEN_FILE = "/var/run/secrets/pacs/token"  # noqa: S105  # a path: projected token with Vault's audience


PLAUSIBLE_YEARS = range(2000, 2200)  # whoever reckons with a time of these years meets no overflow


def _plausible(text: str) -> str:
    """Refuse what only looks like a time: each later pass and each scrape would fail on it."""
    if parse_time(text).year not in PLAUSIBLE_YEARS:
        raise ValueError("not a year in which an archive is run")
    return text


CLOCK_SKEW = timedelta(minutes=5)  # of the nodes' clocks, from one another and from the operator's
# An agent is a pod that may have been taken over: what it tells reaches the status only in these forms.
Time = Annotated[  # RFC 3339, UTC, whole seconds
    str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"), AfterValidator(_plausible)
]
Serial = Annotated[str, Field(pattern=r"^[0-9a-f]{2,64}$")]
Reason = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,63}$")]
Word = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]  # what Prometheus' numbers hold exactly
LeafName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
PeerId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,316}$")]  # namespace/name, or probe/<name>
Subject = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,63}$")]


class VaultAccess(Model):
    """How the agent reaches Vault and as what it logs in."""

    address: str
    ca_file: str = VAULT_CA_FILE
    auth_path: str
    role: str
    token_file: str = TOKEN_FILE
    timeout_seconds: int = 10


class Leaf(Model):
    """One certificate the agent keeps fresh, with a key that never leaves the pod's memory."""

    name: LeafName
    ca: CaName
    role: str
    key_type: Literal["EC", "RSA"] = "EC"  # EC P-256; RSA 3072 for modalities that know nothing else
    dns_names: Annotated[list[str], Field(min_length=1, max_length=8)]  # first one is the common name
    ttl_seconds: Annotated[int, Field(ge=10)]


class StorageKeyring(Model):
    """How the data keys of encrypted images are kept."""

    transit_key: Annotated[str, Field(min_length=1, max_length=253)]  # wraps them; bears the pod's own name
    max_age_days: Annotated[int, Field(ge=1, le=3650)]  # after that, new images get a new one
    max_chunks: Annotated[int, Field(ge=2**20, le=2**32)] | None = None  # so many sealed: likewise; 2**32 when absent


class SealingOrders(Model):
    """``sealing.json`` beside ``peers.json``: what is to be done with images that lie on the volume already.

    It takes effect while Orthanc runs. Without it nothing in clear is read.
    """

    clear: bool = False  # images that were stored in clear may be read, and are to be encrypted
    mi_per_second: Annotated[int, Field(ge=1, le=10_000)]
    reseal: Word | None = None  # everything is to be encrypted with the newest data key, once for each such word


class DatabaseAccess(Model):
    """How Orthanc reaches an index that somebody else runs; no password stands here."""

    uri: Annotated[str, Field(max_length=2048)]
    password_file: str | None = None  # mounted from the Secret; None: the client certificate says who it is
    pass_file: str | None = None  # where libpq looks for the password, in memory


class OfflineRecipient(Model):
    """To whom the agent seals what its pod needs for a start while Vault is away."""

    recipient: Recipient


class AgentConfig(Model):
    """All an agent knows; it has no access to the Kubernetes API."""

    component: Component
    lineage_id: str
    vault: VaultAccess
    leaves: list[Leaf]
    trust: list[CaName]  # whose roots (ca-<ca>.pem) and CRLs (crl-<ca>.pem) to keep in /tls
    crl_refresh_seconds: int = 3600
    control_leaf: str | None = None  # leaf that the control port serves; None: no ports at all (jobs)
    control_clients: dict[Literal["status", "cleanup"], str] = {}  # route -> DNS name its caller must carry
    ae_title: str
    orthanc_url: str | None = None  # orthanc: loopback REST
    storage: StorageKeyring | None = None  # orthanc: images are encrypted; None: they are not
    database: DatabaseAccess | None = None  # orthanc: an external index; None: the operator runs it
    outbound_host: str | None = None  # orthanc: the gate's outbound side, the only place it may send to
    outbound_port: int | None = None
    haproxy_socket: str | None = None  # gate: runtime API socket
    haproxy_log_socket: str | None = None  # gate: datagram socket the agent reads association records from
    client_issuers: bool | None = None  # gate: whether it takes certificates of other authorities; None: it does not
    refuse_expired_lists: bool | None = None  # gate: nobody is let in by a revocation list that ended; None: they are
    web: bool | None = None  # gate: DICOMweb is on; absent for agents of earlier releases
    web_socket: str | None = None  # orthanc: runtime API socket of the HAProxy that takes DICOMweb from the gate
    gate_slots: int = 256  # gate: number of peer backends in haproxy.cfg
    postgres_socket_dir: str | None = None  # postgres: UNIX socket folder, for reload and readiness
    offline: OfflineRecipient | None = None  # None: nothing is sealed, and nothing starts without Vault


class Told(Model):
    """What an agent tells: an agent of a later release may tell more than this operator knows."""

    model_config = ConfigDict(extra="ignore")


class LeafStatus(Told):
    """What the control port tells of one leaf; no key material."""

    name: LeafName
    ca: CaName
    serial: Serial  # lower-case hex without separators
    not_before: Time
    not_after: Time
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # fingerprint of the DER leaf
    dns_names: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=8)]
    served_serial: Serial | None = None  # what the neighbour presents, where that can be seen; other: restart pending
    served_not_after: Time | None = None  # end of what the neighbour presents, where the agent knows it


class PeerActivity(Told):
    """Per peer since the agent started; counts and times only."""

    id: PeerId
    last_association: Time | None = None
    last_store: Time | None = None
    stores: Count = 0
    last_rejection: Time | None = None
    last_rejection_reason: Reason | None = None
    rejections: Count = 0
    associations: Count = 0  # accepted; gates alone
    presented_not_after: Time | None = None
    open_associations: Count = 0
    limited: Count = 0  # of the rejections: by the peer's own limits
    last_limited: Time | None = None
    requests: Count = 0  # of DICOMweb, let through
    last_request: Time | None = None

    @property
    def last_traffic(self) -> str | None:
        """Return when a gate last let the peer in, whichever way it came."""
        return max(self.last_association or "", self.last_request or "") or None


class SealingTold(Told):
    """How far the encryption of what lies on the volume is; counts since Orthanc started, but for what is left."""

    kind: Literal["None", "Clear", "Keys"]  # images in clear, or under older data keys
    state: Literal["Idle", "Working", "Waiting", "Done"]  # waiting: what failed is tried again
    problem: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,63}$")] = ""  # of what failed last
    left: Count
    left_bytes: Count
    done: Count
    done_bytes: Count
    failed: Count
    foreign: Count  # files on the volume that are no images
    all_sealed: bool = False  # every image that lay in clear was encrypted, read back and compared
    reseal: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # the last word that was done


class StorageTold(Told):
    """How images lie on the volume, told by the agent beside Orthanc while they are encrypted."""

    active_key: Annotated[int, Field(ge=1, le=2**32 - 1)]  # data key of new images
    keys: Annotated[int, Field(ge=1, le=2**32 - 1)]  # data keys in all, the older ones for older images
    self_test: Reason | None = None  # how the storage plugin's last test of itself ended: Passed, or what failed
    work: SealingTold | None = None
    verified: Time | None = None  # when an object was last written, read back, and not found in clear on the volume


class DatabaseTold(Told):
    """An external index that has all it must have."""

    server_version: Annotated[int, Field(ge=1, le=10_000_000)]  # as PostgreSQL numbers itself, 170004 for 17.4


class QuarantineStatus(Told):
    """Objects that came under a known SOP Instance UID with other content."""

    held: Count
    bytes: Count
    unreadable: Count = 0  # of those held, whose own record cannot be read
    oldest: Time | None = None
    full: bool = False  # the last one that should have been kept was not
    taken: Count = 0  # since Orthanc started, as the next one
    not_taken: Count = 0


class IngestStatus(Told):
    """What Orthanc's plugin turned away on the way in, by reason, since Orthanc started; counts and times only."""

    quarantine: QuarantineStatus
    refused: Annotated[dict[Reason, Count], Field(max_length=32)] = {}


ScrubKind = Literal["Changed", "Unreadable", "FileMissing", "RowMissing"]
MAX_FOUND = 16  # objects that are named; all are counted


class ScrubFound(Told):
    """One object that is not as it should be; its name is drawn by chance and tells nothing of a patient."""

    kind: ScrubKind
    object: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class ScrubCounts(Told):
    """What one pass over the stored images read and found; an object is a file of Orthanc's storage."""

    objects: Count = 0  # read whole
    bytes: Count = 0  # from the disk
    changed: Count = 0  # other bytes than were stored
    unreadable: Count = 0  # the disk gave no bytes, or their data key is not there
    file_missing: Count = 0  # the index has it, the volume does not
    row_missing: Count = 0  # the volume has it, the index does not
    found: Annotated[list[ScrubFound], Field(max_length=MAX_FOUND)] = []

    @property
    def damaged(self) -> int:
        """Return how many images cannot be had as they were stored."""
        return self.changed + self.unreadable + self.file_missing


class ScrubPass(ScrubCounts):
    """One pass; without an end it is under way."""

    began: Time
    ended: Time | None = None


class ScrubTold(Told):
    """How the scrub of the stored images stands: the last whole pass, and the one under way."""

    last: ScrubPass | None = None
    running: ScrubPass | None = None


class OfflineTold(Told):
    """What a pod could be started by while Vault is away, and whether it was."""

    recipient: Word  # fingerprint of the key to which it is sealed
    sealed: Time | None = None  # when the file was last written; None: not yet, or it cannot be
    started: Time | None = None  # since when the pod lives on what was sealed; None: on what Vault gave


class AgentStatus(Told):
    """Answer of ``GET /status`` on the control port."""

    component: Component
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]{1,64}$")]
    ready: bool
    peers_revision: Annotated[str, Field(max_length=64)] | None = None  # of the live peers.json, read back
    config_applied: bool = True
    leaves: Annotated[list[LeafStatus], Field(max_length=16)]
    crl_next_update: dict[CaName, Time] = {}
    storage: StorageTold | None = None
    # Subject (leaf/<name>, trust/<ca>, peers, neighbour) -> reason; standing ones only.
    problems: Annotated[dict[Subject, Reason], Field(max_length=64)] = {}
    peers: Annotated[list[PeerActivity], Field(max_length=256)] = []
    ingest: IngestStatus | None = None  # Orthanc's agent alone
    database: DatabaseTold | None = None  # Orthanc's agent alone, with an external index
    images_used_percent: Annotated[int, Field(ge=0, le=100)] | None = None  # Orthanc's agent, where it has the volume
    scrub: ScrubTold | None = None  # Orthanc's agent, while a scrub is asked for
    offline: OfflineTold | None = None
