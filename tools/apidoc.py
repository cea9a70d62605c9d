"""Write docs/api.md from the CRDs: every field with its type, limits and text.

Run ``python tools/apidoc.py``; with ``--check`` it only tells whether the page is current.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
ORDER = ("pacsarchives.yaml", "dicompeers.yaml", "pacscatalogs.yaml", "pacsapprovals.yaml", "pacsimports.yaml")
LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "{} characters or more",
    "maxLength": "{} characters at most",
    "minItems": "{} items or more",
    "maxItems": "{} items at most",
    "minProperties": "{} keys or more",
    "maxProperties": "{} keys at most",
    "pattern": "matches `{}`",
}


def limits(schema: dict[str, Any]) -> str:
    """Return a schema's limits in words."""
    words = [text.format(schema[key]) for key, text in LIMITS.items() if key in schema]
    if "enum" in schema:
        words.insert(0, "one of " + ", ".join(f"`{value}`" for value in schema["enum"]))
    return "; ".join(words)


def type_of(schema: dict[str, Any]) -> str:
    """Return a schema's type as a reader of YAML would say it."""
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type"))


def rows(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield one table row for each field below a schema, depth first."""
    if schema.get("type") == "array":
        yield from rows(schema["items"], f"{path}[]")
        return
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        need = "required" if name in schema.get("required", []) else ""
        rules = [rule["message"] for rule in child.get("x-kubernetes-validations", []) if "message" in rule]
        text = " ".join([child.get("description", ""), *(f"*{rule}.*" for rule in rules)]).replace("|", "\\|")
        limit = limits(child if child.get("type") != "array" else {**child.get("items", {}), **child})
        yield f"| `{below}` | {type_of(child)} | {need} | {text} | {limit.replace('|', chr(92) + '|')} |"
        yield from rows(child, below)


def page() -> str:
    """Return the whole page."""
    parts = [
        "# API reference",
        "",
        "Made from `crds/` by `make docs`; edit the CRDs, not this page.",
    ]
    for name in ORDER:
        crd = yaml.safe_load((ROOT / "crds" / name).read_text())
        version = crd["spec"]["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        names = crd["spec"]["names"]
        parts += [
            "",
            f"## {names['kind']}",
            "",
            f"`{crd['spec']['group']}/{version['name']}`, {crd['spec']['scope'].lower()}. {schema['description']}",
        ]
        for part in ("spec", "status"):
            if part in schema["properties"]:
                parts += ["", "| field | type | | meaning | limits |", "|---|---|---|---|---|"]
                parts += rows(schema["properties"][part], part)
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the page is not what the CRDs say")
    if parser.parse_args().check:
        if PAGE.read_text() != page():
            print("docs/api.md is not what crds/ says; run `make docs`", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
