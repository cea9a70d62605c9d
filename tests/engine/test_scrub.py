"""What the scrub found, on its way to a condition, an event and Prometheus."""

from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pacs_operator.domain.agentconfig import ScrubFound, ScrubPass, ScrubTold
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.scrub import Scrub, check, next_slot, stale_at
from pacs_operator.reconcile.scrub import ScrubMetrics
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, START, World

NAME = "0a1b2c3d-0000-4000-8000-0000000000aa"


def stamp(world: World, **back: float) -> str:
    return (world.now - timedelta(**back)).strftime("%Y-%m-%dT%H:%M:%SZ")


def whole(world: World, *found: ScrubFound, hours: float = 1, **counts: int) -> ScrubPass:
    began, ended = stamp(world, hours=hours + 1), stamp(world, hours=hours)
    return ScrubPass(began=began, ended=ended, objects=12, bytes=34, found=list(found), **counts)


def order(world: World, scrub: dict[str, Any] | None) -> None:
    def change(live: dict[str, Any]) -> None:
        live["spec"]["storage"].pop("scrub", None)
        if scrub is not None:
            live["spec"]["storage"]["scrub"] = scrub

    world.api.edit(ARCHIVE_KEY, "kubectl", change)
    world.settle(world.process)  # without encryption, Orthanc restarts once


def passes(world: World, **later: float) -> tuple[str, str]:
    world.now += timedelta(**later)
    world.advance(60)
    world.process.reconcile(ARCHIVE)
    condition = world.condition("ImagesIntact")
    return condition["status"], condition["reason"]


def events(world: World) -> list[str]:
    return [item["reason"] for (kind, _, _), item in world.api.objects.items() if kind == "Event"]


def scrape(world: World) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(ScrubMetrics(world.process.scrubs))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_nothing_is_said_to_be_intact_until_a_whole_pass_was(world: World) -> None:
    assert passes(world) == ("Unknown", "NotScheduled")
    assert "scrub" not in world.archive["status"]
    order(world, {})
    assert passes(world) == ("Unknown", "NotObserved")
    world.agents.scrub = ScrubTold()
    assert passes(world) == ("Unknown", "NotYet")
    world.agents.scrub = ScrubTold(running=ScrubPass(began=stamp(world)))
    assert passes(world) == ("Unknown", "NotYet")
    world.agents.scrub = ScrubTold(last=whole(world))
    assert passes(world) == ("True", "Intact")
    assert "All 12 files" in world.condition("ImagesIntact")["message"]
    assert world.archive["status"]["scrub"]["schedule"] == "40 0 * * *"
    assert world.condition("Ready")["status"] == "True"
    order(world, None)
    assert passes(world) == ("Unknown", "NotScheduled")


@pytest.mark.parametrize(
    ("kind", "count", "reason"),
    [
        ("Changed", "changed", "ImagesDamaged"),
        ("Unreadable", "unreadable", "ImagesDamaged"),
        ("FileMissing", "file_missing", "ImagesDamaged"),
        ("RowMissing", "row_missing", "RowsMissing"),
    ],
)
def test_what_was_found_stands_until_a_whole_pass_no_longer_finds_it(
    world: World, kind: Any, count: str, reason: str
) -> None:
    order(world, {})
    world.agents.scrub = ScrubTold(last=whole(world))
    assert passes(world) == ("True", "Intact")
    one = ScrubFound(kind=kind, object=NAME)
    bad = whole(world, one, **{count: 1}).model_copy(update={"ended": None})
    world.agents.scrub = ScrubTold(last=whole(world), running=bad)
    assert passes(world) == ("False", reason), "told while the pass is under way"
    world.agents.scrub = ScrubTold(last=whole(world, one, **{count: 1}), running=ScrubPass(began=stamp(world)))
    assert passes(world) == ("False", reason), "the next pass has not been there yet"
    assert NAME in world.condition("ImagesIntact")["message"]
    assert world.archive["status"]["scrub"]["found"] == [{"kind": kind, "object": NAME}]
    assert world.condition("Ready")["status"] == "True", "the archive serves"
    assert events(world).count(f"ImagesIntact{reason}") == 1
    assert scrape(world)[f'pacs_operator_scrub_found{{archive="{ARCHIVE}",kind="{count}"}}'] == 1
    world.agents.scrub = None
    assert passes(world) == ("False", reason), "silence makes nothing better"
    world.agents.scrub = ScrubTold(last=whole(world))
    assert passes(world) == ("True", "Intact")
    assert events(world).count("ImagesIntactIntact") == 1


def test_it_grows_stale(world: World) -> None:
    order(world, {"suspend": True})
    world.agents.scrub = ScrubTold(last=whole(world))
    assert passes(world) == ("True", "Intact")
    assert passes(world, hours=36) == ("True", "Intact")
    assert passes(world, hours=24) == ("Unknown", "Stale")
    assert "suspended" in world.condition("ImagesIntact")["message"]
    world.agents.scrub = ScrubTold(last=whole(world))
    assert passes(world) == ("True", "Intact")
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(suspend=True))
    assert passes(world, hours=72) == ("Unknown", "Stale"), "nobody looks"


def test_what_cannot_be_is_not_believed(world: World) -> None:
    """Its twin: the same pass, ended when it can have."""
    order(world, {})
    future = {"ended": stamp(world, days=-300)}
    world.agents.scrub = ScrubTold(last=whole(world).model_copy(update=future))
    assert passes(world) == ("Unknown", "NotYet")
    world.agents.scrub = ScrubTold(last=whole(world))
    assert passes(world) == ("True", "Intact")


def test_what_keeps_it_from_working_is_said(world: World) -> None:
    order(world, {})
    world.agents.scrub = ScrubTold()
    world.agents.problems = {"scrub": "ScrubBlocked"}
    assert passes(world) == ("Unknown", "NotYet")
    assert "ScrubBlocked" in world.condition("ImagesIntact")["message"]


def test_numbers(world: World) -> None:
    order(world, {})
    world.agents.scrub = ScrubTold(last=whole(world), running=ScrubPass(began=stamp(world), objects=5, bytes=6))
    passes(world)
    found = {name.partition("{")[0]: value for name, value in scrape(world).items() if "kind" not in name}
    assert found["pacs_operator_scrub_objects"] == 5 and found["pacs_operator_scrub_bytes"] == 6
    assert found["pacs_operator_scrub_running"] == 1
    assert found["pacs_operator_scrub_last_end_seconds"] > START.timestamp() - 7200
    order(world, None)
    passes(world)
    assert scrape(world) == {}


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("schedule", "0 0 31 2 *", "names a time there is"),
        ("schedule", "0 0 * * mon", "five fields, in figures"),
        ("schedule", "99 0 * * *", "five fields, in figures"),
        ("timeZone", "Middle/Earth", "not an IANA time zone"),
    ],
)
def test_a_schedule_that_never_comes_is_refused(field: str, value: str, why: str) -> None:
    check(Scrub())
    with pytest.raises(InvalidSpecError, match=why) as refused:
        check(Scrub.model_validate({field: value}))
    assert f"spec.storage.scrub.{field}: {value!r}" in str(refused.value)


def test_a_bad_schedule_stalls_and_says_so(world: World) -> None:
    world.api.edit(
        ARCHIVE_KEY, "kubectl", lambda live: live["spec"]["storage"].update(scrub={"schedule": "0 0 31 2 *"})
    )
    world.process.reconcile(ARCHIVE)
    assert world.condition("Stalled")["status"] == "True"
    assert "spec.storage.scrub.schedule" in world.condition("Stalled")["message"]


def test_the_schedule_is_of_its_zone_and_a_long_pass_is_waited_for() -> None:
    zurich = Scrub(schedule="40 0 * * *", time_zone="Europe/Zurich")
    assert next_slot(zurich, START).isoformat() == "2026-11-20T23:40:00+00:00"
    night = timedelta(days=1)
    short, long = (stale_at(zurich, START - took, START) for took in (timedelta(0), 3 * night))
    assert short == next_slot(zurich, START) + night + timedelta(hours=1)
    assert long == short + 6 * night
