"""What flows to the neighbour while it runs: new certificates, and the list of peers."""

import asyncio
import contextlib
from collections.abc import Callable

from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentError, InvalidPeersError
from pacs_operator.agent.log import Event, emit
from pacs_operator.agent.neighbour import Changes, Neighbour
from pacs_operator.agent.peersfile import NOBODY, FileMark, mark_of, read_peers, recall, remember
from pacs_operator.agent.schedule import backoff_seconds
from pacs_operator.domain.gatepeers import LivePeers

POLL_SECONDS = 0.25  # a change takes effect within a second of the kubelet's swap
REPEAT_SECONDS = 10.0  # a neighbour that restarted has forgotten
RETRY_LIMIT_SECONDS = 5.0  # the neighbour is in this pod: it comes back within seconds


class CertificateFeed:
    """Brings changed files into the neighbour until it took them; then calls ``after``."""

    def __init__(self, context: Context, neighbour: Neighbour, after: Callable[[], None]) -> None:
        self._after = after
        self._clock = context.clock
        self._problems = context.problems
        self._neighbour = neighbour
        self._waiting = Changes()
        self._more = asyncio.Event()
        self._busy = False

    @property
    def idle(self) -> bool:
        """Tell whether the neighbour has all there is."""
        return not self._waiting and not self._busy

    def add(self, changes: Changes) -> None:
        """Note that files are new."""
        if changes:
            self._waiting |= changes
            self._more.set()

    async def run(self) -> None:
        """Apply whatever is noted, for ever."""
        failures = 0
        while True:
            await self._more.wait()
            self._more.clear()
            changes, self._waiting, self._busy = self._waiting, Changes(), True
            try:
                await self._neighbour.apply_certificates(changes)
            except AgentError as error:
                failures += 1
                self.add(changes)
                self._problems.report("certificates", error)
                await self._clock.sleep(min(RETRY_LIMIT_SECONDS, backoff_seconds(failures, self._clock.jitter())))
            else:
                failures = 0
                self._problems.clear("certificates")
                self._after()
                emit(Event.CERTIFICATES_APPLIED, leaves=sorted(changes.leaves), crls=sorted(changes.crls))
            finally:
                self._busy = False


class PeersFeed:
    """Follows ``peers.json``: applies what is valid, keeps the old list while the file is not."""

    def __init__(self, context: Context, neighbour: Neighbour) -> None:
        self._clock = context.clock
        self._problems = context.problems
        self._file = context.surroundings.peers_file
        self._accepted_file = context.surroundings.run / "accepted-peers.json"
        self._neighbour = neighbour
        self._mark: FileMark | None = None
        self._looked = False
        self.current: LivePeers | None = None
        self.applied_revision: str | None = None

    @property
    def idle(self) -> bool:
        """Tell whether the neighbour has the list that is mounted, and it is valid."""
        return self.current is not None and self.applied_revision == self.current.revision and self._mark is not None

    def first(self) -> LivePeers:
        """Return the list to start from; an unusable file lets nobody in that was not in before a restart."""
        self._look()
        if self.current is None:
            self.current = recall(self._accepted_file)
        return self.current or NOBODY

    async def run(self) -> None:
        """Poll the file and apply, for ever."""
        failures, wait = 0, 0.0
        while True:
            changed = self._look()
            if self.current is not None and (changed or wait <= 0):
                try:
                    await self._apply(self.current)
                    failures, wait = 0, REPEAT_SECONDS
                except AgentError as error:
                    failures += 1
                    self._problems.report("peers-live", error)
                    wait = min(RETRY_LIMIT_SECONDS, backoff_seconds(failures, self._clock.jitter()))
            await self._clock.sleep(POLL_SECONDS)
            wait -= POLL_SECONDS

    async def _apply(self, peers: LivePeers) -> None:
        revision = await self._neighbour.apply_peers(peers.at(self._clock.now()))
        self._problems.clear("peers-live")
        if revision != self.applied_revision:
            emit(Event.PEERS_APPLIED, revision=revision, peers=len(peers.peers))
        self.applied_revision = revision

    def _look(self) -> bool:
        """Read the file when it is another one than last time; tell whether there is a new valid list."""
        mark = mark_of(self._file)
        if self._looked and mark == self._mark:
            return False
        self._looked, self._mark = True, mark
        try:
            peers = read_peers(self._file)
        except InvalidPeersError as error:
            self._mark = None
            self._problems.report("peers", error)
            return False
        self._mark = mark
        self._problems.clear("peers")
        if peers == self.current:
            return False
        self.current = peers
        with contextlib.suppress(OSError):  # a full memory volume must not keep a revocation from being applied
            remember(self._accepted_file, peers)
        return True
