"""An external index: what the operator leaves out, what it is told, and that nobody changes over by mistake."""

from typing import Any

import pytest

from pacs_operator.domain.agentconfig import DatabaseTold
from pacs_operator.domain.database import SHORTCOMINGS
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest
from tests.render.archives import certificate_pem

EXTERNAL: dict[str, Any] = {
    "host": "db.hospital.example",
    "name": "index",
    "user": "orthanc",
    "caPem": certificate_pem(),
    "cidrs": ["198.18.0.20/32"],
    "authentication": {"mode": "Password", "passwordSecret": "index"},
}
MANAGED = {"mode": "Managed", "sizeGi": 5, "storageClassName": "hostpath"}
READY = DatabaseTold(server_version=170004)


def external(**changes: Any) -> dict[str, Any]:
    return archive_manifest(database={"mode": "External", "external": {**EXTERNAL, **changes}})


@pytest.fixture
def world() -> World:
    made = World()
    made.agents.database = READY
    return made.serve(external())


def told(world: World) -> tuple[str, str]:
    found = world.condition("DatabaseReady")
    return found["status"], found["reason"]


def test_the_archive_is_ready_without_a_database_of_its_own(world: World) -> None:
    assert world.condition("Ready")["status"] == "True"
    assert told(world) == ("True", "Answering")
    for word in ("index at db.hospital.example:5432", "17.4"):
        assert word in world.condition("DatabaseReady")["message"]
    held = {key[0] for key in world.api.objects if key[1] == "radiology-data"}
    assert held == {"LimitRange", "NetworkPolicy", "ResourceQuota"}, "the zone of the index holds nothing"
    assert world.condition("CertificatesCurrent")["status"] == "True"
    assert [volume["name"] for volume in world.archive["status"]["volumes"]] == ["images"]


def test_a_run_leaves_the_attack_on_a_database_out_and_says_so(world: World) -> None:
    assert "PostgresUnreachable" not in {check["check"] for check in world.archive["status"]["conformance"]["checks"]}
    assert world.archive["status"]["conformance"]["outcome"] == "Passed"
    isolated = world.condition("NetworkIsolated")
    assert (isolated["status"], isolated["reason"]) == ("True", "Probed")
    assert "PostgresUnreachable" not in isolated["message"]
    other = World()
    other.api.put(archive_manifest())
    other.settle()
    assert "PostgresUnreachable" in other.condition("NetworkIsolated")["message"]


@pytest.mark.parametrize("reason", sorted(SHORTCOMINGS))
def test_each_shortcoming_is_the_conditions_reason(world: World, reason: str) -> None:
    world.agents.database, world.agents.problems = None, {"database": reason}
    world.advance(60)
    world.process.reconcile(ARCHIVE)
    assert told(world) == ("False", reason)
    assert SHORTCOMINGS[reason].action in world.condition("DatabaseReady")["message"]
    assert world.condition("Ready")["reason"] == reason
    world.agents.database, world.agents.problems = READY, {}
    world.advance(60)
    world.settle(world.process)
    assert told(world) == ("True", "Answering")


def test_what_an_agent_makes_up_is_not_taken_over(world: World) -> None:
    world.agents.database, world.agents.problems = None, {"database": "HelloThere"}
    world.advance(60)
    world.process.reconcile(ARCHIVE)
    assert told(world) == ("False", "DatabaseCheckFailed")
    assert "HelloThere" not in world.condition("DatabaseReady")["message"]


def test_nothing_told_is_nothing_known(world: World) -> None:
    world.agents.database = None
    world.advance(60)
    world.process.reconcile(ARCHIVE)
    assert told(world) == ("Unknown", "NotObserved")


@pytest.mark.parametrize("agent_runs", [True, False])
def test_the_agent_is_asked_while_orthanc_waits_for_its_index(world: World, agent_runs: bool) -> None:
    world.agents.database, world.agents.problems = None, {"database": "DatabaseForeign"}
    (key,) = (key for key in world.api.objects if key[0] == "Pod" and key[1] == "radiology-archive")
    state: dict[str, Any] = {"running": {}} if agent_runs else {"waiting": {}}
    status = world.api.objects[key]["status"]
    world.api.set_status(
        key, {**status, "phase": "Pending", "initContainerStatuses": [{"name": "agent", "state": state}]}
    )
    world.advance(60)
    world.process.reconcile(ARCHIVE)
    assert told(world) == (("False", "DatabaseForeign") if agent_runs else ("Unknown", "NotObserved"))


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("first", ["Managed", "External"])
def test_the_index_stays_where_it_is(first: str, adopted: bool) -> None:
    """Elsewhere nobody would find the images; whoever takes over the zones is held to it as well."""
    world = World()
    world.agents.database = READY
    one, other = (external(), archive_manifest()) if first == "External" else (archive_manifest(), external())
    world.api.put(one)
    world.settle()
    if adopted:
        world.api.remove(ARCHIVE_KEY)
        world.settle()
        bootstrap = {"mode": "Adopt", "lineageID": world.drawn[0]}
        one, other = ({**each, "spec": {**each["spec"], "bootstrap": bootstrap}} for each in (one, other))
    before = {key: item for key, item in world.api.objects.items() if key[0] in ("StatefulSet", "ConfigMap")}
    world.api.objects.pop(ARCHIVE_KEY, None) if adopted else None
    replace(world, other)
    world.settle()
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "DatabaseModeChanged")
    assert {key: world.api.objects.get(key) for key in before} == before
    replace(world, one)
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def replace(world: World, manifest: dict[str, Any]) -> None:
    if ARCHIVE_KEY in world.api.objects:
        world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live.update(spec=manifest["spec"]))
    else:
        world.api.put(manifest)


def test_before_there_are_data_the_mode_may_change() -> None:
    world = World()
    world.agents.database = READY
    world.api.put(external(caPem="none"))
    world.settle()
    assert world.condition("Stalled")["reason"] == "InvalidSpec"
    assert "spec.database.external.caPem" in world.condition("Stalled")["message"]
    replace(world, archive_manifest(database=MANAGED))
    world.settle()
    assert world.condition("Ready")["status"] == "True"
