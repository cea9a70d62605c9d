"""What one pass over one archive works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from cryptography import x509

from pacs_operator.control.port import AgentPort
from pacs_operator.domain.acceptance import Decision
from pacs_operator.domain.agentconfig import AgentStatus
from pacs_operator.domain.archive import Archive
from pacs_operator.domain.breakglass import Box
from pacs_operator.domain.catalog import Release
from pacs_operator.domain.conditions import Condition, ConditionType
from pacs_operator.domain.destruction import Verdict
from pacs_operator.domain.errors import InvalidSpecError, PacsError
from pacs_operator.domain.facts import ClusterSettings, Desired, Importing, VaultSettings
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.names import Component
from pacs_operator.domain.status import MAX_MESSAGE, ArchiveStatus
from pacs_operator.kube.apply import Applier, Key
from pacs_operator.kube.errors import ApiInvalidError
from pacs_operator.kube.events import Notice
from pacs_operator.kube.port import KubePort, Manifest, metadata
from pacs_operator.vault.port import VaultPort

if TYPE_CHECKING:
    from pacs_operator.reconcile.imports import ImportState


class Renderer(Protocol):
    """The pure side: what an archive should look like."""

    def render_archive(self, desired: Desired) -> list[Manifest]:
        """Return all manifests."""


@dataclass(frozen=True)
class Ports:
    """Everything outside the process, and the renderer."""

    kube: KubePort
    vault: Callable[[VaultSettings], VaultPort]
    agents: AgentPort
    renderer: Renderer
    clock: Callable[[], datetime]
    draw_lineage: Callable[[], str]


@dataclass(frozen=True)
class Settings:
    """The operator's own settings, from its environment.

    Parameters
    ----------
    other_vaults
        Addresses beside ``vault``'s own that archives may name.
    """

    cluster: ClusterSettings
    vault: VaultSettings
    other_vaults: frozenset[str] = frozenset()


@dataclass
class Memory:
    """What is remembered of one archive between passes: only what spares repeated questions.

    Losing it costs reads, never correctness.
    """

    applier: Applier
    vault: tuple[VaultSettings, str] | None = None  # of which Vault and lineage the next five speak
    vault_checked: datetime | None = None
    roles_checked: datetime | None = None
    import_checked: datetime | None = None  # when the import's roles were seen in Vault
    peer_roles: dict[str, str] = field(default_factory=dict)
    own_root: x509.Certificate | None = None  # of the archive's own peers CA
    refused: dict[str, tuple[tuple[str, int], InvalidSpecError]] = field(
        default_factory=dict
    )  # by peer: uid and generation that Vault's rules refused, and why
    presented_at: dict[str, datetime] = field(default_factory=dict)  # by peer: when its notAfter last changed in status
    ends_at: dict[str, datetime] = field(default_factory=dict)  # the same, of the peer's own status
    limits_told: dict[str, str] = field(default_factory=dict)  # by peer: in which hour its people were told of limits
    fences: list[Manifest] = field(default_factory=list)  # network policies of the last rendering that was applied
    ingest_told: datetime | None = None  # when IngestClean's message last changed in status
    glass_seen: dict[str, int] = field(default_factory=dict)  # by break-glass reader: associations that gates told
    agents_asked: datetime | None = None
    agents: dict[str, tuple[Component, AgentStatus]] = field(default_factory=dict)  # by pod uid
    agent_errors: dict[str, PacsError] = field(default_factory=dict)


@dataclass
class Pass:
    """One pass; filled stage by stage."""

    name: str
    live: Manifest
    observed: ArchiveStatus
    ports: Ports
    settings: Settings
    memory: Memory
    now: datetime
    archive: Archive | None = None
    release: Release | None = None
    lineage: str | None = None
    namespaces: dict[str, Manifest] = field(default_factory=dict)
    storage_classes: dict[str, Manifest] = field(default_factory=dict)  # that the spec names
    owned: dict[Key, Manifest] = field(default_factory=dict)
    foreign_policies: list[str] = field(default_factory=list)
    pods: list[Manifest] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    peer_objects: dict[str, Manifest] = field(default_factory=dict)
    peers: LivePeers | None = None
    importing: Importing | None = None  # the PacsImport whose turn it is
    imports: list["ImportState"] = field(default_factory=list)
    glass: list[Box] | None = None  # break-glass readers that are let in; None: nobody looked
    glass_refused: list[str] = field(default_factory=list)  # those that the archive does not take, and why
    glass_missing: list[str] = field(default_factory=list)  # consents that are not whole
    untold: bool = False  # peers are left whose status the next pass writes
    silent: dict[str, bool] = field(default_factory=dict)  # by peer that is expected to come, where it is known
    desired: Desired | None = None
    manifests: list[Manifest] = field(default_factory=list)
    vault_error: PacsError | None = None
    service_refused: ApiInvalidError | None = None  # the gate's; the rest of the pass went on
    waiting: list[str] = field(default_factory=list)
    pulling: str | None = None  # new images are being tried; until that is done no template takes them
    wrote_workload: bool = False
    blocked: Verdict | None = None  # the resource is deleted with policy Delete; what its destruction waits for
    running: bool = False  # a conformance run is under way
    status: ArchiveStatus = field(default_factory=ArchiveStatus)
    conditions: dict[ConditionType, Condition] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    @property
    def generation(self) -> int:
        """Return the generation this pass works on."""
        return int(metadata(self.live).get("generation") or 0)

    @property
    def vault_settings(self) -> VaultSettings:
        """Return Vault's settings for this archive: its own where given, else the operator's."""
        own = self.archive.spec.vault if self.archive else None
        if own is None:
            return self.settings.vault
        return VaultSettings(own.address, own.ca_pem, own.auth_path, own.audience, tuple(own.cidrs), _port(own.address))

    def set(self, kind: ConditionType, status: Literal["True", "False", "Unknown"], reason: str, message: str) -> None:
        """Record a condition of this pass."""
        self.conditions[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message[:MAX_MESSAGE],
            observed_generation=self.generation,
        )


def _port(address: str) -> int:
    _, separator, port = address.removeprefix("https://").rpartition(":")
    return int(port) if separator and port.isdigit() else 443


@dataclass(frozen=True)
class Outcome:
    """How a pass ended; ``requeue_after`` in seconds, None when only an event or the full pass need wake it."""

    result: Literal["Ready", "Progressing", "Stalled", "Suspended", "Deleting", "Gone"]
    requeue_after: float | None = None
