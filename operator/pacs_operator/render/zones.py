"""The archive's namespaces: who may be in them (Pod Security), and how much."""

from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.render.manifests import Manifest, labels, namespaced

# The oldest Kubernetes we support: a newer cluster's stricter reading of "restricted" must not stop an archive
# at the moment of a cluster upgrade. Raised together with the supported version.
POD_SECURITY_VERSION = "v1.33"

# Beside the replicas: a rollout's surge, and replacements of pods that are still ending.
_SPARE_PODS = 3


def render(desired: Desired) -> list[Manifest]:
    """Return namespaces, quotas and limits of the four zones."""
    return [
        *(_namespace(desired, zone) for zone in Zone),
        *(_quota(desired, zone) for zone in Zone),
        *(_limits(desired, zone) for zone in Zone),
    ]


def _namespace(desired: Desired, zone: Zone) -> Manifest:
    pod_security = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "audit", "warn")
        for suffix, value in (("", "restricted"), ("-version", POD_SECURITY_VERSION))
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace_of(desired.archive.name, zone),
            "labels": labels(desired, zone) | pod_security,
        },
    }


def _quota(desired: Desired, zone: Zone) -> Manifest:
    """Return the zone's quota: room for what we run there and its replacement, for nothing else.

    Only the edge may open ports of the nodes, only archive and data may hold volumes, and ops an import's journal.
    Memory is not counted: when a spec shrinks it, the larger pods that still run would leave no room for those that
    replace them.
    """
    service = desired.archive.spec.gate.service
    at_edge = zone is Zone.EDGE
    replicas = desired.archive.spec.gate.replicas if at_edge else 1
    hard = {
        "pods": "0" if zone is Zone.DATA and zone not in _holding(desired) else str(replicas + _SPARE_PODS),
        "persistentvolumeclaims": "1" if zone in _holding(desired) else "0",
        "services.nodeports": str(_node_ports(desired)) if at_edge else "0",
        "services.loadbalancers": "1" if at_edge and service.type == "LoadBalancer" else "0",
    }
    return {**namespaced(desired, "ResourceQuota", "zone", zone), "spec": {"hard": hard}}


def _holding(desired: Desired) -> tuple[Zone, ...]:
    """Return the zones with a volume; with an external index the zone of the index holds nothing at all."""
    own = (Zone.ARCHIVE,) if desired.archive.spec.database.external else (Zone.ARCHIVE, Zone.DATA)
    return (*own, Zone.OPS) if desired.importing is not None else own


def _node_ports(desired: Desired) -> int:
    """Return how many ports of the nodes the gate's Service may have: DICOM, DICOMweb, devices without TLS."""
    spec = desired.archive.spec
    legacy = spec.dicom.legacy_ports
    return 1 + (spec.dicomweb is not None) + (legacy.last - legacy.first + 1 if legacy else 0)


def _limits(desired: Desired, zone: Zone) -> Manifest:
    """Return bounds for containers that state none, which ours always do."""
    limit = {
        "type": "Container",
        "default": {"memory": "128Mi"},
        "defaultRequest": {"cpu": "50m", "memory": "128Mi"},
    }
    return {**namespaced(desired, "LimitRange", "zone", zone), "spec": {"limits": [limit]}}
