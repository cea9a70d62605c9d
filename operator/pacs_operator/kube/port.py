"""What the rest of the operator may ask of the Kubernetes API."""

from collections.abc import Mapping
from typing import Any, Protocol

from pacs_operator.kube.inventory import Kind, kind_of

Manifest = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class KubePort(Protocol):
    """Synchronous calls with a time-out each; errors are ``domain.errors.ApiError`` and its children."""

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        """Return the live object, or None when it does not exist."""

    def list(self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Return all live objects with these labels, in one namespace or in all."""

    def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """Server-side apply; with ``force`` our fields win over other managers' values."""

    def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the ``status`` subresource; we are its one writer."""

    def create(self, manifest: Manifest) -> Manifest:
        """Create; ``AlreadyExistsError`` when the name is taken."""

    def replace(self, manifest: Manifest) -> Manifest:
        """Update the whole object; ``metadata.resourceVersion`` is the precondition."""

    def patch(self, kind: Kind, name: str, namespace: str | None, patch: Manifest) -> Manifest:
        """Merge-patch; ``metadata.uid`` and ``metadata.resourceVersion`` in it are preconditions."""

    def delete(self, manifest: Manifest) -> None:
        """Delete exactly this object (by its uid), dependants first; an absent one is a success."""


def metadata(manifest: Manifest) -> dict[str, Any]:
    """Return an object's metadata, empty when absent."""
    return manifest.get("metadata") or {}


def labels_of(manifest: Manifest) -> dict[str, str]:
    """Return an object's labels, empty when absent."""
    return metadata(manifest).get("labels") or {}


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """Return an object's annotations, empty when absent."""
    return metadata(manifest).get("annotations") or {}


def key_of(manifest: Manifest) -> tuple[str, str, str]:
    """Return ``(kind, namespace, name)``; without the version, which an upgrade may change."""
    data = metadata(manifest)
    return kind_of(manifest).kind, data.get("namespace") or "", str(data.get("name"))


def display(manifest: Manifest) -> str:
    """Return ``Kind namespace/name`` for messages."""
    kind, namespace, name = key_of(manifest)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
