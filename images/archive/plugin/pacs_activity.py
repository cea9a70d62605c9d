"""What each calling AE title did since Orthanc started: counts and times, nothing about patients or objects.

A store is a new object that the archive has taken. A copy of what is stored already succeeds but is no store:
Orthanc answers it from its index and tells no plugin who sent it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pacs_rules import Refusal

_GROUPS = {
    Refusal.DUPLICATE_DIFFERS: "refusedDuplicates",
    Refusal.RESERVED_FOR_PROBES: "refusedReserved",
    Refusal.PROBE_OUTSIDE_RESERVED: "refusedReserved",
}
_OTHER = "refusedOther"


@dataclass
class _Title:
    """One AE title's counts; times are in seconds since the epoch."""

    stores: int = 0
    last_store: float | None = None
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys([*_GROUPS.values(), _OTHER], 0))
    last_refusal: tuple[float, str] | None = None

    def report(self) -> dict[str, object]:
        report: dict[str, object] = {"stores": self.stores, **self.refused}
        if self.last_store is not None:
            report["lastStore"] = _stamp(self.last_store)
        if self.last_refusal is not None:
            report["lastRefusal"], report["lastRefusalReason"] = _stamp(self.last_refusal[0]), self.last_refusal[1]
        return report


class Activity:
    """Counts by calling AE title, for any number of threads.

    Parameters
    ----------
    capacity
        Titles kept at most; beyond, the one that was silent for longest is forgotten. The default is what a gate's
        256 peers of 16 titles each can have.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._titles: OrderedDict[str, _Title] = OrderedDict()
        self._lock = threading.Lock()

    def stored(self, aet: str, now: float) -> None:
        """Count an object that was stored; ``now`` is in seconds since the epoch."""
        with self._lock:
            title = self._of(aet)
            title.stores += 1
            title.last_store = now

    def refused(self, aet: str, refusal: Refusal, now: float) -> None:
        """Count an object that was refused; ``now`` is in seconds since the epoch."""
        with self._lock:
            title = self._of(aet)
            title.refused[_GROUPS.get(refusal, _OTHER)] += 1
            title.last_refusal = (now, refusal.reason)

    def report(self) -> dict[str, dict[str, object]]:
        """Return what ``GET /pacs/activity`` answers under ``peers``: by AE title, times as RFC 3339 in UTC."""
        with self._lock:
            return {aet: title.report() for aet, title in self._titles.items()}

    def _of(self, aet: str) -> _Title:
        """Return a title's counts, and make it the one last heard of."""
        aet = aet.strip(" \0")
        title = self._titles.setdefault(aet, _Title())
        self._titles.move_to_end(aet)
        if len(self._titles) > self._capacity:
            self._titles.popitem(last=False)
        return title


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
