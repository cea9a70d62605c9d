"""Rendered archives on a real API server: what is read back is what was written, and its pods are admitted."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from pacs_operator.kube.apply import Applier, in_apply_order
from pacs_operator.kube.client import KubeClient
from pacs_operator.kube.diff import compare
from pacs_operator.kube.inventory import kind_of
from pacs_operator.render import render_archive
from tests.render.archives import CASES, from_files, pod_templates

from .conftest import OPERATOR, as_user

# Who makes pods of which workload.
CONTROLLERS = {
    "Deployment": "replicaset-controller",
    "StatefulSet": "statefulset-controller",
    "Job": "job-controller",
}


def differing(rendered: Any, live: Any, path: str = "") -> Iterator[str]:
    """Yield each rendered field that does not read back to the letter; more there may be, of the server's making."""
    if isinstance(rendered, dict) and isinstance(live, dict):
        for key, value in rendered.items():
            yield from differing(value, live.get(key), f"{path}.{key}")
    elif isinstance(rendered, list) and isinstance(live, list) and len(rendered) == len(live):
        for index, (ours, theirs) in enumerate(zip(rendered, live, strict=True)):
            yield from differing(ours, theirs, f"{path}[{index}]")
    elif rendered != live:
        yield f"{path}: {rendered!r} became {live!r}"


@pytest.fixture(scope="module")
def operator(chart: client.ApiClient) -> KubeClient:
    """The API as the operator has it: the chart's rights, the chart's admission policies."""
    priority: Any = {"metadata": {"name": "patient-care"}, "value": 1000}
    client.SchedulingV1Api(chart).create_priority_class(priority)
    return KubeClient(as_user(chart, OPERATOR))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def manifests(request: pytest.FixtureRequest, operator: KubeClient) -> list[dict[str, Any]]:
    """One archive, applied by the operator."""
    case: Path = request.param
    ordered = in_apply_order(render_archive(from_files(case)))
    applier = Applier(operator)
    for manifest in ordered:
        assert applier.write(manifest, None), "a creation"
    return ordered


def live_of(operator: KubeClient, manifest: dict[str, Any]) -> dict[str, Any]:
    live = operator.get(kind_of(manifest), manifest["metadata"]["name"], manifest["metadata"].get("namespace"))
    assert live, manifest["metadata"]
    return live


def test_every_field_reads_back_as_it_was_rendered(operator: KubeClient, manifests: list[dict[str, Any]]) -> None:
    assert len(manifests) > 40
    for manifest in manifests:
        live = live_of(operator, manifest)
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        assert list(differing(manifest, live, where)) == []
        assert not compare(manifest, live), where


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each plain value."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path


def edited(live: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    other = copy.deepcopy(live)
    holder = other
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    holder[path[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}1"
    return other


def test_an_edit_of_any_rendered_value_is_drift(operator: KubeClient, manifests: list[dict[str, Any]]) -> None:
    """The comparison above is quiet because nothing differs, not because it sees nothing."""
    edits = 0
    for manifest in manifests:
        live = live_of(operator, manifest)
        shown = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
        shown["metadata"] = {key: manifest["metadata"].get(key, {}) for key in ("labels", "annotations")}
        for path in leaves(shown):
            assert compare(manifest, edited(live, path)), (manifest["kind"], manifest["metadata"]["name"], path)
            edits += 1
    assert edits > 800


def test_a_fresh_process_writes_nothing(operator: KubeClient, manifests: list[dict[str, Any]]) -> None:
    applier = Applier(operator)
    for manifest in manifests:
        assert applier.write(manifest, live_of(operator, manifest)) is None, manifest["metadata"]["name"]


def test_a_second_apply_changes_nothing(operator: KubeClient, manifests: list[dict[str, Any]]) -> None:
    """Claims alone are stored once more, unchanged: the server shows a status at creation that it did not store."""
    for manifest in manifests:
        if manifest["kind"] == "Job":
            continue  # only ever created
        if manifest["kind"] == "PersistentVolumeClaim":
            created, again = live_of(operator, manifest), operator.apply(manifest, force=True)
            assert without_version(again) == without_version(created)
        before = live_of(operator, manifest)["metadata"]["resourceVersion"]
        after = operator.apply(manifest, force=True)["metadata"]["resourceVersion"]
        assert after == before, f"{manifest['kind']} {manifest['metadata']['name']} was written anew"


def without_version(live: dict[str, Any]) -> dict[str, Any]:
    return {**live, "metadata": {**live["metadata"], "resourceVersion": None}}


def admit(api: client.ApiClient, workload: dict[str, Any], spec: dict[str, Any]) -> None:
    """Make a pod of this workload as its controller would; nothing is stored."""
    metadata = {"generateName": "admitted-", "labels": workload["spec"]["template"]["metadata"]["labels"]}
    name = f"system:serviceaccount:kube-system:{CONTROLLERS[workload['kind']]}"
    pod: Any = {"metadata": metadata, "spec": spec}
    client.CoreV1Api(as_user(api, name)).create_namespaced_pod(workload["metadata"]["namespace"], pod, dry_run="All")


def test_every_pod_is_admitted_and_none_that_might_run_as_root(
    chart: client.ApiClient, manifests: list[dict[str, Any]]
) -> None:
    seen = set()
    for workload, template in pod_templates(manifests):
        seen.add(workload["metadata"]["name"].partition("-")[0])
        admit(chart, workload, template["spec"])
        for group in ("initContainers", "containers"):
            for index, _ in enumerate(template["spec"][group]):
                twin = copy.deepcopy(template["spec"])
                twin[group][index]["securityContext"]["runAsNonRoot"] = False
                with pytest.raises(ApiException) as caught:
                    admit(chart, workload, twin)
                assert re.search(r'violates PodSecurity \\"restricted:[^"]*\\": runAsNonRoot', str(caught.value.body))
    assert seen >= {"gate", "orthanc", "postgres"}
