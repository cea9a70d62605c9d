"""Zones and lineage: only what is ours is taken over, and the identity of the data is never lost."""

import pytest

from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest

LINEAGE = "pacs-operator.io/lineage"


def namespace(name: str, **labels: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {key.replace("_", "-"): value for key, value in labels.items()}},
    }


def stalled(world: World) -> dict:
    world.settle()
    condition = world.condition("Stalled")
    assert condition["status"] == "True", list(world.reasons())
    assert world.condition("Ready")["status"] == "False"
    return condition


def test_a_namespace_that_exists_and_is_not_ours_is_refused():
    world = World()
    world.api.put(namespace("radiology-data"))
    world.api.put(archive_manifest())
    condition = stalled(world)
    assert condition["reason"] == "ForeignNamespace"
    assert "radiology-data" in condition["message"]
    assert "pacs-operator.io/consent=radiology" in condition["message"]
    assert world.drawn == []
    assert not [entry for entry in world.log.entries if "Namespace" in entry]


@pytest.mark.parametrize(("consent", "accepted"), [("radiology", True), ("cardiology", False)])
def test_a_namespace_made_for_us_beforehand_is_taken(consent: str, accepted: bool):
    world = World()
    made = namespace("radiology-data")
    made["metadata"]["labels"]["pacs-operator.io/consent"] = consent
    world.api.put(made)
    world.api.put(archive_manifest())
    world.settle()
    assert (world.condition("Ready")["status"] == "True") is accepted


@pytest.mark.parametrize(("enforced", "accepted"), [("restricted", True), ("privileged", False), ("baseline", False)])
def test_a_namespace_that_was_made_for_weaker_pods_is_not_taken(enforced: str, accepted: bool):
    world = World()
    made = namespace("radiology-data")
    made["metadata"]["labels"]["pacs-operator.io/consent"] = "radiology"
    made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = enforced
    world.api.put(made)
    world.api.put(archive_manifest())
    if accepted:
        world.settle()
        assert world.condition("Ready")["status"] == "True"
        return
    condition = stalled(world)
    assert condition["reason"] == "PodSecurityDiffers"
    assert f"radiology-data is labelled pod-security.kubernetes.io/enforce={enforced}" in condition["message"]
    assert world.drawn == []


@pytest.mark.parametrize("inhabited", [True, False])
def test_a_namespace_in_which_somebody_runs_is_not_taken(inhabited: bool):
    """That pod could ask Vault for what a zone's pods may have."""
    world = World()
    made = namespace("radiology-archive")
    made["metadata"]["labels"]["pacs-operator.io/consent"] = "radiology"
    world.api.put(made)
    space = "radiology-archive" if inhabited else "elsewhere"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "miner", "namespace": space, "labels": {}},
        "spec": {},
    }
    world.api.put({**pod, "status": {"phase": "Running"}})
    world.api.put(archive_manifest())
    if not inhabited:
        world.settle()
        assert world.condition("Ready")["status"] == "True"
        return
    condition = stalled(world)
    assert condition["reason"] == "NamespaceInUse"
    assert "radiology-archive holds 1 pods" in condition["message"]
    assert "miner" in condition["message"]
    assert not [entry for entry in world.log.entries if "Namespace" in entry]


def test_deleted_and_applied_again_as_new_is_refused_with_the_lineage_to_adopt():
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    world.api.remove(ARCHIVE_KEY)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    world.api.put(archive_manifest())
    condition = stalled(world)
    assert condition["reason"] == "LineageMismatch"
    assert f"lineageID: {world.drawn[0]}" in condition["message"]
    assert len(world.drawn) == 1


def test_adopt_takes_over_namespaces_volumes_and_authorities():
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    volumes = {key: item["metadata"]["uid"] for key, item in world.api.objects.items() if "Volume" in key[0]}
    assert len(volumes) == 2
    world.api.remove(ARCHIVE_KEY)
    world.settle()
    world.api.put(archive_manifest(bootstrap={"mode": "Adopt", "lineageID": world.drawn[0]}))
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert {key: world.api.objects[key]["metadata"]["uid"] for key in volumes} == volumes
    assert world.archive["status"]["lineageID"] == world.drawn[0]
    assert len(world.vault.roots_made) == 3


def test_adopt_of_a_lineage_that_is_not_there_is_refused():
    world = World()
    world.api.put(archive_manifest(bootstrap={"mode": "Adopt", "lineageID": "f" * 32}))
    assert stalled(world)["reason"] == "NothingToAdopt"


@pytest.mark.parametrize("what", ["annotations", "everything"])
def test_a_lost_annotation_or_status_does_not_lose_the_lineage(what: str):
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    world.api.edit(ARCHIVE_KEY, "kubectl-replace", lambda live: live["metadata"].update(annotations={}))
    if what == "everything":
        world.api.set_status(ARCHIVE_KEY, {})
    world.settle()
    assert world.archive["metadata"]["annotations"][LINEAGE] == world.drawn[0]
    assert len(world.drawn) == 1
    assert world.condition("Ready")["status"] == "True"


def test_an_annotation_edited_by_hand_is_not_believed():
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    world.api.edit(
        ARCHIVE_KEY, "kubectl-edit", lambda live: live["metadata"]["annotations"].update({LINEAGE: "e" * 32})
    )
    before = len(world.vault.paths)
    assert stalled(world)["reason"] == "LineageMismatch"
    assert len(world.vault.paths) == before


def test_a_zone_that_is_being_deleted_is_waited_for():
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    key = ("Namespace", "", "radiology-edge")
    world.api.edit(key, "kubectl", lambda live: live["metadata"].update(finalizers=["kubernetes"]))
    world.api.remove(key)
    with pytest.raises(Exception, match="is being deleted"):
        world.operator().reconcile(ARCHIVE)
    assert world.condition("Reconciling")["reason"] == "NamespaceTerminating"
