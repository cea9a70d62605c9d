"""The gate: as many replicas as asked for, spread, replaced one by one without a gap."""

from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import OUTBOUND_SERVICE, Component, Port
from pacs_operator.render import agent, offline, pods, services, sizes
from pacs_operator.render.gate import gate_config
from pacs_operator.render.manifests import Manifest, config_map, namespaced, selector

NAME = Component.GATE.value
REPLICAS_SERVICE = "gate-replicas"

_GRACE_SECONDS = 60
# Endpoints and load balancers learn of a pod's end while it goes on: until then it still accepts.
_DEREGISTRATION_SECONDS = 5


def files(desired: Desired) -> dict[str, str]:
    """Return the content of the gate's ConfigMap."""
    return {**agent.files(desired, Component.GATE), **gate_config(desired)}


def configuration(desired: Desired) -> list[Manifest]:
    """Return the gate's ConfigMap."""
    return [config_map(desired, NAME, Component.GATE, files(desired))]


def network(desired: Desired) -> list[Manifest]:
    """Return the Service that peers use, Orthanc's, and the headless one to attack each replica by address."""
    return [
        _service(desired),
        _outbound(desired),
        services.headless(desired, REPLICAS_SERVICE, Component.GATE, _PORT),
    ]


_PORT: Manifest = {
    "name": "dicom-tls",
    "port": Port.DICOM_TLS,
    "protocol": "TCP",
    "targetPort": Port.DICOM_TLS,
}


def _service(desired: Desired) -> Manifest:
    wanted = desired.archive.spec.gate.service
    port = dict(_PORT)
    if wanted.node_port is not None:
        port["nodePort"] = wanted.node_port
    spec: Manifest = {
        "type": wanted.type,
        # Keeps the peers' source addresses, which policies and the gate check.
        "externalTrafficPolicy": "Local",
        "selector": selector(desired, Component.GATE),
        "ports": [port, *_web_ports(desired), *_legacy_ports(desired)],
    }
    if wanted.type == "LoadBalancer" and wanted.load_balancer_class is not None:
        spec["loadBalancerClass"] = wanted.load_balancer_class
    if wanted.load_balancer_node_ports == "None":
        spec["allocateLoadBalancerNodePorts"] = False
    head = namespaced(desired, "Service", NAME, Component.GATE, dict(wanted.annotations))
    return {**head, "spec": spec}


def _web_ports(desired: Desired) -> list[Manifest]:
    asked = desired.archive.spec.dicomweb
    if asked is None:
        return []
    port: Manifest = {"name": "https", "port": Port.HTTPS, "protocol": "TCP", "targetPort": Port.GATE_WEB}
    return [port | ({"nodePort": asked.node_port} if asked.node_port else {})]


def _legacy_ports(desired: Desired) -> list[Manifest]:
    """Return a port for each device without TLS that is let in; what is closed has none."""
    allowed = desired.archive.spec.dicom.legacy_ports
    ports = []
    for number in sorted(peer.legacy.port for peer in desired.peers.peers if peer.legacy):
        port: Manifest = {"name": f"legacy-{number}", "port": number, "protocol": "TCP", "targetPort": number}
        if allowed and (fixed := allowed.node_port(number)):
            port["nodePort"] = fixed
        ports.append(port)
    return ports


def _outbound(desired: Desired) -> Manifest:
    """Return Orthanc's way to the gate: a Service of its own, since the other one is open to the outside."""
    number = Port.GATE_OUTBOUND
    port = {"name": "outbound", "port": number, "protocol": "TCP", "targetPort": number}
    spec = {"type": "ClusterIP", "selector": selector(desired, Component.GATE), "ports": [port]}
    return {**namespaced(desired, "Service", OUTBOUND_SERVICE, Component.GATE), "spec": spec}


def workload(desired: Desired) -> Manifest:
    """Return the Deployment."""
    pod_selector = selector(desired, Component.GATE)
    pod = pods.Pod(
        component=Component.GATE,
        config=files(desired),
        config_map=NAME,
        init_containers=[agent.sidecar(desired, Component.GATE)],
        containers=[_haproxy(desired)],
        volumes=[pods.run_volume(), pods.peers_volume(), *offline.volumes(desired)],
        grace_seconds=_GRACE_SECONDS,
        fields={
            "topologySpreadConstraints": [_spread(pod_selector, key) for key in _SPREAD_OVER],
            **offline.scheduling(desired),
        },
    )
    head = namespaced(desired, "Deployment", NAME, Component.GATE)
    return {
        **head,
        "spec": {
            "replicas": desired.archive.spec.gate.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": pod_selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": pods.template(desired, pod),
        },
    }


_SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def _spread(pod_selector: dict[str, str], key: str) -> Manifest:
    """Return a wish, not a demand: on one node two gates are still better than one."""
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": pod_selector},
        "matchLabelKeys": ["pod-template-hash"],
    }


def _container_web_port(desired: Desired) -> list[Manifest]:
    if desired.archive.spec.dicomweb is None:
        return []
    return [{"name": "https", "containerPort": Port.GATE_WEB, "protocol": "TCP"}]


def _haproxy(desired: Desired) -> Manifest:
    """Return HAProxy; without liveness probe, since its own watchdog ends a stuck process, associations included."""
    return pods.container(
        "haproxy",
        desired.release.images.gate,
        sizes.main(desired, Component.GATE).resources(),
        [pods.MOUNT_CONFIG, pods.MOUNT_TLS, pods.MOUNT_RUN_WRITABLE],
        args=["-f", "/etc/pacs/haproxy.cfg"],
        ports=[
            {"name": "dicom-tls", "containerPort": Port.DICOM_TLS, "protocol": "TCP"},
            {"name": "outbound", "containerPort": Port.GATE_OUTBOUND, "protocol": "TCP"},
            *_container_web_port(desired),
        ],
        lifecycle={"preStop": {"sleep": {"seconds": _DEREGISTRATION_SECONDS}}},
        readinessProbe=pods.http_probe("/readyz", period=2, failures=2),
    )
