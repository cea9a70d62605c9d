"""``PacsImport`` on a real API server: bad input with its way out, what never changes, and where one may stand."""

import copy
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client import ApiException, CustomObjectsApi

from .conftest import as_user
from .test_bad_input import changed

EXAMPLE = yaml.safe_load((Path(__file__).parents[2] / "examples" / "import.yaml").read_text())
# An archive that no other test speaks of: the chart's policy, once there, holds for all.
EXAMPLE["spec"]["archiveRef"]["name"] = "bringing"
EXAMPLE["metadata"]["namespace"] = "bringing-ops"
WHERE = ("pacs-operator.io", "v1alpha1", "bringing-ops", "pacsimports")
PEM = "-----BEGIN CERTIFICATE-----"
SOURCE = EXAMPLE["spec"]["source"]
MOVES = {"retrieve": "Move", "moveDestination": "RADIOLOGY"}
MUTUAL = {"mode": "Mutual", "caPEM": PEM, "serverName": "old-pacs.example"}


@pytest.fixture(scope="module", autouse=True)
def namespaces(api: client.ApiClient) -> None:
    for name in ("bringing-ops", "elsewhere"):
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})  # type: ignore[arg-type]


def put(api: CustomObjectsApi, body: dict[str, Any]) -> None:
    api.create_namespaced_custom_object(*WHERE, body, dry_run="All", field_validation="Strict")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.source.tls", MUTUAL),
        ("spec.source.queryLimit", 10),
        ("spec.source", {**SOURCE, "retrieve": "Get"}),
        ("spec.source", {**SOURCE, **MOVES}),
        ("spec.selection", {"studyDates": {"first": "2020-01-01", "last": "2020-01-01"}, "modalities": ["CT"]}),
        ("spec.suspend", True),
    ],
)
def test_what_may_be_is_accepted(crds: CustomObjectsApi, path: str, value: Any) -> None:
    put(crds, EXAMPLE)
    put(crds, changed(EXAMPLE, path, value))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.source.address", "old-pacs.example", ["'old-pacs.example'", "198.18.10.30"]),
        ("spec.source.address", "127.0.0.1", ["no address of one device"]),
        ("spec.source.port", 0, ["spec.source.port"]),
        ("spec.source.calledAETitle", "SEVENTEEN-LETTERS", ["calledAETitle", "16 printable"]),
        ("spec.source.callingAETitle", "A\\\\B", ["callingAETitle", "backslash"]),
        ("spec.source.tls", {"mode": "Mutual", "caPEM": PEM}, ["serverName"]),
        ("spec.source.tls", {**MUTUAL, "serverName": "*.example"}, ["serverName", "wildcard"]),
        ("spec.source.tls", {"mode": "Plaintext"}, ["spec.source.tls.reason"]),
        ("spec.source.tls", {**MUTUAL, "reason": "no reason is needed"}, ["spec.source.tls.reason"]),
        ("spec.source.queryLimit", 9, ["queryLimit"]),
        ("spec.source.retrieve", "Wado", ["spec.source.retrieve", "Get", "Move"]),
        ("spec.source.retrieve", "Move", ["moveDestination", "retrieve Move needs one"]),
        ("spec.source.moveDestination", "RADIOLOGY", ["moveDestination", "retrieve Get needs none"]),
        ("spec.source", {**SOURCE, **MOVES, "retrieve": "Get"}, ["moveDestination", "retrieve Get needs none"]),
        ("spec.source", {**SOURCE, **MOVES, "moveDestination": " SPACED"}, ["moveDestination", "16 printable"]),
        ("spec.selection.studyDates", {"first": "2021-01-01", "last": "2020-01-01"}, ["exchange"]),
        ("spec.selection.studyDates", {"first": "1.1.2020", "last": "2020-01-01"}, ["studyDates.first"]),
        ("spec.selection.modalities", ["ct"], ["modalities"]),
        ("spec.rateLimit.objectsPerMinute", 9, ["objectsPerMinute"]),
        ("spec.rateLimit.associations", 5, ["associations"]),
        ("spec.retrieve", "Move", ["spec.retrieve"]),
    ],
)
def test_bad_input_is_refused_with_the_way_out(crds: CustomObjectsApi, path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(ApiException) as caught:
        put(crds, changed(EXAMPLE, path, value))
    assert caught.value.status in (400, 422)
    assert all(word in str(caught.value.body) for word in words), caught.value.body


def test_only_suspend_can_change(crds: CustomObjectsApi) -> None:
    crds.create_namespaced_custom_object(*WHERE, copy.deepcopy(EXAMPLE))
    name = EXAMPLE["metadata"]["name"]
    try:
        for spec in ({"source": {"port": 104}}, {"selection": {"modalities": ["CT"]}}, {"rateLimit": None}):
            with pytest.raises(ApiException) as caught:
                crds.patch_namespaced_custom_object(*WHERE, name, {"spec": spec})
            assert "delete this PacsImport and create another" in str(caught.value.body)
        crds.patch_namespaced_custom_object(*WHERE, name, {"spec": {"suspend": True}})
    finally:
        crds.delete_namespaced_custom_object(*WHERE, name)


def test_an_import_stands_in_its_archives_ops_zone(chart: client.ApiClient) -> None:
    somebody = CustomObjectsApi(as_user(chart, "anna", "system:masters"))

    def attempt(namespace: str) -> None:
        body = changed(EXAMPLE, "metadata.namespace", namespace)
        somebody.create_namespaced_custom_object(*WHERE[:2], namespace, WHERE[3], body, dry_run="All")

    attempt("bringing-ops")
    with pytest.raises(ApiException) as caught:
        for _ in range(300):  # until the policy has taken effect
            attempt("elsewhere")
            time.sleep(0.1)
    assert "stand in namespace bringing-ops, not in elsewhere" in str(caught.value.body)
