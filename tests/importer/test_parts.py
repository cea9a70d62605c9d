"""The parts of an import that need no node: digests, ranges, the pace, the end of a slice, the report."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from typer.testing import CliRunner

from pacs_operator.domain.importing import Code, ImportCounts, SliceResult, Stop
from pacs_operator.importer.__main__ import app
from pacs_operator.importer.content import content_of
from pacs_operator.importer.exchange import units
from pacs_operator.importer.journal import Entry, Journal, Settled, State
from pacs_operator.importer.limits import Halted, Pace, Strain, Watch
from pacs_operator.importer.listing import Span, spans
from pacs_operator.probes.compare import encode

from .node import image

UID = "1.2.3.1.1"


def digest(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> str:
    content = content_of(encode(dataset, syntax), syntax)  # type: ignore[arg-type]
    assert content.uid == UID
    return content.digest


def object_with_items() -> Dataset:
    dataset = image(UID, "1.2.3.1")
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3.9"
    dataset.ReferencedImageSequence = Sequence([item])
    return dataset


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_how_lengths_are_written_is_no_difference(syntax: str) -> None:
    one, other = object_with_items(), object_with_items()
    other["ReferencedImageSequence"].is_undefined_length = True
    other.ReferencedImageSequence[0].is_undefined_length_sequence_item = True
    assert encode(one, syntax) != encode(other, syntax)  # type: ignore[arg-type]
    assert digest(one, syntax) == digest(other, syntax)


CHANGES: dict[str, Callable[[Dataset], object]] = {
    "pixels": lambda each: setattr(each, "PixelData", b"\1" + each.PixelData[1:]),
    "a trailing zero of pixels": lambda each: setattr(each, "PixelData", each.PixelData + b"\0\0"),
    "a name": lambda each: setattr(each, "PatientName", "Surname^Other"),
    "an item": lambda each: setattr(each.ReferencedImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3.8"),
    "one item more": lambda each: each.ReferencedImageSequence.append(Dataset()),
    "an element more": lambda each: setattr(each, "PatientComments", "x"),
    "an element less": lambda each: delattr(each, "PatientName"),
    "a private element": lambda each: each.private_block(0x11, "MAKER", create=True).add_new(1, "LO", "x"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_of_content_is_a_difference(change: Callable[[Dataset], object]) -> None:
    one = object_with_items()
    other = copy.deepcopy(one)
    assert digest(one) == digest(other)
    change(other)
    assert digest(one) != digest(other)


def test_what_cannot_be_read_is_its_bytes() -> None:
    rubbish = b"\x08\x00\x05\x00CS\xff\xff"
    one, same, other = (content_of(each, "1.2.840.10008.1.2.1") for each in (rubbish, rubbish, rubbish + b"x"))
    assert one == same
    assert one.digest != other.digest
    assert one.uid == ""


def test_spans_cover_every_day_once() -> None:
    first, last = date(2019, 12, 20), date(2020, 3, 2)
    days = [each.first + timedelta(n) for each in spans(first, last) for n in range((each.last - each.first).days + 1)]
    assert days == [first + timedelta(n) for n in range((last - first).days + 1)]


@pytest.mark.parametrize("span", [Span(date(2020, 1, 1), date(2020, 1, 31)), Span(date(2020, 1, 1), date(2020, 1, 1))])
def test_halves_cover_the_whole_down_to_a_minute(span: Span) -> None:
    left, ends = [span], []
    while left:
        one = left.pop(0)
        halves = one.halves()
        if halves:
            assert (halves[0].first, halves[0].begin) == (one.first, one.begin)
            assert (halves[1].last, halves[1].end) == (one.last, one.end)
        else:
            ends.append(one)
        left += halves
    seconds = sum(each.end - each.begin + 1 for each in ends)
    assert seconds == ((span.last - span.first).days + 1) * 86400
    assert all(each.first == each.last and each.end - each.begin < 60 for each in ends)
    assert len({each.mark for each in ends}) == len(ends)


def test_keys_of_a_span() -> None:
    day = date(2020, 1, 15)
    assert Span(day, day).keys == {"StudyDate": "20200115-20200115"}
    assert Span(day, day, 3600, 7199).keys["StudyTime"] == "010000-015959.999999"


def test_the_pace_saves_nothing_up() -> None:
    now = [0.0]
    slept: list[float] = []
    pace = Pace(60, clock=lambda: now[0], sleep=slept.append)
    pace.wait()
    now[0] = 100.0
    pace.wait()
    pace.wait()
    assert slept == [1.0]


def test_a_watch_stops_at_its_time_and_keeps_the_first_reason() -> None:
    now = [0.0]
    watch = Watch(10, clock=lambda: now[0])
    watch.check()
    now[0] = 10.0
    with pytest.raises(Halted):
        watch.check()
    watch.halt(Stop.ARCHIVE_FULL)
    assert watch.stop is Stop.TIME


def test_three_refusals_in_a_row_are_the_archive() -> None:
    strain = Strain()
    assert [strain.refused(), strain.refused()] == [False, False]
    strain.answered()
    assert [strain.refused() for _ in range(3)] == [False, False, True]


def entries(count: int) -> list[Entry]:
    return [Entry(f"1.2.{n}", "1.1", "1.1.1", "1.9") for n in range(count)]


def test_units_are_bounded_and_one_that_failed_comes_alone() -> None:
    failed = [Entry(f"1.3.{n}", "1.1", "1.1.1", "1.9", attempts=1) for n in range(2)]
    assert [len(unit.entries) for unit in units([*entries(5), *failed], 2)] == [2, 2, 1, 1, 1]


def test_a_journal_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "u1.db"
    journal = Journal(path, 2)
    journal.add_studies({"1.1"}, ("a", "b"), 0)
    journal.add_objects("1.1", {"1.1.1": 3}, entries(4))
    journal.sending(["1.2.0", "1.2.1"])
    journal.settle([Settled("1.2.0", State.IMPORTED, None, "1.9", "d")])
    for _ in range(2):
        journal.tried([("1.2.2", Code.NOT_DELIVERED)])
    journal.close()
    again = Journal(path, 2)
    assert again.counts() == ImportCounts(studies=1, series=1, objects=4, imported=1, failed=1, pending=2, hashed=1)
    assert again.codes() == {Code.NOT_DELIVERED: 1, Code.NOT_LISTED: 3}
    assert {entry.uid: entry.state for entry in again.pending("1.1")} == {
        "1.2.1": State.SENDING, "1.2.3": State.LISTED,
    }  # fmt: skip
    assert again.asked("a", "b")
    again.close()


def test_the_report_lists_what_did_not_arrive(tmp_path: Path) -> None:
    path = tmp_path / "u1.db"
    journal = Journal(path, 3)
    journal.add_objects("1.1", {"1.1.1": 1}, entries(3))
    journal.settle([Settled("1.2.0", State.IMPORTED), Settled("1.2.1", State.DIFFERING, Code.DUPLICATE_DIFFERS)])
    journal.close()
    printed = CliRunner().invoke(app, ["report", str(path)]).output.splitlines()
    assert printed == [
        "state,code,attempts,study,series,object,class",
        "Pending,,0,1.1,1.1.1,1.2.2,1.9",
        "Differing,DuplicateDiffers,0,1.1,1.1.1,1.2.1,1.9",
        "Missing,NotListed,1,1.1,1.1.1,,",
    ]
    assert "1.2.0" in CliRunner().invoke(app, ["report", str(path), "--all"]).output
    assert "imported=1 " in CliRunner().invoke(app, ["journals", str(tmp_path)]).output


def test_the_largest_result_fits_and_nothing_else_is_taken() -> None:
    most = 2**53
    counts = ImportCounts(**dict.fromkeys(ImportCounts.model_fields, most))
    result = SliceResult(
        run="i" * 20, stop=Stop.SOURCE_QUERY_FAILED, counts=counts, listed=True, undated="NotSearched",
        ranges_at_limit=most, codes=dict.fromkeys(Code, most), moved=most, seconds=most,
    )  # fmt: skip
    message = result.to_message()
    assert len(message) < 1024
    assert SliceResult.from_message(message) == result
    for other in ("", "x", message[:-20]):
        with pytest.raises(ValueError, match="not a slice's result"):
            SliceResult.from_message(other)


def test_what_nobody_thought_of_ends_a_slice_without_a_word_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_config: object) -> None:
        raise KeyError("Surname^Given")

    monkeypatch.setattr("pacs_operator.importer.__main__.source_of", fail)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    settings = {
        "run": "i1", "importUid": "u1", "archiveAeTitle": "RADIOLOGY", "gateHost": "none", "journalDir": str(tmp_path),
        "source": {
            "address": "198.18.10.30", "port": 11112, "calledAETitle": "A", "callingAETitle": "B",
            "tls": {"mode": "Plaintext", "reason": "no network at all"},
        },
    }  # fmt: skip
    config = tmp_path / "import.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = CliRunner().invoke(app, ["run", "--config", str(config), "--termination-log", str(tmp_path / "log")])
    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (2, True)
    assert '"error": "KeyError"' in done.stderr
    assert "__main__.py:" in done.stderr
    assert "Surname" not in done.output + done.stderr
    assert not (tmp_path / "log").exists()
