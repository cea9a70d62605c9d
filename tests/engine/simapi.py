"""A simulated Kubernetes API for fault injection: what a real server does to objects, and faults no real one makes.

Server-side apply with field ownership, resourceVersions and generations, finalizers, preconditions; answers of
409, 410, 429 and 500; lists that are minutes old; and the end of the process before or after any write.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pacs_operator.domain import names
from pacs_operator.domain.errors import ConflictError, NotFoundError
from pacs_operator.kube.errors import AlreadyExistsError, ApiInvalidError
from pacs_operator.kube.inventory import Kind, kind_of
from pacs_operator.kube.port import Manifest
from tests.engine import claims
from tests.engine.ownership import (
    content_of,
    fields_of,
    leaves_of,
    merge,
    merge_patch,
    paths_of,
    remove_absent,
    spec_of,
    values_of,
)

Key = tuple[str, str, str]
ACTION = "none: this is a test"


class Killed(BaseException):
    """The process ends here; nothing may catch it."""


@dataclass
class Faults:
    """What goes wrong, by the number of the call."""

    kill_before: int | None = None
    kill_after: int | None = None
    errors: list[tuple[Callable[[str, str], bool], Exception]] = field(default_factory=list)  # each is used once
    stale: bool = False


class WriteLog:
    """Counts the writes of all ports, and ends the process at one of them."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.faults = Faults()

    def around(self, what: str, act: Callable[[], Any]) -> Any:
        number = len(self.entries)
        if self.faults.kill_before == number:
            self.faults.kill_before = None
            raise Killed(f"before {what}")
        self.entries.append(what)
        try:
            return act()
        finally:
            if self.faults.kill_after == number:
                self.faults.kill_after = None
                raise Killed(f"after {what}")


class SimulatedApi:
    """``KubePort`` in memory."""

    def __init__(self, log: WriteLog) -> None:
        self.log = log
        self.objects: dict[Key, Manifest] = {}
        self.applied: dict[Key, dict[str, Manifest]] = {}
        self.reads: list[str] = []
        self.refused_ports: dict[int, str] = {}  # node port -> why the API server does not give it
        self.now = "2026-11-20T08:00:00Z"
        self._version = 0
        self._uids = 0
        self._snapshot: dict[Key, Manifest] | None = None

    # --- KubePort ---------------------------------------------------------------------------------------------

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        self._read("get", kind)
        found = self._seen().get((kind.kind, namespace or "", name))
        return copy.deepcopy(found)

    def list(self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        self._read("list", kind)
        return [
            copy.deepcopy(item)
            for (item_kind, item_namespace, _), item in sorted(self._seen().items())
            if item_kind == kind.kind
            and (namespace is None or item_namespace == namespace)
            and (labels or {}).items() <= (item["metadata"].get("labels") or {}).items()
        ]

    def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        return self._write("apply", manifest, lambda: self._apply(manifest, names.FIELD_MANAGER))

    def apply_status(self, manifest: Manifest) -> Manifest:
        return self._write("status", manifest, lambda: self._status(manifest))

    def create(self, manifest: Manifest) -> Manifest:
        return self._write("create", manifest, lambda: self._create(manifest))

    def replace(self, manifest: Manifest) -> Manifest:
        return self._write("replace", manifest, lambda: self._replace(manifest))

    def patch(self, kind: Kind, name: str, namespace: str | None, patch: Manifest) -> Manifest:
        named = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "namespace": namespace}}
        return self._write("patch", named, lambda: self._patch(self._key(named), patch, names.FIELD_MANAGER))

    def delete(self, manifest: Manifest) -> None:
        self._write("delete", manifest, lambda: self._delete(manifest))

    # --- what people and controllers do -------------------------------------------------------------------------

    def put(self, manifest: Manifest, manager: str = "kubectl") -> Manifest:
        """Create or change as somebody else, without counting."""
        key = self._key(manifest)
        if key in self.objects:
            return self._patch(key, manifest, manager)
        return self._create(manifest, manager)

    def edit(self, key: Key, manager: str, change: Callable[[Manifest], None]) -> None:
        """Change a live object as ``kubectl edit`` does."""
        live = copy.deepcopy(self.objects[key])
        change(live)
        self._store(key, live, manager=manager)

    def set_status(self, key: Key, status: dict[str, Any]) -> None:
        if self.objects[key].get("status") != status:
            live = copy.deepcopy(self.objects[key])
            live["status"] = status
            self._store(key, live)

    def remove(self, key: Key) -> None:
        self._delete(self.objects[key])

    def remember(self) -> None:
        """Freeze what stale reads will see."""
        self._snapshot = copy.deepcopy(self.objects)

    # --- the server ---------------------------------------------------------------------------------------------

    def _seen(self) -> dict[Key, Manifest]:
        if self.log.faults.stale and self._snapshot is not None:
            return self._snapshot
        return self.objects

    def _read(self, verb: str, kind: Kind) -> None:
        self.reads.append(f"{verb} {kind.kind}")
        self._maybe_fail(verb, kind.kind)

    def _maybe_fail(self, verb: str, kind: str) -> None:
        for index, (matches, error) in enumerate(self.log.faults.errors):
            if matches(verb, kind):
                del self.log.faults.errors[index]
                raise error

    def _write(self, verb: str, manifest: Manifest, act: Callable[[], Any]) -> Any:
        kind, namespace, name = self._key(manifest)
        self._maybe_fail(verb, kind)
        return self.log.around(f"{verb} {kind} {namespace}/{name}", lambda: copy.deepcopy(act()))

    @staticmethod
    def _key(manifest: Manifest) -> Key:
        data = manifest["metadata"]
        return kind_of(manifest).kind, data.get("namespace") or "", data["name"]

    def _check_namespace(self, key: Key) -> None:
        namespace = self.objects.get(("Namespace", "", key[1]))
        if key[1] and key[1] not in ("default", "pacs-operator") and namespace is None:
            raise NotFoundError(f"namespace {key[1]}", action=ACTION)
        if namespace and namespace["metadata"].get("deletionTimestamp"):
            raise ApiInvalidError(f"namespace {key[1]} is being terminated", action=ACTION)

    def _create(self, manifest: Manifest, manager: str = names.FIELD_MANAGER) -> Manifest:
        key = self._key(manifest)
        if key in self.objects:
            raise AlreadyExistsError(f"{key}", action=ACTION)
        self._check_namespace(key)
        if manifest["kind"] in ("PacsArchive", "DicomPeer") and "spec" not in manifest:
            raise ApiInvalidError("spec: required", action=ACTION)
        live = copy.deepcopy(manifest)
        self._uids += 1
        live["metadata"].update(uid=f"uid-{self._uids:05d}", creationTimestamp=self.now, generation=0)
        return self._store(key, live, manager=manager)

    def _apply(self, manifest: Manifest, manager: str) -> Manifest:
        key = self._key(manifest)
        self._check_uid(key, manifest)
        before = self.applied.setdefault(key, {}).get(manager)
        if key not in self.objects:
            result = self._create(manifest, manager)
            self.applied[key] = {manager: copy.deepcopy(manifest)}
            return self._store(key, self.objects[key], manager=manager, operation="Apply", fields=manifest) or result
        live = copy.deepcopy(self.objects[key])
        if before:
            remove_absent(live, before, manifest)
        merge(live, {part: value for part, value in manifest.items() if part not in ("apiVersion", "kind")})
        self.applied[key][manager] = copy.deepcopy(manifest)
        return self._store(key, live, manager=manager, operation="Apply", fields=manifest)

    def _status(self, manifest: Manifest) -> Manifest:
        key = self._key(manifest)
        if key not in self.objects:
            raise NotFoundError(f"{key}", action=ACTION)
        self._check_uid(key, manifest)
        live = copy.deepcopy(self.objects[key])
        if manifest["metadata"].get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
            raise ConflictError(f"{key}: resourceVersion", action=ACTION)
        live["status"] = copy.deepcopy(manifest["status"])
        return self._store(key, live)

    def _replace(self, manifest: Manifest) -> Manifest:
        key = self._key(manifest)
        live = self._live(key)
        if manifest["metadata"].get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
            raise ConflictError(f"{key}", action=ACTION)
        new = copy.deepcopy(manifest)
        kept = ("uid", "creationTimestamp", "generation", "managedFields")
        new["metadata"].update({part: live["metadata"][part] for part in kept if part in live["metadata"]})
        if "status" in live:
            new["status"] = live["status"]
        return self._store(key, new, manager=names.FIELD_MANAGER, fields=manifest, exact=True)

    def _patch(self, key: Key, patch: Manifest, manager: str) -> Manifest:
        live = copy.deepcopy(self._live(key))
        wanted = patch.get("metadata") or {}
        if wanted.get("uid") not in (None, live["metadata"]["uid"]):
            raise ConflictError(f"{key}: uid", action=ACTION)
        if wanted.get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
            raise ConflictError(f"{key}: resourceVersion", action=ACTION)
        body = {part: value for part, value in patch.items() if part not in ("apiVersion", "kind")}
        merge_patch(live, body)
        return self._store(key, live, manager=manager)

    def _delete(self, manifest: Manifest) -> None:
        key = self._key(manifest)
        live = self._live(key)
        if manifest["metadata"].get("uid") != live["metadata"]["uid"]:
            raise ConflictError(f"{key}: uid", action=ACTION)
        if live["metadata"].get("finalizers"):
            changed = copy.deepcopy(live)
            changed["metadata"].setdefault("deletionTimestamp", self.now)
            self._store(key, changed)
            return
        self._drop(key)

    def _drop(self, key: Key) -> None:
        self.objects.pop(key, None)
        self.applied.pop(key, None)

    def _live(self, key: Key) -> Manifest:
        if key not in self.objects:
            raise NotFoundError(f"{key}", action=ACTION)
        return self.objects[key]

    def _check_uid(self, key: Key, manifest: Manifest) -> None:
        uid = manifest["metadata"].get("uid")
        if uid is not None and (key not in self.objects or self.objects[key]["metadata"]["uid"] != uid):
            raise ConflictError(f"{key}: uid", action=ACTION)

    def _store(
        self,
        key: Key,
        live: Manifest,
        *,
        manager: str | None = None,
        operation: str = "Update",
        fields: Manifest | None = None,
        exact: bool = False,
    ) -> Manifest:
        before = self.objects.get(key)
        if key[0] == "Service":
            claims.check_service(self, live)
        if before is not None and key[0] == "PersistentVolumeClaim":
            claims.check_resize(self, before, live)
        if manager:
            self._own(live, before or {}, manager, operation, fields, exact)
        if before is not None and content_of(before) == content_of(live):
            live["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            self.objects[key] = live
            return live
        self._version += 1
        live["metadata"]["resourceVersion"] = str(self._version)
        if before is None or spec_of(before) != spec_of(live):
            live["metadata"]["generation"] = int(live["metadata"].get("generation") or 0) + 1
        if live["metadata"].get("deletionTimestamp") and not live["metadata"].get("finalizers"):
            self._drop(key)
            return live
        self.objects[key] = live
        return live

    def _own(
        self, live: Manifest, before: Manifest, manager: str, operation: str, fields: Manifest | None, exact: bool
    ) -> None:
        """Keep managedFields: who applied a field owns it; who changed one takes it."""
        entries = {
            (entry["manager"], entry["operation"]): leaves_of(entry["fieldsV1"])
            for entry in live["metadata"].get("managedFields") or []
        }
        body = {part: value for part, value in live.items() if part in ("spec", "data", "rules")}
        now = paths_of({part: value for part, value in (fields or {}).items() if part in body})
        if operation == "Update" and not exact:
            old = values_of({part: value for part, value in before.items() if part in body})
            now = {path for path, value in values_of(body).items() if old.get(path) != value}
        present = paths_of(body)
        for owner in list(entries):
            if owner[0] != manager:
                entries[owner] -= {path for path in now if self._value_changed(before, live, path)}
            entries[owner] &= present
        mine = (manager, operation)
        entries[mine] = (now if operation == "Apply" else entries.get(mine, set()) | now) & present
        live["metadata"]["managedFields"] = [
            {"manager": owner, "operation": act, "fieldsV1": fields_of(paths)}
            for (owner, act), paths in sorted(entries.items())
            if paths
        ]

    @staticmethod
    def _value_changed(before: Manifest, live: Manifest, path: tuple[str, ...]) -> bool:
        return values_of(before).get(path) != values_of(live).get(path)


def address(uid: str) -> str:
    """Return a stable pod address for a uid."""
    digest = hashlib.sha256(uid.encode()).digest()
    return f"10.{digest[0]}.{digest[1]}.{digest[2]}"
