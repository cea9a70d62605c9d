"""What the source has: studies by slices of dates, so that no query meets its limit, then each study's objects."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256

from pydicom.dataset import Dataset

from pacs_operator.domain.importing import Code, ImportConfig, Selection, Stop
from pacs_operator.importer.journal import UNNAMED, Entry, Journal, State
from pacs_operator.importer.limits import Halted, Watch
from pacs_operator.importer.node import BrokenError, Node, Query, QueryError

_FIRST_DAY = date(1900, 1, 1)
_SLICE = timedelta(days=31)
_DAY = timedelta(days=1)
_SECONDS = 86_400
_SHORTEST = 60  # seconds of a day; within a minute nothing is split any more
_MOST_ANSWERS = 200_000  # of one query, for the memory's sake
ALL = ("", "")
# Also those that no standard allows (a component with a leading zero): devices gave them out, and images bear them.
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Span:
    """Days, or seconds of one day; both ends included."""

    first: date
    last: date
    begin: int = 0
    end: int = _SECONDS - 1

    @property
    def keys(self) -> dict[str, str]:
        """Return the matching keys (PS3.4 C.2.2.2.5: range matching)."""
        found = {"StudyDate": f"{self.first:%Y%m%d}-{self.last:%Y%m%d}"}
        if self.part_of_day:
            found["StudyTime"] = f"{_clock(self.begin)}-{_clock(self.end)}.999999"
        return found

    @property
    def part_of_day(self) -> bool:
        """Tell whether it is less than a day."""
        return (self.begin, self.end) != (0, _SECONDS - 1)

    @property
    def mark(self) -> tuple[str, str]:
        """Return how the journal knows it."""
        return f"{self.first:%Y%m%d}{_clock(self.begin)}", f"{self.last:%Y%m%d}{_clock(self.end)}"

    def halves(self) -> list["Span"]:
        """Return two halves; none when it is as short as can be."""
        if self.first < self.last:
            middle = self.first + (self.last - self.first) // 2
            return [Span(self.first, middle), Span(middle + _DAY, self.last)]
        if self.end - self.begin < _SHORTEST:
            return []
        middle_second = (self.begin + self.end) // 2
        return [
            Span(self.first, self.first, self.begin, middle_second),
            Span(self.first, self.first, middle_second + 1, self.end),
        ]


def _clock(second: int) -> str:
    return f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"


def spans(first: date, last: date) -> Iterator[Span]:
    """Yield slices of a month's length that cover the days from first to last."""
    while first <= last:
        end = min(first + _SLICE - _DAY, last)
        yield Span(first, end)
        first = end + _DAY


@dataclass(frozen=True)
class _Held:
    """What the query without a date told: how many studies, and whether that is surely all, or surely cut off."""

    studies: int
    whole: bool
    cut: bool


class Listing:
    """Writes into the journal what the source has.

    Parameters
    ----------
    source, journal, watch
        Whom to ask, where to write, when to stop.
    config
        What is selected, and how many answers the source may give to one query.
    today
        The last day on which a study can have been made.
    """

    def __init__(self, source: Node, journal: Journal, watch: Watch, config: ImportConfig, today: date) -> None:
        self._source, self._journal, self._watch = source, journal, watch
        self._limit, self._selection, self._today = config.source.query_limit, config.selection, today

    def studies(self) -> None:
        """Ask for all selected studies that no earlier slice of the work asked for."""
        if self._journal.fact("studies") is not None:
            return
        try:
            with self._source.querying() as query:
                held = self._all_at_once(query) if self._selection.study_dates is None else None
                if held is None or not held.whole:
                    for span in spans(*_days(self._selection, self._today)):
                        self._dated(query, span)
        except BrokenError:
            raise Halted(Stop.SOURCE_UNREACHABLE) from None
        except QueryError:
            raise Halted(Stop.SOURCE_QUERY_FAILED) from None
        self._journal.note("undated", self._undated(held))
        self._journal.note("studies", "listed")

    def _undated(self, held: "_Held | None") -> str:
        if held is None:
            return "NotSelected"
        if held.whole:
            return "Searched"
        # A source that answers beyond the limit has another one or none: then nobody else may have been found.
        complete = not held.cut and held.studies >= len(self._journal.studies())
        return "Searched" if complete else "NotSearched"

    def _all_at_once(self, query: Query) -> "_Held":
        """Ask without a date, which alone finds studies that have none; a short answer is the whole."""
        uids, whole = self._ask(query, {"StudyDate": ""})
        self._journal.add_studies(uids, ALL, 0)
        return _Held(len(uids), whole and len(uids) < self._limit, not whole or len(uids) == self._limit)

    def _dated(self, query: Query, span: Span) -> None:
        self._watch.check()
        if self._journal.asked(*span.mark):
            return
        uids, whole = self._ask(query, span.keys)
        limited = not whole or len(uids) >= self._limit
        halves = span.halves() if limited else []
        for half in halves:
            self._dated(query, half)
        # Within one day the halves find no study without a time: the whole day's answer may have left some out.
        by_time = limited and span.first == span.last and (not halves or not uids <= self._journal.timed())
        self._journal.add_studies(uids, span.mark, int(by_time), timed=span.part_of_day)

    def _ask(self, query: Query, keys: dict[str, str]) -> tuple[set[str], bool]:
        uids: set[str] = set()
        try:
            for answer in query.find("STUDY", StudyInstanceUID="", **keys):
                if not (uid := _uid(answer, "StudyInstanceUID")):
                    self._journal.add_unnamed(_nameless(answer, "StudyInstanceUID"))
                elif len(uids) < _MOST_ANSWERS:
                    uids.add(uid)
        except QueryError as error:
            if error.truncated:
                return uids, False
            raise
        return uids, len(uids) < _MOST_ANSWERS

    def study(self, query: Query, uid: str) -> None:
        """Write down what one study consists of; what it must have and the source does not list is missing."""
        missing: dict[str, int] = {}
        entries: list[Entry] = []
        keys = {"Modality": "", "SeriesInstanceUID": "", "NumberOfSeriesRelatedInstances": ""}
        answers = list(query.find("SERIES", StudyInstanceUID=uid, **keys))
        for answer in answers:
            series, wanted = _uid(answer, "SeriesInstanceUID"), self._selection.modalities
            modality = _text(answer, "Modality")
            if wanted is not None and modality not in wanted and (series or modality):
                continue  # of one that tells neither nobody knows that it was not wanted
            if not series:
                missing[f"{_nameless(answer, 'SeriesInstanceUID')}/{uid}"] = max(_number(answer), 1)
                continue
            found, left_out = self._objects(query, uid, series)
            missing[series] = max(max(_number(answer), 1) - len(found), left_out)
            entries += found
        if not answers:
            missing[f"{UNNAMED}/{uid}"] = 1
        self._journal.add_objects(uid, missing, entries)

    @staticmethod
    def _objects(query: Query, study: str, series: str) -> tuple[list[Entry], int]:
        """Return the objects of a series, and how many more there are at least."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": "", "SOPClassUID": ""}
        found: list[Entry] = []
        nameless = 0
        try:
            for answer in query.find("IMAGE", **keys):
                uid, sop_class = _uid(answer, "SOPInstanceUID"), _uid(answer, "SOPClassUID")
                if not uid:
                    nameless += 1
                elif sop_class:
                    found.append(Entry(uid, study, series, sop_class))
                else:  # C-GET needs the class beforehand
                    found.append(Entry(uid, study, series, "", State.FAILED, Code.NOT_LISTED))
        except QueryError as error:
            if not error.truncated:
                raise
            return found, nameless + 1  # what is in a series cannot be asked for in parts
        return found, nameless


def _days(selection: Selection, today: date) -> tuple[date, date]:
    if selection.study_dates is None:
        return _FIRST_DAY, today + _DAY  # a clock that is ahead
    return date.fromisoformat(selection.study_dates.first), date.fromisoformat(selection.study_dates.last)


def _uid(answer: Dataset, keyword: str) -> str:
    """Return a UID of an answer as it is given; empty when nothing can be asked for by it."""
    text = _text(answer, keyword)
    return text if _UID.fullmatch(text) else ""


def _text(answer: Dataset, keyword: str) -> str:
    """Return a value of an answer as text; empty where there is none or it cannot be read."""
    try:
        return str(answer.get(keyword) or "").strip(" \0")
    except Exception:  # whatever a foreign system sends: the parser's errors are of many kinds, and quote it
        return ""


def _nameless(answer: Dataset, keyword: str) -> str:
    """Return a name for what has none, the same whenever the source answers with it."""
    return UNNAMED + sha256(_text(answer, keyword).encode()).hexdigest()[:16]


def _number(answer: Dataset) -> int:
    text = _text(answer, "NumberOfSeriesRelatedInstances")
    return min(int(text), 10**6) if text.isascii() and text.isdigit() else 0
