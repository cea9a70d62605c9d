"""When a run is due, what it is called, and what its result means."""

from datetime import UTC, datetime, timedelta

import pytest

from pacs_operator.domain.archive import Conformance
from pacs_operator.domain.checks import Check
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.status import ConformanceStatus
from pacs_operator.reconcile.conformance import (
    Asked,
    check_schedule,
    freshness,
    latest_slot,
    next_slot,
    run_name,
    trigger,
)
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EVERY_SIX = Conformance()


def last(outcome: str = "Passed", age_minutes: int = 1, config_hash: str = "c") -> ConformanceStatus:
    time = (NOW - timedelta(minutes=age_minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ConformanceStatus(run="r1", time=time, outcome=outcome, config_hash=config_hash)


def asked(token: str | None = None, **schedule: object) -> Asked:
    return Asked("c", NOW, token, Conformance(**schedule))


@pytest.mark.parametrize(
    ("ask", "before", "handled", "why"),
    [
        (asked(), None, None, "change"),
        (asked(), last(config_hash="old"), None, "change"),
        (asked(), last(), None, None),
        (asked("t1"), last(), None, "token t1"),
        (asked("t1"), last(), "t1", None),
        (asked(), last("Failed", 14), None, None),
        (asked(), last("Failed", 15), None, "retry"),
        (asked(), last("NotRun", 15), None, "retry"),
        (asked(), last(age_minutes=6 * 60), None, "slot 2026-11-20T06:17:00+00:00"),
        (asked(suspend=True), last(age_minutes=6 * 60), None, None),
        (asked("t2", suspend=True), last(), "t1", "token t2"),
    ],
)
def test_why_a_run_is_due(ask: Asked, before: ConformanceStatus | None, handled: str | None, why: str | None):
    assert trigger(ask, before, handled) == why


def test_slots_follow_the_time_zone_and_daylight_saving():
    daily = Conformance(schedule="30 2 * * *", time_zone="Europe/Zurich")
    assert latest_slot(daily, datetime(2026, 1, 15, 12, tzinfo=UTC)) == datetime(2026, 1, 15, 1, 30, tzinfo=UTC)
    assert latest_slot(daily, datetime(2026, 7, 15, 12, tzinfo=UTC)) == datetime(2026, 7, 15, 0, 30, tzinfo=UTC)
    assert next_slot(EVERY_SIX, NOW) == datetime(2026, 11, 20, 12, 17, tzinfo=UTC)
    assert freshness(EVERY_SIX, NOW) == timedelta(hours=13)


def test_the_same_wish_has_the_same_name_and_another_wish_another():
    names = {run_name("u", "c", why, before) for why in ("change", "retry") for before in (None, last())}
    assert len(names) == 4
    assert run_name("u", "c", "retry", last()) == run_name("u", "c", "retry", last())
    assert all(name.isalnum() and len(name) <= 20 for name in names)


def ready() -> World:
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    return world


@pytest.mark.parametrize(
    ("outcome", "check", "kind", "status", "reason"),
    [
        ("Failed", Check.ECHO, "ConformancePassed", "False", "ChecksFailed"),
        ("NotRun", Check.ECHO, "ConformancePassed", "Unknown", "NotRun"),
        ("Failed", Check.POSTGRES_UNREACHABLE, "NetworkIsolated", "False", "Reachable"),
        ("NotRun", Check.POSTGRES_UNREACHABLE, "NetworkIsolated", "Unknown", "NotProbed"),
        ("Failed", Check.ECHO, "NetworkIsolated", "True", "Probed"),
    ],
)
def test_a_result_becomes_conditions(outcome: str, check: Check, kind: str, status: str, reason: str):
    world = World()
    world.outcome_of_checks = {check: outcome}
    world.api.put(archive_manifest())
    world.settle()
    assert (world.condition(kind)["status"], world.condition(kind)["reason"]) == (status, reason)
    assert world.condition("Ready")["status"] == "False"


def test_a_failed_run_is_repeated_and_readiness_returns():
    world = World()
    world.outcome_of_checks = {Check.ECHO: "Failed"}
    world.api.put(archive_manifest())
    world.settle()
    world.outcome_of_checks = {}
    world.advance(16 * 60)
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert len(world.jobs_run) == 2


def test_a_token_asks_once():
    world = ready()
    token = {"pacs-operator.io/run-conformance": "please-1"}
    world.api.edit(ARCHIVE_KEY, "kubectl-annotate", lambda live: live["metadata"]["annotations"].update(token))
    world.settle()
    world.settle()
    assert len(world.jobs_run) == 2
    assert world.archive["status"]["lastHandledConformanceToken"] == "please-1"


def test_the_schedule_is_kept_and_history_is_bounded():
    world = ready()
    operator = world.operator()
    for _ in range(6):
        world.advance(6 * 3600)
        world.agents.not_after = world.now + timedelta(days=7)
        world.settle(operator)
    assert len(world.jobs_run) == 7
    jobs = [key for key in world.api.objects if key[0] == "Job"]
    assert len(jobs) <= 4
    assert not [key for key in world.api.objects if key[0] == "ConfigMap" and key[2].startswith("conformance-")]


def test_evidence_grows_stale_but_the_archive_goes_on_serving():
    world = World()
    world.api.put(archive_manifest(conformance={"suspend": True}))
    world.settle()
    assert len(world.jobs_run) == 1, "creation is attacked even so"
    world.advance(14 * 3600)
    world.settle()
    for kind in ("ConformancePassed", "NetworkIsolated"):
        assert (world.condition(kind)["status"], world.condition(kind)["reason"]) == ("Unknown", "Stale")
    assert world.condition("Ready")["status"] == "True"


def test_a_job_without_a_result_proves_nothing():
    world = World()
    run_job = world._run_job

    def lost(key, item):
        run_job(key, item)
        world.api.objects.pop(("Pod", key[1], f"{key[2]}-x"), None)

    world._run_job = lost
    world.api.put(archive_manifest())
    world.settle()
    assert world.archive["status"]["conformance"]["outcome"] == "NotRun"
    assert world.condition("Ready")["status"] == "False"


def test_no_run_starts_while_pods_are_not_ready_or_vault_is_down():
    world = World()
    world.controllers = lambda: None
    world.api.put(archive_manifest())
    for _ in range(5):
        world.operator().reconcile(ARCHIVE)
    assert not [key for key in world.api.objects if key[0] == "Job"]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("0 0 31 2 *", "names a day that no year has"),
        ("0 0 30 2 *", "names a day that no year has"),
        ("0 0 31 4,6 *", "names a day that no year has"),
        ("0 0 * *", "not a cron expression of five fields"),
        ("0 0 * * * *", "not a cron expression of five fields"),
        ("61 0 * * *", "not a cron expression of five fields"),
        ("R 3 * * *", "not a cron expression of five fields"),
        ("0 r(1-5) * * *", "not a cron expression of five fields"),
    ],
)
def test_a_schedule_without_a_time_to_come_is_refused(schedule: str, words: str):
    with pytest.raises(InvalidSpecError) as caught:
        check_schedule(Conformance(schedule=schedule))
    assert repr(schedule) in caught.value.message
    assert words in caught.value.message
    assert caught.value.action


@pytest.mark.parametrize("schedule", ["0 0 29 2 *", "0 0 31 2 MON", "17 */6 * MAR-APR THU,FRI", "0 0 L * *"])
def test_a_schedule_that_comes_true_some_day_is_taken(schedule: str):
    check_schedule(Conformance(schedule=schedule))


def test_a_day_that_never_comes_stalls_the_archive_with_the_way_out():
    world = World()
    world.api.put(archive_manifest(conformance={"schedule": "0 0 31 2 *"}))
    world.settle()
    assert (world.condition("Stalled")["status"], world.condition("Stalled")["reason"]) == ("True", "InvalidSpec")
    assert "spec.conformance.schedule" in world.condition("Stalled")["message"]


def test_a_running_archive_that_is_given_such_a_day_says_so_and_runs_on():
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    world.api.put(archive_manifest(conformance={"schedule": "0 0 31 2 *"}))
    world.settle()
    assert "spec.conformance.schedule" in world.condition("Stalled")["message"]
    world.api.put(archive_manifest(conformance={"schedule": "0 0 31 2 *"}, suspend=True))
    world.settle()
    assert world.condition("Reconciling")["reason"] == "Suspended"
