"""Namespaces made beforehand, with real labels, Pod Security and the chart's admission policies."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from pacs_operator.kube.inventory import CATALOG
from tests.engine.world import archive_manifest, catalog_manifest

from .operating import Operating

CONSENT = "pacs-operator.io/consent"
BALANCED = {"type": "LoadBalancer", "loadBalancerNodePorts": "None"}  # holds no port of the nodes
ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module")
def storage_class(chart: client.ApiClient) -> Iterator[str]:
    made: Any = {"metadata": {"name": "beforehand"}, "provisioner": "example.org/none"}
    client.StorageV1Api(chart).create_storage_class(made)
    yield "beforehand"
    client.StorageV1Api(chart).delete_storage_class("beforehand")


def operating(api: client.ApiClient, name: str, digit: str) -> Operating:
    scene = Operating(api, name, digit * 32)
    if scene.person.get(CATALOG, "stable") is None:
        scene.person.create(catalog_manifest())
    return scene


def beforehand(scene: Operating, zone: str, **labels: str) -> None:
    body: Any = {"metadata": {"name": f"{scene.name}-{zone}", "labels": labels}}
    scene.core.create_namespace(body)


def archive(storage_class: str) -> dict[str, Any]:
    return archive_manifest(
        storage={"sizeGi": 20, "storageClassName": storage_class},
        database={"mode": "Managed", "sizeGi": 5, "storageClassName": storage_class},
        gate={"service": BALANCED},
    )


def test_namespaces_that_were_handed_over_become_zones(chart: client.ApiClient, storage_class: str) -> None:
    scene = operating(chart, "handed", "1")
    for zone in ("edge", "archive", "data"):
        beforehand(scene, zone, team="platform", **{CONSENT: "handed"})
    secret: Any = {"metadata": {"name": "index"}, "stringData": {"made": "beforehand"}}
    scene.core.create_namespaced_secret("handed-archive", secret)
    scene.apply(archive(storage_class))
    scene.settle()
    assert scene.condition("Stalled")["status"] == "False"
    for zone in ("edge", "archive", "data", "ops"):
        labels: Any = scene.core.read_namespace(f"handed-{zone}").metadata.labels  # type: ignore[union-attr]
        assert labels["pacs-operator.io/zone"] == zone
        assert labels[ENFORCE] == "restricted"
        assert (labels.get("team"), labels.get(CONSENT)) == ((None, None) if zone == "ops" else ("platform", "handed"))
    assert scene.core.read_namespaced_secret("index", "handed-archive")


@pytest.mark.parametrize(
    ("labels", "pod", "reason"),
    [
        ({}, False, "ForeignNamespace"),
        ({CONSENT: "somebody-else"}, False, "ForeignNamespace"),
        ({CONSENT: "{name}", ENFORCE: "privileged"}, False, "PodSecurityDiffers"),
        ({CONSENT: "{name}"}, True, "NamespaceInUse"),
    ],
)
def test_what_is_not_handed_over_empty_and_restricted_is_refused(
    chart: client.ApiClient, storage_class: str, labels: dict[str, str], pod: bool, reason: str
) -> None:
    scene = operating(chart, f"refused-{reason.lower()[:10]}{len(labels)}", "2")
    beforehand(scene, "archive", **{key: value.format(name=scene.name) for key, value in labels.items()})
    if pod:
        body: Any = {"metadata": {"name": "miner"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        account: Any = {"metadata": {"name": "default"}}
        scene.core.create_namespaced_service_account(f"{scene.name}-archive", account)
        scene.core.create_namespaced_pod(f"{scene.name}-archive", body)
    scene.apply(archive(storage_class))
    scene.settle()
    assert scene.condition("Stalled")["reason"] == reason
    names = {item.metadata.name for item in scene.core.list_namespace().items if item.metadata}
    assert f"{scene.name}-edge" not in names, "nothing else was made"
    found: Any = scene.core.read_namespace(f"{scene.name}-archive")
    assert "pacs-operator.io/lineage" not in found.metadata.labels
