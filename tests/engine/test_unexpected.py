"""An error nobody thought of: told by its type alone, revocations go on, a deletion is not held up by it."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from pacs_operator import logs
from pacs_operator.domain.errors import PacsError, UnexpectedError
from pacs_operator.handlers.health import Heartbeat
from pacs_operator.handlers.process import Operator
from pacs_operator.kube.lease import Lease, LeaseName
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.reconcile.metrics import Metrics
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, SETTINGS, World, archive_manifest, peer_manifest

DATA = "DOE^JANE"
ABANDON = {"pacs-operator.io/abandon-vault-roles": ARCHIVE}


class Broken:
    """A renderer with a mistake whose text quotes what it choked on."""

    def render_archive(self, desired: object) -> list[dict[str, Any]]:
        raise ValueError(DATA)


def running() -> World:
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.api.put(peer_manifest("mr1"))
    world.settle()
    return world


def caught(operator: ArchiveReconciler) -> UnexpectedError:
    with pytest.raises(UnexpectedError) as error:
        operator.reconcile(ARCHIVE)
    return error.value


def told(world: World, kind: str = "ValueError") -> None:
    condition = world.condition("Reconciling")
    assert (condition["status"], condition["reason"]) == ("True", "Unexpected")
    assert f"({kind})" in condition["message"]
    assert DATA not in json.dumps([world.api.objects[key] for key in world.api.objects if key[0] != "DicomPeer"])


def test_it_is_told_and_what_was_revoked_is_taken_away_all_the_same():
    world = running()
    pods = {pod["metadata"]["uid"] for pod in world.pods()}
    world.renderer = Broken()
    world.api.remove(("DicomPeer", "imaging", "mr1"))
    error = caught(world.operator())
    assert error.retry
    assert isinstance(error.__cause__, ValueError)
    told(world)
    assert "imaging/mr1" not in {peer.id for peer in world.live_peers().peers}
    assert "imaging/ct1" in {peer.id for peer in world.live_peers().peers}
    assert {pod["metadata"]["uid"] for pod in world.pods()} == pods


def test_in_the_first_status_write_it_stops_no_revocation():
    world = running()
    world.api.remove(("DicomPeer", "imaging", "mr1"))
    world.api.put(archive_manifest(dicom={"aeTitle": "OTHER"}))
    world.log.faults.errors.append((lambda *call: call == ("status", "PacsArchive"), TypeError(DATA)))
    caught(world.operator())
    told(world, "TypeError")
    assert "imaging/mr1" not in {peer.id for peer in world.live_peers().peers}


def test_while_revoking_it_is_told_as_well(monkeypatch: pytest.MonkeyPatch):
    world = running()
    world.api.put(archive_manifest(release={"catalog": "missing", "version": "1"}))
    world.log.faults.errors.append((lambda *call: call == ("get", "ConfigMap"), KeyError(DATA)))
    caught(world.operator())
    assert world.condition("Stalled")["reason"] == "UnknownCatalog"


def test_while_suspended_it_is_told():
    world = running()
    world.api.put(archive_manifest(suspend=True))
    world.log.faults.errors.append((lambda *call: call == ("get", "ConfigMap"), ValueError(DATA)))
    caught(world.operator())
    told(world)


def test_outside_of_any_pass_it_is_typed_as_well():
    world = running()
    world.log.faults.errors.append((lambda *call: call == ("get", "PacsArchive"), ValueError(DATA)))
    assert DATA not in str(caught(world.operator()))


def test_a_deletion_goes_on_when_the_peers_cannot_be_told():
    world = running()
    world.api.remove(ARCHIVE_KEY)
    for _ in range(12):
        world.log.faults.errors[:] = [(lambda *call: call == ("list", "DicomPeer"), ValueError(DATA))]
        if ARCHIVE_KEY in world.api.objects:
            caught(world.operator())
        world.controllers()
    assert ARCHIVE_KEY not in world.api.objects


def test_a_deletion_says_that_vaults_answer_was_not_understood_and_has_its_way_out():
    world = running()
    world.api.remove(ARCHIVE_KEY)

    def broken(*_: object) -> None:
        raise KeyError(DATA)

    world.vault.delete_archive_roles = broken  # type: ignore[assignment]
    operator = world.operator()
    for _ in range(8):
        try:
            operator.reconcile(ARCHIVE)
        except PacsError as error:
            assert error.reason == "Unexpected"
        world.controllers()
    assert world.condition("VaultReady")["reason"] == "Unexpected"
    assert DATA not in json.dumps(world.archive)
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["metadata"]["annotations"].update(ABANDON))
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_a_deletion_sends_no_token_to_a_vault_that_nobody_allowed():
    world = running()
    elsewhere = {
        "address": "https://203.0.113.9:8200",
        "caPem": "CA",
        "authPath": "kubernetes",
        "audience": "vault",
        "cidrs": ["203.0.113.9/32"],
    }
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(vault=elsewhere))
    world.api.remove(ARCHIVE_KEY)
    asked: list[str] = []

    def connect(settings: Any) -> Any:
        asked.append(settings.address)
        return world.vault

    operator = ArchiveReconciler(replace(world.operator()._ports, vault=connect), SETTINGS)
    world.settle(operator)
    assert asked == []
    vault = world.condition("VaultReady")
    assert (vault["status"], vault["reason"]) == ("False", "VaultNotAllowed")
    assert world.condition("Reconciling")["reason"] == "RemovingVaultRoles"
    world.advance(601)
    world.settle(operator)
    assert world.condition("Orphaned")["reason"] == "VaultNotAllowed"
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["metadata"]["annotations"].update(ABANDON))
    world.settle(operator)
    assert ARCHIVE_KEY not in world.api.objects
    assert asked == []


def test_the_log_says_where_and_not_what(capsys: pytest.CaptureFixture[str]):
    world = running()
    world.renderer = Broken()
    reconciler, registry = world.operator(), CollectorRegistry()
    lease = Lease(world.api, LeaseName("pacs-operator", "one"), lambda: world.now)
    operator = Operator(reconciler, lease, Heartbeat(lambda: 0.0), registry, Metrics(registry))
    error = caught(reconciler)
    handlers, level = logging.root.handlers, logging.root.level
    try:
        logs.configure()
        operator._failed(ARCHIVE, error)
        operator._failed(ARCHIVE, ValueError(DATA))
        written = capsys.readouterr().out
    finally:
        logging.root.handlers, logging.root.level = handlers, level
        structlog.reset_defaults()
    first, second = (json.loads(line) for line in written.splitlines())
    assert (first["event"], first["error"]) == ("unexpected", "ValueError")
    assert first["at"][-1].startswith("test_unexpected.py:")
    assert first["at"][-1].endswith(" render_archive")
    assert second["event"] == "unexpected"
    assert DATA not in written
