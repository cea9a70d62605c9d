"""Pods that are ended with objects in hand, and associations that nobody uses for a while."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from pydicom.uid import CTImageStorage

from pacs_operator.domain.importing import Code, Stop
from pacs_operator.importer.exchange import Door, Exchange, Unit
from pacs_operator.importer.journal import Journal, State
from pacs_operator.importer.limits import Watch
from pacs_operator.importer.run import journal_path, stopped
from pacs_operator.probes.compare import encode

from .conftest import Import
from .node import image
from .test_slices import MISSING, fill, whole


class Killed(BaseException):
    """The end of a process, in the middle of anything."""


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Let ``MISSING`` end each process that carries it; return who carried how much."""
    carry, seen = Exchange._carry, []

    def carry_or_end(self: Exchange, batch: Any, door: Door) -> bool:
        seen.append((threading.current_thread().name, len(batch.entries)))
        if MISSING in batch.entries:
            raise Killed
        return carry(self, batch, door)

    monkeypatch.setattr(Exchange, "_carry", carry_or_end)
    return seen


def test_an_object_that_ends_the_pod_fails_after_three_times(bring: Import, deadly: list[tuple[str, int]]) -> None:
    uids = fill(bring)
    bring.settings["rateLimit"] = {"associations": 2}
    for _ in range(3):
        with pytest.raises(Killed):
            bring.slice()
    first = len(deadly)
    result = bring.slice()
    assert (result.stop, result.counts.imported, result.codes) == (Stop.DONE, len(uids) - 1, {Code.INTERRUPTED: 1})
    assert bring.states()[MISSING] is State.FAILED
    assert {size for _, size in deadly[first:]} <= {1, 3}, "what was in hand comes alone"


def test_what_only_was_in_hand_comes_alone_over_one_association(
    bring: Import, deadly: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bring, studies=1)
    bring.settings["rateLimit"] = {"associations": 4}
    with pytest.raises(Killed):
        bring.slice()
    monkeypatch.undo()
    sizes: list[int] = []
    opened: list[int] = []
    begun = Exchange.bring

    def bring_and_tell(self: Exchange, unit: Unit) -> None:
        sizes.append(len(unit.entries))
        begun(self, unit)

    def pool_and_tell(workers: int, **more: Any) -> ThreadPoolExecutor:
        opened.append(workers)
        return ThreadPoolExecutor(workers, **more)

    monkeypatch.setattr(Exchange, "bring", bring_and_tell)
    monkeypatch.setattr("pacs_operator.importer.run.ThreadPoolExecutor", pool_and_tell)
    whole(bring, bring.slice())
    whole(bring, bring.slice())
    assert (sizes, opened) == ([1, 1, 1], [1, 4])


def test_a_slice_that_ends_in_order_blames_nothing(bring: Import) -> None:
    fill(bring, studies=1)

    def stop_after_one(watch: Watch) -> None:
        bring.source.on_sent = lambda _: watch.halt(Stop.TERMINATED)

    bring.on_watch = stop_after_one
    for _ in range(2):
        assert bring.slice().stop is Stop.TERMINATED
    journal = Journal(journal_path(bring.config), 3)
    assert {entry.attempts for entry in journal.entries(State)} == {0}
    journal.close()


def test_a_slice_that_cannot_begin_keeps_what_is_known(bring: Import) -> None:
    fill(bring)
    bring.source.faults.unlisted = {MISSING}
    before = bring.slice()
    after = stopped(bring.config, Stop.SOURCE_UNTRUSTED)
    kept = {"counts", "codes", "listed", "undated", "ranges_at_limit"}
    assert after.model_dump(include=kept) == before.model_dump(include=kept)
    assert before.codes == {Code.NOT_LISTED: 1}


def test_silence_ends_no_association_that_waits_for_a_slow_source(bring: Import) -> None:
    client = replace(bring.archive_client, session=replace(bring.archive_client.session, dimse_seconds=2))
    with client.querying() as query, client.storing(CTImageStorage) as storage:
        query._association.join(20)
        assert not query._association.is_established, "the twin: two seconds of silence end it"
        assert storage.is_open
        assert storage.store("1.2.3.1.1", *encoded("1.2.3.1.1")) == 0


@pytest.mark.parametrize(("idle", "opened"), [(59.0, 1), (61.0, 2)])
def test_a_door_that_stood_too_long_is_opened_again(bring: Import, idle: float, opened: int) -> None:
    now, count = [0.0], []
    client = bring.archive_client

    class Counted(type(client)):  # type: ignore[misc]
        def storing(self, sop_class: str) -> Any:
            count.append(sop_class)
            return super().storing(sop_class)

    with Door(Counted(**vars(client)), CTImageStorage, lambda: now[0]) as door:
        assert door.store("1.2.3.1.1", *encoded("1.2.3.1.1")) == 0
        now[0] += idle
        assert door.store("1.2.3.1.2", *encoded("1.2.3.1.2")) == 0
    assert len(count) == opened


def encoded(uid: str) -> tuple[bytes, str]:
    dataset = image(uid, "1.2.3.1")
    syntax = dataset.file_meta.TransferSyntaxUID
    return encode(dataset, syntax), str(syntax)


def test_uids_against_the_rules_come_over(bring: Import) -> None:
    uid = "1.2.840.0113.5"
    bring.source.objects[uid] = image(uid, "1.2.840.0113.1", SeriesInstanceUID="1.2.840.0113.2")
    whole(bring, bring.slice())
