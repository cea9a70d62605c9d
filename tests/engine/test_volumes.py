"""Volumes that grow, that cannot, and that were asked to by mistake: nothing else waits for them, nothing is lost."""

from typing import Any

import pytest

from tests.engine.world import ARCHIVE, World, archive_manifest

IMAGES = ("PersistentVolumeClaim", "radiology-archive", "images")
DATABASE = ("PersistentVolumeClaim", "radiology-data", "database")
HOSTPATH = ("StorageClass", "", "hostpath")


def sized(images: int = 20, database: int = 5, **spec: Any) -> dict[str, Any]:
    return archive_manifest(
        storage={"sizeGi": images, "storageClassName": "hostpath"},
        database={"mode": "Managed", "sizeGi": database, "storageClassName": "hostpath"},
        **spec,
    )


def requested(world: World, key: tuple[str, str, str]) -> str:
    return str(world.api.objects[key]["spec"]["resources"]["requests"]["storage"])


@pytest.fixture(params=[True, False], ids=["expandable", "fixed"])
def expandable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def world(expandable: bool) -> World:
    """Return a settled archive on a StorageClass that does, or does not, allow expansion."""
    made = World()
    made.api.edit(HOSTPATH, "kubectl", lambda live: live.update(allowVolumeExpansion=expandable))
    return made.serve(sized())


def fits(world: World) -> tuple[str, str]:
    found = world.condition("VolumesFit")
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("field", "claim", "words"), [("storage", IMAGES, "images"), ("database", DATABASE, "database")]
)
def test_a_volume_grows_where_its_class_allows_it(
    world: World, expandable: bool, field: str, claim: tuple[str, str, str], words: str
) -> None:
    before = {key: item["metadata"]["uid"] for key, item in world.api.objects.items() if key[0] in ("Pod", claim[0])}
    world.api.put(sized(images=40) if field == "storage" else sized(database=40))
    world.settle(world.process)
    assert requested(world, claim) == ("40Gi" if expandable else {"storage": "20Gi", "database": "5Gi"}[field])
    if expandable:
        assert fits(world) == ("True", "AsRequested")
    else:
        assert fits(world) == ("False", "ExpansionNotAllowed")
        message = world.condition("VolumesFit")["message"]
        for word in (f"spec.{field}.sizeGi", "40", f"/{words}", "StorageClass hostpath", "allowVolumeExpansion"):
            assert word in message
    assert world.condition("Ready")["status"] == "True", "the archive serves either way"
    assert {key: world.api.objects[key]["metadata"]["uid"] for key in before} == before, "nothing was made anew"


def test_what_cannot_grow_holds_up_nothing_else_and_grows_when_it_can(world: World, expandable: bool) -> None:
    world.api.put(sized(images=40, gate={"service": {"type": "NodePort"}, "replicas": 3}))
    world.settle(world.process)
    assert world.api.objects["Deployment", "radiology-edge", "gate"]["spec"]["replicas"] == 3
    if not expandable:
        assert world.archive["status"]["volumes"][0] == {"name": "images", "requestedGi": 20, "capacityGi": 20}
        world.api.edit(HOSTPATH, "kubectl", lambda live: live.update(allowVolumeExpansion=True))
        world.advance(120)
        world.settle(world.process)
    assert requested(world, IMAGES) == "40Gi"
    assert fits(world) == ("True", "AsRequested")
    assert world.archive["status"]["volumes"][0] == {"name": "images", "requestedGi": 40, "capacityGi": 40}


@pytest.mark.parametrize(
    ("stands", "expected"),
    [
        ("ControllerResizeError", ("False", "ExpansionFailed")),
        ("NodeResizeError", ("False", "ExpansionFailed")),
        ("Resizing", ("Unknown", "Growing")),
        ("FileSystemResizePending", ("Unknown", "FileSystemResizePending")),
    ],
)
@pytest.mark.parametrize("expandable", [True], indirect=True)
def test_how_far_a_growth_is_stands_in_the_condition(world: World, stands: str, expected: tuple[str, str]) -> None:
    world.resizes = stands
    world.api.put(sized(images=40))
    world.settle(world.process)
    assert requested(world, IMAGES) == "40Gi"
    assert fits(world) == expected
    assert "20Gi" in world.condition("VolumesFit")["message"]
    assert "40Gi" in world.condition("VolumesFit")["message"]
    assert world.archive["status"]["volumes"][0] == {"name": "images", "requestedGi": 40, "capacityGi": 20}
    assert world.condition("Ready")["status"] == "True"
    world.resizes = "works"  # what the cluster does when the storage has room again
    world.controllers()
    world.settle(world.process)
    assert fits(world) == ("True", "AsRequested")


@pytest.mark.parametrize(("back", "taken"), [(30, True), (20, False)])
@pytest.mark.parametrize("expandable", [True], indirect=True)
def test_a_growth_that_failed_is_taken_back_but_not_below_what_the_volume_has(
    world: World, back: int, taken: bool
) -> None:
    world.resizes = "ControllerResizeError"
    world.api.put(sized(images=4000))
    world.settle(world.process)
    world.api.put(sized(images=back))
    world.settle(world.process)
    stalled = world.condition("Stalled")
    if taken:
        assert requested(world, IMAGES) == "30Gi"
        assert stalled["status"] == "False"
    else:
        assert requested(world, IMAGES) == "4000Gi"
        assert (stalled["status"], stalled["reason"]) == ("True", "StorageShrunk")
        assert "more than 20Gi" in stalled["message"]


@pytest.mark.parametrize("expandable", [False], indirect=True)
def test_a_growth_that_was_never_asked_of_the_cluster_is_put_back_to_what_it_was(world: World) -> None:
    world.api.put(sized(images=40))
    world.settle(world.process)
    assert fits(world)[0] == "False"
    world.api.put(sized())
    world.settle(world.process)
    assert fits(world) == ("True", "AsRequested")
    assert world.condition("Stalled")["status"] == "False"


def test_a_claim_without_volume_waits_and_breaks_nothing() -> None:
    """The API server lets nobody resize a claim that is not bound."""
    world = World()
    world.resizes = "unbound"
    world.api.edit(HOSTPATH, "kubectl", lambda live: live.update(allowVolumeExpansion=True))
    world.api.put(sized())
    world.process = world.operator()
    world.settle(world.process)
    assert fits(world) == ("Unknown", "ClaimNotBound")
    world.api.put(sized(images=40))
    world.settle(world.process)
    assert (requested(world, IMAGES), fits(world)) == ("20Gi", ("Unknown", "ClaimNotBound"))
    world.resizes = "works"
    world.controllers()
    world.settle(world.process)
    assert (requested(world, IMAGES), fits(world)) == ("40Gi", ("True", "AsRequested"))


@pytest.mark.parametrize("expands", [True, False])
def test_a_database_that_cannot_grow_is_not_told_that_it_did(expands: bool) -> None:
    """The room for its log follows the volume that it has."""
    world = World()
    world.api.edit(HOSTPATH, "kubectl", lambda live: live.update(allowVolumeExpansion=expands))
    world.api.put(sized(database=1))
    world.settle()
    world.api.put(sized(database=3))
    world.settle()
    settings = world.api.objects["ConfigMap", "radiology-data", "postgres"]["data"]["postgresql.conf"]
    assert ("max_wal_size = '768MB'" in settings) is expands
    assert ("max_wal_size = '256MB'" in settings) is not expands


def test_a_volume_that_fills_up_is_told_from_80_percent_on_and_quietly() -> None:
    world = World()
    world.api.put(sized())
    world.process = world.operator()
    world.settle(world.process)
    found = []
    for used in (None, 79, 80, 81, 84, 79, 78, 77, 79, 96, 100):
        world.agents.images_used_percent = used
        world.advance(60)
        world.process.reconcile(ARCHIVE)
        found.append((used, fits(world)[1], "95 %" in world.condition("VolumesFit")["message"]))
    assert [used for used, reason, _ in found if reason == "NearlyFull"] == [80, 81, 84, 79, 78, 96, 100]
    assert [used for used, _, far in found if far] == [96]
    assert "refuses images, and deletes none" in world.condition("VolumesFit")["message"]
    assert world.condition("Ready")["status"] == "True"
    told = [item for (kind, _, _), item in world.api.objects.items() if kind == "Event"]
    assert [item["reason"] for item in told].count("VolumesFitNearlyFull") == 2


@pytest.mark.parametrize("silent", [True, False])
def test_a_full_volume_of_which_nothing_is_heard_is_not_told_to_be_well(silent: bool) -> None:
    world = World()
    world.api.put(sized())
    world.process = world.operator()
    world.settle(world.process)
    world.agents.images_used_percent = 98
    world.advance(60)
    world.process.reconcile(ARCHIVE)
    told = world.condition("VolumesFit")
    assert told["reason"] == "NearlyFull"
    world.agents.silent = silent
    world.agents.images_used_percent = 10
    world.process = world.operator()
    world.advance(60)
    world.process.reconcile(ARCHIVE)
    assert (world.condition("VolumesFit") == told) is silent
    assert fits(world) == (("False", "NearlyFull") if silent else ("True", "AsRequested"))
