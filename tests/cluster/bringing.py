"""Imports as a person writes them, and what their status says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .oldpacs import OldPacs
from .support import Cluster, until

OPS = "radiology-ops"


@contextmanager
def importing(cluster: Cluster, name: str, source: OldPacs, **more: Any) -> Iterator[None]:
    """Have an import of all that a source holds, until the block ends; what was brought stays."""
    manifest = {
        "apiVersion": "pacs-operator.io/v1alpha1",
        "kind": "PacsImport",
        "metadata": {"name": name, "namespace": OPS},
        "spec": {"archiveRef": {"name": "radiology"}, "source": source.source(), **more},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    try:
        yield
    finally:
        cluster.kubectl("delete", "pacsimport", name, "-n", OPS, "--ignore-not-found")


def status_of(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return an import's status, with its conditions by type."""
    status: dict[str, Any] = cluster.get("pacsimport", name, "-n", OPS).get("status", {})
    return status | {"conditions": {each["type"]: each for each in status.get("conditions", [])}}


def ended(cluster: Cluster, name: str, seconds: float = 180) -> dict[str, Any]:
    """Return an import's status once nothing is left to do."""

    def told() -> dict[str, Any] | None:
        status = status_of(cluster, name)
        return status if status["conditions"].get("Complete", {}).get("status") == "True" else None

    status: dict[str, Any] = until(f"import {name} has ended", told, seconds, every=1)
    return status
