"""Model, CRD and docs agree: the same fields, the same required ones, the same limits and choices."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pacs_operator.domain.approval import ApprovalSpec
from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.catalog import CatalogSpec
from pacs_operator.domain.importing import ImportSpec
from pacs_operator.domain.peer import PeerSpec

ROOT = Path(__file__).parents[2]
LIMITS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
# A length that the CRD must bound for the API server's cost estimate while the model applies the exact rule.
BOUNDED_ONLY_IN_CRD = {"maxLength", "minLength", "maxItems", "maxProperties"}


def resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow references and drop the null of an optional field."""
    if "$ref" in schema:
        return resolve(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    return resolve(choices[0], root) if len(choices) == 1 else schema


def values(schema: dict[str, Any]) -> list[str] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def differences(model: dict[str, Any], crd: dict[str, Any], root: dict[str, Any], path: str) -> list[str]:
    model = resolve(model, root)
    found = []
    if model.get("type", "string") != crd["type"]:
        found.append(f"{path}: model says {model.get('type')}, CRD {crd['type']}")
    if values(model) != crd.get("enum"):
        found.append(f"{path}: choices {values(model)} != {crd.get('enum')}")
    for limit in LIMITS:
        ours, theirs = model.get(limit), crd.get(limit)
        if ours != theirs and not (ours is None and limit in BOUNDED_ONLY_IN_CRD):
            found.append(f"{path}: {limit} {ours} != {theirs}")
    if crd["type"] == "object" and "properties" in crd:
        ours, theirs = set(model.get("properties", {})), set(crd["properties"])
        found += [f"{path}.{name}: only in one of model and CRD" for name in ours ^ theirs]
        if set(model.get("required", [])) != set(crd.get("required", [])):
            found.append(f"{path}: required {model.get('required')} != {crd.get('required')}")
        for name in ours & theirs:
            found += differences(model["properties"][name], crd["properties"][name], root, f"{path}.{name}")
    if crd["type"] == "array":
        found += differences(model["items"], crd["items"], root, f"{path}[]")
    return found


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("pacsarchives", ArchiveSpec),
        ("dicompeers", PeerSpec),
        ("pacscatalogs", CatalogSpec),
        ("pacsapprovals", ApprovalSpec),
        ("pacsimports", ImportSpec),
    ],
)
def test_the_crd_is_the_model(name: str, model: type[BaseModel]) -> None:
    crd = yaml.safe_load((ROOT / "crds" / f"{name}.yaml").read_text())
    schema = model.model_json_schema(by_alias=True)
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert differences(schema, spec, schema, "spec") == []


def fields(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    if schema.get("type") == "array":
        return fields(schema["items"], path + "[]")
    return [
        pair
        for name, child in schema.get("properties", {}).items()
        for pair in [(f"{path}.{name}", child), *fields(child, f"{path}.{name}")]
    ]


@pytest.mark.parametrize("file", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_field_is_described_and_bounded(file: Path) -> None:
    text = file.read_text()
    assert len(text) < 200_000
    schema = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, field in fields(schema):
        if path == ".metadata":
            continue
        assert field.get("description"), path
        assert "default" not in field, path
        if field["type"] == "array":
            assert "maxItems" in field, path
        if "additionalProperties" in field:
            assert "maxProperties" in field, path
        if field["type"] == "string" and path not in (".apiVersion", ".kind") and field.get("format") != "date-time":
            assert "maxLength" in field or "enum" in field, path


def test_the_api_page_is_what_the_crds_say() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "apidoc.py", "--check"], check=True)
