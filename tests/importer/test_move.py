"""Imports by C-MOVE: the source sends to the archive itself, and fails in every way that a source has."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import pytest

from pacs_operator.domain.importing import Code, SliceResult, Stop
from pacs_operator.importer.journal import Journal, State
from pacs_operator.importer.limits import Pace, Watch
from pacs_operator.importer.move import Mover, at_once
from pacs_operator.importer.node import GET
from pacs_operator.importer.run import journal_path

from .conftest import Import
from .node import Node
from .test_slices import MISSING, fill


@pytest.fixture
def moving(bring: Import) -> Import:
    bring.settings["source"] = {"retrieve": "Move", "moveDestination": "RADIOLOGY"}
    bring.source.destinations["RADIOLOGY"] = bring.archive
    return bring


def whole(one: Import, result: SliceResult) -> None:
    """Everything of the source is in the archive, and nothing claims that it was compared."""
    assert (result.stop, result.codes) == (Stop.DONE, {})
    assert one.archive.objects == one.source.objects
    assert result.counts.imported + result.counts.present == result.counts.objects == len(one.source.objects)
    assert (result.counts.identical, result.counts.hashed) == (0, 0)


def attempts(one: Import) -> set[int]:
    journal = Journal(journal_path(one.config), 3)
    try:
        return {entry.attempts for entry in journal.entries(State)}
    finally:
        journal.close()


def test_everything_comes_and_nothing_is_called_compared(moving: Import) -> None:
    uids = fill(moving)
    result = moving.slice()
    whole(moving, result)
    assert (result.counts.imported, result.counts.present) == (len(uids), 0)
    assert sorted(moving.archive.received) == uids, "each once, and by the source's own hand"


def test_the_twin_by_get_is_compared(moving: Import) -> None:
    uids = fill(moving)
    moving.settings["source"] = {}
    result = moving.slice()
    assert (result.stop, result.counts.imported, result.counts.hashed) == (Stop.DONE, len(uids), len(uids))


def test_a_source_without_get_is_enough(moving: Import) -> None:
    fill(moving)
    moving.source.stop()
    moving.source.models.remove(GET)
    moving.source.start()
    moving.settings["source"], by_move = {}, moving.settings["source"]
    assert moving.slice().stop is Stop.SOURCE_REFUSED, "the twin by C-GET"
    moving.settings["source"] = by_move
    whole(moving, moving.slice())


def test_what_the_archive_had_is_sent_again_for_its_own_comparison(moving: Import) -> None:
    uids = fill(moving)
    moving.archive.objects[MISSING] = moving.source.objects[MISSING]
    result = moving.slice()
    whole(moving, result)
    assert (result.counts.imported, result.counts.present) == (len(uids) - 1, 1)
    assert MISSING in moving.archive.received


def test_what_the_archive_has_otherwise_is_no_success(moving: Import) -> None:
    uids = fill(moving)
    other = copy.deepcopy(moving.source.objects[MISSING])
    other.PatientComments = "another content"
    moving.archive.objects[MISSING] = other
    results = [moving.slice() for _ in range(3)]
    assert [result.stop for result in results] == [Stop.INCOMPLETE, Stop.INCOMPLETE, Stop.DONE]
    assert results[-1].codes == {Code.NOT_TAKEN_AGAIN: 1}
    assert (results[-1].counts.imported, results[-1].counts.failed) == (len(uids) - 1, 1)
    assert moving.archive.objects[MISSING] == other, "what is served stays"


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_source_that_dies_in_the_middle_is_gone_on_with(moving: Import, after: int) -> None:
    uids = fill(moving)
    moving.source.faults.dies_after = after
    first = moving.slice()
    assert first.stop is Stop.SOURCE_UNREACHABLE
    assert first.counts.imported == after
    moving.source.faults.dies_after, moving.source.down = None, False
    second = moving.slice()
    whole(moving, second)
    assert second.counts.imported == len(uids)
    assert sorted(moving.source.sent) == uids, "what had come was not asked for again"


def test_a_pod_that_ends_between_move_and_journal_costs_nothing(
    moving: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = fill(moving)

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Mover, "_settle", kill)
        with pytest.raises(Killed):
            moving.slice()
    assert moving.archive.received
    result = moving.slice()
    whole(moving, result)
    assert (result.counts.imported, result.counts.present) == (len(uids), 0), "they came by this import"
    assert attempts(moving) == {0}, "nothing went through the pod that could have ended it"


def test_an_archive_that_goes_away_in_the_middle_is_waited_for(moving: Import) -> None:
    fill(moving, studies=1)
    down = threading.Event()

    def go(_: str) -> None:
        if not down.is_set():
            down.set()
            moving.archive.down = True

    moving.source.on_sent = go
    first = moving.slice()
    assert first.stop in (Stop.ARCHIVE_UNREACHABLE, Stop.ARCHIVE_REFUSED)
    assert attempts(moving) == {0}
    moving.archive.down = False
    whole(moving, moving.slice())


def test_a_destination_that_the_source_does_not_know_blames_no_object(moving: Import) -> None:
    fill(moving)
    moving.source.destinations.clear()
    for _ in range(4):
        result = moving.slice()
        assert (result.stop, result.counts.failed, result.moved) == (Stop.MOVE_DESTINATION_UNKNOWN, 0, 0)
    moving.source.destinations["RADIOLOGY"] = moving.archive
    whole(moving, moving.slice())


@pytest.mark.parametrize("studies", [2, 8])  # fewer and more than it takes to be sure
def test_a_destination_elsewhere_is_found_out_and_blames_no_object(moving: Import, studies: int) -> None:
    fill(moving, studies=studies)
    elsewhere = Node("RADIOLOGY")
    moving.source.destinations["RADIOLOGY"] = elsewhere
    for _ in range(4):
        elsewhere.objects.clear()
        result = moving.slice()
        assert (result.stop, result.counts.failed, result.moved) == (Stop.NOTHING_ARRIVES, 0, 0)
        assert len(elsewhere.objects) <= 9, "three series at most go astray"
    elsewhere.stop()
    moving.source.destinations["RADIOLOGY"] = moving.archive
    whole(moving, moving.slice())


def test_an_archive_that_takes_nothing_from_the_source_blames_no_object(moving: Import) -> None:
    fill(moving, studies=8)
    moving.archive.faults.status_of = lambda _: 0x0124
    for _ in range(4):
        result = moving.slice()
        assert (result.stop, result.counts.failed, result.moved) == (Stop.MOVE_FAILS, 0, 0)
        assert len(moving.archive.received) <= 9
        moving.archive.received.clear()
    moving.archive.faults.status_of = lambda _: 0x0000
    whole(moving, moving.slice())


@pytest.mark.parametrize(
    ("fault", "code"),
    [("refused", Code.MOVE_FAILED), ("forgotten", Code.NOT_ARRIVED), ("kept", Code.NOT_DELIVERED)],
)
def test_one_object_that_does_not_come_fails_after_three_tries(moving: Import, fault: str, code: Code) -> None:
    uids = fill(moving)
    if fault == "refused":
        moving.archive.faults.status_of = lambda uid: 0xA900 if uid == MISSING else 0
    elif fault == "forgotten":
        moving.archive.faults.forgets = {MISSING}
    else:
        moving.source.faults.keeps = {MISSING}
    assert [moving.slice().stop for _ in range(3)] == [Stop.INCOMPLETE, Stop.INCOMPLETE, Stop.DONE]
    result = moving.slice()
    assert (result.counts.imported, result.counts.failed, result.codes) == (len(uids) - 1, 1, {code: 1})


def test_many_that_do_not_come_keep_no_other_back(moving: Import) -> None:
    uids = fill(moving, studies=6)
    bad = {uid for uid in uids if uid.startswith(("1.2.3.1.", "1.2.3.2.", "1.2.3.3.", "1.2.3.4."))}
    moving.archive.faults.forgets = bad
    for _ in range(40):
        if (result := moving.slice()).stop is Stop.DONE:
            break
    assert (result.stop, result.counts.imported) == (Stop.DONE, len(uids) - len(bad))
    assert result.codes == {Code.NOT_ARRIVED: len(bad)}


def test_time_is_over_in_the_middle_and_the_move_is_cancelled(moving: Import) -> None:
    uids = fill(moving, studies=1, objects=20)

    def stop_after_two(watch: Watch) -> None:
        moving.source.on_sent = lambda _: watch.halt(Stop.TIME) if len(moving.source.sent) == 2 else None

    moving.on_watch = stop_after_two
    first = moving.slice()
    assert first.stop is Stop.TIME
    assert 2 <= first.counts.imported < len(uids)
    assert attempts(moving) == {0}
    moving.on_watch, moving.source.on_sent = (lambda _: None), (lambda _: None)
    whole(moving, moving.slice())


def test_the_pace_is_kept_by_small_moves(moving: Import) -> None:
    fill(moving, studies=1, objects=6)
    slept: list[float] = []
    time = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time[0] += seconds

    moving.settings["rateLimit"] = {"objectsPerMinute": 10}
    moving.pace = Pace(10, clock=lambda: time[0], sleep=sleep)
    whole(moving, moving.slice())
    assert slept == [12.0] * 2, "three moves of two objects"
    assert [at_once(25, each) for each in (None, 10_000, 60, 3)] == [25, 25, 15, 1]


def test_several_associations_bring_the_same(moving: Import) -> None:
    uids = fill(moving, studies=8)
    moving.settings["rateLimit"] = {"associations": 4}
    result = moving.slice()
    whole(moving, result)
    assert result.counts.imported == len(uids)


def test_silence_of_a_source_that_sends_elsewhere_is_no_end(moving: Import) -> None:
    fill(moving, studies=1, objects=1)
    client = moving.client_of(moving.source, "SOURCE")
    hasty = replace(client, session=replace(client.session, dimse_seconds=1))
    with hasty.moving() as one:
        assert one._association.network_timeout is None
        assert one._association.dimse_timeout == 300
