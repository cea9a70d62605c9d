"""Time and chance, handed in, so that months pass in a test within a second."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Protocol

MAX_NAP_SECONDS = 600.0  # wall clocks jump (suspend, NTP): look again at least this often


class Clock(Protocol):
    """Wall clock, sleep and jitter."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return after at least so many seconds."""

    def jitter(self) -> float:
        """Return a number in [0, 1), evenly spread."""


class SystemClock:
    """The machine's own."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Sleep in the event loop."""
        await asyncio.sleep(seconds)

    def jitter(self) -> float:
        """Return an unpredictable number, so that the pods of many archives do not ask Vault in step."""
        return self._random.random()


async def sleep_until(clock: Clock, due: datetime) -> None:
    """Return when ``due`` has come by the wall clock, or as much time has passed as it was away at first.

    The second, since a clock that was ahead when ``due`` was reckoned and is set right makes that a long way off.
    """
    remaining = (due - clock.now()).total_seconds()
    while remaining > 0:
        nap = min(remaining, MAX_NAP_SECONDS)
        await clock.sleep(nap)
        remaining = min(remaining - nap, (due - clock.now()).total_seconds())
