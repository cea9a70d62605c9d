"""The policies are the connection table: read back, they give exactly its rows, and every pod is under them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pacs_operator.domain import connections
from pacs_operator.domain.connections import (
    CONNECTIONS,
    DESTINATIONS,
    DNS,
    OPERATOR,
    PEERS,
    SOURCE,
    VAULT,
    Connection,
    applies,
)
from pacs_operator.domain.facts import Desired, Importing
from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.domain.importing import ImportSpec
from pacs_operator.domain.names import ANNOTATION_REASON, ZONE_OF, Component, Zone, namespace_of
from pacs_operator.domain.outbound import Outbound
from pacs_operator.domain.probepeers import probe_peers
from pacs_operator.render import render_archive

from .archives import CLUSTER, desired, live_peer, pod_templates
from .archives import VAULT as VAULT_SETTINGS

ARCHIVE = "radiology"
CIDRS = ["198.18.10.11/32", "198.18.20.0/24"]
LISTENING = Outbound(address="198.18.30.1", port=11112)
CT1 = live_peer("imaging/ct1", CIDRS).model_copy(update={"outbound": LISTENING})
LIVE = LivePeers(revision="r", peers=[*probe_peers(ARCHIVE), CT1])

LEGACY = LivePeer.model_validate(
    live_peer("imaging/us7", ["198.18.40.7/32"]).model_dump() | {"dns_name": None, "legacy": {"port": 11113}}
)
LIVE = LIVE.model_copy(update={"peers": [*LIVE.peers, LEGACY]})

OWN = [
    row for row in CONNECTIONS if applies(row, external_database=False, dicomweb=True)
]  # the other rows: test_database

IMPORT = ImportSpec.model_validate(
    {
        "archiveRef": {"name": ARCHIVE},
        "source": {
            "address": "198.18.50.1", "port": 104, "calledAETitle": "OLDPACS", "callingAETitle": "IMPORT",
            "tls": {"mode": "Plaintext", "reason": "the old archive speaks no TLS"},
        },
    }
)  # fmt: skip

Flow = tuple[str, str, str, int]  # source, target, protocol, port


def everything() -> Desired:
    """Return an archive in which each row of the table is in use."""
    return replace(desired({"dicomweb": {}}, peers=LIVE, run="r1"), importing=Importing("old-pacs", "u1", IMPORT, "i1"))


def policies(manifests: list[dict]) -> list[dict]:
    return [m for m in manifests if m["kind"] == "NetworkPolicy"]


def selects(selector: dict, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


@pytest.fixture(scope="module")
def manifests() -> list[dict]:
    return render_archive(everything())


def test_every_pod_is_denied_both_ways_by_default(manifests: list[dict]) -> None:
    templates = list(pod_templates(manifests))
    assert {workload["metadata"]["labels"]["pacs-operator.io/component"] for workload, _ in templates} == set(Component)
    for workload, template in templates:
        denying = [
            policy
            for policy in policies(manifests)
            if policy["metadata"]["namespace"] == workload["metadata"]["namespace"]
            and selects(policy["spec"]["podSelector"], template["metadata"]["labels"])
            and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            and not {"ingress", "egress"} & set(policy["spec"])
        ]
        assert len(denying) == 1


def test_each_zone_has_a_default_deny_even_for_pods_that_are_not_ours(manifests: list[dict]) -> None:
    everything = [p for p in policies(manifests) if p["spec"]["podSelector"] == {}]
    assert {p["metadata"]["namespace"] for p in everything} == {namespace_of(ARCHIVE, zone) for zone in Zone}


@pytest.mark.parametrize("direction", ["Ingress", "Egress"])
def test_policies_read_back_are_the_table(manifests: list[dict], direction: str) -> None:
    expected = {
        flow
        for row in OWN
        if isinstance(row.target if direction == "Ingress" else row.source, Component)
        for flow in flows_of(row)
    }
    assert set(read_back(manifests, direction)) == expected


def test_a_flow_between_components_is_open_at_both_ends(manifests: list[dict]) -> None:
    within = {
        flow
        for row in OWN
        if isinstance(row.source, Component) and isinstance(row.target, Component)
        for flow in flows_of(row)
    }
    assert within
    assert within <= set(read_back(manifests, "Ingress")) & set(read_back(manifests, "Egress"))


@pytest.mark.parametrize("index", range(len(CONNECTIONS)))
def test_a_row_less_is_its_flows_less_and_nothing_else(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = CONNECTIONS[:index] + CONNECTIONS[index + 1 :]
    monkeypatch.setattr("pacs_operator.render.policies.CONNECTIONS", rows)
    without = render_archive(everything())
    for direction in ("Ingress", "Egress"):
        end = CONNECTIONS[index].target if direction == "Ingress" else CONNECTIONS[index].source
        lost = set(flows_of(CONNECTIONS[index])) if isinstance(end, Component) and CONNECTIONS[index] in OWN else set()
        monkeypatch.setattr("pacs_operator.render.policies.CONNECTIONS", CONNECTIONS)
        whole = set(read_back(render_archive(everything()), direction))
        assert whole - set(read_back(without, direction)) == lost
        assert set(read_back(without, direction)) <= whole


def test_without_an_import_no_policy_speaks_of_one() -> None:
    idle = render_archive(desired(peers=LIVE, run="r1"))
    assert "importer" not in repr(idle)
    assert "importer" in repr(render_archive(everything()))


def test_without_peers_the_gate_is_not_open_to_everybody() -> None:
    """An ingress rule without ``from`` admits any source."""
    nobody = render_archive(desired())
    for policy in policies(nobody):
        for direction, far_end in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule[far_end], policy["metadata"]["name"]
                assert rule["ports"], policy["metadata"]["name"]
    sources = {source for source, target, _, port in read_back(nobody, "Ingress") if (target, port) == ("gate", 2762)}
    assert sources == {"conformance"}


def test_neighbouring_cidrs_are_joined_but_never_widened() -> None:
    live = LivePeers(
        revision="r",
        peers=[live_peer("a/a", ["198.18.1.0/25"]), live_peer("b/b", ["198.18.1.128/25", "198.18.3.7/32"])],
    )
    assert blocks_at_gate(render_archive(desired(peers=live))) == ["198.18.1.0/24", "198.18.3.7/32"]


def test_each_policy_tells_the_auditor_why(manifests: list[dict]) -> None:
    for policy in policies(manifests):
        reason = policy["metadata"]["annotations"][ANNOTATION_REASON]
        rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
        assert len(reason.splitlines()) == max(1, len(rules))
    reasons = "\n".join(p["metadata"]["annotations"][ANNOTATION_REASON] for p in policies(manifests))
    assert all(row.reason in reasons for row in OWN)


def test_namespaces_are_told_by_the_label_that_nobody_can_give_themselves(manifests: list[dict]) -> None:
    for policy in policies(manifests):
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            for peer in rule.get("from", rule.get("to")):
                if "namespaceSelector" in peer:
                    assert set(peer["namespaceSelector"]["matchLabels"]) == {"kubernetes.io/metadata.name"}
                    assert peer["podSelector"]["matchLabels"]


def test_the_gate_reaches_each_device_at_its_own_port_and_nothing_else_there() -> None:
    """Two devices at one address, two at one port: no address is open at another device's port."""
    listening = {"a/a": ("198.18.1.1", 104), "a/b": ("198.18.1.1", 11112), "a/c": ("198.18.1.2", 104)}
    live = LivePeers(
        revision="r",
        peers=[
            live_peer(key, ["198.18.0.0/24"]).model_copy(update={"outbound": Outbound(address=address, port=port)})
            for key, (address, port) in listening.items()
        ],
    )
    [egress] = [
        policy
        for policy in policies(render_archive(desired(peers=live)))
        if policy["metadata"]["name"] == "gate-egress"
    ]
    found = {
        (block["ipBlock"]["cidr"], port["port"])
        for rule in egress["spec"]["egress"]
        for block in rule["to"]
        for port in rule["ports"]
        if "ipBlock" in block and block["ipBlock"]["cidr"] not in VAULT_SETTINGS.cidrs
    }
    assert found == {(f"{address}/32", port) for address, port in listening.values()}


def test_orthanc_reaches_no_device_itself(manifests: list[dict]) -> None:
    targets = {target for source, target, _, _ in read_back(manifests, "Egress") if source == "orthanc"}
    assert targets == {"gate", "postgres", "dns", "vault"}


def flows_of(row: Connection) -> Iterator[Flow]:
    ports = {DESTINATIONS: LISTENING.port, SOURCE: IMPORT.source.port}
    declared = ports.get(row.target, VAULT_SETTINGS.port) if isinstance(row.target, connections.Outside) else 0
    port = declared if row.port is None else row.port
    if row.source == connections.LEGACY and LEGACY.legacy:
        port = LEGACY.legacy.port
    for protocol in row.protocols:
        yield name_of(row.source), name_of(row.target), protocol, port


def name_of(end: object) -> str:
    return end.name if isinstance(end, connections.Outside) else str(end)


def read_back(manifests: list[dict], direction: str) -> Iterator[Flow]:
    """Yield the flows that policies allow, both ends named as the table names them."""
    key, far_key = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    for policy in policies(manifests):
        for rule in policy["spec"].get(key, []):
            near = who_is(policy["metadata"]["namespace"], policy["spec"]["podSelector"]["matchLabels"])
            for far in {far_end(peer) for peer in rule[far_key]}:
                for port in rule["ports"]:
                    ends = (far, near) if direction == "Ingress" else (near, far)
                    yield *ends, port["protocol"], port["port"]


def who_is(namespace: str, labels: dict[str, str]) -> str:
    for component in Component:
        ours = {"pacs-operator.io/archive": ARCHIVE, "pacs-operator.io/component": component.value}
        if namespace == namespace_of(ARCHIVE, ZONE_OF[component]) and labels == ours:
            return component.value
    if namespace == CLUSTER.operator_namespace and labels == CLUSTER.operator_pod_labels:
        return OPERATOR.name
    if namespace == CLUSTER.dns_namespace and labels == CLUSTER.dns_pod_labels:
        return DNS.name
    raise AssertionError(f"nobody known in {namespace} has {labels}")


def far_end(peer: dict) -> str:
    if "ipBlock" in peer:
        assert set(peer["ipBlock"]) == {"cidr"}
        if peer["ipBlock"]["cidr"] in VAULT_SETTINGS.cidrs:
            return VAULT.name
        if [peer["ipBlock"]["cidr"]] == LEGACY.source_cidrs:
            return connections.LEGACY.name
        if peer["ipBlock"]["cidr"] == f"{IMPORT.source.address}/32":
            return SOURCE.name
        if peer["ipBlock"]["cidr"] == f"{LISTENING.address}/32":
            return DESTINATIONS.name
        assert peer["ipBlock"]["cidr"] in CIDRS
        return PEERS.name
    return who_is(
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], peer["podSelector"]["matchLabels"]
    )


def blocks_at_gate(manifests: list[dict]) -> list[str]:
    [policy] = [p for p in policies(manifests) if p["metadata"]["name"] == "gate-ingress"]
    return [peer["ipBlock"]["cidr"] for rule in policy["spec"]["ingress"] for peer in rule["from"] if "ipBlock" in peer]
