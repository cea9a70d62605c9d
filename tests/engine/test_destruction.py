"""Deletion with policy Delete: served until two people approved, stopped for the grace, then gone and on record."""

from typing import Any

import pytest

from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.kube.port import Manifest
from pacs_operator.vault.errors import VaultSealedError
from tests.engine.destroying import (
    DELETE,
    HOUR,
    IMAGES,
    ORTHANC,
    ZONES,
    approve,
    approved,
    blocked,
    change,
    decided,
    deleted,
    events,
    everything_stands,
    record,
    zones,
)
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest, peer_manifest


def test_it_serves_on_until_two_people_approved():
    world = deleted()
    assert blocked(world) == "True/ApprovalsMissing"
    approve(world, "anna")
    world.settle()
    assert blocked(world) == "True/ApprovalsMissing"
    assert everything_stands(world)
    assert world.condition("Ready")["status"] == "True"
    world.api.put(peer_manifest("mr1"))
    world.settle()
    assert world.peer_condition("mr1")["status"] == "True", "an archive that serves takes new devices"
    assert "DeletionBlockedApprovalsMissing" in events(world)


def test_it_stops_for_the_grace_and_then_volumes_and_zones_go():
    world = approved()
    assert blocked(world) == "True/GracePeriod"
    assert ORTHANC not in world.api.objects
    assert IMAGES in world.api.objects
    assert world.peer_condition("ct1")["reason"] == "ArchiveNotFound"
    world.advance(23.9 * HOUR)
    world.settle()
    assert IMAGES in world.api.objects
    assert not decided(world)
    world.advance(0.2 * HOUR)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    assert zones(world) == {"radiology-ops"}
    assert not [key for key in world.api.objects if key[0] == "PersistentVolumeClaim"]
    assert not [path for path in world.vault.paths if path.startswith(("auth/", "role/"))]
    assert "DataDestroyed" in events(world)


def test_the_record_stays_with_the_approvals():
    world = approved()
    world.advance(25 * HOUR)
    world.settle()
    found = record(world)
    decision = found["decision.json"]
    assert [(entry["act"], entry["approver"]) for entry in decision["approvals"]] == [
        ("Delete", "anna"),
        ("Delete", "ben"),
    ]
    assert decision["lineageID"] == world.drawn[0]
    assert {volume["claim"] for volume in decision["volumes"]} == {
        "radiology-archive/images",
        "radiology-data/database",
    }
    assert "no key can be shredded" in decision["shred"] and "clear" not in decision
    assert set(found) == {"grace.json", "decision.json", "removal.json"}
    assert [key for key in world.api.objects if key[0] == "PacsApproval"]
    ops = world.api.objects["Namespace", "", "radiology-ops"]["metadata"]
    assert ops["annotations"]["pacs-operator.io/release-data"] == "radiology-ops"


@pytest.mark.parametrize(
    "wrong",
    [
        {"deletion": {"confirmName": "cardiology"}},
        {"deletion": {}},
        {"deletionPolicy": "Retain"},
        {"deletion": {"confirmName": ARCHIVE, "graceHours": 1}},
    ],
    ids=["name mistyped", "name missing", "Retain", "broken spec"],
)
def test_what_is_not_exactly_delete_keeps_the_data(wrong: dict[str, Any]):
    world = approved()
    change(world, **wrong)
    world.advance(25 * HOUR)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    assert IMAGES in world.api.objects
    assert zones(world) == ZONES


def test_suspend_keeps_even_an_agreed_destruction_waiting():
    world = approved()
    change(world, suspend=True)
    world.advance(25 * HOUR)
    world.settle()
    assert blocked(world) == "True/Suspended"
    assert IMAGES in world.api.objects
    assert not decided(world)
    change(world, suspend=False)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def marks(world: World) -> dict[str, str]:
    return world.api.objects["Namespace", "", "radiology-archive"]["metadata"].get("annotations") or {}


def test_a_legal_hold_keeps_it_serving_whoever_approves():
    world = approved(retention={"legalHold": True})
    for person in ("anna", "ben"):
        approve(world, person, "OverrideRetention")
    world.advance(25 * HOUR)
    world.settle()
    assert blocked(world) == "True/LegalHold"
    assert everything_stands(world)
    assert "pacs-operator.io/legal-hold" in marks(world)
    change(world, retention={"legalHold": False})
    world.settle()
    assert "pacs-operator.io/legal-hold" not in marks(world), "admission would keep the volumes"
    world.advance(25 * HOUR)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_a_hold_set_after_the_decision_still_stops_it():
    world = approved()
    world.api.objects["PersistentVolume", "", "pv1"] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pv1", "uid": "pv1", "resourceVersion": "1"},
        "spec": {"persistentVolumeReclaimPolicy": "Delete"},
    }
    world.api.edit(IMAGES, "binder", lambda live: live["spec"].update(volumeName="pv1"))
    world.advance(25 * HOUR)
    operator = world.operator()
    for _ in range(3):
        operator.reconcile(ARCHIVE)
        world.controllers()
    assert world.condition("Reconciling")["reason"] == "RemovingVolumes"
    assert "volume pv1" in world.condition("Reconciling")["message"]
    change(world, retention={"legalHold": True})
    world.settle()
    assert blocked(world) == "True/LegalHold"
    assert zones(world) == ZONES
    assert "pacs-operator.io/legal-hold" in marks(world)
    change(world, retention={"legalHold": False})
    del world.api.objects["PersistentVolume", "", "pv1"]
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_a_volume_that_its_class_keeps_is_named():
    world = approved()
    world.api.objects["PersistentVolume", "", "pv1"] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pv1", "uid": "pv1", "resourceVersion": "1"},
        "spec": {"persistentVolumeReclaimPolicy": "Retain"},
    }
    world.api.edit(IMAGES, "binder", lambda live: live["spec"].update(volumeName="pv1"))
    world.advance(25 * HOUR)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    assert record(world)["removal.json"]["volumesLeft"] == ["pv1"]
    assert "VolumesLeft" in events(world)


def test_retention_counts_from_the_last_store_and_gives_way_to_two_people():
    world = World()
    world.api.put(archive_manifest(**DELETE, retention={"minimumYears": 1}))
    world.api.put(peer_manifest("ct1"))
    world.settle()
    stored = "2026-11-20T07:00:00Z"
    world.agents.activity = [
        PeerActivity(id="imaging/ct1", last_store=stored),
        PeerActivity(id="probe/conformance", last_store="2026-11-20T07:59:00Z"),
    ]
    world.advance(HOUR)
    world.settle()
    images = world.api.objects["Namespace", "", "radiology-archive"]["metadata"]["annotations"]
    assert images["pacs-operator.io/newest-store"] == "2026-11-20"
    assert images["pacs-operator.io/minimum-years"] == "1"
    world.api.remove(ARCHIVE_KEY)
    for person in ("anna", "ben"):
        approve(world, person)
    world.settle()
    assert blocked(world) == "True/RetentionNotOver"
    assert "2027-11-20T23:59:59Z" in world.condition("DeletionBlocked")["message"]
    assert "the last C-STORE that the agents told" in world.condition("DeletionBlocked")["message"]
    assert everything_stands(world)
    for person in ("anna", "carl"):
        approve(world, person, "OverrideRetention")
    world.settle()
    assert blocked(world) == "True/GracePeriod"
    world.advance(25 * HOUR)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    annotations = world.api.objects["Namespace", "", "radiology-ops"]["metadata"]["annotations"]
    assert "pacs-operator.io/minimum-years" not in annotations


def test_a_hold_that_ends_late_leaves_the_whole_grace():
    world = approved(retention={"legalHold": True})
    world.advance(3 * 24 * HOUR)
    world.settle()
    assert everything_stands(world)
    change(world, retention={})
    world.settle()
    assert blocked(world) == "True/GracePeriod"
    world.advance(23 * HOUR)
    world.settle()
    assert blocked(world) == "True/GracePeriod"
    change(world, retention={"legalHold": True})
    world.settle()
    assert everything_stands(world)
    change(world, retention={})
    world.settle()
    world.advance(23 * HOUR)
    world.settle()
    assert blocked(world) == "True/GracePeriod", "it runs anew"
    world.advance(2 * HOUR)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_what_the_probes_store_does_not_lengthen_retention():
    world = World()
    world.api.put(archive_manifest(retention={"minimumYears": 1}))
    world.settle()
    world.agents.activity = [PeerActivity(id="probe/conformance", last_store="2026-11-20T07:59:00Z")]
    world.advance(HOUR)
    world.settle()
    annotations = world.api.objects["Namespace", "", "radiology-archive"]["metadata"]["annotations"]
    assert "pacs-operator.io/newest-store" not in annotations


def test_an_approval_withdrawn_in_the_grace_starts_the_archive_again():
    world = approved()
    world.api.remove(("PacsApproval", "radiology-ops", "delete-ben"))
    world.settle()
    assert blocked(world) == "True/ApprovalsMissing"
    assert everything_stands(world)
    world.advance(25 * HOUR)
    world.settle()
    assert everything_stands(world)


def test_approvals_that_expire_in_the_grace_count_no_more_and_those_of_the_decision_stay():
    world = deleted()
    for person in ("anna", "ben"):
        approve(world, person, expiresAt="2026-11-20T20:00:00Z")
    world.settle()
    assert blocked(world) == "True/GracePeriod"
    world.advance(25 * HOUR)
    world.settle()
    assert blocked(world) == "True/ApprovalsMissing"
    assert everything_stands(world)


def test_unreadable_approvals_count_for_nothing():
    world = deleted()
    approve(world, "anna")
    approve(world, "system:serviceaccount:ci:deployer")
    approve(world, "carl", expiresAt="soon")
    world.settle()
    assert blocked(world) == "True/ApprovalsMissing"


def test_adopting_with_less_retention_is_refused_and_with_as_much_is_not():
    world = World()
    world.api.put(archive_manifest(retention={"minimumYears": 10, "legalHold": True}))
    world.settle()
    world.api.remove(ARCHIVE_KEY)
    world.settle()
    adopt = {"bootstrap": {"mode": "Adopt", "lineageID": world.drawn[0]}}
    for less in ({}, {"minimumYears": 9, "legalHold": True}, {"minimumYears": 10}):
        world.api.put(archive_manifest(**adopt, retention=less))
        world.settle()
        assert world.condition("Stalled")["reason"] == "RetentionLowered"
        assert "minimumYears 10 and legalHold true" in world.condition("Stalled")["message"]
        world.api._drop(ARCHIVE_KEY)
    world.api.put(archive_manifest(**adopt, retention={"minimumYears": 10, "legalHold": True}))
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_a_zone_that_was_made_for_us_is_emptied_and_left_to_its_owner():
    world = World()
    data: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "radiology-data"}}
    data["metadata"]["labels"] = {"pacs-operator.io/consent": ARCHIVE}
    world.api.put(data)
    world.api.put(archive_manifest(**DELETE))
    world.settle()
    world.api.remove(ARCHIVE_KEY)
    for person in ("anna", "ben"):
        approve(world, person)
    world.settle()
    world.advance(25 * HOUR)
    world.settle()
    assert zones(world) == {"radiology-data", "radiology-ops"}
    assert not [key for key in world.api.objects if key[0] == "PersistentVolumeClaim"]


def test_vault_sealed_does_not_end_it_half_done():
    world = approved()
    world.advance(25 * HOUR)
    world.vault.error = VaultSealedError("Vault is sealed", action="unseal it")
    world.settle()
    assert world.condition("Reconciling")["reason"] == "RemovingVaultRoles"
    assert zones(world) == ZONES
    world.vault.error = None
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
