"""The sidecar: certificates first, then the neighbour, then everything that changes while it runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pacs_operator import __version__
from pacs_operator.agent.context import Context
from pacs_operator.agent.databasefeed import DatabaseFeed
from pacs_operator.agent.doors import ControlDoor, control_context, health_router
from pacs_operator.agent.errors import AgentConfigError, AgentError, NeighbourError
from pacs_operator.agent.feeds import CertificateFeed, PeersFeed
from pacs_operator.agent.files import used_percent
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.log import Event, emit
from pacs_operator.agent.neighbour import Changes, IngestSource, Neighbour, ProbeStore, Sealing, StorageTest
from pacs_operator.agent.observer import QUESTION_SECONDS, Observer
from pacs_operator.agent.offline import OfflineStart
from pacs_operator.agent.peersfile import NOBODY
from pacs_operator.agent.schedule import backoff_seconds
from pacs_operator.agent.scrub import ScrubFeed
from pacs_operator.agent.sealing import SealingFeed
from pacs_operator.agent.storagefeed import StorageFeed
from pacs_operator.agent.webserver import WebServer
from pacs_operator.agent.x509tools import describe
from pacs_operator.domain.agentconfig import AgentStatus, IngestStatus, PeerActivity, StorageTold
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.names import CaName, Component
from pacs_operator.domain.times import rfc3339

WITH_PEERS = frozenset({Component.GATE, Component.ORTHANC})


class Agent:
    """One pod's agent.

    Parameters
    ----------
    context
        What it knows and where it stands.
    neighbour
        The server it stands beside.

    Raises
    ------
    AgentConfigError
        The configuration contradicts itself.
    """

    def __init__(self, context: Context, neighbour: Neighbour) -> None:
        self._context = context
        self._config = context.config
        self._neighbour = neighbour
        self.keeper = Keeper(context, self._files_changed)
        self._peers = PeersFeed(context, neighbour) if context.config.component in WITH_PEERS else None
        self._observer = Observer(context, neighbour, self.keeper)
        self._certificates = CertificateFeed(context, neighbour, self._observer.forget_served)
        wanted = context.config.storage
        self._storage = None if wanted is None else StorageFeed(context, wanted, self.keeper, self._sealed)
        access = context.config.database
        self._database = None if access is None else DatabaseFeed(context, access)
        self._scrub = None if context.config.orthanc_url is None else ScrubFeed(context)
        self._sealing = None if wanted is None else SealingFeed(context)
        sealing_to = context.config.offline
        self._offline = None if sealing_to is None else OfflineStart(context, sealing_to.recipient, self.keeper)
        self._started = False
        self.health_port = 0
        self.control_port = 0
        self._check_control()

    def _check_control(self) -> None:
        leaf = self._config.control_leaf
        if leaf is not None and (leaf not in self.keeper.leaves or CaName.CONTROL not in self.keeper.trust):
            raise AgentConfigError(
                f"agent.json: controlLeaf {leaf!r} is not among the leaves, or control is not in trust",
                action="list the leaf and the authority that its callers' certificates come from",
            )

    async def run(self) -> None:
        """Serve until cancelled.

        Raises
        ------
        KeysNotInMemoryError
            ``/tls`` is not memory-backed.
        """
        emit(Event.STARTING, component=self._config.component.value, version=__version__)
        health = WebServer(self._context.surroundings.health_port, health_router(self))
        self.health_port = health.port
        health.start()
        control: WebServer | None = None
        try:
            async with self._beating():
                await self._obtain()
                control = self._open_control()  # so that it can be asked what an external index lacks
                await self._prepare()
            self._started = True
            emit(Event.STARTED, component=self._config.component.value)
            await self._work()
        finally:
            emit(Event.STOPPING, component=self._config.component.value)
            for server in filter(None, (control, health)):
                await asyncio.to_thread(server.stop)
            await self._neighbour.close()
            if self._database is not None:
                self._database.close()
            if self._scrub is not None:
                self._scrub.close()
            self.keeper.close()

    @contextlib.asynccontextmanager
    async def _beating(self) -> AsyncIterator[None]:
        """Show that the loop turns while the neighbour is not there to be looked at."""
        heart = asyncio.create_task(self._observer.beat())
        try:
            yield
        finally:
            heart.cancel()

    async def _obtain(self) -> None:
        """Fill ``/tls`` and the list of data keys."""
        if self._offline is not None:
            self._offline.resume()
        await self.keeper.obtain_all(self._rescue)
        if self._storage is not None:
            await self._storage.obtain(self._rescue)
        if self._sealing is not None:
            self._sealing.follow()  # Orthanc reads it at its start

    def _rescue(self, error: PacsError) -> bool:
        return self._offline is not None and self._offline.rescue(error)

    async def _prepare(self) -> None:
        """Make all ready for the neighbour; the kubelet starts it after ``/startupz`` said yes."""
        if self._database is not None:
            await self._database.obtain()
        failures = 0
        while True:
            try:
                await self._neighbour.prepare(
                    NOBODY if self._peers is None else self._peers.first().at(self._context.clock.now())
                )
            except AgentError as error:
                failures += 1
                self._context.problems.report("neighbour", error)
                await self._context.clock.sleep(backoff_seconds(failures, self._context.clock.jitter()))
            else:
                self._context.problems.clear("neighbour")
                return

    def _open_control(self) -> WebServer | None:
        leaf, surroundings = self._config.control_leaf, self._context.surroundings
        if leaf is None:
            return None
        door = ControlDoor(self._config, self, self.keeper.trust[CaName.CONTROL], asyncio.get_running_loop())
        server = WebServer(surroundings.control_port, door.route, lambda: control_context(surroundings, leaf))
        self.control_port = server.port
        server.start()
        return server

    async def _work(self) -> None:
        self._files_changed(self.keeper.everything)  # the neighbour may have outlived our restart, with older files
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeper.run())
            group.create_task(self._certificates.run())
            group.create_task(self._observer.run())
            if self._peers is not None:
                group.create_task(self._peers.run())
            if self._storage is not None:
                group.create_task(self._storage.run())
            if self._database is not None:
                group.create_task(self._database.run())
            if self._scrub is not None:
                group.create_task(self._scrub.run())
            if self._sealing is not None:
                group.create_task(self._sealing.run())
            if self._offline is not None:
                group.create_task(self._offline.run())

    def _files_changed(self, changes: Changes) -> None:
        self._certificates.add(changes)

    # What the kubelet asks; called from the threads of the health port, so only plain reads.

    def started(self) -> bool:
        """Tell whether all is in ``/tls`` and the neighbour is prepared."""
        return self._started

    def live(self) -> bool:
        """Tell whether the event loop turns."""
        return self._observer.fresh

    def ready(self) -> bool:
        """Tell whether the neighbour serves and has had a valid list of peers, where it takes one."""
        if self._peers is not None and self._peers.applied_revision is None:
            return False
        return self._started and self._observer.neighbour_ready

    def neighbour_live(self) -> bool:
        """Tell whether the neighbour answers; while this is not known the answer is yes, since no restarts it."""
        return not self._observer.neighbour_dead

    def neighbour_started(self) -> bool:
        """Tell whether the neighbour answers; while this is not known the answer is no.

        The kubelet watches for life only afterwards: a yes by mistake would end a long schema upgrade.
        """
        return self._observer.neighbour_answers

    # What the control port asks; runs in the event loop.

    async def status(self) -> AgentStatus:
        """Return the report for the operator."""
        return AgentStatus(
            component=self._config.component,
            version=__version__,
            ready=self.ready(),
            peers_revision=None if self._peers is None else self._peers.applied_revision,
            config_applied=self._certificates.idle and (self._peers is None or self._peers.idle),
            leaves=[
                describe(kept.leaf, kept.credential.certificate, self._observer.served.get(name))
                for name, kept in self.keeper.leaves.items()
                if kept.credential is not None
            ],
            crl_next_update={
                ca: rfc3339(trust.crl.next_update_utc)
                for ca, trust in self.keeper.trust.items()
                if trust.crl is not None and trust.crl.next_update_utc is not None
            },
            storage=self._storage_told(),
            problems=self._context.problems.standing(),
            peers=await self._activity(),
            ingest=await self._ingest(),
            database=None if self._database is None else self._database.told,
            images_used_percent=await asyncio.to_thread(used_percent, self._context.surroundings.images),
            scrub=None if self._scrub is None else self._scrub.told,
            offline=None if self._offline is None else self._offline.told,
        )

    def _sealed(self) -> tuple[int, int] | None:
        return self._neighbour.storage_test.sealed if isinstance(self._neighbour, Sealing) else None

    def _storage_told(self) -> StorageTold | None:
        if self._storage is None or self._storage.told is None:
            return None
        test = self._neighbour.storage_test if isinstance(self._neighbour, Sealing) else StorageTest()
        verified = None if test.passed is None else rfc3339(test.passed)
        update = {"verified": verified, "self_test": test.result, "work": test.work}
        return self._storage.told.model_copy(update=update)

    async def _activity(self) -> list[PeerActivity]:
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                return await self._neighbour.activity()
        except (TimeoutError, AgentError):
            return []

    async def _ingest(self) -> IngestStatus | None:
        if not isinstance(self._neighbour, IngestSource):
            return None
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                return await self._neighbour.ingest()
        except (TimeoutError, AgentError):
            return None

    async def remove_probe_objects(self, run: str) -> int:
        """Remove what one conformance run stored.

        Raises
        ------
        NeighbourError
            This neighbour stores nothing, or does not answer.
        """
        if not isinstance(self._neighbour, ProbeStore):
            raise NeighbourError(
                f"{self._config.component.value} stores no objects", action="ask Orthanc's agent", retry=False
            )
        return await self._neighbour.remove_probe_objects(run)
