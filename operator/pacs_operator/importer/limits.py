"""How fast an import may go, and when it has to stop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pacs_operator.domain.importing import Code, Stop


class Halted(Exception):  # noqa: N818  # no error: the slice is over
    """The slice ends here, for a reason that stands in its result."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.value)
        self.stop = stop


class Watch:
    """Says when a slice is over; shared by its threads.

    Parameters
    ----------
    seconds
        Time that the slice has.
    clock
        Seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self.began = clock, clock()
        self._deadline = self.began + seconds
        self._stop: Stop | None = None
        self._lock = threading.Lock()

    def halt(self, stop: Stop) -> None:
        """End the slice; the first reason stands."""
        with self._lock:
            self._stop = self._stop or stop

    @property
    def stop(self) -> Stop | None:
        """Return why the slice is over; None while it is not."""
        if self._stop is None and self._clock() >= self._deadline:
            self.halt(Stop.TIME)
        return self._stop

    def check(self) -> None:
        """Raise `Halted` when the slice is over."""
        if (stop := self.stop) is not None:
            raise Halted(stop)

    @property
    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return self._clock() - self.began


class Pace:
    """Lets objects through at even distances, whichever thread they come by.

    Parameters
    ----------
    per_minute
        Objects a minute; None: as fast as they come.
    clock, sleep
        Seconds, monotonic; and how to let them pass.
    """

    def __init__(
        self,
        per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next = clock()
        self._lock = threading.Lock()

    def wait(self, objects: int = 1) -> None:
        """Return when so many objects may pass; what was not used is not saved up."""
        with self._lock:
            now = self._clock()
            at = max(self._next, now)
            self._next = at + self._gap * objects
        if at > now:
            self._sleep(at - now)


class Strain:
    """Tells an archive that is full from an object that it cannot take: three refusals in a row."""

    ROW = 3

    def __init__(self) -> None:
        self._row = 0
        self._lock = threading.Lock()

    def refused(self) -> bool:
        """Count one refusal for want of resources; True when it is the archive."""
        with self._lock:
            self._row += 1
            return self._row >= self.ROW

    def answered(self) -> None:
        """Count any other answer."""
        with self._lock:
            self._row = 0


class Arrivals:
    """Tells a way that leads nowhere from objects that do not come: nobody is blamed before one object came by it.

    What does not come before that is held back; the third time in a row the way itself is at fault.
    """

    ROW = 3

    def __init__(self) -> None:
        self._held: list[tuple[str, Code]] = []
        self._row = 0
        self._came = False
        self._lock = threading.Lock()

    def came(self) -> list[tuple[str, Code]]:
        """Note that something came; return what is to be blamed now."""
        with self._lock:
            self._came = True
            return self._drained()

    def missed(self, failures: list[tuple[str, Code]], *, fresh: bool) -> tuple[list[tuple[str, Code]], bool]:
        """Note that nothing came of a unit; return what is to be blamed now, and whether the way is at fault.

        Parameters
        ----------
        failures
            Objects and why each did not come.
        fresh
            False: they were blamed before, so the way was right once.
        """
        with self._lock:
            if self._came or not fresh:
                return failures, False
            self._held += failures
            self._row += 1
            return [], self._row >= self.ROW

    def left(self) -> list[tuple[str, Code]]:
        """Return what was held back until the end of the slice."""
        with self._lock:
            return self._drained()

    def _drained(self) -> list[tuple[str, Code]]:
        held, self._held = self._held, []
        return held


@dataclass(frozen=True)
class Limits:
    """What the threads of a slice keep to together."""

    watch: Watch
    pace: Pace
    strain: Strain = field(default_factory=Strain)
    arrivals: Arrivals = field(default_factory=Arrivals)
