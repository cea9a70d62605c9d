"""Looks at the neighbour and at the age of what lies in ``/tls``; the ports answer from what was seen last.

So a caller of the health port costs the neighbour nothing, however often it asks.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentError
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.log import Event, emit
from pacs_operator.agent.neighbour import Neighbour
from pacs_operator.agent.x509tools import Served, serial_of

T = TypeVar("T")

OBSERVE_SECONDS = 2.0
QUESTION_SECONDS = 5.0  # the longest a neighbour may take for an answer
STALE_SECONDS = 30.0  # what was seen longer ago proves nothing
LOOK_AGAIN_SECONDS = 30.0  # where the presented certificate could not be seen
#: Where it is an old one. Each look costs the neighbour a connection and a log line, and Orthanc 1.13 a file descriptor
#: for good; a restart, which is what changes it, is seen at once.
LOOK_PENDING_SECONDS = 6 * 3600.0


class Observer:
    """What is known of the neighbour. Times are of the monotonic clock: they measure this process, not the world."""

    def __init__(self, context: Context, neighbour: Neighbour, keeper: Keeper) -> None:
        self._problems = context.problems
        self._neighbour = neighbour
        self._keeper = keeper
        self._ready = False
        self._alive: bool | None = None  # not looked at yet
        self._beat_at = time.monotonic()
        self._look_served_at = float("-inf")
        self.served: dict[str, Served] = {}

    @property
    def fresh(self) -> bool:
        """Tell whether the loop looked recently."""
        return time.monotonic() - self._beat_at < STALE_SECONDS

    @property
    def neighbour_ready(self) -> bool:
        """Tell whether the neighbour served when last looked at."""
        return self._ready and self.fresh

    @property
    def neighbour_dead(self) -> bool:
        """Tell whether the neighbour was seen not to answer; while nothing is known it is not."""
        return self._alive is False and self.fresh

    @property
    def neighbour_answers(self) -> bool:
        """Tell whether the neighbour was seen to answer; while nothing is known it does not."""
        return self._alive is True and self.fresh

    def forget_served(self) -> None:
        """Look at the presented certificates again soon: new ones were handed over."""
        self._look_served_at = float("-inf")

    async def beat(self) -> None:
        """Show that the loop turns, while there is no neighbour to look at yet."""
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(OBSERVE_SECONDS)

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(OBSERVE_SECONDS)

    async def look(self) -> None:
        """Look once."""
        ready = await _answer(self._neighbour.ready(), otherwise=False)
        self._alive = ready or await _answer(self._neighbour.alive(), otherwise=False)
        if ready != self._ready:
            emit(Event.READINESS_CHANGED, ready=ready)
            self._look_served_at = float("-inf") if ready else self._look_served_at
        self._ready = ready
        self._beat_at = time.monotonic()
        self._keeper.look_at_ages()
        if ready and time.monotonic() >= self._look_served_at:
            self._look_served_at = float("inf")
            self.served = await _answer(self._neighbour.served(), otherwise={})
            self._compare_served()

    def _compare_served(self) -> None:
        """Compare with what lies on the volume; once they agree only a new certificate can change that."""
        wait = float("inf") if self.served else LOOK_AGAIN_SECONDS
        for name, leaf in self._keeper.leaves.items():
            subject, served = f"served/{name}", self.served.get(name)
            if served is None or leaf.credential is None or served.serial == serial_of(leaf.credential.certificate):
                self._problems.clear(subject)
            else:
                self._problems.report(subject, RestartPendingError(name))
                wait = LOOK_PENDING_SECONDS
        if self._look_served_at == float("inf"):  # nothing was handed over meanwhile
            self._look_served_at = time.monotonic() + wait


class RestartPendingError(AgentError):
    """A renewed certificate waits for the neighbour's restart."""

    reason = "RestartPending"

    def __init__(self, leaf: str) -> None:
        super().__init__(
            f"the new certificate of leaf {leaf} is in place, the server still presents the old one",
            action="let the server restart in a window before the old certificate expires; nothing is lost until then",
        )


async def _answer(question: Awaitable[T], otherwise: T) -> T:
    try:
        # Python 3.11's wait_for loses an end that comes at the very moment of the answer.
        async with asyncio.timeout(QUESTION_SECONDS):
            return await question
    except TimeoutError:
        return otherwise
