"""What DICOMweb through the gate costs: stored and retrieved, against the same Orthanc's plain HTTP on loopback."""
# ruff: noqa: S101

import argparse
import email
import email.policy
import http.client
import io
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom import Dataset
from pydicom.uid import generate_uid
from tests.gate.archive import ORTHANC_FQDN, resolver
from tests.gate.pki import Authority
from tests.gate.process import Site, peer
from tests.gate.web import ALL, Client, WebStage, running_web, web_layout
from tests.images.orthanc_server import Orthanc, instance, orthanc, part10
from tests.render.archives import desired

from benchmarks.gate import SLOTS, cpu_seconds, database, image, orthanc_settings, quartiles
from benchmarks.record import Cell, Limit, Record, Table, end_in_order, publish
from pacs_operator.render import orthanc_config

BOUND, AIM = 0.80, 0.90
WAYS = ("bare", "gate")
ACTS = ("STOW-RS", "WADO-RS")
WARM_ROUNDS = 2
STUDIES = "/dicom-web/studies"
HEAD = b"--cut\r\nContent-Type: application/dicom\r\n\r\n"
STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=cut', "Accept": "application/dicom+json"}
WADO = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}


@dataclass(frozen=True)
class Block:
    """A block of requests one way; CPU seconds are of both HAProxies, and of Orthanc."""

    done: int
    seconds: float
    proxies_cpu: float
    orthanc_cpu: float

    @property
    def rate(self) -> float:
        """Return requests a second."""
        return self.done / self.seconds


Blocks = dict[tuple[str, str], list[Block]]  # way, act


@dataclass
class Scene:
    """Gate, the HAProxy beside Orthanc, Orthanc, and connections that stay open each way."""

    stage: WebStage
    server: Orthanc
    connections: dict[str, list[http.client.HTTPConnection]]

    def block(self, way: str, act: Callable[[http.client.HTTPConnection], None], each: int) -> Block:
        """Make so many requests over each connection of one way, all at one time."""
        proxies = (self.stage.gate.process.pid, self.stage.process.pid)
        before = [cpu_seconds(process) for process in (*proxies, self.server.process.pid)]
        failures: list[BaseException] = []

        def work(connection: http.client.HTTPConnection) -> None:
            try:
                for _ in range(each):
                    act(connection)
            except BaseException as error:  # told by the main thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(connection,)) for connection in self.connections[way]]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begun
        if failures:
            raise SystemExit(f"{way}: {failures[0]!r}")
        gate, beside, own = (
            cpu_seconds(process) - was
            for process, was in zip((*proxies, self.server.process.pid), before, strict=True)
        )
        return Block(each * len(threads), seconds, gate + beside, own)


def ct(side: int) -> Dataset:
    """Return a CT image of its own with so many rows and columns."""
    dataset = instance(generate_uid(), study=generate_uid(), pixels=bytes(2 * side * side))
    dataset.Rows = dataset.Columns = side
    return dataset


def stow(side: int) -> Callable[[http.client.HTTPConnection], None]:
    """Return an act that stores a new image."""
    template = part10(ct(side))
    uid = str(ct(side).SOPInstanceUID)

    def act(connection: http.client.HTTPConnection) -> None:
        del template, uid  # pragma: no cover

    del act

    def store(connection: http.client.HTTPConnection) -> None:
        body = HEAD + part10(ct(side)) + b"\r\n--cut--\r\n"
        connection.request("POST", STUDIES, body, STOW)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer[:200])

    return store


def wado(stored: Dataset) -> Callable[[http.client.HTTPConnection], None]:
    """Return an act that retrieves an image, and looks whether it is the one that was stored."""
    path = f"{STUDIES}/{stored.StudyInstanceUID}/series/{stored.SeriesInstanceUID}/instances/{stored.SOPInstanceUID}"
    expected = part10(stored)

    def act(connection: http.client.HTTPConnection) -> None:
        connection.request("GET", path, headers=WADO)
        response = connection.getresponse()
        assert response.status == 200, response.status
        assert expected in response.read()

    return act
