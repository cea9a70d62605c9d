"""What stands on this side of the cluster: the chart as other tools read it, and the kinds as kubectl explains them."""

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes import client

from tests.scan import CHART, refused, scan

from .conftest import ROOT

CRDS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
OURS = {crd["spec"]["names"]["kind"] for crd in CRDS}


@pytest.mark.parametrize("version", ["1.33", "1.35"])
def test_the_chart_is_valid_for_the_oldest_and_the_newest_kubernetes(
    rendered: list[dict[str, Any]], version: str
) -> None:
    checked = [manifest for manifest in rendered if manifest["kind"] not in OURS]
    assert {"Deployment", "ValidatingAdmissionPolicy", "ClusterRole", "NetworkPolicy"} <= {m["kind"] for m in checked}
    for manifest in checked:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_checkov_finds_nothing_in_the_chart(rendered: list[dict[str, Any]], tmp_path: Path) -> None:
    report = scan(rendered, tmp_path / "chart")
    assert report.checks > 100
    assert refused(report.failed, CHART) == set()


def test_a_wildcard_right_would_be_found(rendered: list[dict[str, Any]], tmp_path: Path) -> None:
    role = next(manifest for manifest in rendered if manifest["kind"] == "ClusterRole")
    wide = {**role, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    assert {check for check, _ in scan([role], tmp_path / "narrow").failed} == set()
    assert "CKV_K8S_49" in {check for check, _ in scan([wide], tmp_path / "wide").failed}


def test_the_crds_leave_room_in_one_etcd_object_and_in_a_helm_release() -> None:
    sizes = [len(path.read_bytes()) for path in (ROOT / "crds").glob("*.yaml")]
    assert len(sizes) == len(CRDS) >= 3
    assert sum(sizes) < 200_000


@pytest.mark.parametrize("crd", CRDS, ids=lambda crd: crd["spec"]["names"]["kind"])
def test_kubectl_explains(crds: client.CustomObjectsApi, api_kubeconfig: Path, crd: dict[str, Any]) -> None:
    """Each kind and each top-level field of its spec, by what the CRD says about it."""
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = schema["properties"]["spec"]["properties"]
    kubectl = ["kubectl", "--kubeconfig", str(api_kubeconfig), "explain"]
    path = f"{crd['spec']['names']['plural']}.spec"
    shown = subprocess.run([*kubectl, path], check=True, capture_output=True, text=True).stdout
    words = " ".join(shown.split())
    assert f"KIND: {crd['spec']['names']['kind']}" in words
    assert fields
    for name, field in fields.items():
        assert f" {name} <" in words, name
        assert " ".join(field["description"].split()) in words, name
