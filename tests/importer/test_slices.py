"""Slices between two nodes that fail in every way an import meets: nothing is lost, nothing comes twice."""

from __future__ import annotations

import copy

import pytest
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from pacs_operator.domain.importing import Code, SliceResult, Stop
from pacs_operator.importer.journal import State
from pacs_operator.importer.limits import Pace, Watch

from .conftest import Import
from .node import image

MISSING = "1.2.3.1.2"


def fill(bring: Import, studies: int = 2, objects: int = 3) -> list[str]:
    for study in range(1, studies + 1):
        for number in range(1, objects + 1):
            uid = f"1.2.3.{study}.{number}"
            bring.source.objects[uid] = image(uid, f"1.2.3.{study}", day=f"2020{study % 12 + 1:02d}15")
    return sorted(bring.source.objects)


def whole(bring: Import, result: SliceResult) -> None:
    """Everything of the source is in the archive, once, and the counts say so."""
    assert result.stop is Stop.DONE
    assert bring.archive.objects == bring.source.objects
    assert result.counts.imported + result.counts.identical == result.counts.objects == len(bring.source.objects)
    assert sorted(set(bring.archive.received)) == sorted(bring.archive.received)
    assert result.codes == {}


def test_everything_comes_and_is_read_back(bring: Import) -> None:
    fill(bring)
    result = bring.slice()
    whole(bring, result)
    assert (result.counts.studies, result.counts.series, result.counts.imported) == (2, 2, 6)
    assert (result.listed, result.undated) == (True, "Searched")


def test_a_second_import_finds_everything_identical_and_sends_nothing(bring: Import) -> None:
    uids = fill(bring)
    bring.slice()
    bring.archive.received.clear()
    bring.settings["importUid"] = "u2"
    result = bring.slice()
    assert (result.counts.identical, result.counts.imported, bring.archive.received) == (len(uids), 0, [])


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_source_that_dies_in_the_middle_is_gone_on_with(bring: Import, after: int) -> None:
    uids = fill(bring)
    bring.source.faults.dies_after = after
    first = bring.slice()
    assert first.stop is Stop.SOURCE_UNREACHABLE
    assert first.counts.imported == after
    bring.source.faults.dies_after, bring.source.down = None, False
    second = bring.slice()
    whole(bring, second)
    assert second.counts.imported == len(uids)
    assert sorted(bring.source.sent) == uids, "what had come was not asked for again"


def test_a_source_that_is_not_there_is_said_so_and_later_found(bring: Import) -> None:
    fill(bring)
    bring.source.stop()
    assert bring.slice().stop is Stop.SOURCE_UNREACHABLE
    bring.source.start()
    whole(bring, bring.slice())


def test_a_source_that_knows_another_title_refuses(bring: Import) -> None:
    fill(bring)
    title, bring.source.title = bring.source.title, "ANOTHER"
    assert bring.slice().stop is Stop.SOURCE_REFUSED
    bring.source.title = title
    whole(bring, bring.slice())


def test_a_pod_that_ends_between_store_and_journal_costs_nothing(
    bring: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = fill(bring)

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    from pacs_operator.importer.exchange import Exchange

    with monkeypatch.context() as patched:
        patched.setattr(Exchange, "_read_back", kill)
        with pytest.raises(Killed):
            bring.slice()
    assert bring.archive.received
    result = bring.slice()
    whole(bring, result)
    assert (result.counts.imported, result.counts.identical) == (len(uids), 0), "they came from this import"


def test_time_is_over_in_the_middle(bring: Import) -> None:
    fill(bring)

    def stop_after_two(watch: Watch) -> None:
        bring.source.on_sent = lambda _: watch.halt(Stop.TIME) if len(bring.source.sent) == 2 else None

    bring.on_watch = stop_after_two
    first = bring.slice()
    assert (first.stop, first.counts.imported) == (Stop.TIME, 2)
    assert first.counts.pending > 0
    bring.on_watch = lambda _: None
    bring.source.on_sent = lambda _: None
    whole(bring, bring.slice())


def test_a_full_archive_stops_the_import_and_no_object_is_blamed(bring: Import) -> None:
    fill(bring)
    bring.archive.faults.status_of = lambda _: 0xA700
    for _ in range(4):
        result = bring.slice()
        assert (result.stop, result.counts.failed, result.moved) == (Stop.ARCHIVE_FULL, 0, 0)
    bring.archive.faults.status_of = lambda _: 0x0000
    assert bring.slice().counts.imported == 6


def test_one_object_that_the_archive_cannot_take_fails_after_three_tries(bring: Import) -> None:
    uids = fill(bring)
    bring.archive.faults.status_of = lambda uid: 0xA700 if uid == MISSING else 0
    stops = [bring.slice().stop for _ in range(2)]
    assert stops == [Stop.INCOMPLETE] * 2
    result = bring.slice()
    assert result.stop is Stop.DONE
    assert (result.counts.imported, result.counts.failed) == (len(uids) - 1, 1)
    assert result.codes == {Code.OUT_OF_RESOURCES: 1}


@pytest.mark.parametrize(
    ("status", "state", "code"),
    [
        (0x0111, State.DIFFERING, Code.DUPLICATE_DIFFERS),
        (0x0122, State.REFUSED, Code.NOT_ACCEPTED),
        (0x0124, State.REFUSED, Code.NOT_AUTHORIZED),
        (0xC000, State.REFUSED, Code.CANNOT_UNDERSTAND),
        (0xA900, State.REFUSED, Code.CANNOT_UNDERSTAND),
        (0xB000, State.IMPORTED, None),
    ],
)
def test_each_answer_of_the_archive_has_its_place(bring: Import, status: int, state: State, code: Code | None) -> None:
    uids = fill(bring)

    def answer(uid: str) -> int:
        if uid == MISSING and status == 0xB000:
            bring.archive.objects[uid] = bring.source.objects[uid]
        return status if uid == MISSING else 0

    bring.archive.faults.status_of = answer
    result = bring.slice()
    assert result.stop is Stop.DONE
    assert bring.states() == {uid: state if uid == MISSING else State.IMPORTED for uid in uids}
    assert result.codes == ({code: 1} if code else {})


def test_a_differing_object_is_offered_so_that_quarantine_gets_it(bring: Import) -> None:
    uids = fill(bring)
    other = copy.deepcopy(bring.source.objects[MISSING])
    other.PatientComments = "another content"
    bring.archive.objects[MISSING] = other
    result = bring.slice()
    assert (result.counts.differing, result.counts.imported) == (1, len(uids) - 1)
    assert MISSING in bring.archive.received
    assert bring.archive.objects[MISSING] == other, "what is served stays"


def test_an_object_that_is_listed_and_not_delivered_is_reported(bring: Import) -> None:
    uids = fill(bring)
    bring.source.faults.keeps = {MISSING}
    assert [bring.slice().stop for _ in range(3)] == [Stop.INCOMPLETE, Stop.INCOMPLETE, Stop.DONE]
    result = bring.slice()
    assert (result.counts.imported, result.counts.failed) == (len(uids) - 1, 1)
    assert result.codes == {Code.NOT_DELIVERED: 1}


def test_an_object_that_breaks_the_source_keeps_no_other_back(bring: Import) -> None:
    uids = fill(bring)
    bring.source.faults.breaks_on = {uids[0]}
    for _ in range(6):
        result = bring.slice()
    assert result.stop is Stop.DONE
    assert (result.counts.imported, result.codes) == (len(uids) - 1, {Code.SOURCE_BREAKS: 1})


def test_objects_that_are_counted_and_not_listed_are_reported(bring: Import) -> None:
    uids = fill(bring)
    bring.source.faults.unlisted = {MISSING}
    result = bring.slice()
    assert (result.counts.objects, result.codes) == (len(uids) - 1, {Code.NOT_LISTED: 1})


def test_an_archive_that_gives_back_something_else_is_found_out(bring: Import) -> None:
    uids = fill(bring)
    bring.archive.faults.mangles = {MISSING}
    result = bring.slice()
    assert (result.counts.imported, result.counts.failed) == (len(uids) - 1, 1)
    assert result.codes == {Code.READ_BACK_DIFFERS: 1}


def test_an_archive_that_keeps_to_itself_what_it_took_is_found_out(bring: Import) -> None:
    fill(bring)
    bring.archive.faults.keeps = {MISSING}
    assert bring.slice().codes == {Code.NOT_READ_BACK: 1}


def test_only_what_is_selected_comes(bring: Import) -> None:
    fill(bring, studies=3)
    for number in range(1, 4):
        bring.source.objects[f"1.2.3.1.{number}"].Modality = "MR"
    bring.settings["selection"] = {"studyDates": {"first": "2020-02-01", "last": "2020-03-31"}, "modalities": ["CT"]}
    result = bring.slice()
    assert {str(each.StudyInstanceUID) for each in bring.archive.objects.values()} == {"1.2.3.2"}
    assert (result.counts.imported, result.undated) == (3, "NotSelected")


@pytest.mark.parametrize("says_so", [True, False])  # twins but for the final status
def test_a_source_with_a_limit_is_asked_by_halves(bring: Import, says_so: bool) -> None:
    for number in range(1, 25):
        uid = f"1.2.3.{number}.1"
        time = f"{number % 24:02d}{number:02d}00"
        bring.source.objects[uid] = image(uid, f"1.2.3.{number}", day="20200115", time=time)
    bring.source.faults.most_answers, bring.source.faults.says_so = 10, says_so
    bring.settings["source"] = {"queryLimit": 10}
    result = bring.slice()
    assert (result.counts.studies, result.counts.imported, result.ranges_at_limit) == (24, 24, 0)
    assert result.undated == "NotSearched"


def test_more_than_the_limit_in_one_minute_is_said(bring: Import) -> None:
    for number in range(1, 16):
        uid = f"1.2.3.{number}.1"
        bring.source.objects[uid] = image(uid, f"1.2.3.{number}", day="20200115", time="101500")
    bring.source.faults.most_answers = 10
    bring.settings["source"] = {"queryLimit": 10}
    result = bring.slice()
    assert result.counts.studies == 10
    assert result.ranges_at_limit >= 1


def test_studies_without_a_date_come_too(bring: Import) -> None:
    fill(bring)
    bring.source.objects["1.2.3.9.1"] = image("1.2.3.9.1", "1.2.3.9", day="", time="")
    whole(bring, bring.slice())


def test_a_query_that_fails_is_said(bring: Import) -> None:
    fill(bring)
    bring.source.faults.query_status = 0xC001
    assert bring.slice().stop is Stop.SOURCE_QUERY_FAILED
    bring.source.faults.query_status = None
    whole(bring, bring.slice())


def test_several_associations_bring_the_same(bring: Import) -> None:
    uids = fill(bring, studies=8)
    bring.settings["rateLimit"] = {"associations": 4}
    result = bring.slice()
    whole(bring, result)
    assert result.counts.imported == len(uids)


def test_the_pace_is_kept(bring: Import) -> None:
    fill(bring)
    slept: list[float] = []
    time = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time[0] += seconds

    bring.pace = Pace(30, clock=lambda: time[0], sleep=sleep)
    whole(bring, bring.slice())
    assert slept == [2.0] * 5, "six objects, two seconds from one to the next"


def test_compressed_objects_and_any_character_set_come_as_they_are(bring: Import) -> None:
    plain = {"ISO_IR 100": "Müller^Jürgen", "ISO_IR 192": "山田^太郎", "GB18030": "王^小东"}
    for number, (charset, name) in enumerate(plain.items(), 1):
        uid = f"1.2.3.1.{number}"
        bring.source.objects[uid] = image(uid, "1.2.3.1", SpecificCharacterSet=charset, PatientName=name)
    packed = image("1.2.3.2.1", "1.2.3.2")
    from pydicom.encaps import encapsulate

    packed.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    packed.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    packed["PixelData"].VR, packed["PixelData"].is_undefined_length = "OB", True
    packed.ReferencedStudySequence = Sequence([image("1.2.3.2.7", "1.2.3.2")])
    bring.source.objects["1.2.3.2.1"] = packed
    whole(bring, bring.slice())
    assert bring.archive.objects["1.2.3.2.1"].file_meta.TransferSyntaxUID == JPEGBaseline8Bit


def test_no_identifier_is_in_the_result(bring: Import) -> None:
    fill(bring)
    text = str(bring.slice().document())
    assert "1.2.3" not in text
    assert "P1" not in text
    assert "Surname" not in text
