"""An archive that serves DICOMweb: the image's Orthanc, the HAProxy beside it, the gate, and a client's requests."""

from __future__ import annotations

import contextlib
import email
import email.policy
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydicom import Dataset, dcmread

from pacs_operator.domain.peer import Right
from pacs_operator.render.orthanc_config import DICOMWEB
from tests.gate.archive import ORTHANC_FQDN, resolver
from tests.gate.pki import Authority
from tests.gate.process import Site, peer
from tests.gate.web import Client, Reply, WebStage, running_web, web_layout
from tests.machine import enterable

from .conftest import Image
from .orthanc_server import PYTHON, WEB, Orthanc, orthanc

STUDIES = "/dicom-web/studies"
MEBIBYTE = 2**20
_clients = itertools.count(1)


@dataclass
class WebArchive:
    """One archive and a client with all rights."""

    stage: WebStage
    server: Orthanc
    client: Client

    def stow(self, *objects: bytes, client: Client | None = None) -> Reply:
        body = b"".join(b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in objects)
        return self.send(body + b"--cut--\r\n", client=client)

    def send(self, body: Any, client: Client | None = None, more: dict[str, str] | None = None) -> Reply:
        kind = 'multipart/related; type="application/dicom"; boundary=cut'
        given = {"Content-Type": kind, "Accept": "application/dicom+json"} | (more or {})
        return (client or self.client).ask(STUDIES, "POST", body, headers=given)

    def retrieve(self, dataset: Dataset) -> bytes:
        """Return an instance's file by WADO-RS, in the transfer syntax in which it is stored."""
        wanted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        reply = self.client.ask(address(dataset), headers={"Accept": wanted})
        assert reply.status == 200, reply
        (part,) = parts(reply)
        return part


def address(dataset: Dataset) -> str:
    return f"{STUDIES}/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


def parts(reply: Reply) -> list[bytes]:
    """Return the parts of a multipart answer."""
    head = f"Content-Type: {reply.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + reply.body, policy=email.policy.HTTP)
    payloads = [part.get_payload(decode=True) for part in message.iter_parts()]
    assert all(isinstance(payload, bytes) for payload in payloads)
    return payloads  # type: ignore[return-value]


def read(data: bytes) -> Dataset:
    return dcmread(io.BytesIO(data))


def admitted(stage: WebStage, *rights: Right, limit: int = 8) -> Client:
    """Return a client that the gate knows."""
    number = next(_clients)
    name = f"viewer-{number}.imaging.example"
    leaf = stage.site.peers.issue(name)
    stage.gate.put(peer(f"viewer-{number}", name, f"VIEWER{number}", rights=rights, limit=limit))
    return stage.client(leaf)


@contextlib.contextmanager
def running_archive(image: Image, folder: Path, *, body_mi: int = 16, **settings: Any) -> Iterator[WebArchive]:
    """Run Orthanc with DICOMweb, the HAProxy beside it and the gate until the block ends."""
    enterable(folder)
    own: dict[str, Any] = {
        "Plugins": [PYTHON, WEB],
        "DicomWeb": DICOMWEB,
        "MaximumRequestBodySizeMB": body_mi,
    } | settings
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(orthanc(image, folder, **own))
        names = stack.enter_context(resolver())
        names.names[ORTHANC_FQDN] = "127.0.0.1"
        behind: Any = SimpleNamespace(port=server.dicom)
        site = Site(folder, Authority("peers"), Authority("internal"), behind, names)
        layout = web_layout(server.http, max_body_bytes=body_mi * MEBIBYTE)
        stage = stack.enter_context(running_web(site, folder / "web", layout))
        yield WebArchive(stage, server, admitted(stage, Right.STORE, Right.FIND, Right.GET))
