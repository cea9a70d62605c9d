"""Revocation reaches gate and Orthanc whatever else is wrong with an archive."""

import copy
from collections.abc import Callable

import pytest

from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.narrowing import common_networks, narrowed
from pacs_operator.domain.peer import Right
from pacs_operator.kube.errors import ApiForbiddenError
from tests.engine.simapi import Killed
from tests.engine.world import (
    ARCHIVE,
    ARCHIVE_KEY,
    PEER_LABEL,
    World,
    archive_manifest,
    catalog_manifest,
    peer_manifest,
)

CT1 = ("DicomPeer", "imaging", "ct1")
POLICY = ("NetworkPolicy", "radiology-edge", "gate-ingress")
PROBES = {"probe/conformance", "probe/store-only"}
Act = Callable[[World], None]


def edit_spec(**change: object) -> Act:
    def act(world: World) -> None:
        world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(copy.deepcopy(change)))

    return act


def no_catalog(world: World) -> None:
    world.api.remove(("PacsCatalog", "", "stable"))


def below_floor(world: World) -> None:
    world.api.put({**catalog_manifest(), "spec": {**catalog_manifest()["spec"], "floor": "2027.1.0"}})


def no_storage_class(world: World) -> None:
    world.api.remove(("StorageClass", "", "hostpath"))


BOUNDS = archive_manifest()["spec"]["peers"]
STALLS: dict[str, tuple[Act, str]] = {
    "unknown catalog": (no_catalog, "UnknownCatalog"),
    "catalog mistyped": (edit_spec(release={"catalog": "stabel", "version": "2026.11.0"}), "UnknownCatalog"),
    "unknown release": (edit_spec(release={"catalog": "stable", "version": "1999.1.0"}), "UnknownRelease"),
    "release below floor": (below_floor, "ReleaseBelowFloor"),
    "missing storage class": (no_storage_class, "UnknownStorageClass"),
    "volume shrunk": (edit_spec(storage={"sizeGi": 1, "storageClassName": "hostpath"}), "StorageShrunk"),
    "invalid title": (edit_spec(dicom={"aeTitle": "FAR TOO LONG A TITLE"}), "InvalidAETitle"),
    "unknown field": (edit_spec(colour="blue"), "UnknownField"),
    "bad cron": (edit_spec(conformance={"schedule": "never"}), "InvalidSpec"),
    "bounds unreadable": (edit_spec(peers={**BOUNDS, "allowedCIDRs": ["198.18.0.0/99"]}), "InvalidCIDR"),
    "no selector": (edit_spec(peers={**BOUNDS, "namespaceSelector": {}}), "InvalidSpec"),
    "no bounds at all": (edit_spec(peers=None), "InvalidSpec"),
    "foreign namespace": (
        lambda world: world.api.edit(
            ("Namespace", "", "radiology-ops"), "x", lambda live: live["metadata"].update(labels={})
        ),
        "ForeignNamespace",
    ),
}


def delete(world: World) -> None:
    world.api.remove(CT1)


def terminate(world: World) -> None:
    world.api.edit(CT1, "x", lambda live: live["metadata"].update(finalizers=["example.org/slow"]))
    world.api.remove(CT1)


def withdraw_consent(world: World) -> None:
    world.api.edit(("Namespace", "", "imaging"), "x", lambda live: live["metadata"].update(labels={}))


def break_peer(world: World) -> None:
    world.api.put(peer_manifest("ct1", rights=["Fly"]))


def bind_elsewhere(world: World) -> None:
    world.api.put(peer_manifest("ct1", archive="cardiology"))


def other_certificate(world: World) -> None:
    world.api.put(peer_manifest("ct1", certificate={"dnsName": "other.imaging.example"}))


REMOVALS = {
    act.__name__: act for act in (delete, terminate, withdraw_consent, break_peer, bind_elsewhere, other_certificate)
}


@pytest.fixture
def world(world: World) -> World:
    """Add a peer that stays, in a namespace of its own."""
    world.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wards", "labels": PEER_LABEL}})
    world.api.put(peer_manifest("us1", namespace="wards", sourceCIDRs=["198.18.20.0/24"]))
    world.settle(world.process)
    return world


def live_ids(world: World, zone: str) -> set[str]:
    return {peer.id for peer in world.live_peers(zone).peers}


def check_removed(world: World) -> None:
    for zone in ("edge", "archive"):
        assert live_ids(world, zone) == {*PROBES, "wards/us1"}
    policy = repr(world.api.objects[POLICY]["spec"])
    assert "198.18.10.11/32" not in policy
    assert "198.18.20.0/24" in policy
    revision = world.live_peers().revision
    told = {
        pod["metadata"]["name"]
        for pod in world.pods()
        if (pod["metadata"].get("annotations") or {}).get("pacs-operator.io/live-config-hash") == revision
    }
    assert told == {"gate-0", "gate-1", "orthanc-0"}


#: The API server lets neither through; without a selector nobody can say whose consent was withdrawn.
NO_SELECTOR = ("no selector", "no bounds at all")
COMBINATIONS = [
    (stall, removal)
    for stall in STALLS
    for removal in REMOVALS
    if not (stall in NO_SELECTOR and removal == "withdraw_consent")
]


def stalled(world: World, stall: str) -> None:
    make, reason = STALLS[stall]
    make(world)
    world.process.reconcile(ARCHIVE)
    assert world.condition("Stalled")["reason"] == reason
    assert live_ids(world, "edge") == live_ids(world, "archive") == {*PROBES, "imaging/ct1", "wards/us1"}


@pytest.mark.parametrize(("stall", "removal"), COMBINATIONS)
def test_a_removed_peer_goes_while_the_archive_is_stalled(world: World, stall: str, removal: str):
    stalled(world, stall)
    REMOVALS[removal](world)
    world.process.reconcile(ARCHIVE)
    assert world.condition("Stalled")["reason"] == STALLS[stall][1]
    check_removed(world)
    listed = {peer["id"]: peer["accepted"] for peer in world.archive["status"]["peers"]["list"]}
    assert listed.pop("imaging/ct1", False) is False
    assert listed == {"wards/us1": True}
    condition = world.condition("PeersAccepted")
    assert (condition["status"] != "True", condition["reason"]) == (True, "ArchiveStalled")
    writes = len(world.log.entries)
    world.operator().reconcile(ARCHIVE)
    assert world.log.entries[writes:] == [], "once is enough"


@pytest.mark.parametrize("stall", NO_SELECTOR)
def test_consent_that_cannot_be_judged_is_said(world: World, stall: str):
    stalled(world, stall)
    condition = world.condition("PeersAccepted")
    assert condition["status"] == "False"
    assert "no consent counts as withdrawn" in condition["message"]


@pytest.mark.parametrize("stall", STALLS)
def test_what_is_narrowed_is_narrowed_and_what_is_new_waits(world: World, stall: str):
    stalled(world, stall)
    world.api.put(
        peer_manifest(
            "us1", namespace="wards", sourceCIDRs=["198.18.20.8/29", "198.18.30.0/24"], rights=["Store", "Move"]
        )
    )
    world.api.put(peer_manifest("mr1", sourceCIDRs=["198.18.40.1/32"]))
    world.process.reconcile(ARCHIVE)
    for zone in ("edge", "archive"):
        us1 = next(peer for peer in world.live_peers(zone).peers if peer.id == "wards/us1")
        assert (us1.source_cidrs, us1.rights) == (["198.18.20.8/29"], [Right.STORE])
        assert "imaging/mr1" not in live_ids(world, zone)
    policy = repr(world.api.objects[POLICY]["spec"])
    assert "198.18.20.8/29" in policy
    assert not any(cidr in policy for cidr in ("198.18.20.0/24", "198.18.30.0/24", "198.18.40.1/32"))
    condition = world.condition("PeersAccepted")
    assert (condition["status"], condition["reason"]) == ("False", "ArchiveStalled")
    assert "these wait: imaging/mr1, wards/us1" in condition["message"]
    assert world.peer_condition("mr1")["reason"] == "ArchiveStalled"
    assert "vaultRole" not in world.api.objects["DicomPeer", "imaging", "mr1"]["status"]


def test_all_is_let_in_when_the_stall_ends(world: World):
    stalled(world, "unknown catalog")
    world.api.put(peer_manifest("mr1"))
    world.api.put(peer_manifest("us1", namespace="wards", rights=["Store", "Move"]))
    world.process.reconcile(ARCHIVE)
    world.api.put(catalog_manifest())
    world.settle(world.process)
    assert live_ids(world, "edge") == live_ids(world, "archive") == {*PROBES, "imaging/ct1", "imaging/mr1", "wards/us1"}
    assert world.condition("PeersAccepted")["status"] == "True"
    assert world.peer_condition("mr1")["status"] == "True"


def test_when_the_last_peer_goes_the_policy_lets_no_source_in(world: World):
    stalled(world, "unknown catalog")
    world.api.remove(CT1)
    world.api.remove(("DicomPeer", "wards", "us1"))
    world.process.reconcile(ARCHIVE)
    rules = world.api.objects[POLICY]["spec"]["ingress"]
    assert rules
    assert all(rule["from"] for rule in rules)
    assert "ipBlock" not in repr(rules)


def test_an_error_that_is_tried_again_keeps_no_revocation_waiting(world: World):
    """The API refuses an object that comes before the lists, for hours: quota, RBAC, somebody's webhook."""
    world.api.edit(("ResourceQuota", "radiology-edge", "zone"), "x", lambda live: live["spec"]["hard"].update(pods="9"))
    world.api.remove(CT1)
    refusal = ApiForbiddenError("no", action="none")
    world.log.faults.errors.append((lambda verb, kind: (verb, kind) == ("apply", "ResourceQuota"), refusal))
    with pytest.raises(ApiForbiddenError):
        world.process.reconcile(ARCHIVE)
    check_removed(world)


def test_one_list_that_cannot_be_written_keeps_the_other_from_nothing(world: World):
    stalled(world, "unknown catalog")
    world.api.remove(CT1)
    refusal = ApiForbiddenError("no", action="none")
    world.log.faults.errors.append((lambda verb, kind: (verb, kind) == ("patch", "ConfigMap"), refusal))
    with pytest.raises(ApiForbiddenError):
        world.process.reconcile(ARCHIVE)
    assert "imaging/ct1" in live_ids(world, "edge")
    assert live_ids(world, "archive") == {*PROBES, "wards/us1"}
    assert "198.18.10.11/32" not in repr(world.api.objects[POLICY]["spec"])
    world.process.reconcile(ARCHIVE)
    check_removed(world)


def test_a_list_that_cannot_be_read_is_left_and_said(world: World):
    stalled(world, "unknown catalog")
    key = ("ConfigMap", "radiology-edge", "peers")
    world.api.edit(key, "x", lambda live: live["data"].update({"peers.json": "nonsense"}))
    world.api.remove(CT1)
    world.process.reconcile(ARCHIVE)
    assert world.api.objects[key]["data"]["peers.json"] == "nonsense"
    assert live_ids(world, "archive") == {*PROBES, "wards/us1"}
    assert "radiology-edge/peers" in world.condition("PeersAccepted")["message"]


def test_a_peer_that_was_put_into_a_list_by_hand_goes(world: World):
    stalled(world, "unknown catalog")
    strange = world.live_peers().peers[-1].model_copy(update={"id": "imaging/strange"})
    content = world.live_peers().model_copy(update={"peers": [*world.live_peers().peers, strange]})
    key = ("ConfigMap", "radiology-edge", "peers")
    world.api.edit(key, "x", lambda live: live["data"].update({"peers.json": content.model_dump_json(by_alias=True)}))
    world.process.reconcile(ARCHIVE)
    assert "imaging/strange" not in live_ids(world, "edge")


def test_zones_of_another_lineage_are_not_touched(world: World):
    world.api.remove(ARCHIVE_KEY)
    world.settle()
    world.api.put(archive_manifest())
    kept = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peers", "namespace": "radiology-edge"}}
    world.api.put({**kept, "data": {"peers.json": "theirs"}})
    before = copy.deepcopy(world.api.objects["ConfigMap", "radiology-edge", "peers"])
    world.operator().reconcile(ARCHIVE)
    assert world.condition("Stalled")["reason"] == "LineageMismatch"
    assert world.api.objects["ConfigMap", "radiology-edge", "peers"] == before
    assert world.condition("PeersAccepted")["reason"] != "ArchiveStalled"


def stalled_with_changes() -> World:
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.api.put(peer_manifest("ct2", sourceCIDRs=["198.18.10.0/24"]))
    world.settle()
    no_catalog(world)
    world.operator().reconcile(ARCHIVE)
    world.api.remove(CT1)
    world.api.put(peer_manifest("ct2", sourceCIDRs=["198.18.10.2/32"], rights=["Echo"]))
    world.api.put(peer_manifest("mr1"))
    return world


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_write_of_a_revocation_while_stalled(when: str):
    prepared = stalled_with_changes()
    reference = copy.deepcopy(prepared)
    reference.settle()
    writes = reference.log.entries[len(prepared.log.entries) :]
    assert len([entry for entry in writes if entry.startswith("patch")]) == 6, "two lists, one policy, three pods"
    for point, entry in enumerate(writes):
        world = copy.deepcopy(prepared)
        setattr(world.log.faults, f"kill_{when}", len(world.log.entries) + point)
        with pytest.raises(Killed):
            world.settle()
        world.settle(world.operator())
        assert world.end_state() == reference.end_state(), f"killed {when} {entry}"
        assert {peer.id for peer in world.live_peers().peers} == {*PROBES, "imaging/ct2"}


def suspended(world: World) -> None:
    world.api.put(archive_manifest(suspend=True))
    world.process.reconcile(ARCHIVE)


def test_a_suspended_archive_says_that_a_revocation_waits(world: World):
    suspended(world)
    assert world.condition("PeersAccepted")["status"] == "True", "nothing waits"
    assert "revoked or narrowed stay in force" in world.condition("Ready")["message"]
    world.api.remove(CT1)
    world.api.put(peer_manifest("mr1"))
    writes = len(world.log.entries)
    world.process.reconcile(ARCHIVE)
    assert world.log.entries[writes:] == ["status PacsArchive /radiology"]
    condition = world.condition("PeersAccepted")
    assert (condition["status"], condition["reason"]) == ("False", "Suspended")
    assert "STILL IN FORCE although removed or narrowed: imaging/ct1" in condition["message"]
    assert "not yet let in or widened: imaging/mr1" in condition["message"]
    assert "imaging/ct1" in live_ids(world, "edge")
    world.api.put(peer_manifest("ct1"))
    world.api.remove(("DicomPeer", "imaging", "mr1"))
    world.process.reconcile(ARCHIVE)
    assert (world.condition("PeersAccepted")["status"], world.condition("PeersAccepted")["reason"]) == (
        "Unknown",
        "Suspended",
    )
    world.api.remove(CT1)
    world.api.put(archive_manifest(suspend=False))
    world.settle(world.process)
    check_removed(world)
    assert world.condition("PeersAccepted")["status"] == "True"


HERE = {"address": "10.0.0.1", "port": 104}


def peer(**change: object) -> LivePeer:
    known = {"id": "a/b", "dns_name": "b.example", "ae_titles": ["B"], "source_cidrs": ["10.0.0.0/8"]}
    return LivePeer.model_validate({**known, "rights": ["Echo", "Store"], "max_associations": 8, **change})


@pytest.mark.parametrize(
    ("live", "wanted", "left"),
    [
        (peer(), peer(), peer()),
        (peer(), peer(dns_name="c.example"), None),
        (peer(), peer(ae_titles=["C"]), None),
        (peer(), peer(ae_titles=["B", "C"]), peer()),
        (peer(), peer(rights=["Find"]), None),
        (peer(), peer(rights=["Store", "Find"]), peer(rights=["Store"])),
        (peer(), peer(source_cidrs=["192.0.2.0/24"]), None),
        (peer(), peer(source_cidrs=["10.1.0.0/16", "192.0.2.0/24"]), peer(source_cidrs=["10.1.0.0/16"])),
        (peer(), peer(source_cidrs=["10.1.0.0/16", "10.0.0.0/16"]), peer(source_cidrs=["10.0.0.0/16", "10.1.0.0/16"])),
        (peer(), peer(source_cidrs=[]), None),
        (peer(source_cidrs=[]), peer(), None),
        (peer(source_cidrs=[]), peer(source_cidrs=[]), peer(source_cidrs=[])),
        (peer(max_associations=2), peer(), peer(max_associations=2)),
        (peer(), peer(max_associations=2), peer(max_associations=2)),
        (peer(), peer(associations_per_minute=2), peer(associations_per_minute=2)),
        (peer(associations_per_minute=2), peer(), peer(associations_per_minute=2)),
        (peer(), peer(tls_exception_until=2), peer()),
        (peer(tls_exception_until=2), peer(), peer()),
        (peer(tls_exception_until=2), peer(tls_exception_until=3), peer(tls_exception_until=2)),
        (peer(outbound=HERE), peer(outbound=HERE), peer(outbound=HERE)),
        (peer(outbound=HERE), peer(), peer()),
        (peer(), peer(outbound=HERE), peer()),
        (peer(outbound=HERE), peer(outbound={**HERE, "port": 105}), peer()),
        (peer(move_destinations=["W", "X"]), peer(move_destinations=["X", "Y"]), peer(move_destinations=["X"])),
        (peer(move_destinations=["W"]), peer(move_destinations=["X"]), peer()),
        (peer(), peer(move_destinations=["X"]), peer()),
    ],
)
def test_narrowed(live: LivePeer, wanted: LivePeer, left: LivePeer | None):
    assert narrowed(live, wanted) == left


def test_common_networks():
    assert common_networks(["10.0.0.0/8", "fd00::/8"], ["10.2.0.0/16", "fd00:1::/32", "11.0.0.0/8"]) == [
        "10.2.0.0/16",
        "fd00:1::/32",
    ]
    assert common_networks(["10.0.0.0/8"], []) == []
