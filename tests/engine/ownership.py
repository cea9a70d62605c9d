"""What server-side apply does to fields, and who owns them: the arithmetic of the simulated API."""

import copy
import json
from typing import Any

from pacs_operator.kube.port import Manifest


def content_of(manifest: Manifest) -> str:
    data = {key: value for key, value in manifest["metadata"].items() if key not in ("resourceVersion", "generation")}
    data.pop("managedFields", None)
    return json.dumps({**manifest, "metadata": data}, sort_keys=True)


def spec_of(manifest: Manifest) -> str:
    return json.dumps({part: manifest.get(part) for part in ("spec", "data")}, sort_keys=True)


def all_named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "name" in item for item in value)


def merge(live: Any, applied: Any) -> None:
    """Merge as apply does: maps by key, lists of named items by name, other lists whole."""
    for key, value in applied.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            merge(live[key], value)
        elif all_named(value) and all_named(live.get(key)):
            have = {item["name"]: item for item in live[key]}
            for item in value:
                if item["name"] in have:
                    merge(have[item["name"]], item)
                else:
                    live[key].append(copy.deepcopy(item))
        else:
            live[key] = copy.deepcopy(value)


def remove_absent(live: Any, before: Any, now: Any) -> None:
    """Take out what this manager applied before and applies no more."""
    for key, value in before.items():
        if key not in now:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(now[key], dict) and isinstance(live.get(key), dict):
            remove_absent(live[key], value, now[key])
        elif all_named(value) and all_named(now[key]) and all_named(live.get(key)):
            keep = {item["name"] for item in now[key]}
            gone = {item["name"] for item in value} - keep
            live[key] = [item for item in live[key] if item["name"] not in gone]
            have, wanted = ({item["name"]: item for item in items} for items in (live[key], now[key]))
            for item in value:
                if item["name"] in have and item["name"] in wanted:
                    remove_absent(have[item["name"]], item, wanted[item["name"]])


def merge_patch(live: Any, patch: Any) -> None:
    for key, value in patch.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            merge_patch(live[key], value)
        else:
            live[key] = copy.deepcopy(value)


def values_of(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return leaves by path in the notation of managedFields."""
    if isinstance(value, dict) and value:
        found: dict[tuple[str, ...], Any] = {}
        for key, below in value.items():
            found.update(values_of(below, (*path, f"f:{key}")))
        return found
    if all_named(value):
        found = {}
        for item in value:
            found.update(values_of(item, (*path, "k:" + json.dumps({"name": item["name"]}))))
        return found
    return {path: value}


def paths_of(value: Any) -> set[tuple[str, ...]]:
    return set(values_of(value)) - {()}


def fields_of(paths: set[tuple[str, ...]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
    return tree


def leaves_of(tree: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key, below in tree.items():
        found |= leaves_of(below, (*path, key)) if below else {(*path, key)}
    return found
