"""A pod of ours: restricted, one uid, read-only root, keys in memory, the agent beside the main container."""

from dataclasses import dataclass, field
from typing import Any

from pacs_operator.domain import names
from pacs_operator.domain.agentconfig import CONFIG_DIR, PEERS_DIR, RUN_DIR, TLS_DIR, TOKEN_FILE
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Component
from pacs_operator.render.manifests import Manifest, digest, pod_labels

UIDS = {
    Component.CONFORMANCE: 10000,
    Component.ORTHANC: 10001,
    Component.GATE: 10002,
    Component.POSTGRES: 10003,
    Component.IMPORTER: 10004,
}

_TOKEN_SECONDS = 600  # the shortest life the kubelet hands out
_READ_BY_GROUP = 0o440
PEERS_CONFIG_MAP = "peers"


@dataclass(frozen=True)
class Pod:
    """What is particular about a component's pod.

    Parameters
    ----------
    component
        The component.
    config_map
        Name of its ConfigMap.
    config
        Content of that ConfigMap: a change of it needs a restart, so its hash stands in the template. Peers are no
        part of it.
    init_containers, containers
        As in a pod; the agent is among the former.
    volumes
        What it needs beside configuration, keys and sockets.
    grace_seconds
        Time to end open associations before the pod is killed.
    fields
        Further fields of the pod's spec.
    """

    component: Component
    config_map: str
    config: dict[str, str]
    init_containers: list[Manifest]
    containers: list[Manifest]
    volumes: list[Manifest]
    grace_seconds: int
    fields: Manifest = field(default_factory=dict)


def template(desired: Desired, pod: Pod) -> Manifest:
    """Return a pod template that Pod Security ``restricted`` admits."""
    component = pod.component
    uid = UIDS[component]
    spec: Manifest = {
        "serviceAccountName": component.value,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.grace_seconds,
        "securityContext": restricted(uid),
        "initContainers": pod.init_containers,
        "containers": pod.containers,
        "volumes": [*_common_volumes(desired, pod.config_map), *pod.volumes],
        **scheduling(desired),
        **pod.fields,
    }
    metadata = {
        "labels": pod_labels(desired, component),
        "annotations": {names.ANNOTATION_CONFIG_HASH: digest(pod.config)},
    }
    return {"metadata": metadata, "spec": spec}


def job(head: Manifest, template: Manifest, seconds: int) -> Manifest:
    """Return a Job that is tried once, and given up after so many seconds."""
    return {**head, "spec": {"backoffLimit": 0, "activeDeadlineSeconds": seconds, "template": template}}


def restricted(uid: int) -> Manifest:
    """Return a pod's security context: one uid, never root."""
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        # The volume of an archive holds millions of files: without this, each start walks through them all.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(name: str, image: str, resources: Manifest, mounts: list[Manifest], **more: Any) -> Manifest:
    """Return a container with no privilege to lose."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",  # by digest: what is present is what was asked for
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounts,
        **more,
    }


def mount(volume: str, path: str, *, writable: bool = False) -> Manifest:
    """Return a volume mount, read-only unless said otherwise."""
    result: Manifest = {"name": volume, "mountPath": path}
    return result if writable else {**result, "readOnly": True}


def in_memory(name: str, size: str) -> Manifest:
    """Return a volume that never reaches a disk."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def run_volume() -> Manifest:
    """Return the volume of sockets and assembled configuration, between an agent and its neighbour."""
    return in_memory("run", "16Mi")


def claim(name: str) -> Manifest:
    """Return the volume of a claim of the same name."""
    return {"name": name, "persistentVolumeClaim": {"claimName": name}}


def peers_volume() -> Manifest:
    """Return the live list of peers; a ConfigMap of its own, so that it changes without touching the template."""
    return {"name": "peers", "configMap": {"name": PEERS_CONFIG_MAP, "defaultMode": _READ_BY_GROUP}}


def http_probe(path: str, *, period: int, failures: int, timeout: int = 3) -> Manifest:
    """Return a kubelet probe of the agent's plain port; the pod shares one network, so it speaks for all."""
    return {
        "httpGet": {"path": path, "port": names.Port.AGENT_HEALTH, "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


MOUNT_CONFIG = mount("config", CONFIG_DIR)
MOUNT_TLS = mount("tls", TLS_DIR)
MOUNT_TLS_WRITABLE = mount("tls", TLS_DIR, writable=True)
MOUNT_RUN = mount("run", RUN_DIR)
MOUNT_RUN_WRITABLE = mount("run", RUN_DIR, writable=True)
MOUNT_PEERS = mount("peers", PEERS_DIR)
MOUNT_TOKEN = mount("token", TOKEN_FILE.rpartition("/")[0])
#: Of a program that runs once: its result leaves by the termination message, its home is a volume in memory.
TOLD_AT_ITS_END: Manifest = {
    "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
MOUNT_TMP = mount("tmp", "/tmp", writable=True)  # noqa: S108  # a volume of the pod's own


def _common_volumes(desired: Desired, config_map: str) -> list[Manifest]:
    token = {
        "path": TOKEN_FILE.rpartition("/")[2],
        "audience": desired.vault.audience,
        "expirationSeconds": _TOKEN_SECONDS,
    }
    return [
        {"name": "config", "configMap": {"name": config_map, "defaultMode": _READ_BY_GROUP}},
        in_memory("tls", "4Mi"),
        {
            "name": "token",
            "projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": _READ_BY_GROUP},
        },
    ]


def scheduling(desired: Desired) -> Manifest:
    """Return where the archive's pods may run, as far as the spec says."""
    asked = desired.archive.spec.scheduling
    fields: Manifest = {
        "nodeSelector": dict(asked.node_selector),
        "tolerations": [toleration.document() for toleration in asked.tolerations],
        "priorityClassName": asked.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in asked.image_pull_secrets],
    }
    return {key: value for key, value in fields.items() if value}
