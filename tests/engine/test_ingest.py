"""What Orthanc's plugin holds back, on its way to a condition, an event and Prometheus."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError

from pacs_operator.domain.agentconfig import AgentStatus, IngestStatus, QuarantineStatus
from pacs_operator.domain.names import Component
from pacs_operator.reconcile.ingest import REASONS, IngestMetrics
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World

SINCE = "2026-11-20T06:00:00Z"


def tell(world: World, held: int, *, full: bool = False, size: int = 3 * 2**20 + 1, **refused: int) -> None:
    quarantine = QuarantineStatus(
        held=held, bytes=size if held else 0, oldest=SINCE if held else None, full=full, not_taken=int(full)
    )
    world.agents.ingest = IngestStatus(quarantine=quarantine, refused=refused)


def passes(world: World, seconds: int = 60) -> tuple[str, str]:
    world.advance(seconds)
    world.process.reconcile(ARCHIVE)
    condition = world.condition("IngestClean")
    return condition["status"], condition["reason"]


def events(world: World) -> list[str]:
    return [item["reason"] for (kind, _, _), item in world.api.objects.items() if kind == "Event"]


def scrape(world: World) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(IngestMetrics(world.process.ingest_numbers))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_what_is_held_is_said_until_a_person_has_decided(world: World) -> None:
    assert passes(world) == ("True", "Clean")
    tell(world, 2)
    assert passes(world) == ("False", "Quarantined")
    message = world.condition("IngestClean")["message"]
    assert f"2 differing duplicates (4 MiB) are held, the oldest since {SINCE}" in message
    assert "pacs-agent quarantine list" in message
    assert world.condition("Ready")["status"] == "True", "the archive serves"
    assert events(world).count("IngestCleanQuarantined") == 1
    tell(world, 0)
    assert passes(world) == ("True", "Clean")
    assert events(world).count("IngestCleanClean") == 1


def test_a_full_quarantine_is_said(world: World) -> None:
    tell(world, 2, full=True)
    assert passes(world) == ("False", "QuarantineFull")
    tell(world, 2)
    assert passes(world) == ("False", "Quarantined")


def test_a_flood_writes_the_status_every_quarter_of_an_hour_and_not_more(world: World) -> None:
    tell(world, 1)
    passes(world)
    first = world.condition("IngestClean")["message"]
    for count in range(2, 12):
        tell(world, count)
        passes(world)
        assert world.condition("IngestClean")["message"] == first
    tell(world, 12)
    passes(world, 900)
    assert world.condition("IngestClean")["message"].startswith("12 differing")


@pytest.mark.parametrize(("held", "after"), [(0, ("Unknown", "NotObserved")), (1, ("False", "Quarantined"))])
def test_silence_is_no_proof(world: World, held: int, after: tuple[str, str]) -> None:
    tell(world, held)
    passes(world)
    world.agents.ingest = None
    assert passes(world) == after


@pytest.mark.parametrize(("held", "after"), [(0, ("Unknown", "NotObserved")), (1, ("False", "Quarantined"))])
def test_a_stopped_archive_promises_nothing(world: World, held: int, after: tuple[str, str]) -> None:
    tell(world, held)
    passes(world)
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(suspend=True))
    assert passes(world) == after


def test_metrics_count_by_reason_and_name_nobody(world: World) -> None:
    tell(world, 2, full=True, DuplicateDiffers=5, SopClassNotAccepted=7, Nonsense=9)
    passes(world)
    found = scrape(world)
    (pod,) = {name.split('pod="')[1].split('"')[0] for name in found}
    row = f'archive="{ARCHIVE}",pod="{pod}"'
    assert found[f"pacs_operator_quarantine_objects{{{row}}}"] == 2
    assert found[f"pacs_operator_quarantine_bytes{{{row}}}"] == 3 * 2**20 + 1
    assert found[f"pacs_operator_quarantine_not_taken_total{{{row}}}"] == 1
    reasons = {name.split('reason="')[1].rstrip('"}'): value for name, value in found.items() if "reason" in name}
    assert reasons == {**dict.fromkeys(REASONS, 0.0), "DuplicateDiffers": 5.0, "SopClassNotAccepted": 7.0}


@pytest.mark.parametrize(
    "told",
    [
        {"quarantine": {"held": -1, "bytes": 0}},
        {"quarantine": {"held": 1, "bytes": 0, "oldest": "yesterday"}},
        {"quarantine": {"held": 0, "bytes": 0}, "refused": {"Doe^Jane": 1}},
        {"quarantine": {"held": 0, "bytes": 0}, "refused": {f"R{n}": 1 for n in range(33)}},
        {},
    ],
)
def test_what_is_not_counts_and_times_is_not_taken_over(told: dict) -> None:
    status = {"component": Component.ORTHANC.value, "version": "1", "ready": True, "leaves": []}
    good = {"quarantine": {"held": 1, "bytes": 1, "oldest": SINCE}, "refused": {"DuplicateDiffers": 1}}
    assert AgentStatus.model_validate({**status, "ingest": good}).ingest
    with pytest.raises(ValidationError):
        AgentStatus.model_validate({**status, "ingest": told})
