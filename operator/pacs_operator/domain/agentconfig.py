"""``agent.json``: the contract between the renderers and the sidecar.

Every path is inside the pod. ``/tls`` is a memory-backed volume that the agent writes and its neighbour reads:
``<leaf>.crt`` (chain), ``<leaf>.key`` (0600), ``<leaf>.pem`` (key then chain, for HAProxy), ``ca-<ca>.pem`` and
``crl-<ca>.pem``.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pacs_operator.domain.model import Model
from pacs_operator.domain.names import CaName, Component

TLS_DIR = "/tls"
RUN_DIR = "/run/pacs"  # memory-backed: sockets, assembled configuration
CONFIG_DIR = "/etc/pacs"  # ConfigMap: agent.json and the component's own configuration
PEERS_DIR = "/etc/pacs-peers"  # ConfigMap of its own, so that peers change without touching the rest
VAULT_CA_FILE = "/etc/pacs/vault-ca.pem"
TOKEN_FILE = "/var/run/secrets/pacs/token"  # noqa: S105  # a path: projected token with Vault's audience


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

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    ca: CaName
    role: str
    key_type: Literal["EC", "RSA"] = "EC"  # EC P-256; RSA 3072 for modalities that know nothing else
    dns_names: Annotated[list[str], Field(min_length=1, max_length=8)]  # first one is the common name
    ttl_seconds: Annotated[int, Field(ge=60)]


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
    haproxy_socket: str | None = None  # gate: runtime API socket
    haproxy_log_socket: str | None = None  # gate: datagram socket the agent reads association records from
    gate_slots: int = 256  # gate: number of peer backends in haproxy.cfg
    postgres_socket_dir: str | None = None  # postgres: UNIX socket folder, for reload and readiness


# An agent is a pod that may have been taken over: what it tells reaches the status only in these forms.
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]  # RFC 3339, UTC, whole seconds
Serial = Annotated[str, Field(pattern=r"^[0-9a-f]{2,64}$")]
Reason = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}$")]


class Told(Model):
    """What an agent tells: an agent of a later release may tell more than this operator knows."""

    model_config = ConfigDict(extra="ignore")


class LeafStatus(Told):
    """What the control port tells of one leaf; no key material."""

    name: str
    ca: CaName
    serial: Serial  # lower-case hex without separators
    not_before: Time
    not_after: Time
    sha256: str  # fingerprint of the DER leaf, lower-case hex
    dns_names: list[str]
    served_serial: Serial | None = None  # what the neighbour presents, where that can be seen; other: restart pending
    served_not_after: Time | None = None  # end of what the neighbour presents, where the agent knows it


class PeerActivity(Told):
    """Per peer since the agent started; counts and times only."""

    id: str
    last_association: Time | None = None
    last_store: Time | None = None
    stores: int = 0
    last_rejection: Time | None = None
    last_rejection_reason: Reason | None = None
    rejections: int = 0
    presented_not_after: Time | None = None
    open_associations: int = 0


class AgentStatus(Told):
    """Answer of ``GET /status`` on the control port."""

    component: Component
    version: str
    ready: bool
    peers_revision: str | None = None  # of the peers.json that is live in the neighbour, read back
    config_applied: bool = True
    leaves: list[LeafStatus]
    crl_next_update: dict[CaName, Time] = {}
    last_error_reason: Reason | None = None  # of the newest standing problem
    problems: dict[
        str, Reason
    ] = {}  # subject (leaf/<name>, trust/<ca>, peers, neighbour) -> reason; standing ones only
    peers: list[PeerActivity] = []
