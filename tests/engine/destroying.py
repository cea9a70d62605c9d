"""A world whose archive is deleted for ever: helpers of the tests of destruction."""

import json
from typing import Any

from pacs_operator.kube.port import Manifest
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest, peer_manifest

DELETE = {"deletionPolicy": "Delete", "deletion": {"confirmName": ARCHIVE}}
ORTHANC = ("StatefulSet", "radiology-archive", "orthanc")
IMAGES = ("PersistentVolumeClaim", "radiology-archive", "images")
ZONES = {f"radiology-{zone}" for zone in ("edge", "archive", "data", "ops")}
HOUR = 3600


def deleted(**spec: Any) -> World:
    """Return a world whose archive ran, was set to Delete and deleted."""
    world = World()
    world.api.put(archive_manifest(**{**DELETE, **spec}))
    world.api.put(peer_manifest("ct1"))
    world.settle()
    world.api.remove(ARCHIVE_KEY)
    world.settle()
    return world


def approve(world: World, approver: str, act: str = "Delete", **changed: Any) -> None:
    manifest: Manifest = {
        "apiVersion": "pacs-operator.io/v1alpha1",
        "kind": "PacsApproval",
        "metadata": {"name": f"{act.lower()}-{approver}", "namespace": "radiology-ops"},
        "spec": {
            "archiveRef": {"name": ARCHIVE},
            "archiveUID": world.archive["metadata"]["uid"],
            "lineageID": world.drawn[0],
            "act": act,
            "approver": approver,
            "expiresAt": world.now.replace(day=world.now.day + 6).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": "end of the contract",
            **changed,
        },
    }
    world.api.put(manifest, manager=approver)


def approved(**spec: Any) -> World:
    world = deleted(**spec)
    for person in ("anna", "ben"):
        approve(world, person)
    world.settle()
    return world


def blocked(world: World) -> str:
    condition = world.condition("DeletionBlocked")
    return f"{condition['status']}/{condition['reason']}"


def change(world: World, **spec: Any) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl-edit", lambda live: live["spec"].update(spec))


def record(world: World) -> dict[str, Any]:
    (found,) = [
        item
        for (kind, _, name), item in world.api.objects.items()
        if kind == "ConfigMap" and name.startswith("destruction-")
    ]
    return {part: json.loads(text) for part, text in found["data"].items()}


def decided(world: World) -> bool:
    return any(
        kind == "ConfigMap" and name.startswith("destruction-") and "decision.json" in item["data"]
        for (kind, _, name), item in world.api.objects.items()
    )


def zones(world: World) -> set[str]:
    return {name for kind, _, name in world.api.objects if kind == "Namespace"} & ZONES


def everything_stands(world: World) -> bool:
    return ORTHANC in world.api.objects and IMAGES in world.api.objects and zones(world) == ZONES


def events(world: World) -> set[str]:
    return {item["reason"] for (kind, _, _), item in world.api.objects.items() if kind == "Event"}


def finish(world: World) -> None:
    """Let a day and a bit pass, in whichever process."""
    world.settle()
    if ARCHIVE_KEY in world.api.objects:
        world.advance(25 * HOUR)
        world.settle()
