"""Status: one writer, honest conditions, times that tell when something changed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pacs_operator.domain.acceptance import MAX_PEERS
from pacs_operator.domain.status import ArchiveStatus, PeerStatus
from tests.engine.world import ARCHIVE, START, World, archive_manifest, peer_manifest

CRDS = Path(__file__).parents[2] / "crds"


def ready() -> World:
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.settle()
    return world


def test_times_change_only_with_the_status():
    world = ready()
    before = {item["type"]: item["lastTransitionTime"] for item in world.archive["status"]["conditions"]}
    world.advance(3600)
    world.api.put(peer_manifest("ct2", aeTitles=["CT1"]))
    world.settle()
    after = {item["type"]: item["lastTransitionTime"] for item in world.archive["status"]["conditions"]}
    assert after["Ready"] == before["Ready"]
    assert after["DatabaseReady"] == before["DatabaseReady"]
    assert after["PeersAccepted"] > before["PeersAccepted"]


@pytest.mark.parametrize(
    ("after", "status", "reason"),
    [
        (timedelta(days=5), "True", "Current"),
        (timedelta(days=6, hours=2), "False", "RenewalOverdue"),
        (timedelta(days=7, hours=1), "False", "Expired"),
    ],
)
def test_certificates(after: timedelta, status: str, reason: str):
    world = ready()
    world.now = START + after
    world.operator().reconcile(ARCHIVE)
    condition = world.condition("CertificatesCurrent")
    assert (condition["status"], condition["reason"]) == (status, reason)
    if status == "False":
        assert "gate/server-ec" in condition["message"]
        assert world.condition("Ready")["status"] == "False"


def test_an_agent_that_never_answered_is_unknown_not_true():
    world = World()
    world.agents.silent = True
    world.api.put(archive_manifest())
    for _ in range(6):
        world.operator().reconcile(ARCHIVE)
        world.controllers()
        world.advance(5)
    assert world.condition("CertificatesCurrent")["status"] == "Unknown"
    assert "no answer" in world.condition("CertificatesCurrent")["message"]
    assert world.condition("Ready")["status"] == "False"


def test_agents_are_not_asked_at_every_event():
    world = ready()
    operator = world.operator()
    operator.reconcile(ARCHIVE)
    asked = world.agents.asked
    for _ in range(5):
        world.advance(1)
        operator.reconcile(ARCHIVE)
    assert world.agents.asked == asked
    world.advance(60)
    operator.reconcile(ARCHIVE)
    assert world.agents.asked == asked + 4


def test_an_unreadable_status_is_found_again():
    world = ready()
    expected = world.end_state()
    world.api.set_status(("PacsArchive", "", ARCHIVE), {"conditions": "nonsense"})
    world.settle()
    assert world.end_state().keys() == expected.keys()
    assert world.condition("Ready")["status"] == "True"
    assert len(world.drawn) == 1


def test_events_tell_changes_once():
    world = ready()
    events = [item["reason"] for (kind, _, _), item in world.api.objects.items() if kind == "Event"]
    assert sorted(events) == ["DatabaseReadyAnswering", "ReadyReady"]
    before = len(world.log.entries)
    world.operator().reconcile(ARCHIVE)
    assert len(world.log.entries) == before


def properties(schema: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for name, below in schema.get("properties", {}).items():
        found |= {f"{path}.{name}"} | properties(below, f"{path}.{name}")
    if "items" in schema:
        found |= properties(schema["items"], path)
    return found


def model_properties(schema: dict[str, Any], root: dict[str, Any], path: str = "") -> set[str]:
    if "$ref" in schema:
        return model_properties(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, path)
    for choice in schema.get("anyOf", []):
        if choice.get("type") != "null":
            return model_properties(choice, root, path)
    found = set()
    for name, below in schema.get("properties", {}).items():
        found |= {f"{path}.{name}"} | model_properties(below, root, f"{path}.{name}")
    if "items" in schema:
        found |= model_properties(schema["items"], root, path)
    return found


@pytest.mark.parametrize(("crd", "model"), [("pacsarchives", ArchiveStatus), ("dicompeers", PeerStatus)])
def test_status_model_and_crd_have_the_same_fields(crd: str, model: type[BaseModel]):
    document = yaml.safe_load((CRDS / f"{crd}.yaml").read_text())
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    ours = model.model_json_schema(by_alias=True)
    assert model_properties(ours, ours) == properties(schema)


def test_a_status_with_200_peers_stays_small():
    world = World()
    world.api.put(archive_manifest())
    for number in range(210):
        world.api.put(peer_manifest(f"modality-with-a-long-name-{number:03d}", aeTitles=[f"AE{number:03d}"]))
    world.settle()
    status = world.archive["status"]
    assert len(status["peers"]["list"]) == 200
    assert status["peers"]["accepted"] == 210
    assert len(yaml.safe_dump(status)) < 64 * 1024


def test_a_status_with_200_refused_peers_stays_small():
    world = World()
    world.api.put(archive_manifest())
    for number in range(210):
        cidrs = [f"192.0.2.{octet}/32" for octet in range(64)]
        peer = peer_manifest(f"modality-with-a-long-name-{number:03d}", aeTitles=[f"AE{number:03d}"], sourceCIDRs=cidrs)
        world.api.put(peer)
    world.settle()
    peers = world.archive["status"]["peers"]
    assert (peers["accepted"], peers["refused"]) == (0, 210)
    assert len(peers["list"]) == 200
    whole = world.peer_condition("modality-with-a-long-name-000")["message"]
    listed = peers["list"][0]["message"]
    assert len(whole) > len(listed)
    assert whole.startswith(listed[:-1])
    assert len(listed) <= 96
    assert len(yaml.safe_dump(world.archive["status"])) < 64 * 1024


@pytest.mark.parametrize("strangers", [150, 210])
def test_strangers_crowd_no_accepted_peer_out_of_the_list(strangers: int):
    """Whoever may make a DicomPeer in any namespace may name any archive, and is refused."""
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    for number in range(strangers):
        world.api.put(peer_manifest(f"x{number:03d}", namespace="elsewhere"))
    world.settle()
    peers = world.archive["status"]["peers"]
    ids = [peer["id"] for peer in peers["list"]]
    assert (peers["accepted"], peers["refused"]) == (1, strangers)
    assert "imaging/ct1" in ids
    assert len(ids) == min(strangers + 1, 200)
    assert ids == sorted(ids)


@pytest.mark.parametrize("refused", [True, False])
def test_a_status_with_the_most_peers_and_the_longest_names_stays_small(refused: bool):
    world = World()
    world.api.put(archive_manifest())
    for number in range(MAX_PEERS + 1):
        name = f"{number:03d}" + "x" * 250
        dns = f"{number:03d}." + ".".join(["y" * 60] * 4)
        more: dict[str, Any] = {"rights": ["Fly"]} if refused else {}
        world.api.put(peer_manifest(name, aeTitles=[f"AE{number:03d}"], certificate={"dnsName": dns}, **more))
    world.settle()
    status = world.archive["status"]
    assert status["peers"]["accepted"] == (0 if refused else MAX_PEERS)
    assert status["peers"]["refused"] == (MAX_PEERS + 1 if refused else 1)
    assert 50 < len(status["peers"]["list"]) <= 200
    assert len(yaml.safe_dump(status)) < 64 * 1024
