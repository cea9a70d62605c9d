"""Orthanc's own certificate over its life: renewed, waited with, restarted once, quiet."""

import copy
from datetime import datetime, timedelta

import pytest

from pacs_operator.domain import rotation
from pacs_operator.domain.agentconfig import AgentStatus, LeafStatus
from pacs_operator.domain.names import Component
from pacs_operator.domain.status import CertificateStatus
from pacs_operator.vault.port import ClientCredentials
from tests.engine.simapi import Killed
from tests.engine.world import ARCHIVE, START, SimulatedAgents, World, archive_manifest, peer_manifest

ORTHANC = ("StatefulSet", "radiology-archive", "orthanc")
MARK = "pacs-operator.io/restarted-for"
LIFE = timedelta(days=90)


class AgeingWorld(World):
    """Counts the restarts of Orthanc."""

    agents: "Ageing"

    def __init__(self) -> None:
        super().__init__()
        self.agents = Ageing(self)
        self.rolled: str | None = None
        self.restarts = 0


class Ageing(SimulatedAgents):
    """Agents that renew at two thirds; Orthanc presents what its pod started with, as the real one does."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.served_not_after: str | None = None
        self.started: dict[str, datetime] = {}  # pod uid -> when its first leaf was issued

    def status(self, address: str, server_name: str, credentials: ClientCredentials) -> AgentStatus:
        answer = super().status(address, server_name, credentials)
        now = self._world.now
        leaves = [
            leaf.model_copy(update={"not_after": stamp(START + timedelta(days=400)), "served_serial": leaf.serial})
            for leaf in answer.leaves
        ]
        if answer.component is Component.ORTHANC:
            pod = next(pod for pod in self._world.pods() if pod["status"].get("podIP") == address)
            began = self.started.setdefault(pod["metadata"]["uid"], now)
            leaves = [self._own(leaf, began, now) if leaf.name == rotation.LEAF else leaf for leaf in leaves]
        return answer.model_copy(update={"leaves": leaves})

    def _own(self, leaf: LeafStatus, began: datetime, now: datetime) -> LeafStatus:
        issued = began + LIFE * 2 / 3 if now - began >= LIFE * 2 / 3 else began
        return leaf.model_copy(
            update={
                "serial": serial(issued),
                "served_serial": serial(began),
                "not_before": stamp(issued),
                "not_after": stamp(issued + LIFE),
                "served_not_after": self.served_not_after,
            }
        )


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def serial(issued: datetime) -> str:
    return f"{int(issued.timestamp()):x}"


def replace_pods(world: AgeingWorld) -> None:
    """Do what the StatefulSet's controller does with a changed template."""
    key = ("Pod", "radiology-archive", "orthanc-0")
    mark = world.api.objects[ORTHANC]["spec"]["template"]["metadata"]["annotations"].get(MARK)
    if world.rolled != mark:
        world.rolled = mark
        world.restarts += 1
        world.api.remove(key)
        world.controllers()


def at(world: AgeingWorld, day: float) -> None:
    """Move to a day of the first certificate's life and settle there."""
    world.now = START + timedelta(days=day)
    world.advance(0)
    world.settle(world.process)
    replace_pods(world)
    world.settle(world.process)


@pytest.fixture
def world() -> AgeingWorld:
    world = AgeingWorld()
    world.api.put(archive_manifest(conformance={"suspend": True}))
    world.api.put(peer_manifest("ct1"))
    world.process = world.operator()
    world.settle(world.process)
    return world


def own(world: AgeingWorld) -> dict[str, str]:
    return next(entry for entry in world.archive["status"]["certificates"] if entry["name"] == rotation.LEAF)


def mark(world: AgeingWorld) -> str | None:
    return world.api.objects[ORTHANC]["spec"]["template"]["metadata"]["annotations"].get(MARK)


def test_a_life(world: AgeingWorld):
    at(world, 59)
    assert "servedSerial" not in own(world)
    assert world.condition("CertificatesCurrent")["status"] == "True"
    at(world, 61)
    assert own(world)["servedNotAfter"].startswith("2027-02-18T08:00")
    waiting = "Orthanc restarts to serve its renewed certificate: before 2027-02-18"
    assert world.archive["status"]["waiting"] == [waiting]
    assert world.condition("CertificatesCurrent")["status"] == "True"
    assert world.condition("Ready")["status"] == "True"
    at(world, 75.9)
    assert world.condition("CertificatesCurrent")["status"] == "True"
    assert world.archive["status"]["waiting"] == [waiting]
    assert (mark(world), world.restarts) == (None, 0)
    renewed = own(world)["serial"]
    at(world, 76.5)
    assert (mark(world), world.restarts) == (renewed, 1)
    assert "servedSerial" not in own(world)
    assert own(world)["serial"] != renewed, "the new pod has a certificate of its own"
    assert world.condition("CertificatesCurrent")["status"] == "True"
    assert world.archive["status"]["waiting"] == []
    writes = len(world.log.entries)
    world.operator().reconcile(ARCHIVE)
    assert world.log.entries[writes:] == []
    at(world, 76.5 + 70)
    assert (mark(world), world.restarts) == (renewed, 1), "the next one is not due yet"
    at(world, 76.5 + 77)
    assert world.restarts == 2
    assert mark(world) not in (None, renewed)


def test_the_mark_outlives_other_changes_and_asks_for_no_conformance_run(world: AgeingWorld):
    runs = len(world.jobs_run)
    at(world, 61)
    at(world, 84)
    assert world.restarts == 1
    assert len(world.jobs_run) == runs, "the same configuration runs"
    set_to = mark(world)
    world.api.put(archive_manifest(conformance={"suspend": True}, dicom={"aeTitle": "RADIO2"}))
    world.settle(world.process)
    assert mark(world) == set_to
    world.api.edit(
        ORTHANC, "x", lambda live: live["spec"]["template"]["metadata"]["annotations"].pop(MARK)
    )  # somebody's edit is a restart already
    writes = len(world.log.entries)
    world.settle(world.process)
    assert mark(world) is None
    assert [entry for entry in world.log.entries[writes:] if "StatefulSet" in entry] == []


def test_a_restart_by_hand_is_enough(world: AgeingWorld):
    at(world, 61)
    world.api.remove(("Pod", "radiology-archive", "orthanc-0"))
    world.controllers()
    at(world, 84)
    assert (mark(world), world.restarts) == (None, 0)
    assert world.condition("CertificatesCurrent")["status"] == "True"


def test_a_silent_agent_is_no_ground_for_a_restart_but_the_promise_is_broken(world: AgeingWorld):
    at(world, 61)
    world.agents.silent = True
    at(world, 84)
    assert mark(world) is None
    assert world.condition("CertificatesCurrent")["reason"] == "ServedNotRenewed"
    assert "when 14 days were left did not come about" in world.condition("CertificatesCurrent")["message"]
    world.agents.silent = False
    at(world, 84.1)
    assert world.restarts == 1


def test_a_lost_status_is_made_up_for(world: AgeingWorld):
    at(world, 61)
    known = own(world)
    world.api.set_status(("PacsArchive", "", ARCHIVE), {})
    world.process = world.operator()
    at(world, 61.1)
    assert own(world) == known, "renewed at two thirds, so a third of a life remained"


def test_an_agent_that_knows_the_end_is_believed_first(world: AgeingWorld):
    at(world, 61)
    world.agents.served_not_after = "2027-02-10T00:00:00Z"
    at(world, 61.1)
    assert own(world)["servedNotAfter"] == "2027-02-10T00:00:00Z"


def test_what_waits_goes_on_waiting_when_orthanc_restarts(world: AgeingWorld):
    at(world, 61)
    world.api.edit(
        ORTHANC, "x", lambda live: live["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=7)
    )  # drift that nobody needs a restart for
    at(world, 75)
    drift = [text for text in world.archive["status"]["waiting"] if "Drift" in text]
    assert len(drift) == 1
    at(world, 84)
    assert world.restarts == 1
    assert world.archive["status"]["waiting"] == drift
    assert world.api.objects[ORTHANC]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 7


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_write_of_a_restart(world: AgeingWorld, when: str):
    at(world, 61)
    at(world, 75)
    world.now = START + timedelta(days=84)
    world.advance(0)
    world.controllers()
    reference = copy.deepcopy(world)
    reference.settle(reference.operator())
    writes = reference.log.entries[len(world.log.entries) :]
    assert "patch StatefulSet radiology-archive/orthanc" in writes
    for point, entry in enumerate(writes):
        again = copy.deepcopy(world)
        setattr(again.log.faults, f"kill_{when}", len(again.log.entries) + point)
        with pytest.raises(Killed):
            again.settle(again.operator())
        again.settle(again.operator())
        assert mark(again) == mark(reference) is not None, entry
        patches = [line for line in again.log.entries[len(world.log.entries) :] if line.startswith("patch StatefulSet")]
        assert len(patches) == 1, f"killed {when} {entry}"


@pytest.mark.parametrize(
    ("left", "broken", "due"), [(15, False, False), (14, False, False), (13.9, False, True), (6.9, True, True)]
)
def test_thresholds(left: float, broken: bool, due: bool):
    found = rotation.Rotation("0b", START + timedelta(days=left))
    assert (found.broken(START), found.due(START)) == (broken, due)


@pytest.mark.parametrize(
    ("entry", "there"),
    [
        ({"component": "orthanc", "name": "dicom-server", "served_not_after": "2026-12-01T00:00:00Z"}, True),
        ({"component": "orthanc", "name": "dicom-server"}, False),
        ({"component": "orthanc", "name": "control", "served_not_after": "2026-12-01T00:00:00Z"}, False),
        ({"component": "gate", "name": "dicom-server", "served_not_after": "2026-12-01T00:00:00Z"}, False),
    ],
)
def test_only_orthancs_own_certificate_needs_a_restart(entry: dict[str, str], there: bool):
    known = CertificateStatus.model_validate({"serial": "0b", "not_after": "2027-01-01T00:00:00Z", **entry})
    assert (rotation.pending([known]) is not None) is there
