"""How devices reach the gate: ports that the cluster does not give, addresses that never come."""

from typing import Any

import pytest

from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.kube.errors import ApiInvalidError
from pacs_operator.reconcile import exposure
from tests.engine.world import ARCHIVE, World, archive_manifest

SERVICE = ("Service", "radiology-edge", "gate")
TAKEN = "provided port is already allocated"
OUTSIDE = "provided port is not in the valid range. The range of valid ports is 30000-32767"


def exposed(**service: Any) -> dict[str, Any]:
    return archive_manifest(gate={"service": {"type": "NodePort", **service}, "replicas": 2})


def balanced(**service: Any) -> dict[str, Any]:
    return exposed(type="LoadBalancer", **service)


def told(world: World) -> tuple[str, str]:
    found = world.condition("GateExposed")
    return found["status"], found["reason"]


@pytest.fixture
def world() -> World:
    return World().serve(exposed(nodePort=30762))


@pytest.mark.parametrize(
    ("words", "reason", "said"),
    [
        (TAKEN, "NodePortTaken", "spec.gate.service.nodePort: 30999 is in use"),
        (OUTSIDE, "NodePortOutOfRange", "spec.gate.service.nodePort: 30999 is outside"),
        ("something new", "ServiceRefused", "Invalid value: 30999: something new"),
    ],
)
def test_a_port_that_the_cluster_does_not_give_holds_up_nothing_else(
    world: World, words: str, reason: str, said: str
) -> None:
    assert told(world) == ("True", "Exposed")
    before = world.api.objects[SERVICE]
    world.api.refused_ports[30999] = words
    world.api.put(archive_manifest(gate={"service": {"type": "NodePort", "nodePort": 30999}, "replicas": 3}))
    world.process.reconcile(ARCHIVE)
    assert told(world) == ("False", reason)
    message = world.condition("GateExposed")["message"]
    assert said in message
    assert "the Service stays as it was" in message
    assert world.api.objects[SERVICE] == before
    assert world.api.objects["Deployment", "radiology-edge", "gate"]["spec"]["replicas"] == 3, "the rest is in force"
    world.api.refused_ports.clear()  # somebody freed it
    world.settle(world.process)
    assert told(world) == ("True", "Exposed")
    assert "30999" in world.condition("GateExposed")["message"]
    assert world.condition("Ready")["status"] == "True"


def test_an_archive_is_not_ready_without_a_service() -> None:
    world = World()
    world.api.put(exposed(nodePort=30999))
    world.api.refused_ports[30999] = TAKEN
    process = world.operator()
    for _ in range(6):
        process.reconcile(ARCHIVE)
        world.controllers()
        world.advance(15)
    assert told(world) == ("False", "NodePortTaken")
    assert "there is no Service yet" in world.condition("GateExposed")["message"]
    assert world.condition("Ready")["status"] == "False"
    assert SERVICE not in world.api.objects
    world.api.refused_ports.clear()
    world.settle(process)
    assert world.condition("Ready")["status"] == "True"


def test_another_object_that_is_refused_is_still_an_error(world: World) -> None:
    refusal = ApiInvalidError("spec.ports: no", action="none")
    world.log.faults.errors.append((lambda verb, kind: verb == "apply" and kind == "ConfigMap", refusal))
    world.api.put(archive_manifest(dicom={"aeTitle": "OTHER"}))
    with pytest.raises(ApiInvalidError):
        world.process.reconcile(ARCHIVE)


def test_a_load_balancer_without_address_is_waited_for_and_then_told() -> None:
    world = World()
    world.api.put(balanced())
    process = world.operator()
    world.settle(process)
    assert told(world) == ("Unknown", "AddressPending")
    world.advance(301)
    process.reconcile(ARCHIVE)
    assert told(world) == ("False", "NoAddress")
    assert "loadBalancerClass" in world.condition("GateExposed")["message"]
    world.api.set_status(SERVICE, {"loadBalancer": {"ingress": [{"ip": "198.18.0.40"}, {"hostname": "lb.example"}]}})
    process.reconcile(ARCHIVE)
    assert told(world) == ("True", "Exposed")
    assert "198.18.0.40, lb.example" in world.condition("GateExposed")["message"]
    assert world.archive["status"]["endpoints"]["loadBalancer"] == ["198.18.0.40", "lb.example"]


def test_what_is_rendered_for_a_load_balancer(world: World) -> None:
    assert "allocateLoadBalancerNodePorts" not in world.api.objects[SERVICE]["spec"]
    service = {"loadBalancerClass": "example.org/lb", "annotations": {"example.org/pool": "dicom"}}
    world.api.put(balanced(**service, loadBalancerNodePorts="None", nodePort=None))
    world.settle(world.process)
    live = world.api.objects[SERVICE]
    assert live["spec"]["type"] == "LoadBalancer"
    assert live["spec"]["externalTrafficPolicy"] == "Local", "peers keep their addresses"
    assert live["spec"]["loadBalancerClass"] == "example.org/lb"
    assert live["spec"]["allocateLoadBalancerNodePorts"] is False
    assert live["metadata"]["annotations"]["example.org/pool"] == "dicom"


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"type": "NodePort", "loadBalancerNodePorts": "None"}, "given while type is NodePort"),
        ({"type": "LoadBalancer", "loadBalancerNodePorts": "None", "nodePort": 30762}, "spec.gate.service.nodePort"),
    ],
)
def test_what_contradicts_itself(service: dict[str, Any], words: str) -> None:
    refuses(archive_manifest(gate={"service": service}), words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"dicomweb": {"nodePort": 30443}}, "spec.dicomweb.nodePort: given while"),
        (
            {
                "dicom": {
                    "aeTitle": "RADIOLOGY",
                    "legacyPorts": {"first": 11112, "last": 11113, "firstNodePort": 31112},
                    "staffedHours": {"schedule": "0 8 * * *", "timeZone": "Etc/UTC"},
                }
            },
            "spec.dicom.legacyPorts.firstNodePort: given while",
        ),
    ],
)
def test_a_fixed_port_where_there_is_none(more: dict[str, Any], words: str) -> None:
    refuses(
        archive_manifest(gate={"service": {"type": "LoadBalancer", "loadBalancerNodePorts": "None"}}, **more), words
    )


def refuses(manifest: dict[str, Any], words: str) -> None:
    world = World()
    world.api.put(manifest)
    world.settle()
    assert words in world.condition("Stalled")["message"]


def test_each_port_of_the_gate_is_named_by_its_own_field(world: World) -> None:
    legacy = {"first": 11112, "last": 11114, "firstNodePort": 31112}
    hours = {"schedule": "0 8 * * *", "timeZone": "Etc/UTC"}
    dicom = {"aeTitle": "RADIOLOGY", "legacyPorts": legacy, "staffedHours": hours}
    gate = {"service": {"type": "NodePort", "nodePort": 30762}, "replicas": 2}
    spec = ArchiveSpec.model_validate(archive_manifest(dicom=dicom, gate=gate, dicomweb={"nodePort": 30443})["spec"])
    assert [exposure._field(spec, number) for number in (30762, 30443, 31114, 31115)] == [
        "spec.gate.service.nodePort: 30762",
        "spec.dicomweb.nodePort: 30443",
        "spec.dicom.legacyPorts.firstNodePort: 31112: port 31114, which follows from it,",
        "port 31115 of the nodes",
    ]
