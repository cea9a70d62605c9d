"""Server-side apply that writes only what differs, and pruning that comes last."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from pacs_operator.kube.diff import Difference, compare
from pacs_operator.kube.errors import AlreadyExistsError
from pacs_operator.kube.inventory import APPLY_ORDER, JOB, kind_of
from pacs_operator.kube.port import KubePort, Manifest, key_of, labels_of, metadata

_RANK = {kind: rank for rank, kind in enumerate(APPLY_ORDER)}
Key = tuple[str, str, str]
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "finalizers")


def content_hash(value: object) -> str:
    """Return a short hash of a JSON-like value, the same for the same content."""
    raw = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(raw.encode()).hexdigest()[:16]


def in_apply_order(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return manifests sorted by rank: fences before what they fence in.

    Raises
    ------
    KeyError
        A kind that is not in the inventory, which pruning and RBAC would not know.
    """
    return sorted(manifests, key=lambda manifest: _RANK[kind_of(manifest)])


@dataclass(frozen=True)
class Written:
    """A write that changed something: what differed before it (empty for a creation)."""

    manifest: Manifest
    difference: Difference
    created: bool


class Applier:
    """Writes what differs.

    Remembers per object which rendered content was found or made equal at which resourceVersion, so that content the
    server normalises is not written again and again; nothing breaks when the memory is lost.

    Parameters
    ----------
    kube
        The API.
    """

    def __init__(self, kube: KubePort) -> None:
        self._kube = kube
        self._known: dict[Key, tuple[str, str]] = {}

    def difference(self, desired: Manifest, live: Manifest) -> Difference:
        """Return what a write would have to repair; empty when nothing."""
        mark = (content_hash(desired), str(metadata(live).get("resourceVersion")))
        if self._known.get(key_of(desired)) == mark:
            return Difference()
        found = compare(desired, live)
        if not found:
            self._known[key_of(desired)] = mark
        return found

    def write(self, desired: Manifest, live: Manifest | None) -> Written | None:
        """Create or repair one object; None when nothing differed.

        Jobs are only ever created: what a run was started with is history.
        """
        if live is None:
            return Written(self._create(desired), Difference(), created=True)
        if kind_of(desired) is JOB:
            return None
        difference = self.difference(desired, live)
        if not difference:
            return None
        result = self._kube.apply(desired, force=True)
        if difference.added:
            # Apply never removes what others own, so the whole object is put back as rendered.
            result = self._kube.replace(_replacement(desired, result))
        self._known[key_of(desired)] = (content_hash(desired), str(metadata(result).get("resourceVersion")))
        return Written(result, difference, created=False)

    def _create(self, desired: Manifest) -> Manifest:
        if kind_of(desired) is JOB:
            try:
                return self._kube.create(desired)
            except AlreadyExistsError:
                data = metadata(desired)
                return self._kube.get(JOB, data["name"], data["namespace"]) or desired
        result = self._kube.apply(desired, force=True)
        self._known[key_of(desired)] = (content_hash(desired), str(metadata(result).get("resourceVersion")))
        return result

    def prune(self, live: Iterable[Manifest], desired: Iterable[Manifest], namespaces: set[str]) -> list[Manifest]:
        """Delete what is labelled as ours, stands in these namespaces and is no longer rendered.

        Only kinds that the inventory calls prunable: never namespaces, volumes or jobs' history. Each object is
        read again first, since the list may be stale, and deleted by its uid.

        Returns
        -------
        list[Manifest]
            What was deleted.
        """
        keep = {key_of(manifest) for manifest in desired}
        gone = []
        for manifest in live:
            kind, data = kind_of(manifest), metadata(manifest)
            if not kind.prunable or key_of(manifest) in keep or data.get("namespace") not in namespaces:
                continue
            now = self._kube.get(kind, data["name"], data["namespace"])
            if now is None or metadata(now).get("uid") != data.get("uid") or metadata(now).get("deletionTimestamp"):
                continue
            if labels_of(now) != labels_of(manifest):
                continue
            self._kube.delete(now)
            self._known.pop(key_of(now), None)
            gone.append(now)
        return gone


def _replacement(desired: Manifest, live: Manifest) -> Manifest:
    data, wanted = metadata(live), metadata(desired)
    kept: Manifest = {key: data[key] for key in _IDENTITY if key in data}
    kept["labels"] = {**(data.get("labels") or {}), **(wanted.get("labels") or {})}
    kept["annotations"] = {**(data.get("annotations") or {}), **(wanted.get("annotations") or {})}
    return {**desired, "metadata": kept}
