"""The operator dies before and after every single write, starts again, and always ends in the same place.

Writes of all ports are counted: Kubernetes and Vault alike. The number of write points of an undisturbed run is the
number of points at which the process is killed, so that none is left out.
"""

import copy
from collections.abc import Callable
from functools import cache

import pytest

from tests.engine.simapi import Killed
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest, peer_manifest

Scenario = Callable[[World], None]


def create(world: World) -> None:
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.api.put(peer_manifest("ct1b", aeTitles=["CT1"]))  # refused: its status is a write too


def settle_first(world: World) -> None:
    create(world)
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def change_peers(world: World) -> None:
    world.api.put(peer_manifest("mr1"))
    world.api.put(peer_manifest("ct1", rights=["Echo", "Store"]))
    world.api.remove(("DicomPeer", "imaging", "ct1b"))


def change_spec(world: World) -> None:
    world.api.put(archive_manifest(dicom={"aeTitle": "RADIO2"}, gate={"service": {"type": "NodePort"}, "replicas": 3}))


def delete(world: World) -> None:
    world.api.remove(ARCHIVE_KEY)


def adopt(world: World) -> None:
    settle_first(world)
    world.api.remove(ARCHIVE_KEY)
    world.settle()
    world.api.put(archive_manifest(bootstrap={"mode": "Adopt", "lineageID": world.drawn[0]}))


SCENARIOS: dict[str, tuple[Scenario, Scenario]] = {
    "create": (lambda world: None, create),
    "peer change": (settle_first, change_peers),
    "spec change": (settle_first, change_spec),
    "deletion": (settle_first, delete),
    "adoption": (adopt, lambda world: None),
}


@cache
def prepared(name: str, first_draw: int) -> World:
    prepare, act = SCENARIOS[name]
    world = World(first_draw)
    prepare(world)
    act(world)
    return world


@cache
def undisturbed(name: str, first_draw: int = 1) -> tuple[World, int]:
    """Return the world after the scenario, and how many writes it took."""
    world = copy.deepcopy(prepared(name, first_draw))
    before = len(world.log.entries)
    world.settle()
    return world, len(world.log.entries) - before


def killed_at(name: str, point: int, when: str) -> World:
    """Run a scenario whose process dies at one write; the next process knows nothing of the first."""
    world = copy.deepcopy(prepared(name, 1))
    setattr(world.log.faults, f"kill_{when}", len(world.log.entries) + point)
    with pytest.raises(Killed):
        world.settle()
    world.settle(world.operator())
    return world


def check_invariants(world: World) -> None:
    assert len(world.vault.roots_made) == len(set(world.vault.roots_made)), "a root was made twice"
    lineages = {path.split("/")[1] for path in world.vault.paths if path.startswith("pacs/")}
    assert len(lineages) == 1, "two lineages reached Vault"
    assert len(world.jobs_run) == len(set(world.jobs_run)), "a conformance run was done twice"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_write(name: str, when: str):
    points = undisturbed(name)[1]
    assert points > 0
    survived = 0
    for point in range(points):
        world = killed_at(name, point, when)
        # A lineage that was drawn but never written has left no trace: the world is that of the next draw.
        reference, _ = undisturbed(name, int(lineage(world), 16))
        what = f"killed {when} {undisturbed(name)[0].log.entries[-points + point]}"
        found, expected = world.end_state(), reference.end_state()
        assert found.keys() == expected.keys(), what
        for key in expected:
            assert found[key] == expected[key], f"{what}: {key}"
        assert world.jobs_run == reference.jobs_run, what
        assert world.vault.paths == reference.vault.paths, what
        assert world.vault.peer_roles == reference.vault.peer_roles, what
        check_invariants(world)
        survived += 1
    assert survived == points


def test_the_second_pass_after_any_scenario_writes_nothing():
    for name in SCENARIOS:
        world = copy.deepcopy(undisturbed(name)[0])
        before = len(world.log.entries)
        world.operator().reconcile(ARCHIVE)
        assert world.log.entries[before:] == [], name


def lineage(world: World) -> str:
    return world.api.objects["Namespace", "", "radiology-archive"]["metadata"]["labels"]["pacs-operator.io/lineage"]
