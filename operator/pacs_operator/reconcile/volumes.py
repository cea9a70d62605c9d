"""Volumes: never shrunk, moved or made anew empty; grown where claim and StorageClass can.

A growth that cannot be had holds up nothing else: the claim stays as it is, the rest of the spec is in force, and
VolumesFit says what is in the way.
"""

from dataclasses import dataclass
from typing import Literal

from pacs_operator.domain.archive import Archive, Storage
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import (
    ANNOTATION_DATABASE,
    ANNOTATION_ENCRYPTION,
    REENCRYPTING,
    ZONE_OF,
    Component,
    namespace_of,
)
from pacs_operator.domain.status import VolumeStatus
from pacs_operator.kube.diff import gibibytes, smaller
from pacs_operator.kube.inventory import PVC, STATEFUL_SET, kind_of
from pacs_operator.kube.port import Manifest, annotations_of, key_of, metadata
from pacs_operator.reconcile.context import Pass
from pacs_operator.render.orthanc_workload import IMAGES_CLAIM
from pacs_operator.render.postgres_workload import DATABASE_CLAIM

#: What may follow on how a volume lies: encryption comes once and stays.
_FOLLOWS = {"None": (REENCRYPTING,), REENCRYPTING: ("Transit",)}
#: Of a claim's status: conditions (Kubernetes 1.33) and states of its resizing that only a person ends.
_FAILED_CONDITIONS = ("ControllerResizeError", "NodeResizeError")
_FAILED_STATES = ("ControllerResizeInfeasible", "NodeResizeInfeasible", "ControllerResizeFailed", "NodeResizeFailed")
_PENDING_AT_NODE = ("FileSystemResizePending", "NodeResizePending", "NodeResizeInProgress")

#: Percent used of the images' volume: from here on it is told, and below that no more.
ALARM_AT, QUIET_BELOW = 80, 78
_STEPS = (80, 85, 90, 95, 98)


@dataclass(frozen=True)
class Volume:
    """One volume of the archive: where its claim is, and what the spec wants of it.

    Parameters
    ----------
    field
        Field of the spec that describes it.
    claim
        Name of the claim.
    namespace
        Zone of the claim.
    wanted
        Size and class in the spec.
    """

    field: str
    claim: str
    namespace: str
    wanted: Storage

    @property
    def key(self) -> tuple[str, str, str]:
        """Return the claim's key among the live objects."""
        return PVC.kind, self.namespace, self.claim


def volumes_of(archive: Archive) -> list[Volume]:
    """Return the volumes that a spec asks for."""
    spec = archive.spec

    def volume(field: str, claim: str, component: Component, wanted: Storage) -> Volume:
        return Volume(field, claim, namespace_of(archive.name, ZONE_OF[component]), wanted)

    images = volume("spec.storage", IMAGES_CLAIM, Component.ORTHANC, spec.storage)
    if spec.database.volume is None:
        return [images]
    return [images, volume("spec.database", DATABASE_CLAIM, Component.POSTGRES, spec.database.volume)]


def within_reach(run: Pass, archive: Archive) -> Archive:
    """Return the archive with the sizes that its claims can be given now; what cannot grow keeps the size it has.

    The API server would refuse the larger claim, and with it everything that is applied afterwards.
    """
    held = {volume.field: size for volume in volumes_of(archive) if (size := _held(run, volume))}
    if not held:
        return archive
    update = {
        name: getattr(archive.spec, name).model_copy(update={"size_gi": held[f"spec.{name}"]})
        for name in ("storage", "database")
        if f"spec.{name}" in held
    }
    return archive.model_copy(update={"spec": archive.spec.model_copy(update=update)})


def _held(run: Pass, volume: Volume) -> int | None:
    """Return the size (GiB) at which a claim stays though more is wanted; None where nothing holds it."""
    live = run.owned.get(volume.key)
    if live is None or volume.wanted.size_gi <= (requested := gibibytes(_requested(live))):
        return None
    return None if _bound(live) and _expandable(run, volume) else requested


def _expandable(run: Pass, volume: Volume) -> bool:
    found = run.storage_classes.get(volume.wanted.storage_class_name) or {}
    return found.get("allowVolumeExpansion") is True


def _bound(claim: Manifest) -> bool:
    return (claim.get("status") or {}).get("phase") == "Bound"


def _requested(claim: Manifest) -> str:
    return str(claim["spec"]["resources"]["requests"]["storage"])


def _capacity(claim: Manifest) -> str | None:
    """Return what the volume really has, as far as the cluster says."""
    capacity = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return None if capacity is None else str(capacity)


def check(run: Pass) -> None:
    """Refuse volumes that would shrink, change class or be made anew empty, before anything is written.

    Raises
    ------
    InvalidSpecError
        The live claim is larger, of another class, or no longer there.
    """
    _check_database(run)
    rendered = {key_of(manifest): manifest for manifest in run.manifests if kind_of(manifest) is PVC}
    for volume in volumes_of(run.archive) if run.archive else []:
        manifest = rendered[volume.key]
        live = run.owned.get(volume.key)
        if live is None or metadata(live).get("deletionTimestamp"):
            _check_never_filled(run, manifest, live)
            continue
        _check_size(volume, manifest, live)
        _check_class(volume, live)
        _check_encryption(volume, manifest, live)


def _check_database(run: Pass) -> None:
    """Refuse another index for images that are there: it would not find them."""
    if run.archive is None:
        return
    wanted, live = run.archive.spec.database.mode, _database_of(run)
    if live not in (None, wanted):
        raise InvalidSpecError(
            f"spec.database.mode: {wanted} differs from {live}, where the index of these images is",
            action="put the mode back: the index of an archive stays where it is. For the other mode make a second "
            "archive and store the images there",
            reason="DatabaseModeChanged",
        )


def _database_of(run: Pass) -> str | None:
    """Return where the index of this archive's images is, as its claims say; None while there are none."""
    images = run.owned.get((PVC.kind, namespace_of(run.name, ZONE_OF[Component.ORTHANC]), IMAGES_CLAIM))
    index = run.owned.get((PVC.kind, namespace_of(run.name, ZONE_OF[Component.POSTGRES]), DATABASE_CLAIM))
    if images is not None and ANNOTATION_DATABASE in annotations_of(images):
        return annotations_of(images)[ANNOTATION_DATABASE]
    return None if images is None and index is None else "Managed"


def _check_size(volume: Volume, claim: Manifest, live: Manifest) -> None:
    """Refuse to shrink; a growth that did not come about may be taken back, but not to what the volume has.

    Kubernetes lets a request go down only while it stays above the capacity that the volume has.
    """
    new, old, capacity = _requested(claim), _requested(live), _capacity(live)
    if not smaller(new, old) or (capacity is not None and smaller(capacity, new)):
        return
    least = old if capacity in (None, old) else f"more than {capacity}"
    raise InvalidSpecError(
        f"{volume.field}.sizeGi: {new} is less than the {old} that volume claim {_name(volume)} asks for",
        action=f"a volume cannot shrink: put the size back ({least})",
        reason="StorageShrunk",
    )


def _check_class(volume: Volume, live: Manifest) -> None:
    wanted, have = volume.wanted.storage_class_name, live["spec"].get("storageClassName")
    if wanted != have:
        raise InvalidSpecError(
            f"{volume.field}.storageClassName: {wanted!r} differs from {have!r} of volume claim {_name(volume)}",
            action="a volume keeps its class for life: put the name back",
            reason="StorageClassChanged",
        )


def _check_encryption(volume: Volume, claim: Manifest, live: Manifest) -> None:
    """Refuse to read a volume otherwise than it was written: new images would lie in clear beside encrypted ones."""
    new, old = (annotations_of(one).get(ANNOTATION_ENCRYPTION, "None") for one in (claim, live))
    if new != old and new not in _FOLLOWS.get(old, ()):
        raise InvalidSpecError(
            f"spec.encryption.mode: {new} differs from {old}, in which volume claim {_name(volume)} was written",
            action="an encrypted volume stays encrypted: put the mode back",
            reason="EncryptionChanged",
        )


def _check_never_filled(run: Pass, claim: Manifest, live: Manifest | None) -> None:
    """Refuse to put an empty volume where one with data was: its user is there, and is made after it."""
    namespace, name = metadata(claim)["namespace"], metadata(claim)["name"]
    user = next((key for key in run.owned if key[0] == STATEFUL_SET.kind and key[1] == namespace), None)
    if user is None and live is None:
        return
    raise InvalidSpecError(
        f"volume claim {namespace}/{name} {'is gone' if live is None else 'is being deleted'}, and it held data",
        action="copy the data off while a pod still has the volume; bring the claim back with its volume; "
        "if the data may be lost, delete the StatefulSet too: an empty volume is then made",
        reason="VolumeGone",
    )


def _name(volume: Volume) -> str:
    return f"{volume.namespace}/{volume.claim}"


def report(run: Pass) -> None:
    """Set VolumesFit, and the sizes in the status, from the claims as they stand."""
    if run.archive is None:
        return
    live = [(volume, run.owned[volume.key]) for volume in volumes_of(run.archive) if volume.key in run.owned]
    run.status = run.status.model_copy(update={"volumes": [_status(volume, claim) for volume, claim in live]})
    for look in (_refused, _failed, _full, _growing):
        for volume, claim in live:
            found = look(run, volume, claim)
            if found is not None:
                run.set(ConditionType.VOLUMES_FIT, found.status, found.reason, found.text)
                return
    shown = ", ".join(f"{volume.claim} {_capacity(claim) or _requested(claim)}" for volume, claim in live)
    run.set(ConditionType.VOLUMES_FIT, "True", "AsRequested", f"Volumes have the sizes that the spec asks for: {shown}")


def _status(volume: Volume, claim: Manifest) -> VolumeStatus:
    capacity = _capacity(claim)
    return VolumeStatus(
        name=volume.claim,
        requested_gi=gibibytes(_requested(claim)),
        capacity_gi=None if capacity is None else gibibytes(capacity),
    )


@dataclass(frozen=True)
class _Finding:
    """What VolumesFit says."""

    status: Literal["False", "Unknown"]
    reason: str
    text: str


def _refused(run: Pass, volume: Volume, claim: Manifest) -> _Finding | None:
    """Tell of a growth that is not even asked for, since the API server would refuse it."""
    requested = gibibytes(_requested(claim))
    asked = f"{volume.field}.sizeGi: {volume.wanted.size_gi} is asked for, claim {_name(volume)} has {requested} GiB"
    if volume.wanted.size_gi <= requested or not _bound(claim) or _expandable(run, volume):
        return None
    return _Finding(
        "False",
        reason="ExpansionNotAllowed",
        text=f"{asked}, and StorageClass {volume.wanted.storage_class_name} does not allow expansion; set its "
        f"allowVolumeExpansion to true if its driver can expand volumes, or put the size back to {requested}",
    )


def _failed(run: Pass, volume: Volume, claim: Manifest) -> _Finding | None:
    """Tell of a growth that driver or node gave up; their own words are on the claim."""
    word = next((word for word in (*_FAILED_CONDITIONS, *_FAILED_STATES) if word in _words(claim)), None)
    if word is None:
        return None
    capacity = _capacity(claim)
    return _Finding(
        "False",
        reason="ExpansionFailed",
        text=f"{volume.field}.sizeGi: claim {_name(volume)} asks for {_requested(claim)}, its volume has {capacity}, "
        f"and the cluster reports {word}; what is stored is served. See kubectl -n {volume.namespace} describe pvc "
        f"{volume.claim}; give the storage room, or ask for a smaller size above {capacity}",
    )


def _full(run: Pass, volume: Volume, claim: Manifest) -> _Finding | None:
    """Tell of a volume that will refuse images; in steps, and once told until it is well below, so that it is quiet."""
    heard = [status for component, status in run.memory.agents.values() if component is Component.ORTHANC]
    used = max((status.images_used_percent or 0 for status in heard), default=0)
    before = (one for one in run.observed.conditions if one.type is ConditionType.VOLUMES_FIT)
    known = next((one for one in before if one.reason == "NearlyFull"), None)
    if volume.claim != IMAGES_CLAIM:
        return None
    if known and not heard:  # nobody has seen it emptier
        return _Finding("False", reason="NearlyFull", text=known.message)
    if used < (QUIET_BELOW if known else ALARM_AT):
        return None
    step = max((step for step in _STEPS if step <= used), default=ALARM_AT)
    return _Finding(
        "False",
        reason="NearlyFull",
        text=f"{volume.field}.sizeGi: more than {step} % of the volume of claim {_name(volume)} ({_capacity(claim)}) "
        "is used; a full volume refuses images, and deletes none. Ask for a larger size",
    )


def _growing(run: Pass, volume: Volume, claim: Manifest) -> _Finding | None:
    if not _bound(claim):
        text = f"Claim {_name(volume)} has no volume yet; it grows when it has one"
        return _Finding("Unknown", reason="ClaimNotBound", text=text)
    capacity = _capacity(claim)
    if capacity is None or not smaller(capacity, _requested(claim)):
        return None
    text = f"{volume.field}.sizeGi: volume of claim {_name(volume)} grows from {capacity} to {_requested(claim)}"
    if any(word in _words(claim) for word in _PENDING_AT_NODE):
        text += (
            "; its file system grows while the pod runs. A driver that can do it at a mount alone needs the pod "
            "deleted once, in a quiet hour"
        )
        return _Finding("Unknown", reason="FileSystemResizePending", text=text)
    return _Finding("Unknown", reason="Growing", text=text)


def _words(claim: Manifest) -> set[str]:
    """Return what the cluster says of a claim's resizing: conditions that hold, and the state of the storage."""
    status = claim.get("status") or {}
    holding = {item["type"] for item in status.get("conditions") or [] if item.get("status") == "True"}
    return holding | set((status.get("allocatedResourceStatuses") or {}).values())
