"""Pulling new images before what runs makes room for them.

Orthanc and PostgreSQL have one replica each, replaced in place: an image that the registry does not have would stop
them and start nothing. So a Job pulls what is new first. It is named after the images, told from what stands in the
cluster alone, and gone when nothing is new any more.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.kube.inventory import JOB, POLICY, kind_of
from pacs_operator.kube.jobs import ended_at
from pacs_operator.kube.port import Manifest, key_of, labels_of, metadata
from pacs_operator.reconcile.context import Pass
from pacs_operator.render import pullcheck as rendered

#: Why a container waits, where waiting alone does not help; as the kubelet spells it.
_NOT_PULLED = {
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
# The kubelet changes between these two for as long as the image is missing; a status must not.
_SAME = {"ImagePullBackOff": "ErrImagePull"}
_WORD = re.compile(r"[A-Za-z]{1,64}")
_PAUSE = timedelta(seconds=60)
_ACTION = "push the image, or go back to the release that runs; looked at again every minute"


class ImageNotPulledError(InvalidSpecError):
    """A release names an image that cannot be had; what runs is left alone."""

    reason = "ImageNotPulled"


def step(run: Pass, images: Mapping[str, str]) -> str | None:
    """Have images pulled and started once.

    Parameters
    ----------
    run
        The pass; its Jobs and pods are looked at.
    images
        What the change at hand would bring to workloads that run, by name in the release; empty when nothing is new.

    Returns
    -------
    str or None
        What is waited for; None when the change may go on.

    Raises
    ------
    ImageNotPulledError
        An image cannot be pulled, or does not start.
    """
    jobs = [item for item in run.owned.values() if kind_of(item) is JOB and _is_check(item)]
    if not images or run.desired is None:
        _delete(run, jobs)
        return None
    if any(ended_at(job, "Complete") and set(images.values()) <= set(_images(job)) for job in jobs):
        return None
    name = rendered.name(images)
    job = next((job for job in jobs if metadata(job)["name"] == name), None)
    _delete(run, [other for other in jobs if other is not job])
    if job is None and not _start(run, images):
        return _pending(images)
    if job is not None and not metadata(job).get("deletionTimestamp"):
        _judge(run, job, images)
    _remember(run, images)
    return _pending(images)


def waiting(pods: Iterable[Manifest]) -> Iterator[tuple[str, str, str]]:
    """Yield container, image and the kubelet's word for each container that waits in vain for its image."""
    for pod in pods:
        for status in _containers(pod):
            word = ((status.get("state") or {}).get("waiting") or {}).get("reason")
            if word in _NOT_PULLED:
                yield str(status.get("name")), str(status.get("image")), _SAME.get(word, word)


def of_workload(run: Pass, workload: Manifest) -> str | None:
    """Return what a workload's pods wait for in vain, None when nothing."""
    labels = workload["spec"]["selector"]["matchLabels"].items()
    pods = [
        pod
        for pod in run.pods
        if metadata(pod)["namespace"] == metadata(workload)["namespace"] and labels <= labels_of(pod).items()
    ]
    found = sorted({f"{image} ({word})" for _, image, word in waiting(pods)})
    return f"waits for an image that cannot be had: {', '.join(found)}" if found else None


def _judge(run: Pass, job: Manifest, images: Mapping[str, str]) -> None:
    """Refuse when the Job failed or cannot get on; a failed one makes room for the next try."""
    pods = [pod for pod in run.pods if _pod_of(pod, job)]
    failed = ended_at(job, "Failed")
    why = next(waiting(pods), None) or (next(_ended_badly(pods), None) if failed else None)
    if failed and run.now - failed >= _PAUSE:
        _delete(run, [job])
    if why is not None:
        raise _refusal(run, f"image {why[0]} ({images.get(why[0], why[1])}) does not start ({why[2]})")
    if failed:
        _remember(run, images)  # its pod is gone; what it told before says more than this
        names = ", ".join(f"{name} ({image})" for name, image in sorted(images.items()))
        raise _refusal(run, f"not pulled and started within {rendered.ACTIVE_SECONDS} s: {names}")


def _refusal(run: Pass, what: str) -> ImageNotPulledError:
    version = run.release.version if run.release else ""
    return ImageNotPulledError(f"spec.release.version: {version!r}: {what}", action=_ACTION)


def _remember(run: Pass, images: Mapping[str, str]) -> None:
    """Refuse as before while the same images are tried again: a status that comes and goes is no help."""
    before = next((known for known in run.observed.conditions if known.type is ConditionType.STALLED), None)
    if before is None or before.status != "True" or before.reason != ImageNotPulledError.reason:
        return
    if any(image in before.message for image in images.values()):
        raise ImageNotPulledError(before.message.removesuffix(f" ({_ACTION})"), action=_ACTION)


def _pending(images: Mapping[str, str]) -> str:
    return f"New images are pulled before anything makes room for them: {', '.join(sorted(images))}"


def _start(run: Pass, images: Mapping[str, str]) -> bool:
    """Create the Job, inside its fence only; return whether that stands."""
    namespace = namespace_of(run.name, Zone.OPS)
    if run.desired is None or (POLICY.kind, namespace, "default-deny") not in run.owned:
        return False
    job = rendered.render(run.desired, images)
    if written := run.memory.applier.write(job, None):
        run.owned[key_of(job)] = written.manifest
    return True


def _delete(run: Pass, jobs: Iterable[Manifest]) -> None:
    for job in jobs:
        if not metadata(job).get("deletionTimestamp"):
            run.ports.kube.delete(job)
        run.owned.pop(key_of(job), None)


def _is_check(job: Manifest) -> bool:
    return str(metadata(job)["name"]).startswith(rendered.PREFIX)


def _pod_of(pod: Manifest, job: Manifest) -> bool:
    same_place = metadata(pod).get("namespace") == metadata(job).get("namespace")
    return same_place and labels_of(pod).get("batch.kubernetes.io/job-name") == metadata(job)["name"]


def _images(job: Manifest) -> list[str]:
    return [str(container.get("image")) for container in job["spec"]["template"]["spec"]["containers"]]


def _ended_badly(pods: Iterable[Manifest]) -> Iterator[tuple[str, str, str]]:
    for pod in pods:
        for status in _containers(pod):
            ended = (status.get("state") or {}).get("terminated") or {}
            if ended.get("exitCode"):
                word = str(ended.get("reason"))
                yield str(status.get("name")), str(status.get("image")), word if _WORD.fullmatch(word) else "Error"


def _containers(pod: Manifest) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
