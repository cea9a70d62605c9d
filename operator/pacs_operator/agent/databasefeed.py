"""Follows an index that somebody else runs, from the pod's start to its end."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from pacs_operator.agent.context import Context
from pacs_operator.agent.database import Index
from pacs_operator.agent.errors import AgentError
from pacs_operator.agent.schedule import backoff_seconds
from pacs_operator.domain.agentconfig import DatabaseAccess, DatabaseTold
from pacs_operator.domain.database import SUBJECT

LOOK_SECONDS = 60.0
RETRY_LIMIT_SECONDS = 30.0


class DatabaseFeed:
    """What the agent knows of its archive's external index.

    At the start Orthanc waits until it is right: it would make its tables in any database it is shown. Later it runs
    on whatever is found, and the operator is told.

    Parameters
    ----------
    context
        Folders, clock, and the list of what is wrong.
    access
        How the index is reached.
    """

    def __init__(self, context: Context, access: DatabaseAccess) -> None:
        self._index = Index(access, context.config.lineage_id, context.surroundings.images)
        self._clock, self._problems = context.clock, context.problems
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self.told: DatabaseTold | None = None

    async def obtain(self) -> None:
        """Return when the database has all it must have, however long it takes, and say what is in the way."""
        failures = 0
        while not await self._look():
            failures += 1
            await self._clock.sleep(min(RETRY_LIMIT_SECONDS, backoff_seconds(failures, self._clock.jitter())))

    async def run(self) -> None:
        """Look again each minute, for ever; a new password reaches libpq by that, too."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> bool:
        try:
            version = await asyncio.get_running_loop().run_in_executor(self._thread, self._index.look)
        except AgentError as error:
            self.told = None
            self._problems.report(SUBJECT, error)
            return False
        self.told = DatabaseTold(server_version=version)
        self._problems.clear(SUBJECT)
        return True

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
