"""Network policies, from the connection table alone: default-deny both ways, then one pair for each component."""

import ipaddress
from collections.abc import Iterable, Iterator

from pacs_operator.domain.connections import (
    CONNECTIONS,
    DATABASE,
    DESTINATIONS,
    DNS,
    LEGACY,
    OPERATOR,
    PEERS,
    SOURCE,
    VAULT,
    Connection,
    End,
    Outside,
    applies,
)
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import ANNOTATION_REASON, ZONE_OF, Component, Zone, namespace_of
from pacs_operator.render.manifests import Manifest, components, namespaced, selector

DEFAULT_DENY = "default-deny"
# Set by the API server itself and immutable; our own zone labels could be put on a foreign namespace.
_NAMESPACE_NAME = "kubernetes.io/metadata.name"


def render(desired: Desired) -> list[Manifest]:
    """Return every network policy of the archive."""
    manifests = [_default_deny(desired, zone) for zone in Zone]
    for component in components(desired):
        manifests.append(_policy(desired, component, "Ingress"))
        manifests.append(_policy(desired, component, "Egress"))
    return manifests


def _default_deny(desired: Desired, zone: Zone) -> Manifest:
    head = namespaced(desired, "NetworkPolicy", DEFAULT_DENY, zone)["metadata"]
    return default_deny(head["namespace"], head["labels"])


def default_deny(namespace: str, labels: dict[str, str]) -> Manifest:
    """Return the policy that closes a zone both ways; it needs nothing of a spec.

    Parameters
    ----------
    namespace
        The zone's.
    labels
        Whose it is.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": DEFAULT_DENY,
            "namespace": namespace,
            "labels": labels,
            "annotations": {ANNOTATION_REASON: "What has no row in the connection table is denied, both ways"},
        },
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def rows(desired: Desired) -> list[Connection]:
    """Return the rows of the connection table that the archive has now: an import's only while there is one."""
    asked = desired.archive.spec
    return [
        row
        for row in CONNECTIONS
        if applies(row, external_database=asked.database.external is not None, dicomweb=asked.dicomweb is not None)
        and (desired.importing is not None or Component.IMPORTER not in (row.source, row.target))
    ]


def _policy(desired: Desired, component: Component, direction: str) -> Manifest:
    """Return what one component may receive or open; without rules the policy says so by denying all."""
    inward = direction == "Ingress"
    rules: list[Manifest] = []
    reasons: list[str] = []
    for row in rows(desired):
        if (row.target if inward else row.source) != component:
            continue
        reasons.append(_explained(row))
        if row.source == LEGACY:
            rules += _doors(desired)
            continue
        for peers, ports in _ends(desired, row, row.source if inward else row.target):
            if peers:  # a rule without peers would let everybody through
                rules.append({"from" if inward else "to": peers, "ports": ports})
    spec: Manifest = {"podSelector": {"matchLabels": selector(desired, component)}, "policyTypes": [direction]}
    if rules:
        spec["ingress" if inward else "egress"] = rules
    head = namespaced(
        desired,
        "NetworkPolicy",
        f"{component.value}-{direction.lower()}",
        component,
        {ANNOTATION_REASON: "\n".join(reasons) or f"No connection ends in {component.value}"},
    )
    return {**head, "spec": spec}


def _explained(row: Connection) -> str:
    port = "declared port" if row.port is None else str(row.port)
    return f"{_name(row.source)} -> {_name(row.target)} {'+'.join(row.protocols)}/{port}: {row.reason}"


def _name(end: End) -> str:
    return end.name if isinstance(end, Outside) else end.value


def _ends(desired: Desired, row: Connection, end: End) -> Iterator[tuple[list[Manifest], list[Manifest]]]:
    """Yield the far end of a connection and its ports; devices listen each at a port of its own."""
    if end == SOURCE and desired.importing is not None:
        source = desired.importing.spec.source
        yield _blocks([source.address]), [{"protocol": protocol, "port": source.port} for protocol in row.protocols]
        return
    if end != DESTINATIONS:
        yield _peers(desired, end), _ports(desired, row)
        return
    listening = [peer.outbound for peer in desired.peers.peers if peer.outbound]
    for port in sorted({outbound.port for outbound in listening}):
        addresses = (outbound.address for outbound in listening if outbound.port == port)
        yield _blocks(addresses), [{"protocol": protocol, "port": port} for protocol in row.protocols]


def _ports(desired: Desired, row: Connection) -> list[Manifest]:
    port = _declared_port(desired, row.target) if row.port is None else row.port
    return [{"protocol": protocol, "port": port} for protocol in row.protocols]


def _declared_port(desired: Desired, target: End) -> int:
    external = desired.archive.spec.database.external
    return external.port if target == DATABASE and external else desired.vault.port


def _peers(desired: Desired, end: End) -> list[Manifest]:
    """Return the far end of a connection as network policy peers."""
    cluster = desired.cluster
    if isinstance(end, Component):
        return [_pods(namespace_of(desired.archive.name, ZONE_OF[end]), selector(desired, end))]
    if end == OPERATOR:
        return [_pods(cluster.operator_namespace, cluster.operator_pod_labels)]
    if end == DNS:
        return [_pods(cluster.dns_namespace, cluster.dns_pod_labels)]
    if end == VAULT:
        return _blocks(desired.vault.cidrs)
    if end == DATABASE:
        external = desired.archive.spec.database.external
        return _blocks(external.cidrs) if external else []
    if end == PEERS:
        served = (peer for peer in desired.peers.peers if not peer.contained and not peer.legacy)
        return _blocks(cidr for peer in served for cidr in peer.source_cidrs)
    raise AssertionError(f"no rendering for {end}")


def _doors(desired: Desired) -> list[Manifest]:
    """Return one rule for each device without TLS: its addresses to its port, and to no other."""
    return [
        {"from": _blocks(peer.source_cidrs), "ports": [{"protocol": "TCP", "port": peer.legacy.port}]}
        for peer in sorted(desired.peers.peers, key=lambda peer: peer.id)
        if peer.legacy and not peer.contained
    ]


def _pods(namespace: str, pod_labels: dict[str, str]) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: namespace}},
        "podSelector": {"matchLabels": pod_labels},
    }


def _blocks(cidrs: Iterable[str]) -> list[Manifest]:
    """Return the fewest blocks that cover exactly these networks, in a fixed order."""
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
    fours = ipaddress.collapse_addresses(network for network in networks if network.version == 4)
    sixes = ipaddress.collapse_addresses(network for network in networks if network.version == 6)
    return [{"ipBlock": {"cidr": str(network)}} for network in (*fours, *sixes)]
