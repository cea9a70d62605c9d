"""What the gate costs: images stored through it, against the same Orthanc directly over the same TLS."""
# ruff: noqa: S603  # fixed command lines without a shell

import argparse
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

from benchmarks.record import Limit, Record, Table, end_in_order, publish, spread
from pacs_operator.agent.orthanc_entries import entries_of
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.probepeers import probe_peers
from pacs_operator.render.orthanc_config import TLS12_SUITES

BOUND, AIM = 0.85, 0.95
WAYS = ("direct", "gate")
CT1 = peer("ct1", "ct1.imaging.example", "CT1", sources=("127.0.0.0/8",), limit=16)
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
class Sample:
    """One run of the sender; CPU seconds are of the whole process over the run."""

    stored: int
    seconds: float
    suite: str
    sender_cpu: float
    gate_cpu: float
    orthanc_cpu: float

    @property
    def rate(self) -> float:
        """Return images a second."""
        return self.stored / self.seconds

    def cpu_milli(self, seconds: float) -> float:
        """Return CPU milliseconds an image."""
        return 1000 * seconds / self.stored


def cpu_seconds(process: int) -> float:
    """Return what a process and its threads have used (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Stage:
    """Gate, Orthanc and the sender's files."""

    gate: Gate
    server: Orthanc
    folder: Path

    def send(self, way: str, associations: int, count: int) -> Sample:
        """Store images one way; Orthanc is empty before and after."""
        port = self.gate.port if way == "gate" else self.server.dicom
        processes = (self.gate.process.pid, self.server.process.pid)
        before = [cpu_seconds(process) for process in processes]
        command = [sys.executable, str(SENDER), "--host=127.0.0.1", f"--port={port}", "--called=RADIOLOGY"]
        command += ["--calling=CT1", f"--bundle={self.folder / way}.pem", f"--ca={self.folder / way}-ca.pem"]
        command += [f"--count={count}", f"--associations={associations}"]
        environment = {**os.environ, "OPENSSL_CONF": str(self.folder / "openssl.cnf")}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(f"the sender failed ({way}): {result.stderr.strip()}")
        answer = json.loads(result.stdout)
        gate_cpu, orthanc_cpu = (cpu_seconds(p) - was for p, was in zip(processes, before, strict=True))
        self._empty(count)
        return Sample(answer["stored"], answer["seconds"], answer["suite"], answer["cpu"], gate_cpu, orthanc_cpu)

    def _empty(self, expected: int) -> None:
        stored = self.server.rest("GET", "/statistics").json()["CountInstances"]
        if stored != expected:
            raise SystemExit(f"{expected} images were sent and confirmed, Orthanc has {stored}")
        for patient in self.server.rest("GET", "/patients").json():
            self.server.rest("DELETE", f"/patients/{patient}").raise_for_status()


def archive_image() -> Image:
    """Return the archive's image as `images/build --rootfs` left it."""
    root = Path(__file__).parents[1]
    known = root / "build" / "images.json"
    cache = Path(os.environ.get("PACS_IMAGES_CACHE", "/var/cache/pacs-images"))
    unpacked = cache / "rootfs" / "archive"
    if not known.exists() or not unpacked.exists():
        raise SystemExit("no images yet: run images/build --rootfs")
    entry = json.loads(known.read_text())["archive"]
    configuration = configuration_of(Path(entry["archive"]))
    # Only the index on SQLite needs it, to empty itself: its temporary files have no other place on a read-only root.
    configuration["Env"] = [*configuration["Env"], "SQLITE_TMPDIR=/var/lib/orthanc"]
    return Image("archive", unpacked, configuration, entry)


def orthanc_settings(folder: Path, internal: Authority, peers: Authority) -> dict[str, Any]:
    """Return the archive's own settings for DICOM; besides the gate, devices are trusted for the direct way."""
    folder.mkdir()
    internal.issue(ORTHANC_NAME, server=True).write(folder, "server")
    (folder / "ca.pem").write_bytes(internal.root_pem() + peers.root_pem())
    for file in folder.iterdir():
        file.chmod(0o644)
    (folder / "server.pem").chmod(0o644)
    known = LivePeers(revision="r", peers=[*probe_peers("radiology"), CT1])
    services = ("Echo", "Store", "Find", "FindWorklist", "Get", "Move")
    return {
        "DicomTlsEnabled": True,
        "DicomTlsRemoteCertificateRequired": True,
        "DicomTlsMinimumProtocolVersion": 4,
        "DicomTlsCertificate": "/etc/orthanc/server.pem",
        "DicomTlsPrivateKey": "/etc/orthanc/server.pem",
        "DicomTlsTrustedCertificates": "/etc/orthanc/ca.pem",
        "DicomTlsCiphersAccepted": list(TLS12_SUITES),
        **{f"DicomAlwaysAllow{service}": False for service in services},
        "DicomAet": "RADIOLOGY",
        "DicomModalities": entries_of(known),
        "StrictAetComparison": True,
        "DicomCheckModalityHost": False,
        "DicomThreadsCount": 72,
        "MaximumPduLength": 131072,
    }


@contextmanager
def stage(folder: Path, edit: Callable[[str], str]) -> Iterator[Stage]:
    """Run Orthanc of the archive's image and HAProxy of the gate's, with TLS between them."""
    folder.chmod(0o755)
    internal, peers = Authority("internal"), Authority("peers")
    settings = orthanc_settings(folder / "etc", internal, peers)
    leaf = peers.issue(CT1.dns_name)
    for way, authority in (("direct", internal), ("gate", peers)):
        leaf.write(folder, way)
        (folder / f"{way}-ca.pem").write_bytes(authority.root_pem())
    (folder / "openssl.cnf").write_text(OPENSSL_CONF)
    with orthanc(archive_image(), folder, **settings) as server, resolver() as names:
        names.names[ORTHANC_FQDN] = "127.0.0.1"
        behind: Any = SimpleNamespace(port=server.dicom)
        with running_gate(Site(folder, peers, internal, behind, names), folder / "gate", edit, slots=256) as gate:
            gate.put(CT1)
            wait_for(lambda: gate.loop.run(gate.agent.archive_reachable()), "the gate finds Orthanc")
            yield Stage(gate, server, folder)


def measure(scene: Stage, associations: int, count: int, rounds: int) -> dict[str, list[Sample]]:
    """Return samples both ways, in turn; who goes first changes each round."""
    samples: dict[str, list[Sample]] = {way: [] for way in WAYS}
    for way in WAYS:
        scene.send(way, associations, count // 4 // associations * associations)  # files, caches and pools are warm
    for number in range(rounds):
        for way in WAYS if number % 2 else WAYS[::-1]:
            samples[way].append(scene.send(way, associations, count))
        latest = " ".join(f"{way} {samples[way][-1].rate:.0f}/s" for way in WAYS)
        print(f"  {associations} associations, round {number + 1}: {latest}", flush=True)
    return samples


def ratios(samples: dict[str, list[Sample]]) -> list[float]:
    """Return for each round the rate through the gate by the direct one."""
    return [gate.rate / direct.rate for gate, direct in zip(samples["gate"], samples["direct"], strict=True)]


def record_of(results: dict[int, dict[str, list[Sample]]], count: int) -> Record:
    """Return the whole result."""
    rows: list[list[str | int | float]] = []
    limits = []
    for associations, samples in results.items():
        for way in WAYS:
            of = samples[way]
            cpu = [
                statistics.median(sample.cpu_milli(seconds) for sample, seconds in zip(of, used, strict=True))
                for used in (
                    [sample.gate_cpu for sample in of],
                    [sample.orthanc_cpu for sample in of],
                    [sample.sender_cpu for sample in of],
                )
            ]
            rows.append([f"{associations}, {way}", spread([sample.rate for sample in of]), *cpu, of[0].suite])
        found = ratios(samples)
        rows.append([f"{associations}, ratio", spread(found), "", "", "", ""])
        what = f"rate through the gate by direct rate, {associations} association{'s' if associations > 1 else ''}"
        limits.append(Limit(what, statistics.median(found), BOUND, at_most=False))
    columns = ["associations, way", "images/s: median (range)"]
    columns += [f"{who}, CPU ms an image" for who in ("gate", "Orthanc", "sender")]
    return Record(
        benchmark="gate",
        about="Images stored through the gate, against the same Orthanc directly over the same TLS.",
        tables=[Table("Gate against Orthanc directly", [*columns, "sender's TLS"], rows)],
        limits=limits,
        notes=[
            f"{count} CT images of 525 kB a run, the ways in turn; the ratio's median is of the rounds' ratios.",
            f"At least {BOUND} is promised, {AIM} is the aim.",
            "Real: Orthanc and HAProxy of the images, the plugin that looks at every image, both legs mutual TLS 1.3.",
            "Everything on one machine, files and index (SQLite) in memory: what an archive's disk and network take "
            "would hide the gate's share, so the ratio of a real archive is higher.",
            "Sender, gate and Orthanc share the cores: where none is idle, the gate's own CPU time shows as rate.",
        ],
        samples={
            str(associations): {way: [vars(sample) for sample in samples[way]] for way in WAYS}
            for associations, samples in results.items()
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
    parser.add_argument("--associations", default="1,4", help="numbers of associations (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds for each number (%(default)s)")
    parser.add_argument("--count", type=int, default=400, help="images a run (%(default)s)")
    parser.add_argument(
        "--edit", action="append", default=[], metavar="PATTERN=>TEXT", help="try a setting of the gate"
    )
    parser.add_argument("--dry", action="store_true", help="show the result, keep nothing")
    parser.add_argument("--out", type=Path, help="folder for the JSON document (docs/proof)")
    asked = parser.parse_args()
    end_in_order()
    with (
        tempfile.TemporaryDirectory(prefix="pacs-gate-", dir="/dev/shm", ignore_cleanup_errors=True) as folder,
        stage(Path(folder), editor(asked.edit)) as scene,
    ):
        results = {
            number: measure(scene, number, asked.count // number * number, asked.rounds)
            for number in map(int, asked.associations.split(","))
        }
        if asked.dry:
            asked.out = Path(folder) / "out"
        record = record_of(results, asked.count)
        publish(record, asked.out)
    return 0 if all(limit.kept for limit in record.limits) else 1


if __name__ == "__main__":
    sys.exit(main())
