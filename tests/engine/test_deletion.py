"""Deletion with policy Retain: what runs stops in order, what holds data stays, Vault is cleared or it is said."""

import contextlib

import pytest

from pacs_operator.kube.errors import ApiForbiddenError
from pacs_operator.kube.port import Manifest
from pacs_operator.vault.errors import VaultSealedError
from tests.engine import destroying
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest, peer_manifest


def running() -> World:
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.settle()
    world.api.remove(ARCHIVE_KEY)
    return world


def kinds_left(world: World) -> dict[str, set[str]]:
    left: dict[str, set[str]] = {}
    for kind, namespace, name in world.api.objects:
        if namespace.startswith("radiology-") or name.startswith("radiology"):
            left.setdefault(kind, set()).add(f"{namespace}/{name}")
    left.pop("Event")
    return left


def test_data_stay_and_everything_else_goes():
    world = running()
    world.settle()
    assert kinds_left(world) == {
        "Namespace": {"/radiology-edge", "/radiology-archive", "/radiology-data", "/radiology-ops"},
        "PersistentVolumeClaim": {"radiology-archive/images", "radiology-data/database"},
        "NetworkPolicy": {f"radiology-{zone}/default-deny" for zone in ("edge", "archive", "data", "ops")},
        "ResourceQuota": {f"radiology-{zone}/zone" for zone in ("edge", "archive", "data", "ops")},
        "LimitRange": {f"radiology-{zone}/zone" for zone in ("edge", "archive", "data", "ops")},
    }
    labels = world.api.objects["Namespace", "", "radiology-archive"]["metadata"]["labels"]
    assert labels["pacs-operator.io/lineage"] == world.drawn[0]
    assert world.vault.peer_roles == {}
    assert sorted(world.vault.paths) == sorted(
        f"pacs/{world.drawn[0]}/{ca}{part}" for ca in ("peers", "internal", "control") for part in ("", "/root")
    )
    assert world.peer_condition("ct1")["reason"] == "ArchiveNotFound"


def test_the_gate_goes_first_and_postgres_last():
    world = running()
    world.settle()
    deleted = [entry.split("/")[-1] for entry in world.log.entries if entry.startswith(("delete Dep", "delete Stat"))]
    assert deleted == ["gate", "orthanc", "postgres"]


def test_orthanc_stops_only_when_the_gate_has_drained():
    world = running()
    operator = world.operator()
    operator.reconcile(ARCHIVE)
    assert ("Deployment", "radiology-edge", "gate") not in world.api.objects
    for _ in range(3):
        assert operator.reconcile(ARCHIVE).requeue_after == 2.0  # pods still there: controllers did not run
    assert ("StatefulSet", "radiology-archive", "orthanc") in world.api.objects
    assert world.condition("Reconciling")["reason"] == "Stopping"
    world.controllers()
    operator.reconcile(ARCHIVE)
    assert ("StatefulSet", "radiology-archive", "orthanc") not in world.api.objects


def test_vault_sealed_holds_the_resource_then_says_orphaned_with_the_way_out():
    world = running()
    world.vault.error = VaultSealedError("Vault is sealed", action="unseal it")
    world.settle()
    assert world.condition("Reconciling")["reason"] == "RemovingVaultRoles"
    assert not [item for item in world.archive["status"]["conditions"] if item["type"] == "Orphaned"]
    world.advance(601)
    world.settle()
    orphaned = world.condition("Orphaned")
    assert (orphaned["status"], orphaned["reason"]) == ("True", "VaultSealed")
    assert "pacs-operator.io/abandon-vault-roles=radiology" in orphaned["message"]
    wrong = {"pacs-operator.io/abandon-vault-roles": "another"}
    world.api.edit(ARCHIVE_KEY, "kubectl-annotate", lambda live: live["metadata"]["annotations"].update(wrong))
    world.settle()
    assert ARCHIVE_KEY in world.api.objects
    right = {"pacs-operator.io/abandon-vault-roles": ARCHIVE}
    world.api.edit(ARCHIVE_KEY, "kubectl-annotate", lambda live: live["metadata"]["annotations"].update(right))
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_vault_back_in_time_clears_the_roles():
    world = running()
    world.vault.error = VaultSealedError("Vault is sealed", action="unseal it")
    world.settle()
    world.vault.error = None
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    assert not [path for path in world.vault.paths if path.startswith(("auth/", "role/"))]


def test_a_broken_spec_does_not_hold_a_deletion_up():
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    world.api.edit(ARCHIVE_KEY, "kubectl-edit", lambda live: live["spec"].pop("gate"))
    world.api.remove(ARCHIVE_KEY)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_a_zone_that_terminates_meanwhile_needs_no_new_object():
    world = running()
    for zone in ("edge", "data"):
        key = ("Namespace", "", f"radiology-{zone}")
        world.api.edit(key, "kubectl", lambda live: live["metadata"].update(finalizers=["kubernetes"]))
        world.api.remove(key)
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_an_archive_that_was_never_accepted_leaves_at_once():
    world = World()
    world.api.put(archive_manifest(release={"catalog": "missing", "version": "1"}))
    world.settle()
    world.api.remove(ARCHIVE_KEY)
    assert ARCHIVE_KEY not in world.api.objects, "nothing was made, so nothing holds it"


@pytest.mark.parametrize(
    ("kind", "grace_over"), [("StatefulSet", False), ("PersistentVolumeClaim", True), (None, True)]
)
def test_what_the_api_refuses_is_said_instead_of_the_step_before(kind: str | None, grace_over: bool):
    """A policy or a right that stands in the way: without a word the archive would seem to wait for its grace."""
    world = destroying.approved() if grace_over else running()
    delete, refused = world.api.delete, [True]

    def refusing(manifest: Manifest) -> None:
        if refused[0] and manifest["kind"] == kind:
            raise ApiForbiddenError(f"DELETE {kind}: 403 under a hold", action="look for an admission policy")
        delete(manifest)

    world.api.delete = refusing
    operator = world.operator()
    world.advance(25 * destroying.HOUR)
    for _ in range(6):
        with contextlib.suppress(ApiForbiddenError):
            operator.reconcile(ARCHIVE)
        world.controllers()
    if kind is None:
        assert ARCHIVE_KEY not in world.api.objects
        return
    told = world.condition("Reconciling")
    assert (told["status"], told["reason"]) == ("True", "ApiForbidden")
    assert "403 under a hold" in told["message"]
    if grace_over:
        assert world.condition("DeletionBlocked")["reason"] == "Approved"
    writes = len(world.log.entries)
    with pytest.raises(ApiForbiddenError):
        operator.reconcile(ARCHIVE)
    assert world.log.entries[writes:] == []
    refused[0] = False
    world.settle(operator)
    assert ARCHIVE_KEY not in world.api.objects
