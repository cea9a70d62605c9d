"""What a stopped pass goes on promising: no more than what was last known and the time allow."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from pacs_operator.kube.errors import ApiUnreachableError
from tests.engine.test_rotation import AgeingWorld, at
from tests.engine.test_rotation import world as ageing_world  # noqa: F401  # a fixture
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest

EVIDENCE = ("CertificatesCurrent", "ConformancePassed", "NetworkIsolated")


def suspend(world: World) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(suspend=True))


def lose_the_catalog(world: World) -> None:
    world.api.remove(("PacsCatalog", "", "stable"))


def spoil_the_schedule(world: World) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(conformance={"schedule": "never"}))


def mistype_the_spec(world: World) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(dicom={"aeTitle": "FAR TOO LONG A TITLE"}))


STOPS = [suspend, lose_the_catalog, spoil_the_schedule, mistype_the_spec]


def after(world: World, **time: float) -> dict[str, tuple[str, str]]:
    world.now += timedelta(**time)
    world.advance(0)
    world.process.reconcile(ARCHIVE)
    return {item["type"]: (item["status"], item["reason"]) for item in world.archive["status"]["conditions"]}


@pytest.mark.parametrize("stop", STOPS)
def test_a_stopped_archive_promises_nothing_that_nobody_shows(world: World, stop: Callable[[World], None]):
    stop(world)
    told = after(world, hours=1)
    assert [told[kind][0] for kind in EVIDENCE] == ["True"] * 3
    told = after(world, hours=13)
    assert told["CertificatesCurrent"] == ("True", "Current")
    assert told["ConformancePassed"] == told["NetworkIsolated"] == ("Unknown", "Stale")
    told = after(world, days=6)
    assert told["CertificatesCurrent"] == ("Unknown", "NotObserved")
    assert "gate/server-ec" in world.condition("CertificatesCurrent")["message"]
    writes = len(world.log.entries)
    after(world, hours=1)
    assert world.log.entries[writes:] == [], "and says it once"


def test_a_schedule_that_was_in_force_tells_how_long_a_run_counts(world: World):
    world.api.put(archive_manifest(conformance={"schedule": "0 3 * * 1"}))
    world.settle(world.process)
    spoil_the_schedule(world)
    assert after(world, days=5)["ConformancePassed"] == ("True", "Passed")
    assert after(world, days=12)["ConformancePassed"] == ("Unknown", "Stale")


def test_going_on_looks_again(world: World):
    suspend(world)
    after(world, days=6.5)
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(suspend=False))
    world.agents.not_after = world.now + timedelta(days=7)
    world.settle(world.process)
    assert {world.condition(kind)["status"] for kind in (*EVIDENCE, "Ready")} == {"True"}


def test_what_was_false_stays_false(world: World):
    world.agents.silent = True
    assert after(world, days=7, hours=1)["CertificatesCurrent"] == ("False", "Expired")
    lose_the_catalog(world)
    assert after(world, hours=1)["CertificatesCurrent"] == ("False", "Expired")


def test_a_trouble_that_does_not_pass_does_not_keep_ready_for_ever(world: World, monkeypatch: pytest.MonkeyPatch):
    def down(*_: object, **__: object) -> None:
        raise ApiUnreachableError("the API does not answer", action="none")

    world.api.put(archive_manifest(conformance={"schedule": "0 3 * * *"}))
    world.settle(world.process)
    monkeypatch.setattr(world.api, "list", down)
    world.now += timedelta(days=6.5)
    world.advance(0)
    with pytest.raises(ApiUnreachableError):
        world.process.reconcile(ARCHIVE)
    assert world.condition("CertificatesCurrent")["status"] == "Unknown"
    assert world.condition("Ready")["status"] == "Unknown"


@pytest.mark.parametrize("stop", STOPS)
def test_a_restart_that_a_stop_prevents_is_told(ageing_world: AgeingWorld, stop: Callable[[World], None]):  # noqa: F811
    world = ageing_world
    at(world, 61)
    stop(world)
    assert after(world, days=10)["CertificatesCurrent"] == ("True", "Current")
    assert after(world, days=13)["CertificatesCurrent"] == ("False", "ServedNotRenewed")
    assert after(world, days=8)["CertificatesCurrent"] == ("False", "Expired")
