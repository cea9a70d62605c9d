"""The modality outside the cluster: all bundled files go there and back, and every trouble on the way is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pacs_operator.domain.names import PROBE_AE_TITLE
from pacs_operator.domain.peer import Right
from pacs_operator.probes import __main__ as command
from pacs_operator.probes.samples import samples
from tests.probes.archive import Archive, Faults
from tests.probes.conftest import World
from tests.probes.gate import Gate, Rules

NAME = "radiology.pacs.internal"
CT = "1.2.840.10008.5.1.4.1.1.2"
Go = Callable[..., tuple[int, str, dict[str, object]]]


@pytest.fixture
def go(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Go:
    """Run ``pacs-probe modality`` against an archive with faults."""
    credentials = world.peers_ca.issue("ct1", ["ct1.imaging.example"])
    monkeypatch.setattr(command, "resolve", lambda host, _port: [host])

    def run(act: str, calling: str = "CT1", faults: Faults | None = None) -> tuple[int, str, dict[str, object]]:
        every = {Right.ECHO, Right.STORE, Right.FIND, Right.GET}
        archive = Archive({"CT1": every}, {PROBE_AE_TITLE}, faults or Faults())
        world.stack.callback(archive.close)
        server = world.peers_ca.issue("gate", [NAME])
        rules = Rules("RADIOLOGY", {"ct1.imaging.example": {"CT1"}}, server, world.peers_ca.ca_pem)
        gate = Gate(rules, archive.endpoint)
        world.stack.callback(gate.close)
        out = tmp_path / "out.json"
        words = ["modality", act, "--host", gate.endpoint.address, "--port", str(gate.endpoint.port), "--called"]
        words += ["RADIOLOGY", "--calling", calling, "--server-name", NAME, "--cert", str(credentials.certificate)]
        words += ["--key", str(credentials.key), "--ca", str(world.folder / "ca-peers.pem"), "--json", str(out)]
        done = CliRunner().invoke(command.app, words)
        return done.exit_code, done.output, json.loads(out.read_text()) if out.exists() else {}

    return run


def objects(document: dict[str, object]) -> list[dict[str, object]]:
    found = document["objects"]
    assert isinstance(found, list)
    return found


def test_every_bundled_file_comes_back_whole(go: Go) -> None:
    status, output, document = go("exchange")
    assert status == 0, output
    assert {each["outcome"] for each in objects(document)} == {"Equal"}
    assert len(objects(document)) >= 150
    assert {"CT", "MR", "US", "SR", "CR", "DOC"} <= {each["modality"] for each in objects(document)}
    assert len({each["transferSyntax"] for each in objects(document)}) >= 10
    assert len({each["characterSet"] for each in objects(document)}) >= 10
    assert document["reserved"] == {"attack": "status-0124", "twin": "status-0000"}
    names = {str(each["patientName"]) for each in objects(document) if len(str(each["patientName"])) > 4}
    assert names
    assert not [name for name in names if name in output]


def test_an_altered_object_is_told_by_tag_only(go: Go) -> None:
    status, output, document = go("exchange", faults=Faults(alters=True))
    assert status == 1
    assert {each["outcome"] for each in objects(document)} == {"Differs"}
    assert {tuple(each["differences"]) for each in objects(document)} <= {  # type: ignore[arg-type]
        ("(0010,0040) PatientSex has another value",),
        ("(0010,0040) PatientSex was added",),
    }
    assert "PatientSex" in output


def test_a_refused_object_is_told_and_the_others_still_go(go: Go) -> None:
    status, _, document = go("exchange", faults=Faults(refuses_class=CT))
    assert status == 1
    refused = {each["sopClass"] for each in objects(document) if each["outcome"] == "Refused"}
    assert refused == {CT}
    assert {each["outcome"] for each in objects(document)} == {"Refused", "Equal"}


def test_an_object_lost_after_success_is_told(go: Go) -> None:
    status, _, document = go("exchange", faults=Faults(loses_class=CT))
    assert status == 1
    assert {each["sopClass"] for each in objects(document) if each["outcome"] == "NotFound"} == {CT}


def test_an_open_reserved_prefix_is_told(go: Go) -> None:
    status, _, document = go("reserved", faults=Faults(store_anything=True))
    assert status == 1
    # The attack lies there now, so that its twin comes under a known UID with another patient.
    assert document["reserved"] == {"attack": "status-0000", "twin": "status-0111"}


def test_a_closed_reserved_prefix_beside_its_twin_is_fine(go: Go) -> None:
    status, _, document = go("reserved")
    assert status == 0
    assert document["reserved"] == {"attack": "status-0124", "twin": "status-0000"}


def test_a_title_that_is_not_this_certificates_is_refused_with_the_layer_named(go: Go) -> None:
    status, output, _ = go("echo", calling="CT2")
    assert status == 2
    assert "NotAssociated" in output
    assert "gate rj-1-1-3" in output


def test_the_right_title_is_echoed(go: Go) -> None:
    status, output, _ = go("echo")
    assert (status, output.strip()) == (0, "echo status-0000")


def test_samples_are_the_same_at_every_run_and_each_identity_comes_once() -> None:
    one, other = samples(), samples()
    assert [each.uid for each in one.sent] == [each.uid for each in other.sent]
    assert len({each.uid for each in one.sent}) == len(one.sent)
    assert all(one.skipped.values())
