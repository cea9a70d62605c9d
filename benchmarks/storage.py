"""What encryption at rest costs: images stored and retrieved with it, against Orthanc's own storage."""
# ruff: noqa: S101, S603  # pipes that are there; fixed command lines without a shell

import argparse
import contextlib
import http.client
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.gate.pki import Authority
from tests.images.orthanc_server import Orthanc, orthanc
from tests.render.archives import containers, desired, pod_templates
from tests.storage.server import PLUGIN
from tests.storage.volume import Ring

from benchmarks.gate import CT1, OPENSSL_CONF, SENDER, cpu_seconds, database, image, orthanc_settings, quartiles
from benchmarks.record import Cell, Limit, Record, Table, begin, conclude
from pacs_operator.render import render_archive

BOUND, AIM = 0.80, 0.95
WAYS = ("default", "encrypted")
ACTS = ("store", "retrieve")
WARM_ROUNDS = 2
PART = 1 << 20


@dataclass(frozen=True)
class Size:
    """Images of one size, and how often they are sent."""

    name: str
    rows: int
    frames: int
    rounds: int
    each: int

    @property
    def megabytes(self) -> float:
        """Return the pixels' size."""
        return 2 * self.rows * self.rows * self.frames / 1e6


SIZES = {
    "ct": Size("CT, 0.5 MB", 512, 1, 40, 4),
    "mr": Size("MR, 0.25 MB", 352, 1, 40, 4),
    "multiframe": Size("multiframe, 1.07 GB", 512, 2048, 3, 1),
}


@dataclass(frozen=True)
class Block:
    """A block of images one way; Orthanc's CPU seconds over it."""

    images: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Return images a second."""
        return self.images / self.seconds


@dataclass
class Result:
    """One size with one number of associations."""

    size: Size
    associations: int
    blocks: dict[tuple[str, str], list[Block]] = field(default_factory=dict)
    peaks: dict[tuple[str, str], float] = field(default_factory=dict)

    def ratios(self, act: str) -> list[float]:
        """Return for each round the encrypted rate by the default one."""
        pairs = zip(self.blocks[act, "encrypted"], self.blocks[act, "default"], strict=True)
        return [encrypted.rate / default.rate for encrypted, default in pairs]

    def cpu(self, act: str, way: str) -> float:
        """Return CPU milliseconds an image."""
        blocks = self.blocks[act, way]
        return 1000 * sum(block.cpu for block in blocks) / sum(block.images for block in blocks)


class Memory:
    """The kernel's record of a process' largest resident memory."""

    def __init__(self, process: int) -> None:
        self._folder = Path(f"/proc/{process}")

    def forget(self) -> None:
        """Begin anew."""
        (self._folder / "clear_refs").write_text("5")

    def peak(self) -> float:
        """Return megabytes."""
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._folder / "status").read_text())
        assert found
        return int(found[1]) / 1000


@dataclass
class Stage:
    """Two Orthancs that differ in their storage area alone."""

    servers: dict[str, Orthanc]
    folder: Path

    def empty(self, expected: int) -> None:
        """Remove all images, after a look whether all that were confirmed are there."""
        for way, server in self.servers.items():
            stored = server.rest("GET", "/statistics").json()["CountInstances"]
            if stored != expected:
                raise SystemExit(f"{expected} images were sent and confirmed, {way} has {stored}")
            for patient in server.rest("GET", "/patients").json():
                server.rest("DELETE", f"/patients/{patient}").raise_for_status()


def environment() -> dict[str, str]:
    """Return the variables that the pod sets."""
    rendered = (one for _, template in pod_templates(render_archive(desired())) for one in containers(template))
    found = next(container for container in rendered if container["name"] == "orthanc")
    return {entry["name"]: entry["value"] for entry in found["env"]} | {"SQLITE_TMPDIR": "/var/lib/orthanc"}


@contextmanager
def stage() -> Iterator[Stage]:
    """Run both Orthancs of the archive's image, each with an index of its own in PostgreSQL."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pacs-storage-", dir="/var/tmp")))
        folder.chmod(0o755)
        internal, peers = Authority("internal"), Authority("peers")
        leaf = peers.issue(CT1.identity)
        leaf.write(folder, "device")
        (folder / "device-ca.pem").write_bytes(internal.root_pem())
        (folder / "openssl.cnf").write_text(OPENSSL_CONF)
        servers = {}
        for way in WAYS:
            own = folder / way
            own.mkdir()
            own.chmod(0o755)
            port = stack.enter_context(database("archive", own / "database"))
            settings = orthanc_settings(own / "etc", internal, peers, port)
            variables = environment()
            if way == "encrypted":
                Ring({1: secrets.token_hex(32)}).write(own / "etc" / "keys")
                variables |= {
                    "PACS_STORAGE_ROOT": "/var/lib/orthanc/encrypted",
                    "PACS_STORAGE_KEYS": "/etc/orthanc/keys",
                }
                settings["Plugins"] = [*settings["Plugins"], PLUGIN]
                settings["PacsArchive"] = {**settings["PacsArchive"], "StorageEncryption": "Transit"}
            servers[way] = stack.enter_context(orthanc(image("archive"), own, env=variables, **settings))
        yield Stage(servers, folder)


class Sender:
    """The device: a process that holds associations to both open."""

    def __init__(self, scene: Stage, size: Size, associations: int) -> None:
        self._scene = scene
        command = [sys.executable, str(SENDER), "--called=RADIOLOGY", "--calling=CT1", f"--rows={size.rows}"]
        command += [f"--frames={size.frames}", f"--associations={associations}"]
        for way, server in scene.servers.items():
            files = [str(scene.folder / "device.pem"), str(scene.folder / "device-ca.pem")]
            command += ["--way", way, "127.0.0.1", str(server.dicom), *files]
        pipe = subprocess.PIPE
        known = {**os.environ, "OPENSSL_CONF": str(scene.folder / "openssl.cnf")}
        self._process = subprocess.Popen(command, env=known, stdin=pipe, stdout=pipe, text=True)
        self._line()

    def _line(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the sender failed")
        return json.loads(line)

    def block(self, way: str, each: int) -> Block:
        """Store so many images over each association."""
        assert self._process.stdin
        process = self._scene.servers[way].process.pid
        before = cpu_seconds(process)
        self._process.stdin.write(f"{way} {each}\n")
        self._process.stdin.flush()
        answer = self._line()
        return Block(answer["stored"], answer["seconds"], cpu_seconds(process) - before)

    def close(self) -> None:
        """Release the associations."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


class Reader:
    """A viewer: connections that stay open, each fetching whole files."""

    def __init__(self, server: Orthanc, connections: int) -> None:
        self._server = server
        self._names: list[str] = server.rest("GET", "/instances").json()
        self._next = 0
        self._open = [http.client.HTTPConnection("127.0.0.1", server.http) for _ in range(connections)]

    @staticmethod
    def _fetch(connection: http.client.HTTPConnection, names: list[str]) -> None:
        buffer = bytearray(PART)
        for name in names:
            connection.request("GET", f"/instances/{name}/file")
            answer = connection.getresponse()
            got = 0
            while part := answer.readinto(buffer):
                got += part
            if answer.status != 200 or got != int(answer.headers["Content-Length"]):
                raise SystemExit(f"not retrieved: {answer.status}")

    def block(self, each: int) -> Block:
        """Fetch so many images over each connection."""
        todo = []
        for connection in self._open:
            connection.close()  # Orthanc closes those that waited
            connection.connect()
            todo.append([self._names[(self._next + n) % len(self._names)] for n in range(each)])
            self._next += each
        with ThreadPoolExecutor(len(todo)) as pool:
            before, began = cpu_seconds(self._server.process.pid), time.perf_counter()
            list(pool.map(self._fetch, self._open, todo))  # an error of any thread is raised here
            seconds = time.perf_counter() - began
        return Block(each * len(todo), seconds, cpu_seconds(self._server.process.pid) - before)


def measure(scene: Stage, size: Size, associations: int) -> Result:
    """Return blocks both ways, in turn; who goes first changes each round."""
    result = Result(size, associations)
    warm = WARM_ROUNDS if size.frames == 1 else 0  # seconds each: who goes first changes, that has to do
    memory = {way: Memory(server.process.pid) for way, server in scene.servers.items()}
    sender = Sender(scene, size, associations)
    with contextlib.closing(sender):
        for act in ACTS:
            readers = {way: Reader(server, associations) for way, server in scene.servers.items()}
            for one in memory.values():
                one.forget()
            for number in range(-warm, size.rounds):
                for way in WAYS if number % 2 else WAYS[::-1]:
                    block = sender.block(way, size.each) if act == "store" else readers[way].block(size.each)
                    if number >= 0:
                        result.blocks.setdefault((act, way), []).append(block)
            result.peaks |= {(act, way): one.peak() for way, one in memory.items()}
    scene.empty(associations * size.each * (size.rounds + warm))
    return result


def record_of(results: list[Result]) -> Record:
    """Return the whole result."""
    rows: list[list[Cell]] = []
    limits = []
    for result in results:
        label = f"{result.size.name}, {result.associations}"
        for act in ACTS:
            ratios = result.ratios(act)
            rates = [quartiles([block.rate for block in result.blocks[act, way]]) for way in WAYS]
            cpu = [result.cpu(act, way) for way in WAYS]
            peaks = [round(result.peaks[act, way]) for way in WAYS]
            rows.append([f"{label}, {act}", *rates, quartiles(ratios), *cpu, cpu[1] / cpu[0], *peaks])
            what = f"{act} with encryption by without, {label} association" + "s" * (result.associations > 1)
            limits.append(Limit(what, statistics.median(ratios), BOUND, at_most=False))
    return Record(
        benchmark="storage",
        about="Images stored and retrieved with encryption at rest, against Orthanc's own storage.",
        tables=[
            Table(
                "Encryption at rest",
                [
                    "images, associations, act",
                    "default, images/s: median (middle half)",
                    "encrypted, images/s",
                    "ratio: median (middle half)",
                    "default, CPU ms an image",
                    "encrypted, CPU ms an image",
                    "CPU ratio",
                    "default, peak RSS MB",
                    "encrypted, peak RSS MB",
                ],
                rows,
            )
        ],
        limits=limits,
        notes=[
            "Two Orthancs of the archive's image, settings as rendered, index in a PostgreSQL each, files on this "
            "machine's disk and synced; they differ in the storage plugin alone. Blocks in turn, so that both meet the "
            "same load of the machine; the ratio is the median of the rounds' ratios.",
            f"At least {BOUND} is promised, {AIM} is the aim.",
            "store: C-STORE over mutual TLS. retrieve: GET /instances/ID/file over loopback, files in the page cache.",
            "Peak RSS: the kernel's VmHWM, begun anew before each act; what an earlier act left allocated counts.",
            "Sender, both Orthancs and both PostgreSQLs share the cores: where none is idle, CPU shows as rate.",
        ],
        samples={
            f"{result.size.name}, {result.associations}": {
                " ".join(key): [vars(block) for block in blocks] for key, blocks in result.blocks.items()
            }
            for result in results
        },
    )


def main() -> int:
    """Run the benchmark: exit 0 when the promise is kept, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Needs root, .venv and the unpacked images (images/build --rootfs)."
    )
    parser.add_argument("--sizes", default="ct,mr,multiframe", help="ct, mr, multiframe (%(default)s)")
    parser.add_argument("--associations", default="1,4", help="numbers of associations (%(default)s)")
    parser.add_argument("--rounds", type=int, help="blocks each way, instead of each size's own number")
    asked = begin(parser)
    results = []
    for name in asked.sizes.split(","):
        size = SIZES[name]
        if asked.rounds:
            size = Size(size.name, size.rows, size.frames, asked.rounds, size.each)
        # A large one at a time: four of them do not fit into the memory of a small machine.
        for number in map(int, asked.associations.split(",")) if size.frames == 1 else (1,):
            print(f"{size.name}, {number} ...", flush=True)
            # Fresh processes, so that a peak is this size's own.
            with stage() as scene:
                results.append(measure(scene, size, number))
    return conclude(record_of(results), asked)


if __name__ == "__main__":
    sys.exit(main())
