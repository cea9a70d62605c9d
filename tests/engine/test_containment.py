"""Containment arrives whatever else is wrong, is told apart from an outage, and is lifted in the YAML."""

import copy

import pytest

from pacs_operator.domain.checks import CONTAINED, Check
from pacs_operator.domain.errors import VaultError
from pacs_operator.kube.errors import ApiForbiddenError
from pacs_operator.kube.inventory import Kind
from pacs_operator.kube.port import Manifest
from tests.engine.test_revocation import POLICY, PROBES, STALLS, edit_spec, live_ids
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, PEER_LABEL, World, catalog_manifest, peer_manifest

ISOLATED = {
    "mode": "Isolated",
    "reason": "ransomware on a workstation",
    "spareEmergencyPeers": [{"namespace": "wards", "name": "us1"}],
}
ASKED = {
    Check.GATE_REPLICAS,
    Check.ORTHANC_UNREACHABLE,
    Check.POSTGRES_UNREACHABLE,
    Check.OUTBOUND_GATE_UNREACHABLE,
    Check.LEGACY_PORTS_CLOSED,
    Check.CONTROL_FOREIGN_REFUSED,
    Check.CONTROL_ROUTE_REFUSED,
}


@pytest.fixture
def world(world: World) -> World:
    """Add the peer that an emergency needs."""
    world.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wards", "labels": PEER_LABEL}})
    world.api.put(peer_manifest("us1", namespace="wards", sourceCIDRs=["198.18.20.0/24"]))
    world.settle(world.process)
    return world


def contain(world: World, **change: object) -> None:
    edit_spec(containment=ISOLATED | change)(world)


def lift(world: World) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].pop("containment"))


def contained_ids(world: World, zone: str = "edge") -> set[str]:
    return {peer.id for peer in world.live_peers(zone).peers if peer.contained}


def check_contained(world: World) -> None:
    for zone in ("edge", "archive"):
        assert contained_ids(world, zone) == {*PROBES, "imaging/ct1"}
        assert live_ids(world, zone) == {*PROBES, "imaging/ct1", "wards/us1"}, "known, so that it is told to come again"
    policy = repr(world.api.objects[POLICY]["spec"])
    assert "198.18.20.0/24" in policy
    assert "198.18.10.11/32" not in policy
    revision = world.live_peers().revision
    told = {
        pod["metadata"]["name"]
        for pod in world.pods()
        if (pod["metadata"].get("annotations") or {}).get("pacs-operator.io/live-config-hash") == revision
    }
    assert told == {"gate-0", "gate-1", "orthanc-0"}
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Contained")
    assert "wards/us1" in ready["message"]
    assert "ransomware" in ready["message"]


def test_contained_and_lifted(world: World):
    before = copy.deepcopy(world.api.objects[POLICY]["spec"])
    pods = {pod["metadata"]["uid"] for pod in world.pods() if "conformance" not in pod["metadata"]["name"]}
    contain(world)
    world.settle(world.process)
    check_contained(world)
    condition = world.condition("Contained")
    assert (condition["status"], condition["reason"]) == ("True", "Isolated")
    since = world.archive["status"]["containment"]["since"]
    assert since in condition["message"]
    assert world.archive["status"]["containment"]["spared"] == ["wards/us1"]
    assert pods <= {pod["metadata"]["uid"] for pod in world.pods()}, "evidence: pods run on"
    world.advance(4000)
    world.settle(world.operator())
    assert world.archive["status"]["containment"]["since"] == since
    lift(world)
    world.settle(world.process)
    assert contained_ids(world) == contained_ids(world, "archive") == set()
    assert world.api.objects[POLICY]["spec"] == before
    assert world.condition("Ready")["status"] == "True"
    condition = world.condition("Contained")
    assert (condition["status"], condition["reason"]) == ("False", "NotContained")
    assert "containment" not in world.archive["status"]


@pytest.mark.parametrize("stall", STALLS)
def test_it_arrives_while_the_archive_is_stalled_and_lifting_waits(world: World, stall: str):
    make, reason = STALLS[stall]
    make(world)
    world.process.reconcile(ARCHIVE)
    assert world.condition("Stalled")["reason"] == reason
    contain(world)
    world.process.reconcile(ARCHIVE)
    check_contained(world)
    assert world.condition("Stalled")["reason"] == reason
    assert world.condition("Contained")["reason"] == "NotConfirmed"
    writes = len(world.log.entries)
    world.operator().reconcile(ARCHIVE)
    assert world.log.entries[writes:] == [], "once is enough"
    lift(world)
    world.process.reconcile(ARCHIVE)
    assert "imaging/ct1" in contained_ids(world), "what opens waits"
    assert world.condition("Contained")["reason"] == "LiftingWaits"


def test_what_waited_is_lifted_when_the_stall_ends(world: World):
    STALLS["unknown catalog"][0](world)
    contain(world)
    world.process.reconcile(ARCHIVE)
    lift(world)
    world.process.reconcile(ARCHIVE)
    world.api.put(catalog_manifest())
    world.settle(world.process)
    assert contained_ids(world) == set()
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Contained")["reason"] == "NotContained"


def test_it_arrives_while_vault_is_away(world: World):
    world.vault.error = VaultError("sealed", action="unseal")
    contain(world)
    world.process.reconcile(ARCHIVE)
    check_contained(world)


def test_it_arrives_before_anything_else_is_asked(world: World, monkeypatch: pytest.MonkeyPatch):
    """A pass that hangs in its first stage has told the gate already."""

    def stuck(*_: object) -> None:
        raise KeyboardInterrupt  # nothing catches it, as nothing catches a killed process

    contain(world)
    monkeypatch.setattr("pacs_operator.reconcile.status.announce", stuck)
    with pytest.raises(KeyboardInterrupt):
        world.operator().reconcile(ARCHIVE)
    assert contained_ids(world) == {*PROBES, "imaging/ct1"}


def test_it_arrives_while_suspended_and_says_so(world: World):
    edit_spec(suspend=True)(world)
    world.process.reconcile(ARCHIVE)
    contain(world)
    world.process.reconcile(ARCHIVE)
    check_contained(world)
    lift(world)
    world.process.reconcile(ARCHIVE)
    assert world.condition("Contained")["reason"] == "LiftingWaits"
    assert world.condition("Ready")["reason"] == "Suspended"


@pytest.mark.parametrize("names", [[{"namespace": "wards"}], "wards/us1", [7], None])
def test_names_that_cannot_be_read_leave_nothing_open(world: World, names: object):
    contain(world, spareEmergencyPeers=names)
    world.process.reconcile(ARCHIVE)
    assert contained_ids(world) == {*PROBES, "imaging/ct1", "wards/us1"}
    assert world.condition("Ready")["reason"] == "Contained"


def test_a_spared_peer_that_does_not_exist_is_named(world: World):
    contain(world, spareEmergencyPeers=[{"namespace": "wards", "name": name} for name in ("us1", "us9")])
    world.settle(world.process)
    check_contained(world)
    condition = world.condition("Contained")
    assert (condition["status"], condition["reason"]) == ("True", "SparedPeerNotAccepted")
    named = condition["message"].partition("NOT SERVED")[2]
    assert "wards/us9" in named
    assert "wards/us1" not in named


def test_a_peer_that_comes_while_contained_is_contained(world: World):
    contain(world)
    world.settle(world.process)
    world.api.put(peer_manifest("mr1", sourceCIDRs=["198.18.40.1/32"]))
    world.settle(world.process)
    assert "imaging/mr1" in contained_ids(world)
    assert "198.18.40.1/32" not in repr(world.api.objects[POLICY]["spec"])


def test_a_mark_that_somebody_takes_off_comes_back(world: World):
    contain(world)
    world.settle(world.process)
    list_key = ("ConfigMap", "radiology-edge", "peers")
    wanted = world.api.objects[list_key]["data"]["peers.json"]
    freed = wanted.replace('"contained": true', '"contained": false')
    assert freed != wanted
    world.api.edit(list_key, "kubectl", lambda live: live["data"].update({"peers.json": freed}))
    world.operator().reconcile(ARCHIVE)
    assert world.api.objects[list_key]["data"]["peers.json"] == wanted


def test_not_confirmed_until_every_gate_serves_by_the_list(world: World):
    world.agents.silent = True
    contain(world)
    world.process.reconcile(ARCHIVE)
    condition = world.condition("Contained")
    assert (condition["status"], condition["reason"]) == ("Unknown", "Applying")
    world.agents.silent = False
    world.advance(60)
    world.settle(world.process)
    assert world.condition("Contained")["status"] == "True"


def test_what_cannot_be_written_is_tried_again_and_the_rest_is_done(world: World, monkeypatch: pytest.MonkeyPatch):
    real = world.api.patch

    def denied(kind: Kind, name: str, namespace: str | None, body: Manifest) -> Manifest:
        if namespace == "radiology-edge" and name == "peers":
            raise ApiForbiddenError("no", action="none")
        return real(kind, name, namespace, body)

    monkeypatch.setattr(world.api, "patch", denied)
    STALLS["unknown catalog"][0](world)
    contain(world)
    with pytest.raises(ApiForbiddenError):
        world.process.reconcile(ARCHIVE)
    assert contained_ids(world, "archive") == {*PROBES, "imaging/ct1"}
    monkeypatch.undo()
    world.process.reconcile(ARCHIVE)
    check_contained(world)


def test_conformance_goes_on_and_is_not_taken_for_an_outage(world: World):
    runs = len(world.jobs_run)
    for check in set(Check) - ASKED:
        world.outcome_of_checks[check], world.code_of_checks[check] = "NotRun", CONTAINED
    contain(world)
    world.settle(world.process)
    assert len(world.jobs_run) == runs + 1
    condition = world.condition("ConformancePassed")
    assert (condition["status"], condition["reason"]) == ("Unknown", "Contained")
    assert f"{len(ASKED)} checks passed" in condition["message"]
    assert world.condition("NetworkIsolated")["status"] == "True"
    world.advance(3600)
    world.settle(world.process)
    assert len(world.jobs_run) == runs + 1, "not again and again, as after a failure"
    world.outcome_of_checks.clear()
    lift(world)
    world.settle(world.process)
    assert len(world.jobs_run) == runs + 2
    assert world.condition("ConformancePassed")["status"] == "True"


def test_a_gate_that_lets_the_probe_in_is_a_failure(world: World):
    for check in set(Check) - ASKED:
        world.outcome_of_checks[check], world.code_of_checks[check] = "NotRun", CONTAINED
    world.outcome_of_checks[Check.ECHO], world.code_of_checks[Check.ECHO] = "Failed", "accepted"
    contain(world)
    world.settle(world.process)
    condition = world.condition("ConformancePassed")
    assert (condition["status"], condition["reason"]) == ("False", "ChecksFailed")
