"""Services inside the cluster; their ports come from the connection table."""

from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Component, Port
from pacs_operator.render.manifests import Manifest, namespaced, selector
from pacs_operator.render.policies import rows

_PORT_NAMES = {
    Port.DICOM_TLS: "dicom-tls",
    Port.ORTHANC_DICOM: "dicom",
    Port.POSTGRES: "postgres",
    Port.AGENT_CONTROL: "control",
    Port.ORTHANC_WEB: "web",
}


def internal(desired: Desired, component: Component) -> Manifest:
    """Return the Service by which other components of the archive reach this one.

    A port that no component may reach has no place in it: the operator asks pods by their own address.
    """
    numbers = sorted(
        {
            row.port
            for row in rows(desired)
            if row.target == component and isinstance(row.source, Component) and row.port is not None
        }
    )
    spec = {
        "type": "ClusterIP",
        "selector": selector(desired, component),
        "ports": [
            {"name": _PORT_NAMES[number], "port": number, "protocol": "TCP", "targetPort": number} for number in numbers
        ],
    }
    head = namespaced(desired, "Service", component.value, component)
    return {**head, "spec": spec}


def headless(desired: Desired, name: str, component: Component, port: Manifest) -> Manifest:
    """Return a Service whose name resolves to the addresses of the pods that are ready."""
    spec = {"type": "ClusterIP", "clusterIP": "None", "selector": selector(desired, component), "ports": [port]}
    return {**namespaced(desired, "Service", name, component), "spec": spec}
