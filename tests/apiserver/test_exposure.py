"""How devices reach the gate, on a real API server: its own words for ports that it does not give."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from pacs_operator.kube.inventory import CATALOG
from tests.engine.world import archive_manifest, catalog_manifest

from .operating import Operating

NAME = "exposed"
HELD = 30999  # by somebody else


def exposed(more: dict[str, Any] | None = None, **service: Any) -> dict[str, Any]:
    return archive_manifest(
        **(more or {}),
        storage={"sizeGi": 20, "storageClassName": "exposed"},
        database={"mode": "Managed", "sizeGi": 5, "storageClassName": "exposed"},
        gate={"service": {"type": "NodePort", **service}, "replicas": 2},
    )


@pytest.fixture
def scene(chart: client.ApiClient) -> Iterator[Operating]:
    scene = Operating(chart, NAME, "ab" * 16)
    made: Any = {"metadata": {"name": "exposed"}, "provisioner": "example.org/none"}
    client.StorageV1Api(chart).create_storage_class(made)
    catalog = catalog_manifest()
    if scene.person.get(CATALOG, "stable") is None:
        scene.person.create(catalog)
    port: Any = {"port": 80, "nodePort": HELD}
    other: Any = {"metadata": {"name": "other"}, "spec": {"type": "NodePort", "ports": [port]}}
    scene.core.create_namespaced_service("default", other)
    yield scene
    scene.core.delete_namespaced_service("other", "default")
    client.StorageV1Api(chart).delete_storage_class("exposed")


def service(scene: Operating) -> Any:
    return scene.core.read_namespaced_service("gate", f"{NAME}-edge")


def told(scene: Operating) -> tuple[str, str]:
    found = scene.condition("GateExposed")
    return found["status"], found["reason"]


def test_from_a_taken_port_to_a_load_balancer(scene: Operating) -> None:
    scene.apply(exposed(nodePort=HELD))
    scene.settle()
    assert told(scene) == ("False", "NodePortTaken")
    assert f"spec.gate.service.nodePort: {HELD}" in scene.condition("GateExposed")["message"]
    client.AppsV1Api(scene.core.api_client).read_namespaced_deployment("gate", f"{NAME}-edge")  # the rest is there

    scene.apply(exposed(nodePort=29999))
    scene.settle()
    assert told(scene) == ("False", "NodePortOutOfRange")

    scene.apply(exposed(nodePort=30998))
    scene.settle()
    assert told(scene) == ("True", "Exposed")
    assert service(scene).spec.ports[0].node_port == 30998
    assert service(scene).spec.external_traffic_policy == "Local"

    scene.apply(exposed({"dicomweb": {}}, nodePort=30998))
    scene.settle()
    assert told(scene) == ("True", "Exposed")
    assert [port.name for port in service(scene).spec.ports] == ["dicom-tls", "https"], "the quota has room for both"
    scene.apply(exposed({"dicomweb": {"nodePort": HELD}}, nodePort=30998))
    scene.settle()
    assert f"spec.dicomweb.nodePort: {HELD}" in scene.condition("GateExposed")["message"]

    scene.apply(exposed(nodePort=HELD))
    scene.settle()
    assert told(scene) == ("False", "NodePortTaken")
    assert service(scene).spec.ports[0].node_port == 30998, "the Service stays as it was"

    balanced: dict[str, Any] = {"loadBalancerClass": "example.org/lb", "annotations": {"example.org/pool": "dicom"}}
    scene.apply(exposed(type="LoadBalancer", **balanced))
    scene.settle()
    assert told(scene) == ("Unknown", "AddressPending")
    live = service(scene)
    assert (live.spec.type, live.spec.load_balancer_class) == ("LoadBalancer", "example.org/lb")
    assert live.metadata.annotations["example.org/pool"] == "dicom"
    assert live.spec.health_check_node_port, "the balancer asks it which nodes have a gate"

    ingress: Any = {"status": {"loadBalancer": {"ingress": [{"ip": "198.18.0.40"}]}}}
    scene.core.patch_namespaced_service_status("gate", f"{NAME}-edge", ingress)
    scene.settle()
    assert told(scene) == ("True", "Exposed")

    scene.apply(exposed(type="LoadBalancer", **{**balanced, "loadBalancerClass": "example.org/other"}))
    scene.settle()
    assert told(scene) == ("False", "ServiceRefused"), "a class is for life"
    assert "loadBalancerClass" in scene.condition("GateExposed")["message"]

    scene.apply(exposed(nodePort=30998))  # back, with everything the load balancer had
    scene.settle()
    assert told(scene) == ("True", "Exposed")
    assert service(scene).spec.type == "NodePort"


def test_a_load_balancer_without_ports_of_the_nodes(scene: Operating) -> None:
    other = Operating(scene.core.api_client, "nodeless", "bc" * 16)
    other.apply(exposed(type="LoadBalancer", loadBalancerNodePorts="None"))
    other.settle()
    live: Any = other.core.read_namespaced_service("gate", "nodeless-edge")
    assert live.spec.allocate_load_balancer_node_ports is False
    assert live.spec.ports[0].node_port is None
    other.settle()
    again: Any = other.core.read_namespaced_service("gate", "nodeless-edge")
    assert again.metadata.resource_version == live.metadata.resource_version, "nothing is written twice"
