"""The disruption seam, drift, and what a changed spec takes away."""

import copy
from typing import Any

import pytest

from pacs_operator.kube.port import Manifest
from tests.engine.simapi import Key
from tests.engine.world import ARCHIVE, World, archive_manifest, catalog_manifest

GATE: Key = ("Deployment", "radiology-edge", "gate")
ORTHANC: Key = ("StatefulSet", "radiology-archive", "orthanc")


def pod_spec(live: Manifest) -> dict[str, Any]:
    return live["spec"]["template"]["spec"]


def edit_and_settle(world: World, key: Key, change, manager: str = "kubectl-edit") -> list[str]:
    before = len(world.log.entries)
    world.api.edit(key, manager, change)
    world.process.reconcile(ARCHIVE)
    return world.log.entries[before:]


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (GATE, lambda live: pod_spec(live).update(hostNetwork=True)),
        (GATE, lambda live: pod_spec(live)["containers"].append({"name": "extra", "image": "x@sha256:0"})),
        (ORTHANC, lambda live: pod_spec(live)["containers"][0].update(image="evil:latest")),
        (ORTHANC, lambda live: pod_spec(live)["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False)),
        (ORTHANC, lambda live: pod_spec(live).update(serviceAccountName="default")),
        (GATE, lambda live: live["spec"]["template"]["metadata"]["labels"].update({"pacs-operator.io/component": "x"})),
    ],
)
def test_drift_that_weakens_security_is_put_back_at_once(world: World, key: Key, change):
    good = copy.deepcopy(world.api.objects[key]["spec"])
    edit_and_settle(world, key, change)
    assert world.api.objects[key]["spec"] == good
    events = [item for (kind, _, _), item in world.api.objects.items() if kind == "Event"]
    repaired = [event for event in events if event["reason"] == "DriftRepaired"]
    assert repaired
    assert "kubectl-edit" in repaired[0]["message"]


@pytest.mark.parametrize(
    "change",
    [
        lambda live: pod_spec(live).update(nodeSelector={"disk": "fast"}),
        lambda live: pod_spec(live)["containers"][0].update(resources={"limits": {"memory": "1Gi"}}),
    ],
)
def test_other_drift_of_a_template_waits_and_says_who(world: World, change):
    before = copy.deepcopy(world.api.objects[ORTHANC]["spec"])
    writes = edit_and_settle(world, ORTHANC, change)
    assert not [entry for entry in writes if "StatefulSet" in entry]
    assert world.api.objects[ORTHANC]["spec"] != before
    (waiting,) = world.archive["status"]["waiting"]
    assert waiting.startswith("StatefulSet radiology-archive/orthanc: Drift by kubectl-edit: spec.template.spec.")
    world.settle(world.process)
    condition = world.condition("Reconciling")
    assert (condition["status"], condition["reason"]) == ("False", "Waiting")
    assert "nodeSelector" in condition["message"] or "resources" in condition["message"]
    assert world.condition("Ready")["status"] == "True"


def test_replicas_are_repaired_even_while_the_template_waits(world: World):
    def change(live: Manifest) -> None:
        live["spec"]["replicas"] = 0
        pod_spec(live).update(nodeSelector={"disk": "fast"})

    edit_and_settle(world, GATE, change)
    assert world.api.objects[GATE]["spec"]["replicas"] == 2
    assert pod_spec(world.api.objects[GATE])["nodeSelector"] == {"disk": "fast"}
    assert world.archive["status"]["waiting"]


def test_a_rollout_restart_by_a_person_is_no_drift(world: World):
    stamp = {"kubectl.kubernetes.io/restartedAt": "2026-11-20T08:00:00Z"}
    writes = edit_and_settle(
        world, GATE, lambda live: live["spec"]["template"]["metadata"].setdefault("annotations", {}).update(stamp)
    )
    assert not [entry for entry in writes if "Deployment" in entry]
    assert world.archive["status"]["waiting"] == []


class Newer:
    """Tomorrow's renderer: every pod template differs a little."""

    def __init__(self, inner):
        self._inner = inner

    def render_archive(self, desired):
        manifests = self._inner.render_archive(desired)
        for manifest in manifests:
            if manifest["kind"] in ("Deployment", "StatefulSet"):
                manifest["spec"]["template"]["metadata"].setdefault("annotations", {})["new"] = "1"
        return manifests


def test_a_new_operator_that_renders_differently_restarts_nothing(world: World):
    pods = {pod["metadata"]["uid"] for pod in world.pods()}
    world.renderer = Newer(world.renderer)
    jobs = list(world.jobs_run)
    world.settle()
    assert {pod["metadata"]["uid"] for pod in world.pods()} == pods
    assert len(world.archive["status"]["waiting"]) == 3
    assert all("OperatorUpgrade" in waiting for waiting in world.archive["status"]["waiting"])
    assert world.jobs_run == jobs, "what waits cannot be attacked yet"
    world.api.put(archive_manifest(dicom={"aeTitle": "RADIO2"}))  # a person's change takes along what waited
    world.settle()
    assert world.archive["status"]["waiting"] == []
    assert world.api.objects[GATE]["spec"]["template"]["metadata"]["annotations"]["new"] == "1"


def test_a_changed_catalog_is_rolled_out(world: World):
    world.api.put(catalog_manifest("2"))
    world.settle(world.process)
    assert pod_spec(world.api.objects[ORTHANC])["containers"][0]["image"].endswith("2" * 64)
    assert len(world.jobs_run) == 2, "a changed release is attacked"


def test_a_release_that_nobody_attacked_is_attacked_even_while_an_upgrade_waits(world: World):
    jobs = len(world.jobs_run)
    world.api.put(catalog_manifest("2"))
    world.process.reconcile(ARCHIVE)  # has the images pulled
    world.controllers()
    world.process.reconcile(ARCHIVE)  # rolls the release out, and is replaced before it can attack it
    world.renderer = Newer(world.renderer)
    first = world.operator()
    first.reconcile(ARCHIVE)
    assert world.condition("ConformancePassed")["status"] == "Unknown"
    assert world.condition("Ready")["status"] == "False"
    world.settle(first)
    assert all("OperatorUpgrade" in waiting for waiting in world.archive["status"]["waiting"])
    assert len(world.jobs_run) == jobs + 1
    assert world.condition("Ready")["status"] == "True"


def test_a_rule_added_to_a_policy_and_a_file_added_to_a_config_are_taken_out(world: World):
    policy, config = ("NetworkPolicy", "radiology-edge", "gate-ingress"), ("ConfigMap", "radiology-archive", "orthanc")
    good = copy.deepcopy(
        [world.api.objects[key].get("spec") or world.api.objects[key]["data"] for key in (policy, config)]
    )
    world.api.edit(policy, "kubectl-edit", lambda live: live["spec"]["ingress"].append({}))
    world.api.edit(config, "kubectl-edit", lambda live: live["data"].update({"evil.json": "{}"}))
    world.process.reconcile(ARCHIVE)
    assert [world.api.objects[policy]["spec"], world.api.objects[config]["data"]] == good


def test_a_foreign_policy_in_a_zone_is_told_and_not_touched(world: World):
    foreign = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "allow-all", "namespace": "radiology-data"},
        "spec": {"podSelector": {}, "ingress": [{}]},
    }
    world.api.put(foreign)
    world.process.reconcile(ARCHIVE)
    condition = world.condition("NetworkIsolated")
    assert (condition["status"], condition["reason"]) == ("False", "ForeignPolicy")
    assert "radiology-data/allow-all" in condition["message"]
    assert ("NetworkPolicy", "radiology-data", "allow-all") in world.api.objects


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "NetworkPolicy", "Service", "Deployment", "StatefulSet", "ServiceAccount"]
)
def test_every_deleted_child_comes_back(world: World, kind: str):
    gone = [key for key in world.api.objects if key[0] == kind and key[1].startswith("radiology-")]
    assert gone
    for key in gone:
        world.api.remove(key)
    world.process.reconcile(ARCHIVE)
    assert set(gone) <= world.api.objects.keys()


def test_a_stripped_label_is_put_back_and_is_no_creation(world: World):
    world.api.edit(ORTHANC, "kubectl-edit", lambda live: live["metadata"].update(labels={}))
    world.process.reconcile(ARCHIVE)
    assert world.api.objects[ORTHANC]["metadata"]["labels"]["pacs-operator.io/archive"] == ARCHIVE


def test_what_a_changed_spec_takes_away_goes(world: World):
    service = ("Service", "radiology-edge", "gate")
    assert world.api.objects[service]["spec"]["ports"][0]["nodePort"] == 30762
    world.api.put(archive_manifest() | {"spec": {"gate": {"service": {"type": "NodePort", "nodePort": None}}}})
    world.settle(world.process)
    assert "nodePort" not in world.api.objects[service]["spec"]["ports"][0]


def test_prune_takes_only_our_own_from_our_own_zones(world: World):
    ours = {"pacs-operator.io/archive": ARCHIVE, "app.kubernetes.io/managed-by": "pacs-operator"}
    for name, space, labels in (
        ("old", "radiology-edge", ours),
        ("old", "imaging", ours),
        ("theirs", "radiology-edge", {}),
    ):
        world.api.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": space, "labels": labels},
                "data": {"a": "b"},
            }
        )
    claim = {"metadata": {"name": "spare", "namespace": "radiology-archive", "labels": ours}, "spec": {}}
    world.api.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    world.process.reconcile(ARCHIVE)
    assert ("ConfigMap", "radiology-edge", "old") not in world.api.objects
    assert ("ConfigMap", "imaging", "old") in world.api.objects
    assert ("ConfigMap", "radiology-edge", "theirs") in world.api.objects
    assert ("PersistentVolumeClaim", "radiology-archive", "spare") in world.api.objects


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"storage": {"sizeGi": 19, "storageClassName": "hostpath"}}, "StorageShrunk", ["spec.storage.sizeGi", "20Gi"]),
        (
            {"database": {"mode": "Managed", "sizeGi": 4, "storageClassName": "hostpath"}},
            "StorageShrunk",
            ["spec.database.sizeGi", "5Gi"],
        ),
        ({"storage": {"sizeGi": 20, "storageClassName": "none"}}, "UnknownStorageClass", ["'none'"]),
        ({"release": {"catalog": "stable", "version": "1999.1.0"}}, "UnknownRelease", ["'1999.1.0'", "2026.11.0"]),
        ({"release": {"catalog": "missing", "version": "1"}}, "UnknownCatalog", ["'missing'"]),
        ({"dicom": {"aeTitle": "SEVENTEEN-BYTES-X"}}, "InvalidAETitle", ["17 bytes"]),
        ({"conformance": {"schedule": "whenever"}}, "InvalidSpec", ["spec.conformance.schedule", "'whenever'"]),
        ({"conformance": {"timeZone": "Mars/Olympus"}}, "InvalidSpec", ["'Mars/Olympus'"]),
        ({"colour": "blue"}, "UnknownField", ["spec.colour"]),
        ({"gate": {"service": {"type": "Magic"}}}, "InvalidSpec", ["spec.gate.service.type", "'Magic'"]),
    ],
)
def test_a_bad_edit_is_refused_and_harms_nothing_that_runs(world: World, spec: dict, reason: str, words: list[str]):
    ours = ("PacsArchive", "Event")
    before = {key: copy.deepcopy(item) for key, item in world.api.objects.items() if key[0] not in ours}
    world.api.put(archive_manifest(**spec))
    world.settle(world.process)
    condition = world.condition("Stalled")
    assert (condition["status"], condition["reason"]) == ("True", reason)
    for word in words:
        assert word in condition["message"]
    assert world.condition("Ready")["reason"] == reason
    after = {key: item for key, item in world.api.objects.items() if key[0] not in ours}
    assert after == before


ELSEWHERE = {
    "address": "https://vault.elsewhere.example:8200",
    "caPem": "-----BEGIN CERTIFICATE-----\n",
    "authPath": "pacs-kubernetes",
    "audience": "vault",
    "cidrs": ["192.0.2.10/32"],
}


def test_a_vault_that_nobody_allowed_is_refused():
    """The operator would hand its own token to whoever listens there."""
    world = World()
    world.api.put(archive_manifest(vault=ELSEWHERE))
    world.settle(world.operator())
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "VaultNotAllowed")
    assert "https://vault.elsewhere.example:8200" in stalled["message"]


IMAGES = ("PersistentVolumeClaim", "radiology-archive", "images")


@pytest.mark.parametrize("gone", [True, False])
def test_an_empty_volume_does_not_take_the_place_of_a_lost_one(world: World, gone: bool):
    claim = world.api.objects[IMAGES]
    if gone:
        world.api.remove(IMAGES)
    else:
        claim["metadata"]["deletionTimestamp"] = "2026-11-01T00:00:00Z"
    world.settle(world.process)
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "VolumeGone")
    assert "radiology-archive/images" in stalled["message"]
    assert (IMAGES in world.api.objects) is not gone
    # Who gives the data up says so by deleting their user too.
    world.api.objects.pop(IMAGES, None)
    world.api.remove(("StatefulSet", "radiology-archive", "orthanc"))
    world.settle(world.process)
    assert IMAGES in world.api.objects
    assert world.condition("Stalled")["status"] == "False"


def test_suspended_writes_nothing_but_the_status(world: World):
    world.api.put(archive_manifest(suspend=True))
    world.api.remove(GATE)
    before = len(world.log.entries)
    world.settle(world.process)
    assert world.log.entries[before:] == ["status PacsArchive /radiology"]
    assert world.condition("Ready")["reason"] == "Suspended"
    world.api.put(archive_manifest(suspend=False))
    world.settle(world.process)
    assert GATE in world.api.objects
