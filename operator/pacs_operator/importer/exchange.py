"""Objects of one series brought over: out of the source, through the gate, back out of the archive, and compared."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import Self

from pacs_operator.domain.importing import Code, Stop
from pacs_operator.importer.content import Content, content_of
from pacs_operator.importer.journal import Entry, Journal, Settled, State
from pacs_operator.importer.limits import Halted, Limits
from pacs_operator.importer.node import BrokenError, Node, NotTakenError, Query, QueryError
from pacs_operator.probes.client import SUCCESS

_AGAIN = 0xA700  # what the source is told for objects that come after the end of the slice
_IDLE_SECONDS = 60.0  # half of what Orthanc lets an association be silent (DicomScpTimeout)
_DUPLICATE, _NOT_AUTHORIZED, _CLASS_NOT_TAKEN = 0x0111, 0x0124, 0x0122
_WARNINGS = range(0xB000, 0xC000)


@dataclass(frozen=True)
class Unit:
    """Objects of one class in one series, some of which are asked for at once."""

    study: str
    series: str
    sop_class: str
    entries: tuple[Entry, ...]


def units(entries: Iterable[Entry], size: int) -> Iterator[Unit]:
    """Yield units of at most so many objects; one that failed before comes alone, so that it harms no other."""
    for key, group in groupby(entries, lambda each: (each.attempts > 0, each.study, each.series, each.sop_class)):
        members = list(group)
        step = 1 if key[0] else size
        for start in range(0, len(members), step):
            yield Unit(*key[1:], tuple(members[start : start + step]))


@dataclass
class _Batch:
    """What is known of a unit while it is on its way."""

    unit: Unit
    held: dict[str, Content]  # what the archive has of it, from before
    settled: list[Settled] = field(default_factory=list)
    tried: list[tuple[str, Code]] = field(default_factory=list)
    stored: dict[str, Content] = field(default_factory=dict)  # to be read back
    came: set[str] = field(default_factory=set)
    halt: Stop | None = None

    def __post_init__(self) -> None:
        self.entries = {entry.uid: entry for entry in self.unit.entries}

    def settle(self, uid: str, state: State, code: Code | None = None, content: Content | None = None) -> None:
        self.settled.append(
            Settled(uid, state, code, content.syntax if content else None, content.digest if content else None)
        )


class Door:
    """The archive's door while a unit is on its way: opened again where a slow source let it stand too long.

    Parameters
    ----------
    archive, sop_class
        Where to store, and what.
    clock
        Seconds, monotonic.
    """

    def __init__(self, archive: Node, sop_class: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._archive, self._sop_class, self._clock = archive, sop_class, clock
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self._stack.close()
        self.storage = self._stack.enter_context(self._archive.storing(self._sop_class))
        self._used = self._clock()

    def store(self, uid: str, encoded: bytes, syntax: str) -> int:
        """Store one object and return the status; raises what `Storage.store` does, and `Halted` if none opens."""
        if not self.storage.is_open or self._clock() - self._used > _IDLE_SECONDS:
            self._open()
        status = self.storage.store(uid, encoded, syntax)
        self._used = self._clock()
        return status


class Exchange:
    """Brings units over; one object of any thread alone is sure to be whole, so a unit can be cut off anywhere.

    Parameters
    ----------
    source, archive
        From where, and where to.
    journal, limits
        Shared by the threads of a slice.
    """

    def __init__(self, source: Node, archive: Node, journal: Journal, limits: Limits) -> None:
        self._source, self._archive, self._journal = source, archive, journal
        self._watch, self._pace, self._strain = limits.watch, limits.pace, limits.strain

    def bring(self, unit: Unit) -> None:
        """Bring one unit over and write down what became of each of its objects.

        Raises
        ------
        Halted
            Source or archive cannot be reached, or the slice is over; the objects stay as they were.
        BrokenError
            The source ended the association in the middle; what came is written down.
        """
        with self._journal.carrying(entry.uid for entry in unit.entries):
            self._bring(unit)

    def _bring(self, unit: Unit) -> None:
        with Door(self._archive, unit.sop_class) as door:
            there = present(door.storage, unit)
            batch = _Batch(unit, self._read(unit, sorted(there)))
            self._journal.sending(uid for uid in batch.entries if uid not in there)
            broken = self._carry(batch, door)
        self._journal.settle(batch.settled)
        if batch.halt is not None:
            self._watch.halt(batch.halt)
        else:
            self._journal.tried(batch.tried)
        self._read_back(batch)
        self._watch.check()
        if broken:
            raise BrokenError

    def _read(self, unit: Unit, uids: Sequence[str]) -> dict[str, Content]:
        """Return what the archive gives out of a unit."""
        found: dict[str, Content] = {}
        if not uids:
            return found

        def keep(uid: str, encoded: bytes, syntax: str) -> int:
            found[uid] = content_of(encoded, syntax)
            return SUCCESS

        try:
            with self._archive.retrieving(unit.sop_class, keep) as retrieval:
                retrieval.get(unit.study, unit.series, uids)
        except BrokenError:
            raise Halted(Stop.ARCHIVE_UNREACHABLE) from None
        return found

    def _carry(self, batch: _Batch, door: "Door") -> bool:
        """Have the source send what the unit names; tell whether it broke off."""
        unit = batch.unit

        def keep(uid: str, encoded: bytes, syntax: str) -> int:
            if batch.halt is not None or self._watch.stop is not None:
                return _AGAIN
            if uid not in batch.entries or uid in batch.came:
                return SUCCESS  # nobody asked for it
            self._pace.wait()
            batch.came.add(uid)
            self._take(batch, door, uid, encoded, syntax)
            return SUCCESS

        with self._source.retrieving(unit.sop_class, keep) as retrieval:
            try:
                retrieval.get(unit.study, unit.series, list(batch.entries))
                for uid in self._missing(batch) if len(batch.entries) > 1 else ():
                    retrieval.get(unit.study, unit.series, [uid])
            except BrokenError:
                if not batch.came:
                    batch.tried += [(uid, Code.SOURCE_BREAKS) for uid in batch.entries]
                return True
        batch.tried += [(uid, Code.NOT_DELIVERED) for uid in self._missing(batch)]
        return False

    def _missing(self, batch: _Batch) -> list[str]:
        if batch.halt is not None or self._watch.stop is not None:
            return []  # not the source's fault
        return [uid for uid in batch.entries if uid not in batch.came]

    def _take(self, batch: _Batch, door: "Door", uid: str, encoded: bytes, syntax: str) -> None:
        """Judge one object that came, and store it unless the archive has just this."""
        content = content_of(encoded, syntax)
        if content.uid not in ("", uid):
            batch.settle(uid, State.FAILED, Code.ANOTHER_OBJECT, content)
            return
        if batch.held.get(uid) == content:
            ours = batch.entries[uid].state is State.SENDING
            batch.settle(uid, State.IMPORTED if ours else State.IDENTICAL, None, content)
            return
        try:
            status = door.store(uid, encoded, syntax)
        except NotTakenError:
            batch.settle(uid, State.REFUSED, Code.NOT_ACCEPTED, content)
            return
        except BrokenError:
            self._journal.tried([(uid, Code.ARCHIVE_BREAKS)])
            batch.halt = Stop.ARCHIVE_UNREACHABLE
            return
        except Halted as halted:  # no new association; nothing was sent, so nothing was tried
            batch.halt = halted.stop
            return
        self._judge(batch, uid, content, status)

    def _judge(self, batch: _Batch, uid: str, content: Content, status: int) -> None:
        if status & 0xFF00 == 0xA700:
            batch.tried.append((uid, Code.OUT_OF_RESOURCES))
            if self._strain.refused():
                batch.halt = Stop.ARCHIVE_FULL
            return
        self._strain.answered()
        if status == SUCCESS or status in _WARNINGS:
            batch.stored[uid] = content
        elif status == _DUPLICATE:
            batch.settle(uid, State.DIFFERING, Code.DUPLICATE_DIFFERS, content)
        elif status == _NOT_AUTHORIZED:
            batch.settle(uid, State.REFUSED, Code.NOT_AUTHORIZED, content)
        elif status == _CLASS_NOT_TAKEN:
            batch.settle(uid, State.REFUSED, Code.NOT_ACCEPTED, content)
        else:
            batch.settle(uid, State.REFUSED, Code.CANNOT_UNDERSTAND, content)

    def _read_back(self, batch: _Batch) -> None:
        """Compare what was stored with what the archive gives back; until then nothing counts as imported."""
        given = self._read(batch.unit, sorted(batch.stored))
        results = []
        for uid, content in batch.stored.items():
            back = given.get(uid)
            if back == content:
                results.append(Settled(uid, State.IMPORTED, None, content.syntax, content.digest))
            else:
                code = Code.NOT_READ_BACK if back is None else Code.READ_BACK_DIFFERS
                results.append(Settled(uid, State.FAILED, code, content.syntax, content.digest))
        self._journal.settle(results)


def present(archive: Query, unit: Unit) -> set[str]:
    """Return which objects of a unit the archive has."""
    wanted = {entry.uid for entry in unit.entries}
    keys = {"StudyInstanceUID": unit.study, "SeriesInstanceUID": unit.series}
    try:
        found = archive.find("IMAGE", SOPInstanceUID=sorted(wanted), **keys)
        return {str(answer.get("SOPInstanceUID")) for answer in found} & wanted
    except (BrokenError, QueryError):
        raise Halted(Stop.ARCHIVE_UNREACHABLE) from None
