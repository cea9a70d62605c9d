"""A peer that the secrets backend's own rules refuse: it alone is refused, whatever ours let pass."""

from collections.abc import Callable
from typing import Any

import pytest

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.leaves import archive_leaves
from pacs_operator.vault import errors as vault_errors
from pacs_operator.vault.port import Changes
from tests.engine.world import ARCHIVE, World, archive_manifest, peer_manifest

WORD = "reserved-by-the-backend"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    ensure = world.vault.ensure_peer_role

    def refuse(lineage_id: str, namespace: str, name: str, dns_name: str) -> Changes:
        if WORD in dns_name:
            raise InvalidSpecError(f"{dns_name!r} is taken", action="use another name", reason="ReservedIdentity")
        return ensure(lineage_id, namespace, name, dns_name)

    monkeypatch.setattr(world.vault, "ensure_peer_role", refuse)
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.process = world.operator()
    world.settle(world.process)
    return world


def refused_peer(name: str, **spec: Any) -> dict:
    return peer_manifest(name, certificate={"dnsName": f"{name}.{WORD}.example"}, **spec)


def live_ids(world: World) -> set[str]:
    return {peer.id for peer in world.live_peers().peers} - {"probe/conformance", "probe/store-only"}


def roles(world: World) -> set[str]:
    return {role for _, role in world.vault.peer_roles}


def test_it_is_refused_and_the_others_go_on(world: World):
    world.api.put(refused_peer("aa0", sourceCIDRs=["198.18.77.0/24"]))
    world.api.put(peer_manifest("mr1"))
    world.process.reconcile(ARCHIVE)
    assert live_ids(world) == {"imaging/ct1", "imaging/mr1"}
    assert world.live_peers("archive") == world.live_peers("edge")
    assert roles(world) == {"peer.imaging.ct1", "peer.imaging.mr1"}
    assert "198.18.77.0/24" not in repr(world.api.objects["NetworkPolicy", "radiology-edge", "gate-ingress"]["spec"])
    condition = world.peer_condition("aa0")
    assert (condition["status"], condition["reason"]) == ("False", "ReservedIdentity")
    assert condition["message"] == f"'aa0.{WORD}.example' is taken (use another name)"
    assert world.condition("PeersAccepted")["reason"] == "PeersRefused"
    assert world.condition("VaultReady")["status"] == "True"
    assert world.condition("Stalled")["status"] == "False"
    assert {peer["id"]: peer["accepted"] for peer in world.archive["status"]["peers"]["list"]} == {
        "imaging/aa0": False, "imaging/ct1": True, "imaging/mr1": True,
    }  # fmt: skip


def test_it_holds_nothing_that_a_later_peer_wants(world: World):
    world.api.put(refused_peer("aa0", aeTitles=["WANTED"]))
    world.api.put(peer_manifest("mr1", aeTitles=["WANTED"]))
    world.process.reconcile(ARCHIVE)
    assert "imaging/mr1" in live_ids(world)
    assert "peer.imaging.mr1" in roles(world)


def test_a_role_it_had_before_goes(world: World):
    world.api.put(refused_peer("ct1"))
    world.process.reconcile(ARCHIVE)
    assert roles(world) == set()
    assert live_ids(world) == set()


def test_it_stays_refused_without_a_write_and_while_vault_is_away(world: World):
    world.api.put(refused_peer("aa0"))
    world.settle(world.process)
    writes = len(world.log.entries)
    for _ in range(3):
        world.advance(61)
        world.process.reconcile(ARCHIVE)
    assert world.log.entries[writes:] == []
    world.vault.error = vault_errors.VaultSealedError("sealed", action="unseal")
    world.advance(700)
    world.process.reconcile(ARCHIVE)
    assert live_ids(world) == {"imaging/ct1"}
    assert world.peer_condition("aa0")["status"] == "False"


def test_an_edit_is_judged_anew(world: World):
    world.api.put(refused_peer("aa0"))
    world.process.reconcile(ARCHIVE)
    world.api.put(peer_manifest("aa0"))
    world.process.reconcile(ARCHIVE)
    assert live_ids(world) == {"imaging/ct1", "imaging/aa0"}
    assert world.peer_condition("aa0")["status"] == "True"


def test_it_is_refused_although_vault_fails_right_after(world: World, monkeypatch: pytest.MonkeyPatch):
    ensure: Callable[..., Changes] = world.vault.ensure_peer_role

    def seal(*what: str) -> Changes:
        if what[2] == "mr1":
            raise vault_errors.VaultSealedError("sealed", action="unseal")
        return ensure(*what)

    monkeypatch.setattr(world.vault, "ensure_peer_role", seal)
    world.api.put(refused_peer("aa0"))
    world.api.put(peer_manifest("mr1"))
    world.process.reconcile(ARCHIVE)
    assert live_ids(world) == {"imaging/ct1", "imaging/mr1"}
    assert world.condition("VaultReady")["reason"] == "VaultSealed"


@pytest.mark.parametrize("name", sorted({name for leaf in archive_leaves(ARCHIVE) for name in leaf.dns_names}))
def test_no_peer_may_bear_a_name_of_the_archives_own_certificates(world: World, name: str):
    world.api.put(peer_manifest("aa0", certificate={"dnsName": name}))
    world.process.reconcile(ARCHIVE)
    assert world.peer_condition("aa0")["reason"] == "ReservedIdentity"


def test_one_made_anew_under_its_name_is_judged_anew(world: World):
    """Its generation is the same again: deleting and applying is how many correct what was refused."""
    world.api.put(refused_peer("aa0"))
    world.process.reconcile(ARCHIVE)
    world.api.remove(("DicomPeer", "imaging", "aa0"))
    world.api.put(peer_manifest("aa0"))
    world.process.reconcile(ARCHIVE)
    assert live_ids(world) == {"imaging/ct1", "imaging/aa0"}
    assert world.peer_condition("aa0")["status"] == "True"
