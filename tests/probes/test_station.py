"""Devices beside the certified modality: a workstation that is sent to, and a device that knows no TLS."""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pacs_operator.domain.names import PROBE_AE_TITLE
from pacs_operator.domain.peer import Right
from pacs_operator.probes import __main__ as command
from pacs_operator.probes.canary import PATIENT, ultrasound
from pacs_operator.probes.tls import Credentials, Trust, client_context
from tests.probes.archive import Archive, Faults
from tests.probes.conftest import World
from tests.probes.gate import Gate, Rules, Weaknesses

GATE, STATION = "radiology.pacs.internal", "ws1.imaging.example"


@dataclass
class Case:
    """One archive with what it does wrong, and with what it sends."""

    faults: Faults = field(default_factory=Faults)
    plaintext: bool = False
    sender: str = GATE  # name in the certificate with which it sends
    foreign: bool = False  # whether that certificate is of another authority


@pytest.fixture
def go(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str, Any]]:
    monkeypatch.setattr(command, "resolve", lambda host, _port: [host])
    ca, out = world.folder / "ca-peers.pem", tmp_path / "out.json"
    own = world.peers_ca.issue("ws1", [STATION])

    def run(act: str, case: Case, *more: str, certified: bool = True) -> tuple[int, str, Any]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        archive = Archive({"WS1": set(Right)}, {PROBE_AE_TITLE}, case.faults)
        world.stack.callback(archive.close)
        for sample in ultrasound().sent if act == "move" else []:
            archive.objects[sample.uid] = sample.dataset
        sender = (world.control_ca if case.foreign else world.peers_ca).issue("sender", [case.sender])
        context = client_context(Trust(world.peers_ca.ca_pem, STATION), sender)
        archive.destinations["WS1"] = "127.0.0.1", port, context
        server = world.peers_ca.issue("gate", [GATE])
        rules = Rules("RADIOLOGY", {STATION: {"WS1"}}, server, world.peers_ca.ca_pem, weak=Weaknesses(case.plaintext))
        gate = Gate(rules, archive.endpoint)
        world.stack.callback(gate.close)
        words = ["modality", act, "--host", gate.endpoint.address, "--port", str(gate.endpoint.port)]
        words += ["--called", "RADIOLOGY", "--calling", "WS1", "--study", "ultrasound", "--json", str(out), *more]
        if certified:
            words += certificates(own, ca)
        if act == "move":
            words += ["--listen", f"127.0.0.1:{port}"]
        done = CliRunner().invoke(command.app, words)
        return done.exit_code, done.output, json.loads(out.read_text()) if out.exists() else {}

    return run


def certificates(own: Credentials, ca: Path) -> list[str]:
    return ["--cert", str(own.certificate), "--key", str(own.key), "--ca", str(ca), "--server-name", GATE]


def test_what_is_moved_to_it_is_compared_and_what_is_moved_elsewhere_is_refused(
    go: Callable[..., tuple[int, str, Any]],
) -> None:
    status, output, document = go("move", Case(), "--unlisted", "CT1")
    assert status == 0, output
    assert [each["outcome"] for each in document["objects"]] == ["Equal"] * 3
    assert document["moved"] == {"attack": "status-a801", "twin": "status-0000", "strangers": 0}
    assert "3 of 3 equal" in output
    assert PATIENT not in output


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        (Case(Faults(moves_anywhere=True)), "Equal"),
        (Case(Faults(alters=True)), "Differs"),
        (Case(sender="ct1.imaging.example"), "NotReturned"),
        (Case(foreign=True), "NotReturned"),
    ],
    ids=["to anybody", "altered", "another name", "another authority"],
)
def test_an_archive_that_sends_wrongly_is_told(
    go: Callable[..., tuple[int, str, Any]], case: Case, outcome: str
) -> None:
    status, output, document = go("move", case, "--unlisted", "CT1")
    assert status == 1, output
    assert {each["outcome"] for each in document["objects"]} == {outcome}


def test_a_device_without_tls_stores_at_a_port_that_takes_it_and_nowhere_else(
    go: Callable[..., tuple[int, str, Any]],
) -> None:
    status, output, document = go("store", Case(plaintext=True), certified=False)
    assert status == 0, output
    assert [each["outcome"] for each in document["objects"]] == ["Stored"] * 3
    status, output, _ = go("store", Case(plaintext=False), certified=False)
    assert status == 2
    assert "NotAssociated" in output


def test_half_an_identity_is_none(go: Callable[..., tuple[int, str, Any]]) -> None:
    status, output, _ = go("store", Case(plaintext=True), "--server-name", GATE, certified=False)
    assert status == 2
    assert "--cert, --key, --ca and --server-name go together" in output
