"""The scrub: every stored file is read again from the disk and held against the index; it repairs nothing.

First the files that the index knows, study by study, then the files that it does not know. A pass goes on where a
restart left it. What is found is told, and stays told until a later whole pass no longer finds it.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pacs_operator.agent import scrubstate
from pacs_operator.agent.content import AlteredError, KeyMissingError
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError, AgentError
from pacs_operator.agent.log import Event, emit
from pacs_operator.agent.orthanc_rest import OrthancRest
from pacs_operator.agent.peersfile import FileMark, mark_of
from pacs_operator.agent.schedule import backoff_seconds
from pacs_operator.agent.scrubstate import POSITION_DIGITS, Position, ScrubState, with_found
from pacs_operator.agent.sealing import clear_ordered
from pacs_operator.agent.storedindex import Row, StoredIndex
from pacs_operator.agent.volume import Names, kind_of, volume_of
from pacs_operator.domain.agentconfig import CLOCK_SKEW, ScrubKind, ScrubPass, ScrubTold
from pacs_operator.domain.scrub import SCRUB_FILE, Scrub, abandoned_at, next_slot
from pacs_operator.domain.times import parse_time, rfc3339

SUBJECT, STATE_SUBJECT = "scrub", "scrub/state"
POLL_SECONDS = 60.0  # a ConfigMap takes as long to arrive
SAVE_AGAIN = timedelta(seconds=15)
STUDY_BYTES = 256 * 1024  # what asking the index for one study counts as
NAMES_AT_ONCE = 500_000  # of the index, held in memory: 8 bytes each
MAX_SUSPECTS = 50_000  # files without a row, of one pass
T = TypeVar("T")


class ScrubError(AgentError):
    """A pass cannot go on; it is tried again."""

    reason = "ScrubBlocked"


class StoppedError(Exception):
    """The scrub was suspended or is not asked for any more."""


class Order:
    """What ``scrub.json`` asks for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: FileMark | None = None
        self._order: Scrub | None = None

    def now(self) -> Scrub | None:
        """Return what is asked for; None when nothing is.

        Raises
        ------
        ScrubError
            The file is of another form.
        """
        mark = mark_of(self._path)
        if mark == self._mark:
            return self._order
        if mark is None:
            self._mark = self._order = None
            return None
        try:
            self._order = Scrub.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ScrubError(
                f"{SCRUB_FILE}: not a scrub's order ({type(error).__name__})",
                action="use the agent's image and the operator of one release together",
                reason="ScrubOrderInvalid",
            ) from None
        self._mark = mark
        return self._order


class ScrubFeed:
    """Runs the scrub of one Orthanc's files.

    Parameters
    ----------
    context
        Folders, clock, and the list of what is wrong.
    index
        What Orthanc knows; its own REST interface when absent.

    Raises
    ------
    AgentConfigError
        This agent has no Orthanc beside it.
    """

    def __init__(self, context: Context, index: StoredIndex | None = None) -> None:
        url, places = context.config.orthanc_url, context.surroundings
        if url is None:
            raise AgentConfigError("agent.json: orthancUrl is missing", action="write http://127.0.0.1:8042")
        self._index = index or StoredIndex(OrthancRest(url))
        self._clock, self._problems = context.clock, context.problems
        self._order = Order(places.peers / SCRUB_FILE)
        self._peers = places.peers
        self._folder = places.images
        self._volume = volume_of(context.config, places)
        self._state = ScrubState(since=rfc3339(self._clock.now()))
        self._loaded = False
        self._saved: datetime | None = None
        self._asked = False
        self.busy = 0  # calls in the thread
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scrub", initializer=be_nice)

    @property
    def told(self) -> ScrubTold | None:
        """Return how the scrub stands; None while none is asked for."""
        if not self._asked:
            return None
        return ScrubTold(last=self._state.last, running=self._state.running)

    async def run(self) -> None:
        """Scrub when it is due, for ever."""
        failures = 0
        while True:
            wait = POLL_SECONDS
            try:
                order = self._order.now()
                self._asked = order is not None
                if order is not None:
                    wait = await self._turn(order)
            except StoppedError:
                pass
            except (AgentError, OSError) as error:
                failures += 1
                self._problems.report(SUBJECT, _typed(error))
                wait = backoff_seconds(failures, self._clock.jitter())
            else:
                failures = 0
                self._problems.clear(SUBJECT)
            await self._clock.sleep(wait)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, order: Scrub) -> float:
        """Do what is due; return how long there is nothing to do, in seconds."""
        now = self._clock.now()
        if not self._loaded:
            known = await self._in_thread(lambda: scrubstate.load(self._folder))
            self._loaded = True
            if known is None:
                await self._save(self._state)
            else:
                self._state = known  # as it was saved: how old it is tells whether to go on
        if order.suspend or clear_ordered(self._peers):  # files are not yet where the pass looks for them
            return POLL_SECONDS
        if not self._goes_on(order, now):
            due = now if self._state.running else next_slot(order, await self._before(now))
            if now < due:
                return min(POLL_SECONDS, (due - now).total_seconds())
            emit(Event.SCRUB_BEGAN)
            begun = ScrubPass(began=rfc3339(now))
            await self._save(self._state.model_copy(update={"running": begun, "position": Position()}))
        await self._pass()
        return POLL_SECONDS

    def _goes_on(self, order: Scrub, now: datetime) -> bool:
        """Tell whether the pass under way is worth its end: not when what it read may be as old as the last one."""
        running = self._state.running
        if running is None:
            return False
        began = parse_time(running.began)
        saved = parse_time(self._state.saved or running.began)
        if max(began, saved) > now + CLOCK_SKEW:
            return False
        # A pass that found something calls nothing intact, and what it found stays told.
        return bool(running.found) or now < abandoned_at(order, saved)

    async def _before(self, now: datetime) -> datetime:
        """Return after what the next pass is due; a clock that ran ahead may have written times yet to come."""
        state = self._state
        times = [state.since, *([state.last.ended] if state.last and state.last.ended else [])]
        known = [time for time in map(parse_time, times) if time <= now + CLOCK_SKEW]
        if not known:
            await self._save(state.model_copy(update={"since": rfc3339(now)}))
        return max(known, default=now)

    async def _pass(self) -> None:
        if not self._volume.there:
            raise ScrubError(
                "the folder of stored images is not there",
                action="look at the volume; no file is called missing for it",
            )
        if self._state.position.files:
            await self._read_files()
            await self._save(self._state.model_copy(update={"position": Position(files=False)}))
        result = await self._look_through(self._result)
        ended = result.model_copy(update={"ended": rfc3339(self._clock.now())})
        await self._save(self._state.model_copy(update={"last": ended, "running": None, "position": Position()}))
        emit(
            Event.SCRUB_ENDED, objects=ended.objects, bytes=ended.bytes, changed=ended.changed,
            unreadable=ended.unreadable, fileMissing=ended.file_missing, rowMissing=ended.row_missing,
        )  # fmt: skip

    @property
    def _result(self) -> ScrubPass:
        if self._state.running is None:
            raise StoppedError
        return self._state.running

    async def _read_files(self) -> None:
        """Read what the index knows; a study counts once it is read whole, or is read again after a restart."""
        studies = self._index.studies(self._state.position.study)
        while (study := await self._in_thread(lambda: next(studies, None))) is not None:
            result = await self._study(study)
            position = Position(study=study[:POSITION_DIGITS])
            self._state = self._state.model_copy(update={"running": result, "position": position})
            worse = result.found != self._result.found
            if worse or self._saved is None or self._clock.now() - self._saved >= SAVE_AGAIN:
                await self._save(self._state)

    async def _study(self, study: str) -> ScrubPass:
        await self._pace(STUDY_BYTES)
        await self._read_keys()
        result, suspects = self._result, []
        for row in await self._in_thread(lambda: self._index.rows(study)):
            kind, count = await self._read(row)
            result = result.model_copy(update={"objects": result.objects + 1, "bytes": result.bytes + count})
            if kind is not None:
                suspects.append(row)
        if suspects:
            # Asked and read again: what was deleted meanwhile is no damage, and a disk may stumble once.
            await self._read_keys()
            still = set(await self._in_thread(lambda: self._index.rows(study)))
            for row in (row for row in suspects if row in still):
                kind, _ = await self._read(row)
                if kind is not None:
                    result = _found(result, kind, row.expected.uuid)
        return result

    async def _read_keys(self) -> None:
        try:
            await self._in_thread(self._volume.read_keys)
        except (KeyMissingError, ValueError):
            raise ScrubError("the list of data keys is not whole", action="see the agent's other problems") from None

    async def _read(self, row: Row) -> tuple[ScrubKind | None, int]:
        """Read one file; return what is wrong with it, and how many bytes the disk gave."""
        steps, count = self._volume.steps(row.expected), 0
        try:
            while part := await self._in_thread(lambda: next(steps, 0)):
                count += part
                await self._pace(part)
        except (AlteredError, KeyMissingError, OSError) as error:
            return kind_of(error), count
        return None, count

    async def _look_through(self, result: ScrubPass) -> ScrubPass:
        """Look for files that the index does not know."""
        suspects: set[str] = set()
        parts = 1 + result.objects // NAMES_AT_ONCE
        for names in (Names(part, parts) for part in range(parts)):
            began = self._clock.now()
            async for uuid in self._known():
                names.add(uuid)
            await self._in_thread(names.sort)
            for folder in names.folders():
                await self._pace(0)
                suspects |= await self._in_thread(partial(self._unknown, folder, began, names))
        if suspects:
            async for uuid in self._known():
                suspects.discard(uuid)
        for uuid in sorted(suspects)[:MAX_SUSPECTS]:
            if await self._in_thread(self._volume.path(uuid).exists):
                result = _found(result, "RowMissing", uuid)
        return result

    def _unknown(self, folder: int, began: datetime, names: Names) -> set[str]:
        return {uuid for uuid in self._volume.names(folder, began) if uuid not in names}

    async def _known(self) -> AsyncIterator[str]:
        """Yield the names of all files that the index knows."""
        studies = self._index.studies()
        while (study := await self._in_thread(lambda: next(studies, None))) is not None:
            await self._pace(STUDY_BYTES)
            for row in await self._in_thread(partial(self._index.rows, study)):
                yield row.expected.uuid

    async def _pace(self, count: int) -> None:
        """Wait until so many bytes more are within the rate; leave when nobody asks for the scrub any more."""
        order = self._order.now()
        if order is None or order.suspend:
            raise StoppedError
        if count:
            await self._clock.sleep(count / (order.max_mi_per_second * 2**20))

    async def _save(self, state: ScrubState) -> None:
        """Remember a state, on the volume too when that takes it: a full one shall not end the reading."""
        self._saved = self._clock.now()
        self._state = state = state.model_copy(update={"saved": rfc3339(self._saved)})
        try:
            await self._in_thread(lambda: scrubstate.save(self._folder, state))
        except OSError as error:
            self._problems.report(STATE_SUBJECT, _typed(error))
        else:
            self._problems.clear(STATE_SUBJECT)

    async def _in_thread(self, act: Callable[[], T]) -> T:
        self.busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        finally:
            self.busy -= 1


def _found(result: ScrubPass, kind: ScrubKind, uuid: str) -> ScrubPass:
    emit(Event.SCRUB_FOUND, kind=kind, object=uuid)
    return with_found(result, kind, uuid)


def be_nice() -> None:
    """Give way to Orthanc: the scrub has all night."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def _typed(error: AgentError | OSError) -> AgentError:
    if isinstance(error, AgentError):
        return error
    return ScrubError(
        f"the images' volume does not let the scrub work (errno {error.errno})",
        action="look at the volume: full, read-only, or of another group",
        reason="ScrubVolumeFailed",
    )
