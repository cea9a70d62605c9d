"""Objects between the check and the end of their storage.

Two associations that bring different contents under one new SOP Instance UID at the same time would both pass
a check against the index, and the later one would replace the earlier. The first to be checked therefore holds
its UID for longer than a store takes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict


class InFlight:
    """UIDs being stored, each with the digest of its content.

    Parameters
    ----------
    lifetime
        Seconds after which a hold ends: the object is in the index by then, or its store has failed.
    capacity
        Holds kept at most; beyond, `hold` raises.
    """

    def __init__(self, lifetime: float = 120.0, capacity: int = 100_000) -> None:
        self._lifetime = lifetime
        self._capacity = capacity
        self._holds: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def hold(self, uid: str, digest: str, now: float) -> bool:
        """Hold a UID for one content.

        Parameters
        ----------
        uid
            SOP Instance UID.
        digest
            Digest of the object's content.
        now
            Seconds on a monotonic clock.

        Returns
        -------
        bool
            False when another content holds this UID.

        Raises
        ------
        OverflowError
            More stores than this in one lifetime.
        """
        with self._lock:
            while self._holds and next(iter(self._holds.values()))[1] <= now - self._lifetime:
                self._holds.popitem(last=False)
            held = self._holds.get(uid)
            if held is not None and held[0] != digest:
                return False
            if held is None and len(self._holds) >= self._capacity:
                raise OverflowError("too many stores in one lifetime of a hold")
            self._holds[uid] = (digest, now)
            self._holds.move_to_end(uid)
            return True

    def release(self, uid: str) -> None:
        """End a hold: the index knows this UID already, and decides."""
        with self._lock:
            self._holds.pop(uid, None)
