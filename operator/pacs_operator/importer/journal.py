"""The import's journal: what the source lists, and what became of each object; it survives every end of the pod.

It holds UIDs and digests, no names and no images, and stays on the volume of the ops zone.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pacs_operator.domain.importing import Code, ImportCounts

_SCHEMA = """
CREATE TABLE IF NOT EXISTS range (first TEXT, last TEXT, at_limit INTEGER NOT NULL, PRIMARY KEY (first, last));
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS study (uid TEXT PRIMARY KEY, listed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS timed (uid TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS carried (uid TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS series (uid TEXT PRIMARY KEY, study TEXT NOT NULL, missing INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS object (
  uid TEXT PRIMARY KEY, study TEXT NOT NULL, series TEXT NOT NULL, class TEXT NOT NULL,
  state TEXT NOT NULL, code TEXT, attempts INTEGER NOT NULL DEFAULT 0, syntax TEXT, digest TEXT);
CREATE INDEX IF NOT EXISTS object_study ON object (study, state);
CREATE INDEX IF NOT EXISTS object_state ON object (state);
"""


#: Begins the names of series that only stand for what the source answered with and did not name.
UNNAMED = "?"


class State(StrEnum):
    """What became of an object."""

    LISTED = "Listed"
    SENDING = "Sending"  # written before it is sent: if the archive has it afterwards, it is from here
    IMPORTED = "Imported"
    IDENTICAL = "Identical"
    PRESENT = "Present"  # it was there, and nobody compared it but the archive itself
    DIFFERING = "Differing"
    REFUSED = "Refused"
    FAILED = "Failed"


PENDING = (State.LISTED, State.SENDING)
HASHED = (State.IMPORTED.value, State.IDENTICAL.value)


@dataclass(frozen=True)
class Entry:
    """One object of the source."""

    uid: str
    study: str
    series: str
    sop_class: str
    state: State = State.LISTED
    code: Code | None = None
    attempts: int = 0


@dataclass(frozen=True)
class Settled:
    """What became of one object, as it is written down."""

    uid: str
    state: State
    code: Code | None = None
    syntax: str | None = None
    digest: str | None = None


class Journal:
    """One import's journal, for any number of threads of one process.

    Parameters
    ----------
    path
        Its file; made when absent.
    attempts
        After how many failed tries an object counts as failed.
    """

    def __init__(self, path: Path, attempts: int) -> None:
        self._attempts = attempts
        self._lock = threading.Lock()
        self.moved = 0
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def fact(self, name: str) -> str | None:
        """Return what was written under a name."""
        rows = self._rows("SELECT value FROM fact WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def note(self, name: str, value: str) -> None:
        """Write something down under a name."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def asked(self, first: str, last: str) -> bool:
        """Tell whether a range of dates was asked for already."""
        return bool(self._rows("SELECT 1 FROM range WHERE first = ? AND last = ?", first, last))

    def add_studies(self, uids: Iterable[str], asked: tuple[str, str], at_limit: int, *, timed: bool = False) -> None:
        """Write down the studies of a range, and that it was asked for; ``timed``: by a time of the day."""
        rows = [(uid,) for uid in uids]
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO study (uid) VALUES (?)", rows)
            if timed:
                db.executemany("INSERT OR IGNORE INTO timed VALUES (?)", rows)
            db.execute("INSERT OR REPLACE INTO range VALUES (?, ?, ?)", (*asked, at_limit))

    def add_unnamed(self, name: str) -> None:
        """Write down that the source answered with a study that cannot be asked for."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO series VALUES (?, '', 1)", (name,))

    def timed(self) -> set[str]:
        """Return the UIDs of studies that were found by a time of the day."""
        return {str(uid) for (uid,) in self._rows("SELECT uid FROM timed")}

    def studies(self) -> set[str]:
        """Return the UIDs of all studies that are known."""
        return {str(uid) for (uid,) in self._rows("SELECT uid FROM study")}

    def open_studies(self) -> list[str]:
        """Return studies with something left to do, fresh ones first."""
        rows = self._rows(
            "SELECT uid FROM study WHERE listed = 0 OR uid IN (SELECT study FROM object WHERE state IN (?, ?)) "
            "ORDER BY listed, uid",
            *PENDING,
        )
        return [str(uid) for (uid,) in rows]

    @property
    def unlisted(self) -> int:
        """Return how many studies nobody asked for their objects yet."""
        return int(str(self._rows("SELECT count(*) FROM study WHERE listed = 0")[0][0]))

    def is_listed(self, study: str) -> bool:
        """Tell whether the objects of a study are written down."""
        return bool(self._rows("SELECT 1 FROM study WHERE uid = ? AND listed = 1", study))

    def add_objects(self, study: str, missing: dict[str, int], entries: Iterable[Entry]) -> None:
        """Write down what a study consists of.

        Parameters
        ----------
        study
            Its UID.
        missing
            By series: how many objects the source counts and does not list.
        entries
            Its objects; one that another study listed before stays there.
        """
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO series VALUES (?, ?, ?)", [(k, study, n) for k, n in missing.items()])
            db.executemany(
                "INSERT OR IGNORE INTO object (uid, study, series, class, state, code) VALUES (?, ?, ?, ?, ?, ?)",
                [(e.uid, e.study, e.series, e.sop_class, e.state, e.code) for e in entries],
            )
            db.execute("INSERT OR REPLACE INTO study VALUES (?, 1)", (study,))

    def pending(self, study: str) -> list[Entry]:
        """Return the objects of a study that are left, the untried ones first."""
        rows = self._rows(
            "SELECT uid, study, series, class, state, code, attempts FROM object WHERE study = ? AND state IN (?, ?) "
            "ORDER BY attempts, series, class, uid",
            study,
            *PENDING,
        )
        return [_entry(row) for row in rows]

    def sending(self, uids: Iterable[str]) -> None:
        """Write down, before it happens, that objects are sent."""
        with self._transaction() as db:
            db.executemany("UPDATE object SET state = ? WHERE uid = ?", [(State.SENDING, uid) for uid in uids])

    def settle(self, results: Iterable[Settled]) -> None:
        """Write down what became of objects."""
        rows = [(each.state, each.code, each.syntax, each.digest, each.uid) for each in results]
        with self._transaction() as db:
            db.executemany("UPDATE object SET state = ?, code = ?, syntax = ?, digest = ? WHERE uid = ?", rows)
        self.moved += len(rows)

    @contextmanager
    def carrying(self, uids: Iterable[str]) -> Iterator[None]:
        """Mark objects as being in hand; only a process that ends meanwhile leaves the marks."""
        rows = [(uid,) for uid in uids]
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO carried VALUES (?)", rows)
        try:
            yield
        except Exception:
            self._put_down(rows)
            raise
        self._put_down(rows)

    def _put_down(self, rows: list[tuple[str]]) -> None:
        with self._transaction() as db:
            db.executemany("DELETE FROM carried WHERE uid = ?", rows)

    def count_interrupted(self) -> None:
        """Count a failed try of each object that an earlier process ended with: one of them may have ended it."""
        rows = self._rows(
            "SELECT uid FROM carried WHERE uid IN (SELECT uid FROM object WHERE state IN (?, ?))", *PENDING
        )
        self.tried((str(uid), Code.INTERRUPTED) for (uid,) in rows)
        with self._transaction() as db:
            db.execute("DELETE FROM carried")

    @property
    def interrupted(self) -> bool:
        """Tell whether something is left with which an earlier process ended."""
        query = "SELECT 1 FROM object WHERE code = ? AND state IN (?, ?) LIMIT 1"
        return bool(self._rows(query, Code.INTERRUPTED, *PENDING))

    def tried(self, failures: Iterable[tuple[str, Code]]) -> None:
        """Count a try that failed; the last one is final."""
        with self._transaction() as db:
            for uid, code in failures:
                db.execute("UPDATE object SET attempts = attempts + 1, code = ? WHERE uid = ?", (code, uid))
                db.execute(
                    "UPDATE object SET state = ? WHERE uid = ? AND attempts >= ?", (State.FAILED, uid, self._attempts)
                )

    def counts(self) -> ImportCounts:
        """Return how far the import is."""
        states = {
            str(state): int(str(n)) for state, n in self._rows("SELECT state, count(*) FROM object GROUP BY state")
        }
        return ImportCounts(
            studies=self._count("study"),
            series=self._count("series", f"WHERE uid NOT LIKE '{UNNAMED}%'"),
            objects=sum(states.values()),
            pending=sum(states.get(state, 0) for state in PENDING),
            hashed=self._count("object", f"WHERE digest IS NOT NULL AND state IN {HASHED}"),
            **{state.lower(): states.get(state, 0) for state in State if state not in PENDING},
        )

    def codes(self) -> dict[Code, int]:
        """Return how many objects did not arrive, by why."""
        rows = self._rows(
            "SELECT code, count(*) FROM object WHERE code IS NOT NULL AND state NOT IN (?, ?) GROUP BY code", *PENDING
        )
        found = {Code(str(code)): int(str(n)) for code, n in rows}
        missing = int(str(self._rows("SELECT coalesce(sum(missing), 0) FROM series")[0][0]))
        return {**found, Code.NOT_LISTED: found.get(Code.NOT_LISTED, 0) + missing} if missing else found

    @property
    def at_limit(self) -> int:
        """Return how many shortest ranges were answered with as much as the source may."""
        return int(str(self._rows("SELECT coalesce(sum(at_limit), 0) FROM range")[0][0]))

    def entries(self, states: Iterable[State]) -> Iterator[Entry]:
        """Yield objects in these states, for a person's report."""
        for state in states:
            rows = self._rows(
                "SELECT uid, study, series, class, state, code, attempts FROM object WHERE state = ? "
                "ORDER BY study, series, uid",
                state,
            )
            yield from map(_entry, rows)

    def missing(self) -> list[tuple[str, str, int]]:
        """Return study, series and number of the objects that the source counts and does not list."""
        rows = self._rows("SELECT study, uid, missing FROM series WHERE missing > 0 ORDER BY study, uid")
        return [(str(study), str(uid), int(str(number))) for study, uid, number in rows]

    def _count(self, table: str, where: str = "") -> int:
        return int(str(self._rows(f"SELECT count(*) FROM {table} {where}")[0][0]))  # noqa: S608  # words of ours


def _entry(row: tuple[object, ...]) -> Entry:
    uid, study, series, sop_class, state, code, attempts = row
    return Entry(
        uid=str(uid),
        study=str(study),
        series=str(series),
        sop_class=str(sop_class),
        state=State(str(state)),
        code=Code(str(code)) if code is not None else None,
        attempts=int(str(attempts)),
    )
