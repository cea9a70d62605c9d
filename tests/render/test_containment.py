"""What a contained archive is rendered to: the same pods, fewer ways in."""

import json
from typing import Any

from pacs_operator.domain.containment import contain
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.reconcile.workloads import inputs_hash
from pacs_operator.render import config_hash, render_archive
from tests.render.archives import desired, live_peer

ISOLATED = {
    "mode": "Isolated",
    "reason": "ransomware",
    "spareEmergencyPeers": [{"namespace": "imaging", "name": "er"}],
}


def rendered(spec: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    peers = [
        live_peer("imaging/ct1", ["198.18.1.0/24"]),
        live_peer("imaging/er", ["198.18.2.0/24"], "er.imaging.example", "ER"),
    ]
    wanted = desired(spec)
    marked = LivePeers(revision="r", peers=contain(peers, wanted.archive.spec.containment))
    found = desired(spec, peers=marked, run="r1")
    return found, render_archive(found)


def sources(manifests: list[dict[str, Any]]) -> str:
    (policy,) = [m for m in manifests if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "gate-ingress"]
    return repr(policy["spec"])


def conformance(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "conformance-r1"]
    config: dict[str, Any] = json.loads(found["data"]["conformance.json"])
    return config


def test_only_the_spared_may_come_in_and_no_pod_changes() -> None:
    before, plain = rendered({})
    after, closed = rendered({"containment": ISOLATED})
    assert "198.18.1.0/24" in sources(plain)
    assert "198.18.1.0/24" not in sources(closed)
    assert "198.18.2.0/24" in sources(closed)
    assert "pacs-operator.io/component': 'conformance'" in sources(closed), "the probes ask on"
    assert config_hash(before) == config_hash(after)
    assert inputs_hash(before) == inputs_hash(after), "whatever waits for a changed spec goes on waiting"


def test_the_probe_is_told_and_what_needs_no_word_says_none() -> None:
    assert "contained" not in conformance(rendered({})[1])
    assert conformance(rendered({"containment": ISOLATED})[1])["contained"] is True


def test_an_agent_of_an_earlier_release_can_read_the_list_of_an_open_archive() -> None:
    _, plain = rendered({})
    lists = [m["data"]["peers.json"] for m in plain if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "peers"]
    assert lists
    assert all("contained" not in text for text in lists)
