"""Guard served APIs: say what a newer CRD breaks for objects and clients of an older one.

``python tools/crddiff.py OLD.yaml NEW.yaml`` prints one line for each breaking change and fails if there is one.
``python tools/crddiff.py --released`` compares ``crds/`` with the newest release tag of this repository.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
Schema = dict[str, Any]

LOWER_IS_TIGHTER = ("maximum", "maxLength", "maxItems", "maxProperties")
HIGHER_IS_TIGHTER = ("minimum", "minLength", "minItems", "minProperties")


def breaking(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """Yield what ``new`` refuses, drops or changes that ``old`` allowed, one sentence each."""
    where = path or "(root)"
    if old.get("type") != new.get("type"):
        yield f"{where}: type changed from {old.get('type')} to {new.get('type')}"
        return
    yield from _tightened(old, new, where)
    if "default" in new and old.get("default") != new["default"]:
        yield f"{where}: default {new['default']!r} added to a served field"
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        yield f"{path}.{name}: became required"
    for name, child in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}.{name}: field removed"
        else:
            yield from breaking(child, new["properties"][name], f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            yield from breaking(old[key], new[key], f"{path}[]")


def _tightened(old: Schema, new: Schema, where: str) -> Iterator[str]:
    for key in LOWER_IS_TIGHTER:
        if key in new and new[key] < old.get(key, float("inf")):
            yield f"{where}: {key} lowered from {old.get(key, 'none')} to {new[key]}"
    for key in HIGHER_IS_TIGHTER:
        if key in new and new[key] > old.get(key, 0 if key != "minimum" else float("-inf")):
            yield f"{where}: {key} raised from {old.get(key, 'none')} to {new[key]}"
    if "enum" in new and (gone := [v for v in old.get("enum", ["any value"]) if v not in new["enum"]]):
        yield f"{where}: no longer accepts {', '.join(map(str, gone))}"
    if new.get("pattern") != old.get("pattern") and "pattern" in new:
        yield f"{where}: pattern changed to {new['pattern']}"
    for key in ("x-kubernetes-list-type", "x-kubernetes-list-map-keys"):
        if old.get(key) != new.get(key):
            yield f"{where}: {key} changed from {old.get(key)} to {new.get(key)}"
    before = {rule["rule"] for rule in old.get("x-kubernetes-validations", [])}
    for rule in new.get("x-kubernetes-validations", []):
        if rule["rule"] not in before:
            yield f"{where}: new rule {rule['rule']}"


def compare(old_text: str, new_text: str) -> list[str]:
    """Return the breaking changes between two CRDs given as YAML."""
    old, new = yaml.safe_load(old_text), yaml.safe_load(new_text)
    found = []
    if old["spec"]["scope"] != new["spec"]["scope"]:
        found.append(f"scope changed from {old['spec']['scope']} to {new['spec']['scope']}")
    newer = {version["name"]: version for version in new["spec"]["versions"]}
    for version in old["spec"]["versions"]:
        if version["name"] not in newer or not newer[version["name"]]["served"]:
            found.append(f"version {version['name']} is no longer served")
            continue
        schemas = (v["schema"]["openAPIV3Schema"] for v in (version, newer[version["name"]]))
        found += breaking(*schemas)
    return found


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def released() -> list[str]:
    """Return what ``crds/`` breaks against the newest tag ``v*``; nothing when nothing was released."""
    tags = _git("tag", "--list", "v*", "--sort=-version:refname").split()
    if not tags:
        print("nothing is released yet: no tag v*")
        return []
    found = []
    for name in _git("ls-tree", "--name-only", tags[0], "crds/").split():
        old = _git("show", f"{tags[0]}:{name}")
        new = ROOT / name
        found += [f"{name}: {line}" for line in (compare(old, new.read_text()) if new.exists() else ["removed"])]
    return found


def main() -> int:
    """Compare and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="old and new CRD")
    parser.add_argument("--released", action="store_true", help="compare crds/ with the newest release tag")
    arguments = parser.parse_args()
    if arguments.released == bool(arguments.files) or len(arguments.files) not in (0, 2):
        parser.error("give --released, or an old and a new file")
    found = released() if arguments.released else compare(*(file.read_text() for file in arguments.files))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
