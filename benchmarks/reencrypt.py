"""How fast images that lie on the volume already are encrypted, against copying the same files in the same run."""
# ruff: noqa: S603, S607  # fixed command lines without a shell

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.storage.volume import Ring

from benchmarks.gate import quartiles
from benchmarks.record import ROOT, Cell, Limit, Record, Table, begin, conclude

SOURCE = ROOT / "images/archive/storage"
MEGABYTE = 10**6
#: One object is in memory by parts alone, however large it is.
MEMORY_BOUND_MB = 64
UNHINDERED = 10**12  # bytes a second


@dataclass(frozen=True)
class Size:
    """Files of one size."""

    name: str
    bytes: int
    count: int


SIZES = {
    "ct": Size("CT, 0.5 MB", 525_000, 200),
    "large": Size("1 GB", 10**9, 1),
}


@dataclass(frozen=True)
class Run:
    """One way through all files: seconds, and the largest memory of the process."""

    seconds: float
    peak_mb: float = 0.0


class Bench:
    """A folder on the disk, the tool as in the image, and files as Orthanc without encryption stores them."""

    def __init__(self, folder: Path, size: Size) -> None:
        self._folder, self._size = folder, size
        self._clear, self._keys = folder / "images", folder / "keys"
        self._names = [str(uuid.uuid4()) for _ in range(size.count)]
        self._tool = folder / "pacs-storage"
        part = secrets.token_bytes(MEGABYTE)
        for name in self._names:
            path = self._path(folder / "originals", name)
            with path.open("wb") as file:
                for begins in range(0, size.bytes, MEGABYTE):
                    file.write(part[: min(MEGABYTE, size.bytes - begins)])

    @staticmethod
    def _path(root: Path, name: str) -> Path:
        path = root / name[:2] / name[2:4] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def copied(self, to: str = "copies") -> Run:
        """Copy all files, each with the disk before the next, as one who may lose none would."""
        target = self._folder / to
        shutil.rmtree(target, ignore_errors=True)
        began = time.perf_counter()
        for name in self._names:
            path = self._path(target, name)
            with self._path(self._folder / "originals", name).open("rb") as source, path.open("wb") as file:
                shutil.copyfileobj(source, file, MEGABYTE)
                file.flush()
                os.fsync(file.fileno())
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        return Run(time.perf_counter() - began)

    def encrypted(self) -> tuple[Run, Run]:
        """Encrypt all from clear, then all again under the next data key."""
        self.copied("images")
        ring = Ring()
        ring.write(self._keys)
        first = self._work(f"clear {self._clear}")
        ring.with_key(2, "two").write(self._keys)
        return first, self._work(f"reseal {secrets.token_hex(32)}")

    def _work(self, order: str) -> Run:
        (self._folder / "keys.orders").write_text(f"pacs-orders 1\nrate {UNHINDERED}\n{order}\nend\n")
        command = [str(self._tool), "work", str(self._keys), str(self._clear / "sealed")]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            peak = 0.0
            while process.poll() is None:
                peak = max(peak, _peak_mb(process.pid))
                time.sleep(0.01)
            told = json.loads(process.stdout.read()) if process.stdout else {}
        seconds = time.perf_counter() - began
        if process.returncode or told.get("done") != self._size.count:
            raise SystemExit(f"not encrypted: {told}")
        return Run(seconds, peak)


def _peak_mb(process: int) -> float:
    """Return the largest memory of a process so far (what wait4 tells counts ours from before its start)."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        if found:
            return int(found[1]) * 1024 / MEGABYTE
    return 0.0


@dataclass
class Result:
    """Rounds of one size: copying, from clear, under the next key."""

    size: Size
    rounds: list[tuple[Run, Run, Run]]

    def ratios(self, way: int) -> list[float]:
        """Return each round's rate by copying's."""
        return [runs[0].seconds / runs[way].seconds for runs in self.rounds]

    def rates(self, way: int) -> list[float]:
        """Return each round's objects a second."""
        return [self.size.count / runs[way].seconds for runs in self.rounds]

    def peak(self, way: int) -> float:
        """Return the largest memory of any round, MB."""
        return max(runs[way].peak_mb for runs in self.rounds)


def measure(size: Size, rounds: int, place: Path | None) -> Result:
    """Return rounds in which each way takes its turn on the same files."""
    with tempfile.TemporaryDirectory(prefix="pacs-reencrypt-", dir=place) as folder:
        here = Path(folder)
        subprocess.run(["make", "-s", "-C", str(SOURCE), f"OUT={here}", f"{here}/pacs-storage"], check=True)
        bench = Bench(here, size)
        found = []
        for _ in range(rounds):
            copied = bench.copied()
            found.append((copied, *bench.encrypted()))
    return Result(size, found)


def record_of(results: list[Result]) -> Record:
    """Return the whole result."""
    rows: list[list[Cell]] = []
    limits = []
    for result in results:
        copy = quartiles(result.rates(0))
        for way, name in ((1, "from clear"), (2, "under the next data key")):
            rates = result.rates(way)
            megabytes = statistics.median(rates) * result.size.bytes / MEGABYTE
            peak = round(result.peak(way), 1)
            label = f"{result.size.name}, {name}"
            rows.append([label, copy, quartiles(rates), round(megabytes, 1), quartiles(result.ratios(way)), peak])
            limits.append(Limit(f"peak memory, {label}, MB", peak, MEMORY_BOUND_MB))
    return Record(
        benchmark="reencrypt",
        about="Images that lie on the volume already, encrypted in the background; against copying the same files.",
        tables=[
            Table(
                "Encryption of what lies there",
                [
                    "files, way",
                    "copied, files/s: median (middle half)",
                    "encrypted, files/s",
                    "encrypted, MB/s",
                    "encrypted by copied, rate: median (middle half)",
                    "peak RSS MB",
                ],
                rows,
            )
        ],
        limits=limits,
        notes=[
            "The tool of the archive's image does the work that the storage plugin does beside Orthanc, without its "
            "rate limit and its low priority, on this machine's disk.",
            "Each file is read, sealed, synced with its names, read back from the disk, compared with the original "
            "(read once more), and only then is the original removed. A copied file is read, written and synced.",
            "Copying, from clear and under the next key take turns in each round, on the same files.",
            "Peak RSS: the kernel's maximum over the whole run, all files.",
        ],
        samples={
            result.size.name: [[[run.seconds, run.peak_mb] for run in runs] for runs in result.rounds]
            for result in results
        },
    )


def main() -> int:
    """Run the benchmark: exit 0 when the promise is kept, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Needs g++, make and libssl-dev.")
    parser.add_argument("--sizes", default="ct,large", help="ct, large (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each size (%(default)s)")
    parser.add_argument("--place", type=Path, help="folder on the disk to measure (the system's temporary one)")
    given = begin(parser)
    results = [measure(SIZES[name], given.rounds, given.place) for name in given.sizes.split(",")]
    return conclude(record_of(results), given)


if __name__ == "__main__":
    sys.exit(main())
