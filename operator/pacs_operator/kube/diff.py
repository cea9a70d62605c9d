"""Compares a live object with the rendered one, and finds who changed it.

Three questions, since each alone misses something: are all fields that we render present and equal (finds edits and
removals), do we still own fields that we render no more (finds what a changed spec took away), and does somebody
else own fields that we do not render (finds additions, which server-side apply can never remove).
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from pacs_operator.domain import names
from pacs_operator.kube.inventory import CONFIG_MAP, DEPLOYMENT, POLICY, STATEFUL_SET, kind_of
from pacs_operator.kube.port import Manifest, metadata

#: Kinds in which an addition by others matters: a rule, a container, a file that we did not write.
STRICT = (POLICY, CONFIG_MAP, DEPLOYMENT, STATEFUL_SET)
#: A person's "kubectl rollout restart" is a wish, not drift.
_NOT_DRIFT = ("kubectl.kubernetes.io/restartedAt",)
_QUANTITIES = {"limits", "requests", "hard", "default", "defaultRequest", "max", "min", "sizeLimit"}

Path = tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """What separates a live object from the rendered one.

    ``changed`` are fields we render that differ, ``added`` fields of others that we do not render; ``managers`` are
    the field managers that stand behind either, as far as the API server recorded them.
    """

    changed: tuple[Path, ...] = ()
    added: tuple[Path, ...] = ()
    managers: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.changed or self.added)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all paths, changed and added."""
        return self.changed + self.added


def compare(desired: Manifest, live: Manifest) -> Difference:
    """Return what separates ``live`` from ``desired``; status and server-made metadata are not looked at."""
    changed = list(_body(desired, live))
    for part in ("labels", "annotations"):
        want, have = metadata(desired).get(part) or {}, metadata(live).get(part) or {}
        changed += [("metadata", part, key) for key, value in want.items() if have.get(key) != value]
    owners = _owners(live)
    strict = kind_of(desired) in STRICT
    changed += _abandoned(desired, live, "Apply")
    added = _beside(changed, [*_added(owners), *_abandoned(desired, live, "Update")]) if strict else ()
    if not changed and not added:
        return Difference()
    paths = [*changed, *added]
    behind = {manager for path, manager in _foreign(owners) if any(_related(path, other) for other in paths)}
    return Difference(tuple(changed), added, tuple(sorted(behind)))


def _beside(changed: list[Path], added: list[Path]) -> tuple[Path, ...]:
    """Leave out additions that apply undoes by itself, because it takes the field that holds them over again."""
    return tuple(dict.fromkeys(path for path in added if not any(other[: len(path)] == path for other in changed)))


def _body(desired: Manifest, live: Manifest) -> Iterator[Path]:
    for key, value in desired.items():
        if key not in ("apiVersion", "kind", "metadata", "status"):
            yield from _differs(value, live.get(key), (key,))


def _differs(want: Any, have: Any, path: Path) -> Iterator[Path]:
    if want is None:
        return  # an absent field is no statement
    if want in ({}, []):
        if have not in (None, {}, [], ""):
            yield path  # an empty selector or rule list that we render must stay empty
        return
    if isinstance(want, dict) and isinstance(have, dict):
        for key, value in want.items():
            yield from _differs(value, have.get(key), (*path, str(key)))
    elif isinstance(want, list) and isinstance(have, list):
        if len(want) != len(have):
            yield path
            return
        for index, (one, other) in enumerate(zip(want, have, strict=True)):
            yield from _differs(one, other, (*path, _item(one, index)))
    elif want != have and not _same_quantity(want, have, path):
        yield path


def _item(value: Any, index: int) -> str:
    name = value.get("name") if isinstance(value, dict) else None
    return f"[{name if name is not None else index}]"


def _same_quantity(want: Any, have: Any, path: Path) -> bool:
    if have is None or not _QUANTITIES.intersection(path):
        return False
    try:
        return bool(parse_quantity(want) == parse_quantity(have))  # type: ignore[no-untyped-call]
    except ValueError:
        return False


Owners = list[tuple[str, frozenset[Path]]]


def _owners(live: Manifest) -> Owners:
    found = []
    for entry in metadata(live).get("managedFields") or []:
        scaling = entry.get("subresource") == "scale"
        if entry.get("subresource") and not scaling:
            continue
        fields = {key: value for key, value in (entry.get("fieldsV1") or {}).items() if key != "f:metadata"}
        found.append((str(entry.get("manager")), frozenset(_leaves(fields, ()))))
    return found


def _abandoned(desired: Manifest, live: Manifest, operation: str) -> list[Path]:
    """Return fields that we own by this operation and render no more."""
    found = []
    for entry in metadata(live).get("managedFields") or []:
        ours = entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == operation
        if ours and not entry.get("subresource"):
            found += [
                tuple(_element(key) for key in path)
                for path in _raw_leaves(entry.get("fieldsV1") or {}, ())
                if not _rendered(desired, path)
            ]
    return found


def _raw_leaves(fields: dict[str, Any], path: Path) -> Iterator[Path]:
    for key, below in fields.items():
        if key != "." and below and set(below) != {"."}:
            yield from _raw_leaves(below, (*path, key))
        elif key != ".":
            yield (*path, key)


def _rendered(desired: Any, path: Path) -> bool:
    """Tell whether a path of managedFields leads to something in the rendered object."""
    here = desired
    for key in path:
        kind, _, rest = key.partition(":")
        if kind == "f":
            if not isinstance(here, dict) or rest not in here:
                return False
            here = here[rest]
        elif kind == "k" and isinstance(here, list):
            wanted = json.loads(rest)
            # A key the renderer leaves to its default (a port's protocol) is no reason to call an item another.
            matching = [item for item in here if all(item.get(name, value) == value for name, value in wanted.items())]
            if not matching:
                return False
            here = matching[0]
        elif kind == "v" and isinstance(here, list):
            return json.loads(rest) in here
        else:
            return True
    return True


def _leaves(fields: dict[str, Any], path: Path) -> Iterator[Path]:
    for key, below in fields.items():
        if key == ".":
            continue
        here = (*path, _element(key))
        if below and set(below) != {"."}:
            yield from _leaves(below, here)
        else:
            yield here


def _element(key: str) -> str:
    kind, _, rest = key.partition(":")
    if kind == "f":
        return rest
    if kind == "k":
        keys = json.loads(rest)
        return f"[{keys.get('name', next(iter(keys.values()), ''))}]"
    return f"[{rest}]"


def _foreign(owners: Owners) -> Iterator[tuple[Path, str]]:
    for manager, paths in owners:
        if manager != names.FIELD_MANAGER:
            for path in paths:
                yield path, manager


def _added(owners: Owners) -> Iterator[Path]:
    ours = {path for manager, paths in owners if manager == names.FIELD_MANAGER for path in paths}
    if not ours:  # nothing was ever applied by us: an object made before, compared by value alone
        return
    for path in sorted({path for path, _ in _foreign(owners)}):
        if path not in ours and path[0] != "status" and path[-1] not in _NOT_DRIFT and path != ("spec", "replicas"):
            yield path


def _related(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def show(path: Path) -> str:
    """Return a path as a person writes it."""
    return ".".join(path).replace(".[", "[")


def smaller(one: str, other: str) -> bool:
    """Tell whether one quantity (such as ``5Gi``) is less than another."""
    return bool(parse_quantity(one) < parse_quantity(other))  # type: ignore[no-untyped-call]


def gibibytes(quantity: str) -> int:
    """Return a quantity (such as ``5Gi``) in whole GiB, what is begun counted as one."""
    size: Decimal = parse_quantity(quantity)  # type: ignore[no-untyped-call]
    return math.ceil(size / 2**30)
