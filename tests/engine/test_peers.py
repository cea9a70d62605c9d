"""Peers from resource to live list, Vault role and status; and Vault's troubles."""

import pytest

from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.domain.errors import VaultError
from pacs_operator.vault import errors as vault_errors
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, PEER_LABEL, World, archive_manifest, peer_manifest


def live_ids(world: World) -> set[str]:
    return {peer.id for peer in world.live_peers().peers}


def test_the_probes_are_always_peers(world: World):
    assert {"probe/conformance", "probe/store-only", "imaging/ct1"} == live_ids(world)


def test_one_pass_carries_a_new_peer_everywhere(world: World):
    world.api.put(peer_manifest("mr1", sourceCIDRs=["198.18.10.12/32"]))
    templates = [world.api.objects[key]["spec"]["template"] for key in world.api.objects if key[0] == "Deployment"]
    world.process.reconcile(ARCHIVE)
    assert "imaging/mr1" in live_ids(world)
    assert world.live_peers("archive") == world.live_peers("edge")
    assert "peer.imaging.mr1" in {role for _, role in world.vault.peer_roles}
    policy = world.api.objects["NetworkPolicy", "radiology-edge", "gate-ingress"]["spec"]
    assert "198.18.10.12/32" in repr(policy)
    revision = world.live_peers().revision
    for pod in world.pods():
        told = (pod["metadata"].get("annotations") or {}).get("pacs-operator.io/live-config-hash")
        component = pod["metadata"]["labels"]["pacs-operator.io/component"]
        assert (told == revision) is (component in ("gate", "orthanc")), component
    status = world.api.objects["DicomPeer", "imaging", "mr1"]["status"]
    assert status["boundIdentity"] == "mr1.imaging.example"
    assert status["vaultRole"] == f"pacs/{world.drawn[0]}/peers/sign/peer.imaging.mr1"
    assert [
        world.api.objects[key]["spec"]["template"] for key in world.api.objects if key[0] == "Deployment"
    ] == templates


@pytest.mark.parametrize("how", ["deleted", "terminating", "consent withdrawn", "bounds narrowed"])
def test_one_pass_revokes(world: World, how: str):
    key = ("DicomPeer", "imaging", "ct1")
    if how == "deleted":
        world.api.remove(key)
    elif how == "terminating":
        world.api.edit(key, "x", lambda live: live["metadata"].update(finalizers=["example.org/slow"]))
        world.api.remove(key)
    elif how == "consent withdrawn":
        world.api.edit(("Namespace", "", "imaging"), "x", lambda live: live["metadata"].update(labels={}))
    else:
        bounds = {"namespaceSelector": {"matchLabels": PEER_LABEL}, "allowedCIDRs": ["198.19.0.0/16"]}
        world.api.put(archive_manifest(peers={**bounds, "maxRights": ["Echo", "Store", "Find", "Get"]}))
    world.process.reconcile(ARCHIVE)
    assert live_ids(world) == {"probe/conformance", "probe/store-only"}
    assert world.vault.peer_roles == {}
    assert "198.18.10.11/32" not in repr(world.api.objects["NetworkPolicy", "radiology-edge", "gate-ingress"]["spec"])
    if how in ("consent withdrawn", "bounds narrowed"):
        status = world.api.objects[key]["status"]
        assert status["conditions"][0]["status"] == "False"
        assert "boundIdentity" not in status
        assert world.condition("PeersAccepted")["reason"] == "PeersRefused"


def test_peers_of_an_archive_that_does_not_exist_are_told(world: World):
    world.api.put(peer_manifest("lost", archive="cardiology"))
    assert world.process.reconcile("cardiology").result == "Gone"
    assert world.peer_condition("lost")["reason"] == "ArchiveNotFound"


def test_not_applied_is_unknown_until_gate_and_orthanc_confirm(world: World):
    keep, world.live_revision = world.live_revision, lambda component: "old"
    world.api.put(peer_manifest("mr1"))
    outcome = world.process.reconcile(ARCHIVE)
    assert (world.condition("PeersAccepted")["status"], world.condition("PeersAccepted")["reason"]) == (
        "Unknown",
        "Applying",
    )
    assert outcome.requeue_after == 1.0
    world.live_revision = keep
    world.settle(world.process)
    assert world.condition("PeersAccepted")["status"] == "True"


@pytest.mark.parametrize(
    "kind",
    [
        vault_errors.VaultSealedError,
        vault_errors.VaultUnreachableError,
        vault_errors.VaultForbiddenError,
        vault_errors.VaultTokenExpiredError,
    ],
)
def test_vault_in_trouble_harms_nothing_and_peers_still_come_and_go(world: World, kind: type[VaultError]):
    pods = {pod["metadata"]["uid"] for pod in world.pods()}
    world.vault.error = kind("Vault does not", action="look at it")
    world.advance(3600)
    world.api.remove(("DicomPeer", "imaging", "ct1"))
    world.api.put(peer_manifest("mr1"))
    process = world.operator()
    outcome = process.reconcile(ARCHIVE)
    assert outcome.requeue_after is not None
    assert outcome.requeue_after <= 15
    assert world.condition("VaultReady")["reason"] == kind.reason
    assert world.condition("VaultReady")["status"] == "False"
    assert live_ids(world) == {"probe/conformance", "probe/store-only", "imaging/mr1"}
    assert {pod["metadata"]["uid"] for pod in world.pods()} == pods
    assert world.condition("CertificatesCurrent")["status"] == "True", "known from the status: they end later"
    assert world.condition("Ready")["status"] == "True", "what was provisioned once goes on serving"
    world.vault.error = None
    world.settle(process)
    assert world.condition("VaultReady")["status"] == "True"
    assert {role for _, role in world.vault.peer_roles} == {"peer.imaging.mr1"}


def test_vault_reasons_are_distinct():
    kinds = [vault_errors.VaultSealedError, vault_errors.VaultUnreachableError, vault_errors.VaultForbiddenError]
    assert len({kind.reason for kind in [*kinds, vault_errors.VaultTokenExpiredError]}) == 4


def test_activity_reaches_the_status_coarsely(world: World):
    def summary() -> dict:
        return world.archive["status"]["peers"]["list"][0]

    def seen(store: str, **more: str) -> None:
        world.agents.activity = [PeerActivity(id="imaging/ct1", last_store=store, **more)]
        world.advance(60)
        world.process.reconcile(ARCHIVE)

    first = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    seen(first, last_rejection=first, last_rejection_reason="WrongCallingAETitle")
    assert (summary()["lastStore"], summary()["lastRejectionReason"]) == (first, "WrongCallingAETitle")
    writes = len(world.log.entries)
    for _ in range(10):
        seen(world.now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert world.log.entries[writes:] == [], "ten stores within ten minutes are no status write"
    world.advance(600)
    newest = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    seen(newest)
    assert summary()["lastStore"] == newest


def test_a_peer_says_why_in_its_own_status_and_the_archive_lists_it(world: World):
    world.api.put(peer_manifest("ct2", aeTitles=["CT1"]))
    world.settle(world.process)
    assert world.peer_condition("ct2")["reason"] == "DuplicateAETitle"
    assert "imaging/ct1" in world.peer_condition("ct2")["message"]
    peers = world.archive["status"]["peers"]
    assert (peers["accepted"], peers["refused"]) == (1, 1)
    assert [peer["accepted"] for peer in peers["list"]] == [True, False]


@pytest.mark.parametrize("strangers", [100, 300])
def test_a_flood_of_strangers_keeps_no_pass_long(strangers: int):
    """Anybody who may make a DicomPeer may name any archive; each is told, and the archive goes on meanwhile."""
    world = World().serve(archive_manifest())
    for number in range(strangers):
        world.api.put(peer_manifest(f"x{number:03d}", namespace="elsewhere"))
    world.api.put(peer_manifest("zz9"))
    written = len(world.log.entries)
    outcome = world.process.reconcile(ARCHIVE)
    told = [entry for entry in world.log.entries[written:] if entry.startswith("status DicomPeer")]
    assert len(told) == min(strangers + 1, 256)
    assert "status DicomPeer imaging/zz9" in told
    assert outcome.requeue_after is not None
    assert (outcome.requeue_after <= 1) is (strangers > 256)
    world.settle(world.process)
    assert all(world.peer_condition(f"x{number:03d}", "elsewhere")["status"] == "False" for number in range(strangers))
    world.api.remove(ARCHIVE_KEY)
    world.settle(world.process)
    assert world.peer_condition("x000", "elsewhere")["reason"] == "ArchiveNotFound"
    assert world.peer_condition(f"x{strangers - 1:03d}", "elsewhere")["reason"] == "ArchiveNotFound"
