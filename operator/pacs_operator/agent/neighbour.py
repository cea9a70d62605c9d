"""What an agent asks of the server it stands beside: HAProxy, Orthanc or PostgreSQL.

Every method runs in the agent's event loop and must not block it. All may be called at any time, also while the
neighbour is down, starting or restarting: then they raise :class:`NeighbourError` (or answer False), and the agent
tries again. The agent hands the same peers in again every few seconds, because a restarted neighbour has
forgotten what it was told: ``apply_peers`` reads first and changes nothing when nothing differs.

A neighbour is built as ``XNeighbour(config: AgentConfig, surroundings: Surroundings)``.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from pacs_operator.agent.x509tools import Served
from pacs_operator.domain.agentconfig import IngestStatus, PeerActivity, SealingTold
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.names import CaName


@dataclass(frozen=True)
class Changes:
    """Which files in ``/tls`` are new since the neighbour was last told."""

    leaves: frozenset[str] = field(default_factory=frozenset)
    roots: frozenset[CaName] = field(default_factory=frozenset)
    crls: frozenset[CaName] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return bool(self.leaves or self.roots or self.crls)

    def __or__(self, other: "Changes") -> "Changes":
        return Changes(self.leaves | other.leaves, self.roots | other.roots, self.crls | other.crls)

    def __sub__(self, other: "Changes") -> "Changes":
        return Changes(self.leaves - other.leaves, self.roots - other.roots, self.crls - other.crls)


class Neighbour(Protocol):
    """The main container of the pod, as the agent sees it."""

    async def prepare(self, peers: LivePeers) -> None:
        """Make everything the neighbour needs to start; it starts after this returned.

        All leaves, roots and CRLs are in ``/tls`` already. Background work (a log reader) starts here too.

        Parameters
        ----------
        peers
            The list to start with; empty when there is none yet or it is invalid, so that nobody is let in.
        """

    async def apply_certificates(self, changed: Changes) -> None:
        """Bring new files of ``/tls`` into the running neighbour, open associations unharmed.

        Raises
        ------
        NeighbourError
            Not applied, or not proven to be; the agent asks again with the same and later changes.
        """

    async def apply_peers(self, peers: LivePeers) -> str:
        """Make the list live, read it back and compare.

        Returns
        -------
        str
            ``peers.revision``, only when what was read back is exactly this list.

        Raises
        ------
        NeighbourError
            Not applied, or read back differently.
        """

    async def ready(self) -> bool:
        """Tell whether the neighbour serves; never raises."""

    async def alive(self) -> bool:
        """Tell whether the neighbour answers at all; False leads to a restart, so in doubt True; never raises."""

    async def served(self) -> dict[str, Served]:
        """Return what it presents now for each leaf that can be looked at; never raises."""

    async def activity(self) -> list[PeerActivity]:
        """Return counts and times of each peer of the applied list; empty when the neighbour does not answer."""

    async def close(self) -> None:
        """End background work; the neighbour itself keeps running."""


@dataclass(frozen=True)
class StorageTest:
    """A test of the encrypting storage: an object is written, read back, and looked for in clear on the volume.

    Parameters
    ----------
    result
        ``Passed``, or one word for what failed; None before the first.
    passed
        When one last passed.
    work
        How far the encryption of what lay on the volume already is.
    sealed
        Number of the data key in use, and how many chunks it has sealed; None while that is not known.
    """

    result: str | None = None
    passed: datetime | None = None
    work: SealingTold | None = None
    sealed: tuple[int, int] | None = None


@runtime_checkable
class Sealing(Protocol):
    """A neighbour that encrypts what it stores."""

    @property
    def storage_test(self) -> StorageTest:
        """Return how its last test of itself ended, and when it last passed."""


@runtime_checkable
class IngestSource(Protocol):
    """A neighbour that judges what it is sent."""

    async def ingest(self) -> IngestStatus:
        """Return what it turned away and what it holds in quarantine.

        Raises
        ------
        NeighbourError
            The neighbour did not answer, or not as agreed.
        """


@runtime_checkable
class ProbeStore(Protocol):
    """A neighbour that keeps what conformance runs store."""

    async def remove_probe_objects(self, run: str) -> int:
        """Remove the objects of one run, and nothing else; return how many instances went.

        Raises
        ------
        NeighbourError
            The neighbour did not answer, or what it found is not this run's.
        """
