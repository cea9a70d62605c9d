"""Whose lineage it is: a copy, a second adoption and hand-made labels take nothing from the one that has it."""

import copy

import pytest

from pacs_operator.kube.port import Manifest
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest, peer_manifest

LINEAGE, OWNER = "pacs-operator.io/lineage", "pacs-operator.io/lineage-uid"
COPY = "radiology2"
COPY_KEY = ("PacsArchive", "", COPY)


def running() -> World:
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.settle()
    return world


def copied(world: World) -> None:
    """``kubectl get -o yaml | sed name | kubectl apply``: everything but uid, version and status."""
    live = copy.deepcopy(world.archive)
    data = {part: live["metadata"][part] for part in ("annotations", "finalizers")}
    spec = live["spec"] | {"gate": {"service": {"type": "NodePort", "nodePort": 30763}, "replicas": 2}}
    world.api.put({**live, "metadata": {"name": COPY, **data}, "spec": spec, "status": {}})


def zone(lineage: str, archive: str, part: str, uid: str = "uid-of-another") -> Manifest:
    labels = {LINEAGE: lineage, "pacs-operator.io/archive": archive, "pacs-operator.io/archive-uid": uid}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{archive}-{part}", "labels": labels}}


def by_former_version(world: World, *keys: tuple[str, str, str]) -> None:
    """Take the uid beside the lineage away again, as if a former version had written the annotation."""
    for key in keys:
        world.api.edit(key, "former", lambda live: live["metadata"]["annotations"].pop(OWNER))


def provisioned(world: World) -> None:
    """Bring the copy as far as the world goes, whose agents only know the first archive's peers."""
    operator = world.operator()
    for _ in range(6):
        operator.reconcile(COPY)
        world.controllers()
        world.advance(2)


def of(world: World, kind: str, name: str = COPY) -> dict[str, str]:
    conditions = world.api.objects["PacsArchive", "", name]["status"]["conditions"]
    return next(item for item in conditions if item["type"] == kind)


def test_a_copied_resource_gets_a_lineage_of_its_own_and_takes_no_role_away():
    world = running()
    paths, roles = set(world.vault.paths), dict(world.vault.peer_roles)
    copied(world)
    provisioned(world)
    world.settle()
    assert of(world, "Stalled")["status"] == "False"
    assert of(world, "VaultReady")["status"] == "True"
    mine = world.api.objects[COPY_KEY]["metadata"]
    assert (mine["annotations"][LINEAGE], mine["annotations"][OWNER]) == (world.drawn[1], mine["uid"])
    assert world.archive["metadata"]["annotations"][LINEAGE] == world.drawn[0]
    assert paths <= world.vault.paths
    assert roles == world.vault.peer_roles
    assert len(world.vault.roots_made) == 6, "three authorities each"


def test_a_copy_that_is_deleted_before_its_first_pass_takes_no_role_away():
    world = running()
    paths, roles = set(world.vault.paths), dict(world.vault.peer_roles)
    copied(world)
    world.api.remove(COPY_KEY)
    world.settle(name=COPY)
    assert COPY_KEY not in world.api.objects
    assert (paths, roles) == (world.vault.paths, world.vault.peer_roles)


@pytest.mark.parametrize(("gone", "holder"), [(False, "PacsArchive radiology"), (True, "namespace radiology-archive")])
def test_a_lineage_that_another_archive_has_is_not_adopted(gone: bool, holder: str):
    world = running()
    lineage = world.drawn[0]
    if gone:
        world.api.remove(ARCHIVE_KEY)
        world.settle()
    for part in ("archive", "data"):
        world.api.put(zone(lineage, COPY, part))
    adopting = archive_manifest(bootstrap={"mode": "Adopt", "lineageID": lineage})
    world.api.put({**adopting, "metadata": {"name": COPY}})
    written = set(world.vault.paths)
    world.settle(name=COPY)
    stalled = of(world, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "LineageTaken")
    assert holder in stalled["message"]
    assert "under a new name" in stalled["message"]
    assert "annotations" not in world.api.objects[COPY_KEY]["metadata"]
    assert written == world.vault.paths
    if not gone:
        world.settle()
        assert world.condition("Ready")["status"] == "True", "who has it is not harmed by who wants it"


def test_a_lineage_claimed_by_hand_is_refused_while_no_zone_proves_it():
    world = running()
    world.api.put({**archive_manifest(release={"catalog": "missing", "version": "1"}), "metadata": {"name": COPY}})
    world.settle(name=COPY)
    claim = {LINEAGE: world.drawn[0], OWNER: world.api.objects[COPY_KEY]["metadata"]["uid"]}
    right = archive_manifest()["spec"]["release"]
    world.api.edit(COPY_KEY, "kubectl", lambda live: live["metadata"].update(annotations=claim))
    world.api.edit(COPY_KEY, "kubectl", lambda live: live["spec"].update(release=right))
    world.settle(name=COPY)
    assert of(world, "Stalled")["reason"] == "LineageTaken"


def test_an_archive_of_the_former_version_goes_on_and_gets_its_uid_once():
    world = running()
    by_former_version(world, ARCHIVE_KEY)
    before = len(world.log.entries)
    operator = world.operator()
    operator.reconcile(ARCHIVE)
    assert world.log.entries[before:] == [f"patch PacsArchive /{ARCHIVE}"]
    assert world.archive["metadata"]["annotations"][OWNER] == world.archive["metadata"]["uid"]
    operator.reconcile(ARCHIVE)
    assert len(world.log.entries) == before + 1
    assert world.condition("Ready")["status"] == "True"


def test_of_two_that_share_since_a_former_version_the_elder_goes_on_and_the_younger_is_told():
    world = running()
    lineage = world.drawn[0]
    world.advance(60)
    copied(world)
    provisioned(world)
    by_former_version(world, ARCHIVE_KEY, COPY_KEY)
    world.api.edit(COPY_KEY, "former", lambda live: live["metadata"]["annotations"].update({LINEAGE: lineage}))
    world.api.set_status(COPY_KEY, world.api.objects[COPY_KEY]["status"] | {"lineageID": lineage})
    for part in ("edge", "archive", "data", "ops"):
        world.api.put(zone(lineage, COPY, part, world.api.objects[COPY_KEY]["metadata"]["uid"]))
    world.settle(name=COPY)
    assert of(world, "Stalled")["reason"] == "LineageTaken"
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    paths, roles = set(world.vault.paths), dict(world.vault.peer_roles)
    world.api.remove(COPY_KEY)
    world.settle(name=COPY)
    assert COPY_KEY not in world.api.objects
    assert (paths, roles) == (world.vault.paths, world.vault.peer_roles), "the elder's roles stay"


def test_a_settled_archive_asks_nobody_whose_lineage_it_is():
    world = running()
    operator = world.operator()
    operator.reconcile(ARCHIVE)
    world.api.reads.clear()
    operator.reconcile(ARCHIVE)
    assert "list PacsArchive" not in world.api.reads
