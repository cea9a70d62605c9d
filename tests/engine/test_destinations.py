"""Devices that receive, and who may have images sent to them: from resource to live list, policy and status."""

from typing import Any

import pytest

from pacs_operator.domain.acceptance import decide
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.peer import PeerSpec
from pacs_operator.domain.validation import parse
from tests.engine.test_acceptance import CONSENTING, archive, claim
from tests.engine.world import ARCHIVE, World, archive_manifest, peer_manifest

RIGHTS = ["Echo", "Store", "Find", "Get", "Move", "StorageCommitment"]
WS1 = ("DicomPeer", "imaging", "ws1")


def listening(address: str = "198.18.30.1", port: int = 11112) -> dict[str, object]:
    return {"address": address, "port": port}


@pytest.fixture
def hospital(world: World) -> World:
    """An archive whose bounds allow it, a workstation that moves to itself and to another one."""
    bounds = archive_manifest()["spec"]["peers"]
    world.api.put(archive_manifest(peers={**bounds, "maxRights": RIGHTS}))
    world.api.put(
        peer_manifest("ws1", rights=["Find", "Move"], outbound=listening(), moveDestinations=["ws1", "imaging/ws2"])
    )
    world.api.put(peer_manifest("ws2", aeTitles=["WS2", "WS2_B"], rights=["Echo"], outbound=listening("198.18.30.2")))
    world.process.reconcile(ARCHIVE)
    return world


def live(world: World, key: str) -> dict[str, Any]:
    return next(peer.document() for peer in world.live_peers().peers if peer.id == key)


def condition(world: World, kind: str) -> dict[str, Any] | None:
    conditions = world.api.objects[WS1]["status"]["conditions"]
    return next((entry for entry in conditions if entry["type"] == kind), None)


def egress(world: World) -> str:
    return repr(world.api.objects["NetworkPolicy", "radiology-edge", "gate-egress"]["spec"])


def test_names_become_titles_and_addresses_openings(hospital: World):
    assert live(hospital, "imaging/ws1")["moveDestinations"] == ["WS1", "WS2", "WS2_B"]
    assert live(hospital, "imaging/ws2")["outbound"] == listening("198.18.30.2")
    assert "moveDestinations" not in live(hospital, "imaging/ws2"), "an older agent knows no such field"
    assert "198.18.30.1/32" in egress(hospital)
    assert "'port': 11112" in egress(hospital)
    found = condition(hospital, "MoveDestinationsResolved")
    assert found is not None
    assert (found["status"], found["reason"]) == ("True", "Resolved")
    assert "WS1, WS2, WS2_B" in found["message"]


def changed(spec: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        spec.pop(key)
        spec.update({key: value} if value else {})


def test_a_destination_that_goes_leaves_list_and_policy_and_is_missed(hospital: World):
    hospital.api.remove(("DicomPeer", "imaging", "ws2"))
    hospital.process.reconcile(ARCHIVE)
    assert live(hospital, "imaging/ws1")["moveDestinations"] == ["WS1"]
    assert "198.18.30.2/32" not in egress(hospital)
    found, accepted = condition(hospital, "MoveDestinationsResolved"), condition(hospital, "Accepted")
    assert found is not None
    assert accepted is not None
    assert (found["status"], found["reason"]) == ("False", "DestinationUnusable")
    assert "imaging/ws2 is no accepted DicomPeer of this archive" in found["message"]
    assert accepted["status"] == "True", "the workstation itself goes on"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outbound": None}, "imaging/ws2 has no spec.outbound"),
        ({"outbound": listening("192.0.2.1")}, "imaging/ws2 is no accepted DicomPeer"),
    ],
    ids=["receives nothing", "refused"],
)
def test_a_destination_that_cannot_receive_is_named(hospital: World, change: dict[str, Any], words: str):
    hospital.api.edit(("DicomPeer", "imaging", "ws2"), "kubectl", lambda found: changed(found["spec"], change))
    hospital.process.reconcile(ARCHIVE)
    found = condition(hospital, "MoveDestinationsResolved")
    assert found is not None
    assert words in found["message"]
    assert live(hospital, "imaging/ws1")["moveDestinations"] == ["WS1"]


def test_without_destinations_there_is_no_condition_of_them(hospital: World):
    hospital.api.edit(WS1, "kubectl", lambda found: changed(found["spec"], {"moveDestinations": None}))
    hospital.process.reconcile(ARCHIVE)
    assert condition(hospital, "MoveDestinationsResolved") is None
    assert "moveDestinations" not in live(hospital, "imaging/ws1")


def test_nothing_is_written_when_nothing_changed(hospital: World):
    hospital.settle(hospital.process)
    before = len(hospital.log.entries)
    hospital.process.reconcile(ARCHIVE)
    assert hospital.log.entries[before:] == []


def test_a_name_without_namespace_is_of_the_peers_own(hospital: World):
    hospital.api.put(peer_manifest("ws1", rights=["Move"], moveDestinations=["elsewhere/ws2"]))
    hospital.process.reconcile(ARCHIVE)
    found = condition(hospital, "MoveDestinationsResolved")
    assert found is not None
    assert "elsewhere/ws2 is no accepted DicomPeer" in found["message"]


def test_commitment_needs_a_place_for_its_report():
    bounds = archive_manifest()["spec"]["peers"]
    wide = archive(peers={**bounds, "maxRights": RIGHTS})
    without = claim("mr1", rights=["Store", "StorageCommitment"])
    (refused,) = decide(wide, [without], CONSENTING, "radiology")
    assert (refused.accepted, refused.reason) == (False, "OutboundMissing")
    assert "the report comes on a new connection" in refused.message
    given = claim("mr1", rights=["Store", "StorageCommitment"], outbound=listening())
    (accepted,) = decide(wide, [given], CONSENTING, "radiology")
    assert accepted.accepted


def test_a_device_without_tls_is_sent_nothing():
    exception = {"port": 11112, "reason": "no TLS on this device", "expires": "2027-03-31T18:00:00Z"}
    spec = {"archiveRef": {"name": "radiology"}, "aeTitles": ["US1"], "sourceCIDRs": ["198.18.10.11/32"],
            "rights": ["Store"], "legacy": exception}  # fmt: skip
    assert parse(PeerSpec, spec, "spec").legacy is not None
    with pytest.raises(InvalidSpecError, match="a device without TLS is sent nothing"):
        parse(PeerSpec, {**spec, "outbound": listening()}, "spec")
