"""A Job that has new images pulled before anything that runs makes room for them.

Its pod starts each image with a command that prints a version and ends: it has no token, no volume, no account that
Vault knows, and no component's label, so that of all policies only default-deny selects it.
"""

from collections.abc import Mapping

from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Component, Zone
from pacs_operator.render import manifests, pods, sizes
from pacs_operator.render.manifests import Manifest

PREFIX = "pullcheck-"
ACTIVE_SECONDS = 300
_GRACE_SECONDS = 1

#: By image of a release: what makes it print its version and end. Where the image has an entry point that is used,
#: since the workload uses it too.
_HARMLESS: dict[str, Manifest] = {
    "archive": {"args": ["--version"]},
    "gate": {"args": ["-v"]},
    "database": {"args": ["--version"]},
    "tools": {"command": ["/opt/pacs/bin/pacs-agent", "--help"]},
}
_SIZES = {"tools": sizes.Size(cpu_milli=10, memory_mi=128)}
_SMALL = sizes.Size(cpu_milli=10, memory_mi=64)


def name(images: Mapping[str, str]) -> str:
    """Return the name of the Job for a set of images: the same for the same set."""
    return PREFIX + manifests.digest(dict(images))


def render(desired: Desired, images: Mapping[str, str]) -> Manifest:
    """Return the Job that pulls images.

    Parameters
    ----------
    desired
        The archive: its scheduling and pull secrets are those of the pods to come.
    images
        References by digest, by their name in the release (archive, gate, database, tools).
    """
    uid = pods.UIDS[Component.CONFORMANCE]
    head = manifests.namespaced(desired, "Job", name(images), Zone.OPS)
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": pods.restricted(uid),
        "containers": [_container(image, images[image]) for image in sorted(images)],
        **pods.scheduling(desired),
    }
    labels = manifests.labels(desired, Zone.OPS)
    return pods.job(head, {"metadata": {"labels": labels}, "spec": spec}, ACTIVE_SECONDS)


def _container(image: str, reference: str) -> Manifest:
    made = pods.container(image, reference, _SIZES.get(image, _SMALL).resources(), [], **_HARMLESS[image])
    del made["volumeMounts"]  # the API server drops an empty list
    return made
