"""What every manifest has in common: identity, labels, quantities in the API server's own spelling.

Nothing empty is rendered (no ``None``, no empty list, no ``false`` that is a default): the API server drops such
values, and a comparison of live and desired would then find a difference for ever.
"""

import hashlib
import json
from typing import Any

from pacs_operator.domain import names
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Component, Zone

Manifest = dict[str, Any]

_API_VERSIONS = {
    "ConfigMap": "v1",
    "LimitRange": "v1",
    "PersistentVolumeClaim": "v1",
    "ResourceQuota": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}

_BINARY_SUFFIXES = ("Mi", "Gi", "Ti", "Pi")
_MILLI = 1000


def labels(desired: Desired, zone: Zone, component: Component | None = None) -> dict[str, str]:
    """Return the labels of one object: whose it is, which data it belongs to, where it stands."""
    archive = desired.archive
    result = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_ARCHIVE: archive.name,
        names.LABEL_ARCHIVE_UID: archive.uid,
        names.LABEL_LINEAGE: desired.lineage_id,
        names.LABEL_ZONE: zone.value,
    }
    if component is not None:
        result[names.LABEL_COMPONENT] = component.value
    return result


def pod_labels(desired: Desired, component: Component) -> dict[str, str]:
    """Return the labels of a component's pods.

    Without the uid of the ``PacsArchive``: adopting the data under a new object must not restart a pod.
    """
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        **selector(desired, component),
        names.LABEL_LINEAGE: desired.lineage_id,
        names.LABEL_ZONE: names.ZONE_OF[component].value,
    }


def components(desired: Desired) -> list[Component]:
    """Return the components that the archive has now: the importer only while there is something to import."""
    return [
        each
        for each in desired.archive.spec.components
        if each is not Component.IMPORTER or desired.importing is not None
    ]


def runs_database(desired: Desired) -> bool:
    """Tell whether the archive's PostgreSQL is one of its own components, not somebody else's."""
    return Component.POSTGRES in components(desired)


def selector(desired: Desired, component: Component) -> dict[str, str]:
    """Return what Services, workloads and policies select a component's pods by."""
    return {names.LABEL_ARCHIVE: desired.archive.name, names.LABEL_COMPONENT: component.value}


def namespaced(
    desired: Desired,
    kind: str,
    name: str,
    where: Zone | Component,
    annotations: dict[str, str] | None = None,
) -> Manifest:
    """Return the head of an object of a zone, or of a component in its zone."""
    component = where if isinstance(where, Component) else None
    zone = names.ZONE_OF[where] if isinstance(where, Component) else where
    metadata: Manifest = {
        "name": name,
        "namespace": names.namespace_of(desired.archive.name, zone),
        "labels": labels(desired, zone, component),
    }
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": _API_VERSIONS[kind], "kind": kind, "metadata": metadata}


def config_map(desired: Desired, name: str, component: Component, data: dict[str, str]) -> Manifest:
    """Return a component's configuration."""
    return {**namespaced(desired, "ConfigMap", name, component), "data": data}


def document(value: object) -> str:
    """Return JSON that is the same for the same content, and readable in a diff."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def digest(value: object) -> str:
    """Return a short hash of a JSON-like value; 64 bits, which nobody chooses against."""
    raw = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(raw).hexdigest()[:16]


def memory(mebibytes: int) -> str:
    """Return a quantity of bytes as the API server spells it (1024Mi is 1Gi)."""
    value, suffixes = mebibytes, list(_BINARY_SUFFIXES)
    while value % 1024 == 0 and len(suffixes) > 1:
        value, suffixes = value // 1024, suffixes[1:]
    return f"{value}{suffixes[0]}"


def volume_size(gibibytes: int) -> str:
    """Return the size of a volume as the API server spells it."""
    return memory(gibibytes * 1024)


def cpu(milli: int) -> str:
    """Return a quantity of processor time as the API server spells it (1000m is 1)."""
    return str(milli // _MILLI) if milli % _MILLI == 0 else f"{milli}m"
