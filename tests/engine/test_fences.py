"""What closes a zone is put back also while the archive is stalled."""

import copy
from collections.abc import Callable

import pytest

from tests.engine.test_revocation import STALLS, Act, delete
from tests.engine.world import ARCHIVE, World

ZONES = ("edge", "archive", "data", "ops")
DENY = [("NetworkPolicy", f"radiology-{zone}", "default-deny") for zone in ZONES]
ORTHANC = ("NetworkPolicy", "radiology-archive", "orthanc-ingress")
GATE = ("NetworkPolicy", "radiology-edge", "gate-ingress")
Start = Callable[[World], None]


def same_process(world: World) -> None:
    del world


def new_process(world: World) -> None:
    world.process = world.operator()


def policies(world: World) -> dict:
    found = {key: copy.deepcopy(item) for key, item in world.api.objects.items() if key[0] == "NetworkPolicy"}
    for item in found.values():
        for part in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
            item["metadata"].pop(part, None)
    return found


@pytest.mark.parametrize("start", [same_process, new_process])
@pytest.mark.parametrize("stall", [name for name in STALLS if name != "foreign namespace"])
def test_default_deny_comes_back_while_stalled(world: World, stall: str, start: Start):
    act, reason = STALLS[stall]
    before = policies(world)
    act(world)
    start(world)
    for key in DENY:
        world.api.remove(key)
    world.process.reconcile(ARCHIVE)
    assert world.condition("Stalled")["reason"] == reason
    assert policies(world) == before, "as a full pass renders them"
    writes = len(world.log.entries)
    world.process.reconcile(ARCHIVE)
    assert world.log.entries[writes:] == [], "and is written once"


@pytest.mark.parametrize("start", [same_process, new_process])
def test_a_default_deny_that_was_opened_is_closed_while_stalled(world: World, start: Start):
    STALLS["unknown catalog"][0](world)
    start(world)
    world.api.edit(DENY[2], "somebody", lambda live: live["spec"].update(ingress=[{}]))
    world.process.reconcile(ARCHIVE)
    assert not world.api.objects[DENY[2]]["spec"].get("ingress")


def test_a_widened_policy_is_narrowed_while_stalled(world: World):
    before = policies(world)
    STALLS["unknown catalog"][0](world)
    world.api.edit(ORTHANC, "somebody", lambda live: live["spec"]["ingress"].append({}))
    world.process.reconcile(ARCHIVE)
    assert policies(world) == before


def test_the_gates_ingress_is_not_put_back_for_a_peer_that_was_removed(world: World):
    STALLS["unknown catalog"][0](world)
    delete(world)
    for _ in range(2):
        world.process.reconcile(ARCHIVE)
    assert "198.18.10.11/32" not in repr(world.api.objects[GATE]["spec"])
    world.api.remove(GATE)
    world.process.reconcile(ARCHIVE)
    assert GATE not in world.api.objects, "without it default-deny holds"


def test_nothing_is_written_into_a_namespace_that_is_not_ours(world: World):
    act: Act = STALLS["foreign namespace"][0]
    act(world)
    for key in DENY:
        world.api.remove(key)
    world.process.reconcile(ARCHIVE)
    present = [key[1] for key in DENY if key in world.api.objects]
    assert present == ["radiology-edge", "radiology-archive", "radiology-data"]
