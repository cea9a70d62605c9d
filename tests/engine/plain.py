"""Objects as people make them, and what of them does not depend on the hour."""

from typing import Any

from pacs_operator.kube.port import Manifest


def made(
    api_version: str, kind: str, name: str, *, namespace: str | None = None, labels: dict[str, str] | None = None
) -> Manifest:
    data: dict[str, Any] = {"name": name, "labels": labels or {}}
    if namespace:
        data["namespace"] = namespace
    return {"apiVersion": api_version, "kind": kind, "metadata": data}


_TIMES = {"lastTransitionTime", "time", "creationTimestamp", "resourceVersion", "uid", "managedFields", "generation"}


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in _TIMES}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return value
