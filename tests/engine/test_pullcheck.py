"""An image that the registry does not have stops nothing that runs; pushed later, the change goes on."""

import copy
from typing import Any

import pytest

from pacs_operator.kube.port import Manifest
from tests.engine.simapi import Key, Killed
from tests.engine.test_workloads import GATE, ORTHANC, Newer, pod_spec
from tests.engine.world import ARCHIVE, World, archive_manifest, catalog_manifest

POSTGRES: Key = ("StatefulSet", "radiology-data", "postgres")
WORKLOADS = (GATE, ORTHANC, POSTGRES)
NEW = {name: f"localhost:5000/pacs-operator/{name}@sha256:{'2' * 64}" for name in ("archive", "database", "gate")}


def change_release(world: World) -> None:
    """Let the catalog's version keep its name and change its digests, as whoever pushed a rebuilt release does."""
    world.api.put(catalog_manifest("2"))


def checks(world: World) -> list[Manifest]:
    return [item for (kind, _, name), item in world.api.objects.items() if kind == "Job" and name.startswith("pull")]


def specs(world: World) -> list[Any]:
    return [copy.deepcopy(world.api.objects[key]["spec"]) for key in WORKLOADS]


def stalled(world: World) -> tuple[str, str]:
    condition = world.condition("Stalled")
    return condition["status"], condition["reason"]


def test_new_images_are_pulled_before_any_template_takes_them(world: World):
    before = specs(world)
    change_release(world)
    world.process.reconcile(ARCHIVE)
    assert specs(world) == before
    (job,) = checks(world)
    assert len(job["spec"]["template"]["spec"]["containers"]) == 4
    condition = world.condition("Reconciling")
    assert condition["status"] == "True"
    assert condition["message"].startswith("New images are pulled before anything makes room for them: archive, ")
    assert world.condition("Ready")["status"] == "False"
    world.controllers()
    world.process.reconcile(ARCHIVE)
    assert all(new != old for new, old in zip(specs(world), before, strict=True))
    world.settle(world.process)
    assert checks(world) == []
    assert len([entry for entry in world.log.entries if entry.startswith("delete Job radiology-ops/pull")]) == 1
    assert world.condition("Ready")["status"] == "True"


def test_an_unknown_digest_stops_nothing_and_is_named(world: World):
    before = specs(world)
    world.missing_images = {NEW["database"]}
    change_release(world)
    world.settle(world.process)
    assert specs(world) == before
    assert stalled(world) == ("True", "ImageNotPulled")
    message = world.condition("Stalled")["message"]
    assert f"image database ({NEW['database']}) does not start (ErrImagePull)" in message
    assert "push the image, or go back to the release that runs" in message
    assert "secret" not in message
    writes = len(world.log.entries)
    world.process.reconcile(ARCHIVE)
    assert world.log.entries[writes:] == [], "quiet while nothing changes"


def test_configuration_of_pods_to_come_waits_with_them(world: World):
    """A pod that restarts by itself while a release is refused finds what it was started with."""
    config: Key = ("ConfigMap", "radiology-archive", "orthanc")
    before = copy.deepcopy(world.api.objects[config]["data"])
    world.missing_images = {NEW["database"]}
    change_release(world)
    world.api.put(archive_manifest(dicom={"aeTitle": "RADIO2"}))
    world.settle(world.process)
    assert stalled(world) == ("True", "ImageNotPulled")
    assert world.api.objects[config]["data"] == before
    world.missing_images = set()
    world.settle(world.process)
    assert world.api.objects[config]["data"] != before


def test_pushed_later_is_enough(world: World):
    world.missing_images = {NEW["gate"]}
    change_release(world)
    assert world.settle(world.process).requeue_after == 60
    world.missing_images = set()
    world.controllers()
    world.settle(world.process)
    assert pod_spec(world.api.objects[GATE])["containers"][0]["image"] == NEW["gate"]
    assert stalled(world) == ("False", "NotStalled")
    assert world.condition("Ready")["status"] == "True"


def test_a_try_whose_time_is_over_is_followed_by_another_and_the_status_stays(world: World):
    world.missing_images = {NEW["gate"]}
    change_release(world)
    world.settle(world.process)
    said = world.condition("Stalled")
    (first,) = checks(world)
    uids = {first["metadata"]["uid"]}
    for _ in range(30):
        world.advance(15)
        world.controllers()
        world.process.reconcile(ARCHIVE)
        assert world.condition("Stalled") == said
        uids |= {job["metadata"]["uid"] for job in checks(world)}
    assert len(uids) == 2, "one Job after the other, not one a minute"
    world.missing_images = set()
    world.settle(world.operator())
    assert world.condition("Ready")["status"] == "True"


def test_back_to_the_release_that_runs(world: World):
    before, pods = specs(world), {pod["metadata"]["uid"] for pod in world.pods()}
    world.missing_images = set(NEW.values())
    change_release(world)
    world.settle(world.process)
    world.api.put(catalog_manifest("1"))
    world.settle(world.process)
    assert checks(world) == []
    assert specs(world) == before
    assert {pod["metadata"]["uid"] for pod in world.pods()} == pods
    assert world.condition("Ready")["status"] == "True"


def test_another_release_instead_does_not_wait_for_the_first(world: World):
    world.missing_images = set(NEW.values())
    change_release(world)
    world.settle(world.process)
    world.api.put(catalog_manifest("3"))
    world.settle(world.process)
    assert pod_spec(world.api.objects[ORTHANC])["containers"][0]["image"].endswith("3" * 64)
    assert checks(world) == []


def test_a_wrong_image_that_starts_nothing_is_refused_too(world: World):
    change_release(world)
    world.process.reconcile(ARCHIVE)
    (job,) = checks(world)
    key = ("Job", "radiology-ops", job["metadata"]["name"])
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: no such file"}}
    world._pod("pull-x", key, job["spec"]["template"], {"phase": "Failed"})
    status = [{"name": "gate", "image": NEW["gate"], "state": ended}]
    world.api.set_status(("Pod", "radiology-ops", "pull-x"), {"phase": "Failed", "containerStatuses": status})
    failed = {"type": "Failed", "status": "True", "lastTransitionTime": world.api.now}
    world.api.set_status(key, {"conditions": [failed]})
    world.process.reconcile(ARCHIVE)
    assert f"image gate ({NEW['gate']}) does not start (StartError)" in world.condition("Stalled")["message"]


def test_no_time_is_lost_where_no_image_is_new(world: World):
    world.api.put(archive_manifest(dicom={"aeTitle": "RADIO2"}))
    world.process.reconcile(ARCHIVE)
    assert checks(world) == []
    evil = "evil.example/x@sha256:" + "6" * 64
    world.settle(world.process)
    world.api.edit(ORTHANC, "kubectl-edit", lambda live: pod_spec(live)["containers"][0].update(image=evil))
    world.process.reconcile(ARCHIVE)
    assert pod_spec(world.api.objects[ORTHANC])["containers"][0]["image"] != evil, "what ran before is put back at once"
    assert checks(world) == []


def test_what_may_not_be_interrupted_needs_no_pull(world: World):
    world.renderer = Newer(world.renderer)
    world.settle()
    assert checks(world) == []
    assert len(world.archive["status"]["waiting"]) == 3


def test_stripped_marks_do_not_get_around_it(world: World):
    before = [pod_spec(world.api.objects[key]) for key in WORKLOADS]
    for key in WORKLOADS:
        world.api.edit(key, "kubectl-edit", lambda live: live["metadata"].update(annotations={}, labels={}))
    world.missing_images = set(NEW.values())
    change_release(world)
    world.settle(world.process)
    assert [pod_spec(world.api.objects[key]) for key in WORKLOADS] == before
    assert stalled(world) == ("True", "ImageNotPulled")


def test_the_job_is_made_inside_its_fence_only(world: World):
    fence: Key = ("NetworkPolicy", "radiology-ops", "default-deny")
    world.api.remove(fence)
    change_release(world)
    world.process.reconcile(ARCHIVE)
    assert checks(world) == []
    assert fence in world.api.objects
    world.process.reconcile(ARCHIVE)
    assert len(checks(world)) == 1


def test_an_image_that_a_new_archive_waits_for_is_named(world: World):
    pod: Key = ("Pod", "radiology-archive", "orthanc-0")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "secret-token"}}
    image = pod_spec(world.api.objects[ORTHANC])["containers"][0]["image"]
    world.api.set_status(
        pod, {"phase": "Pending", "containerStatuses": [{"name": "orthanc", "image": image, "state": waiting}]}
    )
    live = world.api.objects[ORTHANC]
    world.api.set_status(ORTHANC, {**live["status"], "readyReplicas": 0, "updatedReplicas": 0})
    world.process.reconcile(ARCHIVE)
    wanted = f"StatefulSet radiology-archive/orthanc waits for an image that cannot be had: {image} (ErrImagePull)"
    for kind in ("Ready", "Reconciling"):
        assert world.condition(kind)["message"] == wanted


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("missing", [True, False])
def test_killed_at_every_write_it_ends_in_the_same_place(world: World, when: str, *, missing: bool):
    if missing:
        world.missing_images = {NEW["archive"]}
    change_release(world)
    undisturbed = copy.deepcopy(world)
    before = len(world.log.entries)
    undisturbed.settle(undisturbed.operator())
    points = len(undisturbed.log.entries) - before
    assert points > 1
    for point in range(points):
        killed = copy.deepcopy(world)
        setattr(killed.log.faults, f"kill_{when}", before + point)
        with pytest.raises(Killed):
            killed.settle(killed.operator())
        killed.settle(killed.operator())
        what = undisturbed.log.entries[before + point]
        assert killed.end_state() == undisturbed.end_state(), what
        assert killed.jobs_run == undisturbed.jobs_run, what
