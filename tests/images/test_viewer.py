"""The DICOMweb viewer among the probes, at a real gate with a real Orthanc behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pacs_operator.domain.peer import Right
from pacs_operator.probes.__main__ import app
from pacs_operator.probes.canary import PATIENT, ultrasound
from pacs_operator.probes.tls import Credentials
from pacs_operator.probes.web import WebArchive as Seen
from pacs_operator.probes.wire import Endpoint
from tests.gate.process import peer

from .conftest import Image
from .webarchive import WebArchive, running_archive

NAME = "viewer1.imaging.example"
GATE = "radiology.pacs.internal"


@dataclass
class Viewer:
    """A device with a certificate, whose rights are given anew each time."""

    archive: WebArchive
    folder: Path

    def __post_init__(self) -> None:
        peers = self.archive.stage.site.peers
        self.pem = peers.issue(NAME).write(self.folder, "viewer")
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(peers.root_pem())

    def may(self, *rights: Right) -> Viewer:
        self.archive.stage.gate.put(peer("viewer1", NAME, "VIEWER1", rights=rights))
        return self

    def look(self, *more: str) -> tuple[int, str, Any]:
        out = self.folder / "out.json"
        out.unlink(missing_ok=True)
        words = ["--host", "127.0.0.1", "--port", str(self.archive.client.port), "--server-name", GATE, *more]
        words += ["--cert", str(self.pem), "--key", str(self.pem), "--ca", str(self.ca), "--json", str(out)]
        done = CliRunner().invoke(app, ["viewer", "--study", "ultrasound", *words])
        return done.exit_code, done.output, json.loads(out.read_text()) if out.exists() else {}

    @property
    def seen(self) -> Seen:
        endpoint = Endpoint("127.0.0.1", self.archive.client.port)
        return Seen(endpoint, GATE, self.ca, Credentials(self.pem, self.pem))


@pytest.fixture(scope="module")
def viewer(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with running_archive(image("archive"), tmp_path_factory.mktemp("viewer")) as running:
        device = Viewer(running, tmp_path_factory.mktemp("device")).may(Right.STORE)
        assert device.seen.store(sample.dataset for sample in ultrasound().sent) == 200
        yield device


def test_it_finds_and_gets_back_whole_and_may_not_store(viewer: Viewer) -> None:
    status, output, document = viewer.may(Right.FIND, Right.GET).look()
    assert status == 0, output
    assert [each["outcome"] for each in document["objects"]] == ["Equal"] * 3
    assert document["stowed"] == 403
    assert PATIENT not in output


@pytest.mark.parametrize(
    ("rights", "outcome"),
    [
        ((Right.FIND, Right.GET, Right.STORE), "Equal"),
        ((Right.FIND,), "NotReturned"),
        ((Right.GET,), "NotFound"),
    ],
    ids=["it may store", "it may not retrieve", "it may not search"],
)
def test_what_is_not_as_it_should_be_is_told(viewer: Viewer, rights: tuple[Right, ...], outcome: str) -> None:
    status, output, document = viewer.may(*rights).look()
    assert status == 1, output
    assert {each["outcome"] for each in document["objects"]} == {outcome}


def test_a_gate_with_another_name_is_not_spoken_to(viewer: Viewer) -> None:
    status, output, _ = viewer.may(Right.FIND, Right.GET).look("--server-name", "other.pacs.internal")
    assert status == 2
    assert "NotAnswered" in output
