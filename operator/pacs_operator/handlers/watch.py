"""What wakes which archive: a table of contents. Handlers keep no state on objects and call no API."""

from collections.abc import Callable, Mapping
from typing import Any

import kopf

from pacs_operator.domain import names
from pacs_operator.domain.names import Zone
from pacs_operator.kube.inventory import APPLY_ORDER, APPROVAL, ARCHIVE, CATALOG, IMPORT, NAMESPACE, PEER, POD, Kind

_CHILDREN: tuple[Kind, ...] = (*(kind for kind in APPLY_ORDER if kind is not NAMESPACE), POD)
_SUFFIXES = tuple(f"-{zone.value}" for zone in Zone)


class Wakeup:
    """Maps events to archives' names.

    What it remembers are hints from events that may be stale or lost; the full pass makes up for both.

    Parameters
    ----------
    mark
        Has an archive looked at.
    """

    def __init__(self, mark: Callable[[str], None]) -> None:
        self._mark = mark
        self._archives: dict[str, str] = {}  # name -> what matters of it
        self._peers: dict[tuple[str, str], tuple[str, str]] = {}  # (namespace, name) -> (archive, what matters)
        self._namespaces: dict[str, dict[str, str]] = {}

    def archive(self, event: Mapping[str, Any]) -> None:
        """Handle an event of a ``PacsArchive``; our own status writes wake nobody."""
        live = event["object"]
        name = live["metadata"]["name"]
        if event.get("type") == "DELETED":
            self._archives.pop(name, None)
            self._mark(name)
        elif self._archives.get(name) != (now := _what_matters(live)):
            self._archives[name] = now
            self._mark(name)

    def peer(self, event: Mapping[str, Any]) -> None:
        """Handle an event of a ``DicomPeer``: wake its archive, and the one it left."""
        live = event["object"]
        key = (live["metadata"]["namespace"], live["metadata"]["name"])
        archive = str(((live.get("spec") or {}).get("archiveRef") or {}).get("name") or "")
        before = self._peers.get(key)
        if event.get("type") == "DELETED":
            self._peers.pop(key, None)
        elif before == (archive, _what_matters(live)):
            return
        else:
            self._peers[key] = (archive, _what_matters(live))
        for name in sorted({archive, before[0] if before else ""} - {""}):
            self._mark(name)

    def catalog(self, _event: Mapping[str, Any]) -> None:
        """Handle an event of a ``PacsCatalog``: images of a release or the floor may have changed for anybody."""
        for name in sorted(self._archives):
            self._mark(name)

    def namespace(self, event: Mapping[str, Any]) -> None:
        """Handle an event of a Namespace: a zone's, or one whose labels consent to peers."""
        live = event["object"]
        name, labels = live["metadata"]["name"], dict(live["metadata"].get("labels") or {})
        deleting = {"deleting": "yes"} if live["metadata"].get("deletionTimestamp") else {}
        if event.get("type") == "DELETED":
            self._namespaces.pop(name, None)
        elif self._namespaces.get(name) == labels | deleting:
            return
        else:
            self._namespaces[name] = labels | deleting
        woken = {archive for (namespace, _), (archive, _) in self._peers.items() if namespace == name}
        for archive in sorted(woken | self._owners(name, labels)):
            self._mark(archive)

    def child(self, event: Mapping[str, Any]) -> None:
        """Handle an event of anything in a zone."""
        data = event["object"]["metadata"]
        for archive in sorted(self._owners(data.get("namespace") or "", data.get("labels") or {})):
            self._mark(archive)

    def _owners(self, namespace: str, labels: Mapping[str, str]) -> set[str]:
        """Return archives by zone name (survives that somebody takes the label off) and by label."""
        by_name = {namespace.removesuffix(suffix) for suffix in _SUFFIXES if namespace.endswith(suffix)}
        return {name for name in by_name if name in self._archives} | ({labels.get(names.LABEL_ARCHIVE, "")} - {""})


def _what_matters(live: Mapping[str, Any]) -> str:
    data = live["metadata"]
    parts = [
        data.get(part) for part in ("uid", "generation", "labels", "annotations", "finalizers", "deletionTimestamp")
    ]
    return repr(parts)


def register(registry: kopf.OperatorRegistry, wakeup: Wakeup) -> None:
    """Connect events to the wake-up table; only ``on.event``, which stores nothing on objects."""

    def watch(kind: Kind, handle: Callable[[Mapping[str, Any]], None]) -> None:
        async def on_event(event: kopf.RawEvent, **_: Any) -> None:
            handle(event)

        group, _, version = kind.api_version.rpartition("/")
        kopf.on.event(group, version, kind.plural, id=f"wake-{kind.plural}", registry=registry)(on_event)

    watch(ARCHIVE, wakeup.archive)
    watch(PEER, wakeup.peer)
    watch(CATALOG, wakeup.catalog)
    watch(NAMESPACE, wakeup.namespace)
    for kind in (*_CHILDREN, APPROVAL, IMPORT):
        watch(kind, wakeup.child)

    @kopf.on.login(registry=registry, id="login")
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)
