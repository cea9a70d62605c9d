"""Dangerous attacks are made on a shadow alone: marked as one, and without a patient."""

import json
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from pacs_operator.domain.names import PROBE_PATIENT_PREFIX, PROBE_UID_ROOT
from pacs_operator.probes import shadow
from pacs_operator.probes.__main__ import app
from pacs_operator.probes.objects import ProbeObjects, unreserved
from pacs_operator.probes.setting import prepared
from pacs_operator.probes.shadow import NotAShadowError, refuse_patients
from tests.probes.conftest import REPLICAS, World, setting_of
from tests.probes.gate import Gate


def hold(world: World, patient: str) -> Dataset:
    dataset = unreserved(ProbeObjects("r0", PROBE_PATIENT_PREFIX, PROBE_UID_ROOT).small(), patient)
    world.archive.objects[dataset.SOPInstanceUID] = dataset
    return dataset


def ask(world: World, **changes: object) -> None:
    config = world.start().model_copy(update=changes)
    hold(world, PROBE_PATIENT_PREFIX + "r0")
    with setting_of(config) as (setting, replica):
        refuse_patients(config, setting.session(replica, config.peer))


def test_a_marked_archive_without_patients_is_a_shadow(world: World) -> None:
    ask(world, shadow=True)


@pytest.mark.parametrize("mark", [None, False])
def test_without_the_mark_nothing_is_made(world: World, mark: bool | None) -> None:
    with pytest.raises(NotAShadowError, match="does not say"):
        ask(world, shadow=mark)


def test_a_mark_on_an_archive_with_a_patient_is_not_believed(world: World) -> None:
    config = world.start().model_copy(update={"shadow": True})
    hold(world, "P1")
    with setting_of(config) as (setting, replica), pytest.raises(NotAShadowError, match="1 patients"):
        refuse_patients(config, setting.session(replica, config.peer))


def test_an_archive_that_does_not_tell_is_none(world: World) -> None:
    config = world.start().model_copy(update={"shadow": True})
    for gate in world.gates:
        gate.close()
    with setting_of(config) as (setting, replica), pytest.raises(NotAShadowError, match="does not tell"):
        refuse_patients(config, setting.session(replica, config.peer))


def test_the_command_refuses_and_attacks_nobody(world: World, tmp_path: Path) -> None:
    document = world.start().document()
    (tmp_path / "conformance.json").write_text(json.dumps(document))
    done = CliRunner().invoke(app, ["shadow", "--config", str(tmp_path / "conformance.json")])
    assert done.exit_code == 2
    assert world.archive.requests == []


def test_every_danger_is_made_on_every_replica(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "FLOOD", 40)
    monkeypatch.setattr(shadow, "SLOW", 8)
    monkeypatch.setattr(shadow, "resolve", lambda _host, _port: list(REPLICAS))
    outcomes = shadow.endanger(world.start().model_copy(update={"shadow": True}))
    assert {(each.name, each.address) for each in outcomes} == {(n, a) for n in shadow.DANGERS for a in REPLICAS}


def test_a_gate_that_is_dead_afterwards_failed(world: World) -> None:
    with prepared(world.start()) as setting:
        replica = world.gates[0].endpoint
        world.gates[0].close()
        found = shadow.slow(setting, replica)
    assert (found.outcome, found.twin) == ("Failed", "NotServed")


def test_a_gate_that_grants_anything_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "_associate", lambda _gate, stream, _names: stream.sendall(b"\x02"))
    with setting_of(world.start()) as (setting, replica):
        found = shadow.malformed(setting, replica)
    assert (found.outcome, found.code) == ("Failed", "accepted")
