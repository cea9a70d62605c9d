"""What pods have beside the rest where the archive declares an offline start; without it, nothing."""

from pacs_operator.domain import offline
from pacs_operator.domain.agentconfig import OFFLINE_DIR, OFFLINE_KEY_DIR, POD_UID, OfflineRecipient
from pacs_operator.domain.facts import Desired
from pacs_operator.render import pods
from pacs_operator.render.manifests import Manifest

_SEALED, _KEY = "sealed", "offline-key"
_SIZE = "32Mi"  # two files of 8 MiB at most, while one replaces the other; beyond the limit the pod would be evicted
_READ_BY_GROUP = 0o440
_OF_A_NODE_THAT_IS_AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def recipient(desired: Desired) -> OfflineRecipient | None:
    """Return to whom agents seal."""
    declared = desired.archive.spec.offline_start
    return None if declared is None else OfflineRecipient(recipient=declared.recipient)


def volumes(desired: Desired) -> list[Manifest]:
    """Return the volume of the sealed file, which stays with the pod on its node, and the Secret of a person's.

    The Secret is optional: the kubelet brings it within about a minute once somebody makes it, and nothing restarts.
    """
    if desired.archive.spec.offline_start is None:
        return []
    secret = {"secretName": offline.SECRET, "optional": True, "defaultMode": _READ_BY_GROUP}
    return [{"name": _SEALED, "emptyDir": {"sizeLimit": _SIZE}}, {"name": _KEY, "secret": secret}]


def mounts(desired: Desired) -> list[Manifest]:
    """Return the agent's mounts of both; no other container has them."""
    if desired.archive.spec.offline_start is None:
        return []
    return [pods.mount(_SEALED, OFFLINE_DIR, writable=True), pods.mount(_KEY, OFFLINE_KEY_DIR)]


def environment(desired: Desired) -> Manifest:
    """Return the agent's further fields: a sealed file is of one pod, which has to know which one it is."""
    if desired.archive.spec.offline_start is None:
        return {}
    return {"env": [{"name": POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]}


def scheduling(desired: Desired) -> Manifest:
    """Return the pod's tolerations.

    A node that is away for five minutes has its pods deleted, and with them what they sealed: a pod made in their
    stead has nothing to start by. So they stay until the node is back, or removed.
    """
    if desired.archive.spec.offline_start is None:
        return {}
    asked = desired.archive.spec.scheduling.tolerations
    stay = [{"key": key, "operator": "Exists", "effect": "NoExecute"} for key in _OF_A_NODE_THAT_IS_AWAY]
    return {"tolerations": [*(toleration.document() for toleration in asked), *stay]}
