"""What DICOMweb through the gate costs: stored and retrieved, against the same Orthanc's plain HTTP on loopback."""
# ruff: noqa: S101

import argparse
import http.client
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
from tests.gate.web import ALL, WebStage, running_web, web_layout
from tests.images.orthanc_server import WEB, Orthanc, instance, orthanc, part10

from benchmarks.gate import cpu_seconds, database, image, orthanc_settings, quartiles
from benchmarks.record import Cell, Limit, Record, Table, begin, conclude
from pacs_operator.render.gate import SLOTS
from pacs_operator.render.orthanc_config import DICOMWEB

AIM = 0.90
WAYS = ("bare", "gate")
ACTS = ("STOW-RS", "WADO-RS")
WARM_ROUNDS = 2
#: Whose processor time is told, and in what words.
WHO = {"client": "client", "gate": "gate's HAProxy", "beside": "HAProxy beside Orthanc", "orthanc": "Orthanc"}
STUDIES = "/dicom-web/studies"
HEAD = b"--cut\r\nContent-Type: application/dicom\r\n\r\n"
STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=cut', "Accept": "application/dicom+json"}
WADO = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}


@dataclass(frozen=True)
class Block:
    """A block of requests one way; CPU seconds are of whole processes, of the client those of its threads."""

    done: int
    seconds: float
    client_cpu: float
    gate_cpu: float
    beside_cpu: float
    orthanc_cpu: float

    @property
    def rate(self) -> float:
        """Return requests a second."""
        return self.done / self.seconds


Blocks = dict[tuple[str, str], list[Block]]  # way, act


Act = Callable[[http.client.HTTPConnection], None]


@dataclass
class Scene:
    """Gate, the HAProxy beside Orthanc, Orthanc, and connections that stay open each way."""

    stage: WebStage
    server: Orthanc
    connections: dict[str, list[http.client.HTTPConnection]]

    def block(self, way: str, acts: list[Act]) -> Block:
        """Make these requests one way, shared out over its connections, all at one time."""
        connections = self.connections[way]
        processes = (self.stage.gate.process.pid, self.stage.process.pid, self.server.process.pid)
        failures: list[BaseException] = []
        client: list[float] = []

        def work(number: int) -> None:
            try:
                for act in acts[number :: len(connections)]:
                    act(connections[number])
                client.append(time.thread_time())
            except BaseException as error:  # told by the main thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(connections))]
        for connection in connections:
            wake(connection)
        before = [cpu_seconds(process) for process in processes]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begun
        if failures:
            raise SystemExit(f"{way}: {failures[0]!r}")
        used = [cpu_seconds(process) - was for process, was in zip(processes, before, strict=True)]
        return Block(len(acts), seconds, sum(client), *used)


def wake(connection: http.client.HTTPConnection) -> None:
    """Have a connection open and used; Orthanc ends those that were idle for a second."""
    try:
        _look(connection)
    except (OSError, http.client.HTTPException):
        connection.close()
        _look(connection)


def _look(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", f"{STUDIES}?limit=1", headers={"Accept": "application/dicom+json"})
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status


def ct(side: int) -> Dataset:
    """Return a CT image of its own with so many rows and columns."""
    dataset = instance(generate_uid(), study=generate_uid(), pixels=bytes(2 * side * side))
    dataset.Rows = dataset.Columns = side
    return dataset


def stow(side: int) -> Act:
    """Return a request that stores a new image; made beforehand, so that its making is not measured."""
    body = HEAD + part10(ct(side)) + b"\r\n--cut--\r\n"

    def act(connection: http.client.HTTPConnection) -> None:
        connection.request("POST", STUDIES, body, STOW)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer[:200])

    return act


def wado(stored: Dataset) -> Act:
    """Return a request that retrieves an image, and looks whether it is the one that was stored."""
    path = f"{STUDIES}/{stored.StudyInstanceUID}/series/{stored.SeriesInstanceUID}/instances/{stored.SOPInstanceUID}"
    expected = part10(stored)

    def act(connection: http.client.HTTPConnection) -> None:
        connection.request("GET", path, headers=WADO)
        response = connection.getresponse()
        assert response.status == 200, response.status
        assert expected in response.read()

    return act


@contextmanager
def scene(backend: str, clients: int) -> Iterator[Scene]:
    """Run Orthanc with the archive's settings, the HAProxy beside it and the gate; open connections both ways."""
    place = "/dev/shm" if backend == "memory" else "/var/tmp"  # noqa: S108  # memory and disk are what is compared
    with tempfile.TemporaryDirectory(prefix="pacs-web-", dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        internal, peers = Authority("internal"), Authority("peers")
        with database(backend, folder / "database") as port, resolver() as names:
            settings = orthanc_settings(folder / "etc", internal, peers, port)
            settings["Plugins"] = [*settings.get("Plugins", []), WEB]
            settings |= {"DicomWeb": DICOMWEB, "HttpThreadsCount": 10 + 4 * clients}
            names.names[ORTHANC_FQDN] = "127.0.0.1"
            with orthanc(image("archive"), folder, **settings) as server:
                behind: Any = SimpleNamespace(port=server.dicom)
                site = Site(folder, peers, internal, behind, names)
                layout = web_layout(server.http, max_body_bytes=2**31, max_concurrent=4 * clients)
                with running_web(site, folder / "web", layout, slots=SLOTS) as stage:
                    yield Scene(stage, server, opened(stage, server, clients))


def opened(stage: WebStage, server: Orthanc, clients: int) -> dict[str, list[http.client.HTTPConnection]]:
    """Return connections both ways that send small segments at once."""
    viewer = "viewer.imaging.example"
    stage.gate.put(peer("viewer", viewer, "VIEWER", rights=ALL, limit=4 * clients))
    client = stage.client(stage.site.peers.issue(viewer))
    return {
        "gate": [client.connect() for _ in range(clients)],
        "bare": [http.client.HTTPConnection("127.0.0.1", server.http, timeout=60) for _ in range(clients)],
    }


def measure(found: Scene, side: int, each: int, rounds: int) -> Blocks:
    """Return blocks of both services both ways, in turn; who goes first changes each round."""
    image_stored = ct(side)
    found.server.stow(part10(image_stored)).raise_for_status()
    blocks: Blocks = {(way, act): [] for way in WAYS for act in ACTS}
    requests = each * len(found.connections["gate"])
    for number in range(-WARM_ROUNDS, rounds):
        for act in ACTS:
            for way in WAYS if number % 2 else WAYS[::-1]:
                acts = [stow(side) if act == "STOW-RS" else wado(image_stored) for _ in range(requests)]
                block = found.block(way, acts)
                if number >= 0:
                    blocks[way, act].append(block)
    return blocks


def record_of(results: dict[tuple[str, int], Blocks], side: int) -> Record:
    """Return the whole result."""
    rows: list[list[Cell]] = []
    limits = []
    for (backend, clients), blocks in results.items():
        for act in ACTS:
            for way in WAYS:
                mine = blocks[way, act]
                done = sum(block.done for block in mine)
                cpu = [1000 * sum(getattr(block, f"{who}_cpu") for block in mine) / done for who in WHO]
                rows.append([f"{backend}, {clients}, {act}, {way}", quartiles([block.rate for block in mine]), *cpu])
            pairs = zip(blocks["gate", act], blocks["bare", act], strict=True)
            found = [gate.rate / bare.rate for gate, bare in pairs]
            rows.append([f"{backend}, {clients}, {act}, ratio", quartiles(found), *[""] * len(WHO)])
            if backend == "archive":
                what = f"{act} through the gate by bare Orthanc's rate, {clients} at one time"
                limits.append(Limit(what, statistics.median(found), AIM, at_most=False, aim=True))
    columns = ["back end, requests at one time, service, way", "requests/s: median (middle half)"]
    columns += [f"{words}, CPU ms a request" for words in WHO.values()]
    return Record(
        benchmark="dicomweb",
        about="DICOMweb through the gate, against the same Orthanc's plain HTTP on loopback.",
        tables=[Table("DICOMweb through the gate against bare Orthanc", columns, rows)],
        limits=limits,
        notes=[
            f"CT images of {side} by {side}, in blocks, the two ways in turn over open connections, so that "
            "both meet the same load of the machine. The ratio is the median of the rounds' ratios.",
            f"{AIM} is the aim; where it is missed, that is said and nothing has failed.",
            "gate: mutual TLS to the gate, mutual TLS to the HAProxy beside Orthanc, HTTP on loopback; bare: that HTTP",
            "Client, both HAProxies, Orthanc and PostgreSQL share the cores. What the client uses more through the "
            "gate than bare is its own TLS; PostgreSQL's CPU, the same both ways, is in no column.",
        ],
        samples={
            f"{backend}, {clients}": {
                f"{way}, {act}": [vars(one) for one in mine] for (way, act), mine in blocks.items()
            }
            for (backend, clients), blocks in results.items()
        },
    )


def main() -> int:
    """Run the benchmark: exit 0 when the promise is kept, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Needs root, .venv and the unpacked images (images/build --rootfs)."
    )
    parser.add_argument("--backends", default="archive,memory", help="archive, memory or both (%(default)s)")
    parser.add_argument("--clients", default="1,4", help="numbers of requests at one time (%(default)s)")
    parser.add_argument("--rounds", type=int, default=60, help="blocks each way (%(default)s)")
    parser.add_argument("--each", type=int, default=4, help="requests a block and client (%(default)s)")
    parser.add_argument("--side", type=int, default=512, help="rows and columns of an image (%(default)s)")
    asked = begin(parser)
    results: dict[tuple[str, int], Blocks] = {}
    for backend in asked.backends.split(","):
        for clients in map(int, asked.clients.split(",")):
            print(f"{backend}, {clients} ...", flush=True)
            with scene(backend, clients) as found:
                results[backend, clients] = measure(found, asked.side, asked.each, asked.rounds)
    return conclude(record_of(results, asked.side), asked)


if __name__ == "__main__":
    sys.exit(main())
