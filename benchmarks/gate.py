"""What the gate costs: images stored through it, against the same Orthanc directly over the same TLS."""
# ruff: noqa: S101, S603  # pipes that are there; fixed command lines without a shell

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from builder.oci import configuration_of
from tests.gate.archive import ORTHANC_FQDN, ORTHANC_NAME, resolver
from tests.gate.pki import Authority
from tests.gate.process import Gate, Site, peer, running_gate, wait_for
from tests.images.conftest import Image
from tests.images.orthanc_server import Orthanc, orthanc
from tests.images.test_database import prepare, serving
from tests.render.archives import desired

from benchmarks.record import Cell, Limit, Record, Table, begin, conclude, show
from pacs_operator.agent.orthanc_entries import entries_of
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.probepeers import probe_peers
from pacs_operator.render import orthanc_config
from pacs_operator.render.gate import SLOTS

BOUND, AIM = 0.85, 0.95
HELD = "archive"  # the back end that the promise is about
WAYS = ("direct", "gate")
WARM_ROUNDS = 3  # files, caches, threads and TCP windows grow first
CT1 = peer("ct1", "ct1.imaging.example", "CT1", sources=("127.0.0.0/8",), limit=16)
PLAIN = "postgresql://orthanc@127.0.0.1:{port}/orthanc"
SENDER = Path(__file__).with_name("store_sender.py")
#: One suite for all legs; otherwise client and servers choose different ones directly and through the gate.
OPENSSL_CONF = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = everyone
[everyone]
Ciphersuites = TLS_AES_128_GCM_SHA256
"""


@dataclass(frozen=True)
class Block:
    """A block of images one way; CPU seconds are of the whole process over the block."""

    stored: int
    seconds: float
    sender_cpu: float
    gate_cpu: float
    orthanc_cpu: float

    @property
    def rate(self) -> float:
        """Return images a second."""
        return self.stored / self.seconds


Blocks = dict[str, list[Block]]
Results = dict[tuple[str, int], Blocks]


def cpu_seconds(process: int) -> float:
    """Return what a process' threads have used, in the scheduler's nanoseconds (/proc/PID/task/TID/schedstat)."""
    used = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            used += int((thread / "schedstat").read_text().split()[0])
    return used / 1e9


@dataclass
class Stage:
    """Gate, Orthanc and the sender's files."""

    gate: Gate
    server: Orthanc
    folder: Path

    def empty(self, expected: int) -> None:
        """Remove all images, after a look whether all that were confirmed are there."""
        stored = self.server.rest("GET", "/statistics").json()["CountInstances"]
        if stored != expected:
            raise SystemExit(f"{expected} images were sent and confirmed, Orthanc has {stored}")
        for patient in self.server.rest("GET", "/patients").json():
            self.server.rest("DELETE", f"/patients/{patient}").raise_for_status()


class Sender:
    """The device: a process that holds associations both ways open.

    Parameters
    ----------
    scene
        Whom to send to.
    associations
        How many each way.
    """

    def __init__(self, scene: Stage, associations: int) -> None:
        self._scene = scene
        command = [sys.executable, str(SENDER), "--called=RADIOLOGY", "--calling=CT1"]
        command += [f"--associations={associations}"]
        for way, port in (("direct", scene.server.dicom), ("gate", scene.gate.port)):
            files = [str(scene.folder / f"{way}.pem"), str(scene.folder / f"{way}-ca.pem")]
            command += ["--way", way, "127.0.0.1", str(port), *files]
        environment = {**os.environ, "OPENSSL_CONF": str(scene.folder / "openssl.cnf")}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.suites: dict[str, str] = self._line()

    def _line(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the sender failed")
        return json.loads(line)

    def block(self, way: str, each: int) -> Block:
        """Store so many images over each association of one way."""
        assert self._process.stdin
        processes = (self._scene.gate.process.pid, self._scene.server.process.pid)
        before = [cpu_seconds(process) for process in processes]
        self._process.stdin.write(f"{way} {each}\n")
        self._process.stdin.flush()
        answer = self._line()
        gate_cpu, orthanc_cpu = (cpu_seconds(p) - was for p, was in zip(processes, before, strict=True))
        return Block(answer["stored"], answer["seconds"], answer["cpu"], gate_cpu, orthanc_cpu)

    def close(self) -> None:
        """Release the associations."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


def image(name: str) -> Image:
    """Return an image as `images/build --rootfs` left it."""
    known = Path(__file__).parents[1] / "build" / "images.json"
    unpacked = Path(os.environ.get("PACS_IMAGES_CACHE", "/var/cache/pacs-images")) / "rootfs" / name
    if not known.exists() or not unpacked.exists():
        raise SystemExit("no images yet: run images/build --rootfs")
    entry = json.loads(known.read_text())[name]
    configuration = configuration_of(Path(entry["archive"]))
    # Only an index on SQLite needs it, to empty itself: its temporary files have no other place on a read-only root.
    configuration["Env"] = [*configuration["Env"], "SQLITE_TMPDIR=/var/lib/orthanc"]
    return Image(name, unpacked, configuration, entry)


def orthanc_settings(folder: Path, internal: Authority, peers: Authority, database: int | None) -> dict[str, Any]:
    """Return the archive's own settings; devices are trusted besides the gate, for the direct way."""
    folder.mkdir()
    internal.issue(ORTHANC_NAME, server=True).write(folder, "server")
    (folder / "ca.pem").write_bytes(internal.root_pem() + peers.root_pem())
    for file in folder.iterdir():
        file.chmod(0o644)
    settings = orthanc_config.render(desired())
    own = ("StorageDirectory", "HttpPort", "DicomPort", "Plugins", "PythonScript", "PostgreSQL")
    settings = {key: value for key, value in settings.items() if key not in own}
    if database:
        index = {**orthanc_config.render(desired())["PostgreSQL"], "ConnectionUri": PLAIN.format(port=database)}
        settings |= {"Plugins": orthanc_config.render(desired())["Plugins"], "PostgreSQL": index}
    known = LivePeers(revision="r", peers=[*probe_peers("radiology"), CT1])
    return settings | {
        "DicomTlsCertificate": "/etc/orthanc/server.pem",
        "DicomTlsPrivateKey": "/etc/orthanc/server.pem",
        "DicomTlsTrustedCertificates": "/etc/orthanc/ca.pem",
        "DicomModalities": entries_of(known),
        "TemporaryDirectory": None,
    }


@contextmanager
def database(backend: str, folder: Path) -> Iterator[int | None]:
    """Run PostgreSQL of the image where the back end has one, and return its port."""
    if backend == "memory":
        yield None
        return
    postgres = image("database")
    folder.mkdir()
    volume = postgres.owned(folder / "volume")
    failed, told = prepare(postgres, volume)
    if failed:
        raise SystemExit(f"the database was not prepared: {told}")
    with serving(postgres, volume, folder) as (port, _):
        yield port


@contextmanager
def stage(backend: str, edit: Callable[[str], str]) -> Iterator[Stage]:
    """Run Orthanc of the archive's image and HAProxy of the gate's, with TLS between them."""
    place = "/dev/shm" if backend == "memory" else "/var/tmp"  # noqa: S108  # memory and disk are what is compared
    with tempfile.TemporaryDirectory(prefix="pacs-gate-", dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        internal, peers = Authority("internal"), Authority("peers")
        leaf = peers.issue(CT1.identity)
        for way, authority in (("direct", internal), ("gate", peers)):
            leaf.write(folder, way)
            (folder / f"{way}-ca.pem").write_bytes(authority.root_pem())
        (folder / "openssl.cnf").write_text(OPENSSL_CONF)
        with database(backend, folder / "database") as port, resolver() as names:
            settings = orthanc_settings(folder / "etc", internal, peers, port)
            with orthanc(image("archive"), folder, **settings) as server:
                names.names[ORTHANC_FQDN] = "127.0.0.1"
                behind: Any = SimpleNamespace(port=server.dicom)
                site = Site(folder, peers, internal, behind, names)
                with running_gate(site, folder / "gate", edit, slots=SLOTS) as gate:
                    gate.put(CT1)
                    wait_for(gate.archive_reachable, "the gate finds Orthanc")
                    yield Stage(gate, server, folder)


def measure(scene: Stage, associations: int, each: int, rounds: int) -> tuple[Blocks, dict[str, str]]:
    """Return blocks both ways, in turn, and the TLS suites; who goes first changes each round."""
    sender = Sender(scene, associations)
    blocks: Blocks = {way: [] for way in WAYS}
    try:
        for number in range(-WARM_ROUNDS, rounds):
            for way in WAYS if number % 2 else WAYS[::-1]:
                block = sender.block(way, each)
                if number >= 0:
                    blocks[way].append(block)
    finally:
        sender.close()
    scene.empty(2 * associations * each * (rounds + WARM_ROUNDS))
    return blocks, sender.suites


def ratios(blocks: Blocks) -> list[float]:
    """Return for each round the rate through the gate by the direct one."""
    return [gate.rate / direct.rate for gate, direct in zip(blocks["gate"], blocks["direct"], strict=True)]


def quartiles(values: list[float]) -> str:
    """Return the median and the middle half as text."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{show(middle)} ({show(low)} to {show(high)})"


def row_of(blocks: list[Block]) -> list[Cell]:
    """Return rate and CPU times of one way."""
    stored = sum(block.stored for block in blocks)
    used = ("gate_cpu", "orthanc_cpu", "sender_cpu")
    cpu = [1000 * sum(getattr(block, who) for block in blocks) / stored for who in used]
    return [quartiles([block.rate for block in blocks]), *cpu]


def record_of(results: Results, suites: set[str]) -> Record:
    """Return the whole result."""
    rows: list[list[Cell]] = []
    limits = []
    for (backend, associations), blocks in results.items():
        found = ratios(blocks)
        rows += [[f"{backend}, {associations}, {way}", *row_of(blocks[way])] for way in WAYS]
        rows.append([f"{backend}, {associations}, ratio", quartiles(found), "", "", ""])
        if backend == HELD:
            what = f"rate through the gate by direct rate, {associations} association" + "s" * (associations > 1)
            limits.append(Limit(what, statistics.median(found), BOUND, at_most=False))
    columns = ["back end, associations, way", "images/s: median (middle half)"]
    columns += [f"{who}, CPU ms an image" for who in ("gate", "Orthanc", "sender")]
    return Record(
        benchmark="gate",
        about="Images stored through the gate, against the same Orthanc directly over the same TLS.",
        tables=[Table("Gate against Orthanc directly", columns, rows)],
        limits=limits,
        notes=[
            "CT images of 525 kB, in blocks, the two ways in turn over associations that stay open, so that both meet "
            "the same load of the machine. The ratio is the median of the rounds' ratios.",
            f"At least {BOUND} is promised, {AIM} is the aim.",
            "archive: Orthanc and HAProxy of the images, settings as rendered, index in the image's PostgreSQL (that "
            "connection without TLS), files on this machine's disk and synced.",
            "memory: index on SQLite and files in memory. Nothing waits for a disk, so the gate's share is largest: "
            "for comparison, not held against the promise.",
            f"Both legs are mutual TLS; the sender's: {', '.join(sorted(suites))}.",
            "Sender, gate, Orthanc and PostgreSQL share the cores: where none is idle, the gate's CPU shows as rate.",
        ],
        samples={
            f"{backend}, {associations}": {way: [vars(block) for block in blocks[way]] for way in WAYS}
            for (backend, associations), blocks in results.items()
        },
    )


def editor(changes: list[str]) -> Callable[[str], str]:
    """Return a function that carries out ``PATTERN=>TEXT`` on the gate's configuration, to try settings."""

    def edit(text: str) -> str:
        for change in changes:
            pattern, _, new = change.partition("=>")
            text, done = re.subn(pattern, new.replace("\\n", "\n"), text)
            if not done:
                raise SystemExit(f"--edit: nothing in haproxy.cfg is {pattern!r}")
        return text

    return edit


def main() -> int:
    """Run the benchmark: exit 0 when the promise is kept, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Needs root, .venv and the unpacked images (images/build --rootfs)."
    )
    parser.add_argument("--backends", default="archive,memory", help="archive, memory or both (%(default)s)")
    parser.add_argument("--associations", default="1,4", help="numbers of associations (%(default)s)")
    parser.add_argument("--rounds", type=int, default=120, help="blocks each way (%(default)s)")
    parser.add_argument("--each", type=int, default=2, help="images a block and association (%(default)s)")
    parser.add_argument(
        "--edit", action="append", default=[], metavar="PATTERN=>TEXT", help="try a setting of the gate"
    )
    asked = begin(parser)
    results: Results = {}
    suites: set[str] = set()
    for backend in asked.backends.split(","):
        with stage(backend, editor(asked.edit)) as scene:
            for number in map(int, asked.associations.split(",")):
                print(f"{backend}, {number} ...", flush=True)
                results[backend, number], used = measure(scene, number, asked.each, asked.rounds)
                suites |= set(used.values())
    return conclude(record_of(results, suites), asked)


if __name__ == "__main__":
    sys.exit(main())
