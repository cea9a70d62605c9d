"""Keeps the storage plugin's list of data keys complete, from the pod's start to its end."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from pacs_operator.agent.clock import sleep_until
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError, AgentError
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.schedule import backoff_seconds
from pacs_operator.agent.storagekeys import Place, StorageKeys
from pacs_operator.domain.agentconfig import StorageKeyring, StorageTold
from pacs_operator.domain.errors import PacsError, VaultError

KEEP_AGAIN = timedelta(minutes=10)  # how late a key that came of age is followed by the next
#: Chunks that one data key seals at most, where nothing else is wanted: 256 TiB of images.
MAX_CHUNKS = 2**32
KEYS, ROOM, WRAPPING = "storage/keys", "storage/room", "storage/wrapping"
T = TypeVar("T")


class StorageFeed:
    """The data keys of one Orthanc.

    Vault away at the start: there is no list, so Orthanc waits. Vault away later: the list stays as it is, images
    are stored and read on, and the next key waits.

    Parameters
    ----------
    context
        Folders, clock, and the list of what is wrong.
    wanted
        Transit key and age.
    keeper
        Whose thread asks Vault.
    sealed
        Tells the number of the data key in use and how many chunks it has sealed; None while that is not known.

    Raises
    ------
    AgentConfigError
        The agent was built without anything that opens data keys.
    """

    def __init__(
        self,
        context: Context,
        wanted: StorageKeyring,
        keeper: Keeper,
        sealed: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        if context.data_keys is None:
            raise AgentConfigError("agent.json: storage is set for an agent without data keys", action="use run")
        surroundings = context.surroundings
        place = Place(surroundings.storage_keys, surroundings.sealed, surroundings.ring)
        age = timedelta(days=wanted.max_age_days)
        self._keys = StorageKeys(context.data_keys, context.config.lineage_id, wanted.transit_key, place, age)
        self._clock, self._problems, self._keeper = context.clock, context.problems, keeper
        self._sealed, self._max_chunks = sealed, wanted.max_chunks or MAX_CHUNKS
        self.told: StorageTold | None = None
        self._failure: PacsError | None = None  # the last one

    async def obtain(self, rescue: Callable[[PacsError], bool] = lambda _: False) -> None:
        """Return when there is a list of data keys, however long it takes, and say what is in the way.

        Beside an empty memory that is every data key. An agent that restarts alone goes on with the list that Orthanc
        has, whatever became of Vault or of the wrapped keys meanwhile.

        Parameters
        ----------
        rescue
            Asked each time that Vault did not help; tells whether it put the list there instead.
        """
        failures = 0
        while not await self._keep() and self._keys.active is None:  # what is wrong with a list that is there may wait
            if self._failure is not None and rescue(self._failure):
                continue
            failures += 1
            await self._clock.sleep(backoff_seconds(failures, self._clock.jitter()))

    async def run(self) -> None:
        """Follow the ages of data keys and of the Transit key, for ever."""
        while True:
            if await self._keep():
                await self._asked(WRAPPING, self._keys.rewrap)
            await sleep_until(self._clock, self._clock.now() + KEEP_AGAIN)

    async def _keep(self) -> bool:
        key, chunks = self._sealed() or (None, 0)
        full = key if chunks >= self._max_chunks else None
        active = await self._asked(KEYS, partial(self._keys.keep, full=full))
        if active is not None:
            self._tell_room()
        if self._keys.active is not None:
            self.told = StorageTold(active_key=self._keys.active, keys=self._keys.count)
        return active is not None

    def _tell_room(self) -> None:
        """Say that a key that is due was not made: nothing waits for it, Orthanc starts and stores without."""
        if self._keys.refused is not None:
            self._problems.report(ROOM, self._keys.refused)
        else:
            self._problems.clear(ROOM)

    async def _asked(self, subject: str, act: Callable[[datetime], T]) -> T | None:
        try:
            answer = await self._keeper.in_vault_thread(partial(act, self._clock.now()))
        except (AgentError, VaultError, OSError) as error:
            self._failure = _typed(error)
            self._problems.report(subject, self._failure)
            return None
        self._problems.clear(subject)
        return answer


class StorageNotWritableError(AgentError):
    """The folder of wrapped keys, or the list in memory, took no file."""

    reason = "StorageKeysNotWritable"

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"a data key cannot be written (errno {error.errno})",
            action="look at the images' volume: full, read-only, or of another group",
        )


def _typed(error: PacsError | OSError) -> PacsError:
    return StorageNotWritableError(error) if isinstance(error, OSError) else error
