"""Imports whose turn comes and goes, and imports by C-MOVE: what their statuses say."""

import pytest

from pacs_operator.domain.importing import Stop
from tests.engine.importing import import_manifest
from tests.engine.simapi import Key
from tests.engine.test_imports import ALL, KEY, NOTHING, add, condition, jobs, ready, told
from tests.engine.world import World

__all__ = ["ready"]

SECOND: Key = ("PacsImport", "radiology-ops", "second")


def test_a_pause_gives_the_turn_to_the_next_and_takes_it_back_at_a_slices_end(ready: World):
    ready.slices = [NOTHING]
    add(ready)
    ready.advance(5)
    add(ready, import_manifest("second", source={"address": "198.18.10.31"}))
    assert condition(ready) == ("False", "SourceUnreachable")
    assert condition(ready, key=SECOND) == ("True", "Importing")
    (seconds,) = [job for job in jobs(ready) if not ended(ready, job)]
    ready.advance(61)
    ready.settle(ready.process)
    assert [job for job in jobs(ready) if not ended(ready, job)] == [seconds], "a slice at work is left to its end"
    assert condition(ready) == ("False", "NotItsTurn")
    ready.slices = [told()]
    ready.settle(ready.process)
    assert condition(ready) == ("True", "Importing"), "the older one first, now that its pause is over"
    assert condition(ready, key=SECOND) == ("False", "NotItsTurn")
    egress = repr(ready.api.objects["NetworkPolicy", "radiology-ops", "importer-egress"]["spec"])
    assert "198.18.10.30/32" in egress
    assert "198.18.10.31/32" not in egress


def test_two_pauses_end_each_by_itself(ready: World):
    ready.slices = [NOTHING, NOTHING]
    add(ready)
    ready.advance(30)
    add(ready, import_manifest("second", source={"address": "198.18.10.31"}))
    assert condition(ready) == condition(ready, key=SECOND) == ("False", "SourceUnreachable")
    ready.advance(31)
    ready.settle(ready.process)
    assert condition(ready) == ("True", "Importing")
    assert condition(ready, key=SECOND) == ("False", "SourceUnreachable")


def ended(world: World, job: str) -> bool:
    return bool((world.api.objects["Job", "radiology-ops", job].get("status") or {}).get("conditions"))


MOVES = {"retrieve": "Move", "moveDestination": "RADIOLOGY"}


@pytest.mark.parametrize(("hashed", "reason"), [(0, "AllThereByUid"), (5, "AllThereByUid"), (6, "AllThere")])
def test_what_was_not_compared_is_never_all_there(ready: World, hashed: int, reason: str):
    ready.slices = [told(Stop.DONE, counts={**ALL, "hashed": hashed}, listed=True)]
    add(ready, import_manifest(source=MOVES))
    assert condition(ready, "Complete") == ("True", reason)
    message = ready.api.objects[KEY]["status"]["conditions"][0]["message"]
    assert (f"content compared with the source's: {hashed}, not compared: {6 - hashed}" in message) is (hashed < 6)
    assert ready.api.objects[KEY]["status"]["counts"]["hashed"] == hashed


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (Stop.MOVE_DESTINATION_UNKNOWN, "enter that AE title at the source"),
        (Stop.MOVE_FAILS, "must be a DicomPeer of the archive with right Store"),
        (Stop.NOTHING_ARRIVES, "images may go to another system"),
    ],
)
def test_a_move_that_leads_nowhere_is_said_with_the_way_out(ready: World, stop: Stop, words: str):
    ready.slices = [told(stop, moved=0)]
    add(ready, import_manifest(source=MOVES))
    assert condition(ready) == ("False", stop.value)
    assert words in ready.api.objects[KEY]["status"]["conditions"][1]["message"]


@pytest.mark.parametrize("source", [{}, MOVES])
def test_only_an_import_by_move_knows_a_destination(ready: World, source: dict[str, str]):
    add(ready, import_manifest(source=source))
    (job,) = jobs(ready)
    config = ready.api.objects["ConfigMap", "radiology-ops", job]["data"]["import.json"]
    assert ('"moveDestination": "RADIOLOGY"' in config, '"retrieve": "Move"' in config) == (bool(source), bool(source))
