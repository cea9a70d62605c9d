"""How devices reach the gate: its Service, and what the cluster says of ports and addresses.

A Service that the API server refuses holds up nothing else: the one that was there stays as it is, peers are revoked
and pods rolled as ever, and GateExposed names the port.
"""

import re
from datetime import timedelta

from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.times import parse_time
from pacs_operator.kube.errors import ApiInvalidError
from pacs_operator.kube.port import Manifest, metadata
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.workloads import gates_service

#: How long a load balancer may take to get an address before it counts as one that gets none.
ADDRESS_WITHIN = timedelta(minutes=5)
MAX_WORDS = 300

_TAKEN = re.compile(r"nodePort: Invalid value: (\d+): provided port is already allocated")
_OUT_OF_RANGE = re.compile(r"nodePort: Invalid value: (\d+): provided port is not in the valid range")


def report(run: Pass) -> None:
    """Set GateExposed from what the API server said, and from the Service as it stands."""
    if run.archive is None:
        return
    if run.service_refused is not None:
        _refused(run, run.archive.spec, run.service_refused)
        return
    service = run.owned.get(gates_service(run.name))
    if service is None:
        return
    kind = ConditionType.GATE_EXPOSED
    ports = ", ".join(_shown(port) for port in service["spec"]["ports"])
    if service["spec"]["type"] == "NodePort":
        run.set(kind, "True", "Exposed", f"On each node with a gate pod: {ports}")
        return
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    addresses = sorted({str(entry.get("hostname") or entry.get("ip") or "") for entry in ingress} - {""})
    if addresses:
        run.set(kind, "True", "Exposed", f"At {', '.join(addresses[:8])}: {ports}")
    elif run.now - parse_time(metadata(service)["creationTimestamp"]) < ADDRESS_WITHIN:
        run.set(kind, "Unknown", "AddressPending", "The load balancer has no address yet")
    else:
        text = (
            "spec.gate.service.type: LoadBalancer, and nothing in the cluster has given the gate's Service an address; "
            "see kubectl -n " + metadata(service)["namespace"] + " describe service gate. Check loadBalancerClass, "
            "annotations and the load balancer's controller, or use type NodePort"
        )
        run.set(kind, "False", "NoAddress", text)


def _refused(run: Pass, spec: ArchiveSpec, error: ApiInvalidError) -> None:
    kind = ConditionType.GATE_EXPOSED
    before = "; the Service stays as it was" if gates_service(run.name) in run.owned else "; there is no Service yet"
    if found := _TAKEN.search(error.message):
        text = f"{_field(spec, int(found[1]))} is in use by another Service{before}; choose another, or free it"
        run.set(kind, "False", "NodePortTaken", text)
    elif found := _OUT_OF_RANGE.search(error.message):
        text = (
            f"{_field(spec, int(found[1]))} is outside the cluster's range of node ports{before}; choose one within it "
            "(30000 to 32767, where the API server's --service-node-port-range says nothing else), or none"
        )
        run.set(kind, "False", "NodePortOutOfRange", text)
    else:
        text = f"The API server refuses the gate's Service{before}: {error.message[:MAX_WORDS]}"
        run.set(kind, "False", "ServiceRefused", text)


def _field(spec: ArchiveSpec, number: int) -> str:
    """Return which field of the spec a refused port comes from."""
    if number == spec.gate.service.node_port:
        return f"spec.gate.service.nodePort: {number}"
    if spec.dicomweb is not None and number == spec.dicomweb.node_port:
        return f"spec.dicomweb.nodePort: {number}"
    ports = spec.dicom.legacy_ports
    first = ports.first_node_port if ports else None
    if ports and first is not None and first <= number <= first + ports.last - ports.first:
        return f"spec.dicom.legacyPorts.firstNodePort: {first}: port {number}, which follows from it,"
    return f"port {number} of the nodes"


def _shown(port: Manifest) -> str:
    node = f" (node port {port['nodePort']})" if port.get("nodePort") else ""
    return f"{port['name']} {port['port']}{node}"
