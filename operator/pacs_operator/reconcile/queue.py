"""The work queue: dirty keys, one reconcile per key at a time, growing pauses after failures.

Pure asyncio; time, randomness and the work itself are handed in, so that hours pass in a test within milliseconds.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol


class Clock(Protocol):
    """Monotonic time in seconds, and waiting in it."""

    def now(self) -> float:
        """Return the time."""

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        """Return when the event is set or the time has passed."""


class LoopClock:
    """Real time, also for other threads (metrics are scraped from one)."""

    def now(self) -> float:
        """Return the monotonic time."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        """Wait for the event or the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):  # Python 3.11's wait_for can lose a cancellation
                await event.wait()


@dataclass(frozen=True)
class Pace:
    """How fast the queue turns; all in seconds.

    Parameters
    ----------
    workers
        Reconciles at the same time, of different keys.
    min_interval
        Least time between two starts for one key, so that a storm of events is one pass.
    backoff_first, backoff_last
        Pause after the first failure in a row, doubled each time up to the last.
    full_pass
        All keys are looked at this often, whatever events were lost; jittered.
    """

    workers: int = 4
    min_interval: float = 0.5
    backoff_first: float = 1.0
    backoff_last: float = 30.0
    full_pass: float = 300.0


Work = Callable[[str], Awaitable[float | None]]


@dataclass
class _Key:
    due: float | None = None
    started: float = field(default=-1e9)
    running: bool = False
    failures: int = 0


class WorkQueue:
    """Runs ``work`` for dirty keys.

    Parameters
    ----------
    work
        Reconciles one key and returns after how many seconds to look again, or None; an exception is a failure.
    keys
        Returns all keys, for the full pass; called at the start and then periodically.
    clock, random, pace
        Time, jitter, and how fast to turn.
    on_failure
        Called with key and exception.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        work: Work,
        keys: Callable[[], Awaitable[Iterable[str]]],
        clock: Clock,
        random: Random,
        pace: Pace | None = None,
        on_failure: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self._work, self._list_keys, self._clock, self._random = work, keys, clock, random
        self._pace = pace or Pace()
        self._on_failure = on_failure or (lambda _key, _error: None)
        self._keys: dict[str, _Key] = {}
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._next_full = self._clock.now()

    def mark(self, key: str) -> None:
        """Have a key looked at soon; while it is being looked at, once more afterwards."""
        state = self._keys.setdefault(key, _Key())
        now = self._clock.now()
        earliest = max(now, state.started + self._pace.min_interval)
        if state.failures:  # an event does not defeat the backoff, or trouble would feed itself
            earliest = max(earliest, state.due if state.due is not None else earliest)
        self._schedule(state, earliest)
        self._changed.set()

    @property
    def depth(self) -> int:
        """Return how many keys are due now and not yet being looked at."""
        now = self._clock.now()
        return sum(
            not state.running and state.due is not None and state.due <= now for state in list(self._keys.values())
        )

    @property
    def oldest_age(self) -> float:
        """Return for how many seconds the longest waiting due key has been due."""
        now = self._clock.now()
        states = list(self._keys.values())
        due = [state.due for state in states if state.due is not None and state.due <= now]
        return now - min(due) if due else 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then wait for what is under way."""
        stopper = asyncio.create_task(self._wake_on(stop))
        try:
            while not stop.is_set():
                await self._turn()
        finally:
            stopper.cancel()
            if self._running:
                await asyncio.gather(*self._running, return_exceptions=True)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._changed.set()

    async def _turn(self) -> None:
        self._changed.clear()
        now = self._clock.now()
        if now >= self._next_full:
            self._next_full = now + self._pace.full_pass * self._random.uniform(0.9, 1.1)
            self._start("", self._full_pass())
        for key, state in sorted(self._keys.items(), key=lambda item: item[1].due or 0.0):
            if len(self._running) >= self._pace.workers:
                break
            if not state.running and state.due is not None and state.due <= now:
                state.running, state.due, state.started = True, None, now
                self._start(key, self._one(key, state))
        await self._clock.wait(self._changed, self._until_next())

    def _until_next(self) -> float:
        now, full = self._clock.now(), len(self._running) >= self._pace.workers
        due = [] if full else [s.due for s in self._keys.values() if s.due is not None and not s.running]
        return max(0.0, min([*due, self._next_full]) - now)

    def _start(self, name: str, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            await work

        task = asyncio.create_task(guarded(), name=f"reconcile {name}")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()

    async def _full_pass(self) -> None:
        try:
            keys = set(await self._list_keys())
            for key, state in list(self._keys.items()):
                if key not in keys and state.due is None and not state.running:
                    del self._keys[key]  # a deleted archive leaves no trace
            for key in sorted(keys):
                self.mark(key)
        except Exception as error:
            self._on_failure("", error)
            self._next_full = min(self._next_full, self._clock.now() + self._pace.backoff_first)

    async def _one(self, key: str, state: _Key) -> None:
        try:
            again = await self._work(key)
        except Exception as error:
            state.failures += 1
            pause = min(self._pace.backoff_last, self._pace.backoff_first * 2 ** min(state.failures - 1, 16))
            pause *= self._random.uniform(0.75, 1.25)
            state.due = self._clock.now() + max(pause, self._pace.min_interval)
            self._on_failure(key, error)
        else:
            state.failures = 0
            if again is not None:
                self._schedule(state, self._clock.now() + max(again, self._pace.min_interval))
        finally:
            state.running = False

    @staticmethod
    def _schedule(state: _Key, due: float) -> None:
        state.due = due if state.due is None else min(state.due, due)
