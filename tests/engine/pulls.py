"""What the cluster does with a Job that pulls images: the kubelet tries, the Job ends or its time is over."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pacs_operator.kube.port import Manifest
from tests.engine.simapi import Key

if TYPE_CHECKING:
    from tests.engine.world import World


def run_check(world: "World", key: Key, job: Manifest) -> None:
    """Let one Job get on as far as the registry allows."""
    if (job.get("status") or {}).get("conditions"):
        return
    template = job["spec"]["template"]
    pod: Key = ("Pod", key[1], f"{key[2]}-x")
    world._pod(pod[2], key, template, {"phase": "Pending"})
    missing = [image for image in _images(template) if image in world.missing_images]
    began = datetime.fromisoformat(job["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    if missing and (world.now - began).total_seconds() >= job["spec"]["activeDeadlineSeconds"]:
        world.api.remove(pod)
        _end(world, key, "Failed")
    elif missing:
        waiting = {"phase": "Pending", "containerStatuses": [_status(c, world) for c in template["spec"]["containers"]]}
        world.api.set_status(pod, waiting)
    else:
        world.api.set_status(pod, {"phase": "Succeeded"})
        _end(world, key, "Complete")


def _images(template: Manifest) -> list[str]:
    return [container["image"] for container in template["spec"]["containers"]]


def _status(container: dict[str, Any], world: "World") -> dict[str, Any]:
    missing = container["image"] in world.missing_images
    # The text may hold anything that a registry says.
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found: secret-token"}}
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    return {"name": container["name"], "image": container["image"], "state": waiting if missing else ended}


def _end(world: "World", key: Key, how: str) -> None:
    condition = {"type": how, "status": "True", "lastTransitionTime": world.api.now}
    world.api.set_status(key, {"conditions": [condition]})
