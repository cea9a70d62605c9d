"""The CRD guard sees each kind of breaking change, and nothing in an additive one."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("crddiff", ROOT / "tools" / "crddiff.py")
assert SPEC and SPEC.loader
crddiff = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(crddiff)

OLD = (ROOT / "crds" / "dicompeers.yaml").read_text()


def after(edit: Callable[[dict[str, Any], dict[str, Any]], object]) -> list[str]:
    new = copy.deepcopy(yaml.safe_load(OLD))
    spec = new["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    edit(new, spec)
    return crddiff.compare(OLD, yaml.safe_dump(new))


def test_no_change_breaks_nothing() -> None:
    assert after(lambda crd, spec: None) == []


def test_an_optional_field_breaks_nothing() -> None:
    assert after(lambda crd, spec: spec["properties"].update(note={"type": "string"})) == []


def test_a_wider_limit_breaks_nothing() -> None:
    assert after(lambda crd, spec: spec["properties"]["aeTitles"].update(maxItems=32)) == []


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda crd, spec: spec["properties"].pop("limits"), ".spec.limits: field removed"),
        (lambda crd, spec: spec["required"].append("limits"), ".spec.limits: became required"),
        (lambda crd, spec: spec["properties"]["aeTitles"].update(maxItems=8), "maxItems lowered from 16 to 8"),
        (lambda crd, spec: spec["properties"]["aeTitles"].update(minItems=2), "minItems raised from 1 to 2"),
        (lambda crd, spec: spec["properties"]["rights"]["items"]["enum"].remove("Move"), "no longer accepts Move"),
        (lambda crd, spec: spec["properties"]["aeTitles"].update(type="string"), "type changed from array to string"),
        (lambda crd, spec: spec["properties"]["limits"].update(default={}), "default {} added"),
        (lambda crd, spec: spec["properties"]["aeTitles"]["items"].update(pattern="^A"), "pattern changed to ^A"),
        (lambda crd, spec: spec.update({"x-kubernetes-validations": [{"rule": "false"}]}), "new rule false"),
        (lambda crd, spec: crd["spec"].update(scope="Cluster"), "scope changed from Namespaced to Cluster"),
        (lambda crd, spec: crd["spec"]["versions"][0].update(served=False), "v1alpha1 is no longer served"),
    ],
)
def test_each_breaking_change_is_named(edit: Callable[[dict, dict], object], line: str) -> None:
    assert any(line in found for found in after(edit))
