"""Objects of one series brought over by C-MOVE: the source sends them to the archive itself, which is asked afterwards.

What the source holds is not seen on the way, so nothing is compared by content here; the archive compares what is sent
under a UID that it has, and refuses what differs.
"""

from dataclasses import dataclass

from pacs_operator.domain.importing import Code, Stop
from pacs_operator.importer.exchange import Unit, present
from pacs_operator.importer.journal import Journal, Settled, State
from pacs_operator.importer.limits import Halted, Limits
from pacs_operator.importer.node import BrokenError, Moved, Node

_DESTINATION_UNKNOWN, _CANCELLED = 0xA801, 0xFE00
_REFUSED = (0x0122, 0x0124)  # SOP class not supported, not authorized
_FAILURES = range(0xA000, 0xB000)  # and Cxxx: unable to process
_PARTS_OF_MINUTE = 4


def at_once(batch: int, per_minute: int | None) -> int:
    """Return how many objects to ask for at once: they come in one rush, so no more than a quarter minute's."""
    return batch if per_minute is None else max(1, min(batch, per_minute // _PARTS_OF_MINUTE))


@dataclass(frozen=True)
class _Outcome:
    """A unit before and after it was asked for."""

    unit: Unit
    there: set[str]
    after: set[str]

    @property
    def new(self) -> set[str]:
        """Return what came."""
        return self.after - self.there

    @property
    def ours(self) -> set[str]:
        """Return what this import brought, now or before it was ended."""
        return self.new | {entry.uid for entry in self.unit.entries if entry.state is State.SENDING}


class Mover:
    """Has units sent; the journal is right at any moment, since only what the archive lists is settled as there.

    Parameters
    ----------
    source, archive
        Who sends, and whom to ask what came.
    destination
        AE title by which the source knows the archive.
    journal, limits
        Shared by the threads of a slice.
    """

    def __init__(self, source: Node, archive: Node, destination: str, journal: Journal, limits: Limits) -> None:
        self._source, self._archive, self._destination, self._journal = source, archive, destination, journal
        self._watch, self._pace, self._arrivals = limits.watch, limits.pace, limits.arrivals

    def bring(self, unit: Unit) -> None:
        """Have one unit sent and write down what became of each of its objects.

        Raises
        ------
        Halted
            Source or archive cannot be reached, the destination is wrong, or the slice is over.
        BrokenError
            The source ended the association in the middle; what came is written down.
        """
        uids = [entry.uid for entry in unit.entries]
        there = self._present(unit)
        self._pace.wait(len(uids))
        self._watch.check()
        self._journal.sending(uid for uid in uids if uid not in there)
        with self._source.moving() as moving:
            try:
                moved = moving.move(self._destination, unit.study, unit.series, uids, self._is_over)
            except BrokenError:
                moved = None
        self._settle(_Outcome(unit, there, self._present(unit)), moved)
        self._watch.check()
        if moved is None:
            raise BrokenError

    def _is_over(self) -> bool:
        return self._watch.stop is not None

    def _present(self, unit: Unit) -> set[str]:
        with self._archive.querying() as query:
            return present(query, unit)

    def _settle(self, outcome: _Outcome, moved: Moved | None) -> None:
        """Write down what is there, and blame what is not."""
        if moved is None:
            self._journal.settle(Settled(uid, State.IMPORTED) for uid in sorted(outcome.new))
            if not outcome.new:
                self._journal.tried((entry.uid, Code.SOURCE_BREAKS) for entry in outcome.unit.entries)
            return
        if moved.status == _DESTINATION_UNKNOWN:
            raise Halted(Stop.MOVE_DESTINATION_UNKNOWN)
        if moved.status in _REFUSED:
            raise Halted(Stop.SOURCE_REFUSED)
        missed = _missed(outcome, moved)
        good = [entry.uid for entry in outcome.unit.entries if entry.uid in outcome.after and entry.uid not in missed]
        if moved.status == _CANCELLED or self._is_over():  # what is not there yet was not waited for
            self._journal.settle(Settled(uid, State.IMPORTED) for uid in good if uid in outcome.new)
            return
        self._journal.settle(Settled(uid, State.IMPORTED if uid in outcome.ours else State.PRESENT) for uid in good)
        self._blame(outcome, missed)

    def _blame(self, outcome: _Outcome, missed: dict[str, Code]) -> None:
        """Count a failed try of what did not come, unless it is the way that is wrong."""
        if outcome.new:
            self._journal.tried(self._arrivals.came())
        absent = [(uid, code) for uid, code in missed.items() if uid not in outcome.after]
        refused = [(uid, code) for uid, code in missed.items() if uid in outcome.after]
        self._journal.tried(refused)
        if not absent:
            return
        if outcome.new:
            self._journal.tried(absent)
            return
        fresh = all(entry.attempts == 0 for entry in outcome.unit.entries)
        blamed, astray = self._arrivals.missed(absent, fresh=fresh)
        self._journal.tried(blamed)
        if astray:
            raise Halted(astray_by(absent))


def astray_by(missed: list[tuple[str, Code]]) -> Stop:
    """Return the word for a way by which nothing comes."""
    return Stop.MOVE_FAILS if any(code is Code.MOVE_FAILED for _, code in missed) else Stop.NOTHING_ARRIVES


def _missed(outcome: _Outcome, moved: Moved) -> dict[str, Code]:
    """Return which objects are not well, and why."""
    uids = [entry.uid for entry in outcome.unit.entries]
    failed = moved.failed > 0 or moved.status in _FAILURES or moved.status >> 12 == 0xC
    short = moved.sent is not None and moved.sent + moved.failed < len(uids)
    missed: dict[str, Code] = {}
    for uid in uids:
        if uid not in outcome.after:
            missed[uid] = _absent(outcome, moved, failed=uid in moved.failures if moved.failures else failed)
        elif uid in moved.failures or (failed and not moved.failures and uid in outcome.there):
            missed[uid] = Code.NOT_TAKEN_AGAIN
        elif short and uid in outcome.there:
            missed[uid] = Code.NOT_DELIVERED
    return missed


def _absent(outcome: _Outcome, moved: Moved, *, failed: bool) -> Code:
    if failed:
        return Code.MOVE_FAILED
    told_sent = moved.sent is None or moved.sent > len(outcome.after)
    return Code.NOT_ARRIVED if told_sent else Code.NOT_DELIVERED
