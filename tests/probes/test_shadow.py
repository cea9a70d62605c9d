"""Dangerous attacks are made on a shadow alone: marked as one, and without a patient."""

import json
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from pacs_operator.domain.names import PROBE_PATIENT_PREFIX, PROBE_UID_ROOT
from pacs_operator.probes import shadow
from pacs_operator.probes.__main__ import app
from pacs_operator.probes.objects import SHADOW_PATIENT_PREFIX, ProbeObjects, unreserved
from pacs_operator.probes.setting import prepared
from pacs_operator.probes.shadow import NotAShadowError, refuse_patients
from tests.probes.conftest import REPLICAS, World, setting_of
from tests.probes.gate import Gate

ALWAYS = {"MalformedRequests", "SlowFlood", "AssociationFlood"}  # the others need more than the gate's address


def hold(world: World, patient: str) -> Dataset:
    dataset = unreserved(ProbeObjects("r0", PROBE_PATIENT_PREFIX, PROBE_UID_ROOT).small(), patient)
    world.archive.objects[dataset.SOPInstanceUID] = dataset
    return dataset


def test_what_an_earlier_visit_stored_makes_no_patient(world: World) -> None:
    config = world.start().model_copy(update={"shadow": True})
    hold(world, f"{SHADOW_PATIENT_PREFIX}1")
    with setting_of(config) as (setting, replica):
        refuse_patients(config, setting.session(replica, config.peer))


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
    assert {(each.name, each.address) for each in outcomes} == {(n, a) for n in ALWAYS for a in REPLICAS}


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


def test_the_file_on_the_page_is_one_that_works(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    document = json.loads(page.partition("```json\n")[2].partition("```")[0])
    config = world.start()
    for name, leaf in (("attacker.crt", "peer.crt"), ("attacker.key", "peer.key"), ("ca.pem", "ca-peers.pem")):
        (tmp_path / name).write_bytes((world.folder / leaf).read_bytes())
    here = {"archiveAeTitle": config.archive_ae_title, "gateHost": "localhost", "gatePort": config.gate_port}
    here["peer"] = {"leaf": "attacker", "aeTitle": config.peer.ae_title}
    (tmp_path / "shadow.json").write_text(json.dumps(document | here))
    for name, value in (("FLOOD", 20), ("SLOW", 4), ("resolve", lambda _host, _port: ["127.0.0.1"])):
        monkeypatch.setattr(shadow, name, value)
    monkeypatch.setattr(shadow, "malformed_requests", lambda _request: [b"GET / HTTP/1.1\r\n\r\n"])
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["shadow", "--config", "shadow.json"])
    assert done.exit_code == 0, done.output
    assert all(name in done.output for name in ALWAYS)
