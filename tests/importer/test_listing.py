"""What the source has, and what of it may have stayed unseen: sources that cut off, leave out and break rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pynetdicom.dsutils import decode, encode

from pacs_operator.domain.importing import Code, ImportConfig
from pacs_operator.importer.journal import Journal
from pacs_operator.importer.limits import Watch
from pacs_operator.importer.listing import Listing
from pacs_operator.importer.node import Node, Query, QueryError

LIMIT = 100
TODAY = date(1900, 3, 1)  # few months are asked for


@dataclass
class Source:
    """A source whose answers a test makes up; ``studies`` by UID with date and time."""

    studies: dict[str, tuple[str, str]] = field(default_factory=dict)
    most: int | None = LIMIT
    says_so: bool = False
    series: list[dict[str, Any]] = field(default_factory=lambda: [{"SeriesInstanceUID": "1.5"}])
    images: list[dict[str, Any]] = field(default_factory=lambda: [{"SOPInstanceUID": "1.6", "SOPClassUID": "1.7"}])

    @contextmanager
    def querying(self) -> Iterator[Source]:
        yield self

    def find(self, level: str, **keys: str) -> Iterator[Dataset]:
        if level != "STUDY":
            yield from map(answer, self.series if level == "SERIES" else self.images)
            return
        wanted = [
            uid
            for uid, (day, time) in self.studies.items()
            if within(day, keys["StudyDate"]) and within(time, keys.get("StudyTime", ""))
        ]
        yield from (answer({"StudyInstanceUID": uid}) for uid in wanted[: self.most])
        if self.says_so and self.most is not None and len(wanted) > self.most:
            raise QueryError(truncated=True)


@dataclass
class Raw(Source):
    """A source with one answer more at one level."""

    more: dict[str, Dataset] = field(default_factory=dict)

    def find(self, level: str, **keys: str) -> Iterator[Dataset]:
        yield from super().find(level, **keys)
        yield from [self.more[level.lower()]] if level.lower() in self.more else []


@dataclass
class Told:
    """An association as pynetdicom tells of it."""

    answers: list[tuple[Dataset, Dataset | None]]

    def send_c_find(self, *_: object) -> Iterator[tuple[Dataset, Dataset | None]]:
        return iter(self.answers)


def status(value: int) -> Dataset:
    dataset = Dataset()
    dataset.Status = value
    return dataset


def within(value: str, key: str) -> bool:
    first, _, last = key.partition("-")
    return not key or (value != "" and first <= value <= last)


def answer(values: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    for key, value in values.items():
        setattr(dataset, key, value)
    return dataset


@dataclass
class Seen:
    known: int
    undated: str | None
    at_limit: int
    codes: dict[Code, int]
    series: int


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Seen]:
    def listed(source: Source, **settings: Any) -> Seen:
        config = ImportConfig.model_validate(
            {
                "run": "i1", "importUid": "u1", "archiveAeTitle": "RADIOLOGY", "gateHost": "none",
                "source": {
                    "address": "198.18.10.30", "port": 11112, "calledAETitle": "A", "callingAETitle": "B",
                    "tls": {"mode": "Plaintext", "reason": "no network at all"}, "queryLimit": LIMIT,
                },
                **settings,
            }
        )  # fmt: skip
        journal = Journal(tmp_path / "u1.db", 3)
        listing = Listing(cast(Node, source), journal, Watch(3600), config, TODAY)
        listing.studies()
        for study in sorted(journal.studies()):
            listing.study(cast(Query, source), study)
        counts = journal.counts()
        seen = Seen(counts.studies, journal.fact("undated"), journal.at_limit, journal.codes(), counts.series)
        journal.close()
        return seen

    return listed


def studies(count: int, day: str = "", time: str = "", start: int = 0) -> dict[str, tuple[str, str]]:
    return {f"1.2.{number}": (day, time) for number in range(start, start + count)}


def spread(count: int, day: str) -> dict[str, tuple[str, str]]:
    return {f"1.3.{number}": (day, f"{number % 24:02d}{number % 60:02d}00") for number in range(count)}


ALL_UNDATED = studies(500)
SOME_UNDATED = {**spread(80, "19000201"), **studies(120)}


@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("held", [ALL_UNDATED, SOME_UNDATED], ids=["all", "some"])
def test_a_cut_answer_without_a_date_is_no_search(
    ask: Callable[..., Seen], held: dict[str, tuple[str, str]], says_so: bool
) -> None:
    seen = ask(Source(held, says_so=says_so))
    assert (seen.known, seen.undated) == (LIMIT, "NotSearched")


@pytest.mark.parametrize("most", [None, 500])  # the limit that is told is not the source's
def test_a_source_that_answers_beyond_the_limit_is_searched(ask: Callable[..., Seen], most: int | None) -> None:
    assert ask(Source(ALL_UNDATED, most=most)).undated == "Searched"


def test_an_answer_shorter_than_the_limit_is_the_whole(ask: Callable[..., Seen]) -> None:
    seen = ask(Source(studies(LIMIT - 1)))
    assert (seen.known, seen.undated, seen.at_limit) == (LIMIT - 1, "Searched", 0)


FEBRUARY = {"studyDates": {"first": "1900-02-01", "last": "1900-02-28"}}


@pytest.mark.parametrize(
    ("held", "at_limit"),
    [
        (studies(500, "19000201"), True),
        ({**studies(20, "19000201"), **spread(180, "19000201")}, True),
        (spread(200, "19000201"), False),
        (studies(90, "19000201"), False),
    ],
    ids=["none with a time", "some without", "all with", "few"],
)
@pytest.mark.parametrize("selection", [{}, FEBRUARY], ids=["everything", "a month"])
def test_a_day_that_its_parts_do_not_cover_is_at_the_limit(
    ask: Callable[..., Seen], held: dict[str, tuple[str, str]], at_limit: bool, selection: dict[str, Any]
) -> None:
    # The dateless query knows some already: what counts is what the day's own parts find.
    assert (ask(Source(held), selection=selection).at_limit > 0) is at_limit


@pytest.mark.parametrize("uid", ["1.2.840.0113.5", "1.2.840.113.", "1" * 64])
def test_uids_are_taken_as_they_are(ask: Callable[..., Seen], uid: str) -> None:
    images = [{"SOPInstanceUID": uid, "SOPClassUID": "1.7"}]
    source = Source({uid: ("", "")}, series=[{"SeriesInstanceUID": uid}], images=images)
    seen = ask(source)
    assert (seen.known, seen.series, seen.codes) == (1, 1, {})


@pytest.mark.parametrize("uid", ["", "1.2\\1.3", "1.2.x", "1" * 65])
@pytest.mark.parametrize("level", ["study", "series", "image"])
def test_what_cannot_be_asked_for_is_counted(ask: Callable[..., Seen], level: str, uid: str) -> None:
    source = Source(studies(1))
    value: Any = uid.split("\\") if "\\" in uid else uid
    if level == "study":
        source.studies = {**source.studies, value if isinstance(value, str) else uid: ("", "")}
    elif level == "series":
        source.series = [*source.series, {"SeriesInstanceUID": value}]
    else:
        source.images = [*source.images, {"SOPInstanceUID": value, "SOPClassUID": "1.7"}]
    seen = ask(source)
    assert (seen.known, seen.series, seen.codes) == (1, 1, {Code.NOT_LISTED: 1})


@pytest.mark.parametrize(
    ("series", "images", "missing"),
    [
        ([], [], 1),
        ([{"SeriesInstanceUID": "1.5"}], [], 1),
        ([{"SeriesInstanceUID": "1.5", "NumberOfSeriesRelatedInstances": 4}], [], 4),
        ([{"SeriesInstanceUID": "1.5", "NumberOfSeriesRelatedInstances": 4}], [1], 3),
        ([{"SeriesInstanceUID": "1.5"}], [1], 0),
        ([{"SeriesInstanceUID": "1.5", "NumberOfSeriesRelatedInstances": 1}], [1], 0),
    ],
)
def test_a_study_without_objects_is_not_complete(
    ask: Callable[..., Seen], series: list[dict[str, Any]], images: list[int], missing: int
) -> None:
    listed = [{"SOPInstanceUID": f"1.6.{number}", "SOPClassUID": "1.7"} for number in images]
    seen = ask(Source(studies(1), series=series, images=listed))
    assert seen.codes == ({Code.NOT_LISTED: missing} if missing else {})


@pytest.mark.parametrize(("modality", "missing"), [("CT", {}), ("MR", {Code.NOT_LISTED: 1})])
def test_series_of_another_modality_are_not_missed(
    ask: Callable[..., Seen], modality: str, missing: dict[Code, int]
) -> None:
    source = Source(studies(1), series=[{"SeriesInstanceUID": "1.5", "Modality": "MR"}], images=[])
    assert ask(source, selection={"modalities": [modality]}).codes == missing


def undecodable(keyword: str, raw: bytes = b"Surname^Given") -> Dataset:
    """Return an answer as it comes over the wire, of which one element is what no parser can read."""
    dataset = decode(
        BytesIO(encode(answer({"SeriesInstanceUID": "1.5", "StudyInstanceUID": "1.2.0"}), False, True) or b""),
        False,
        True,
    )
    tag = Tag(tag_for_keyword(keyword) or 0)
    dataset._dict[tag] = RawDataElement(tag, "FL", len(raw), raw, 0, False, True)
    with pytest.raises(Exception):  # noqa: B017  # of many kinds
        dataset.get(keyword)
    return dataset


@pytest.mark.parametrize(
    ("level", "keyword", "modalities", "missing"),
    [
        ("study", "StudyInstanceUID", None, 1),
        ("series", "SeriesInstanceUID", None, 1),
        ("series", "NumberOfSeriesRelatedInstances", None, 0),
        ("series", "NumberOfSeriesRelatedInstances", ["CT"], 0),
        ("series", "Modality", ["CT"], 0),
        ("series", "SeriesInstanceUID", ["CT"], 1),
        ("image", "SOPInstanceUID", None, 1),
    ],
)
def test_an_answer_that_cannot_be_read_costs_itself_alone(
    ask: Callable[..., Seen], level: str, keyword: str, modalities: list[str] | None, missing: int
) -> None:
    good = {"SeriesInstanceUID": "1.4", "Modality": "CT"}
    source = Raw(studies(1), series=[good], more={level: undecodable(keyword)})
    seen = ask(source, **({"selection": {"modalities": modalities}} if modalities else {}))
    assert seen.known == 1
    assert seen.codes.get(Code.NOT_LISTED, 0) == missing


def test_an_answer_that_cannot_be_decoded_is_told_of() -> None:
    """pynetdicom gives nothing instead of it, and says so to a log that is off; the next ones come."""
    told = [(status(0xFF00), None), (status(0xFF00), answer({"StudyInstanceUID": "1.2"})), (status(0x0000), None)]
    found = list(Query(cast(Any, Told(told))).find("STUDY", StudyInstanceUID=""))
    assert [each.get("StudyInstanceUID") for each in found] == [None, "1.2"]
