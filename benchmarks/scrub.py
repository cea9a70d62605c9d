"""What reading every stored image again costs: the scrub, against a plain read of the same files from the disk."""
# ruff: noqa: S101  # what was measured has to be what was meant

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.agent.support import LocalVault, gate_config, leaf
from tests.images.orthanc_server import Orthanc
from tests.storage.server import as_file, image_of
from tests.storage.volume import LINEAGE

from benchmarks.gate import quartiles
from benchmarks.record import Cell, Limit, Record, Table, begin, conclude
from benchmarks.storage import WAYS, Stage, stage
from pacs_operator.agent.context import Context
from pacs_operator.agent.offcache import OffCache
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.scrub import ScrubFeed, be_nice
from pacs_operator.domain.agentconfig import ScrubPass, StorageKeyring
from pacs_operator.domain.names import CaName, Component

BOUND = 0.10
STUDIES, EACH, LARGE = 8, 50, 64 * 10**6  # CT images of 0.5 MB, and one object of 64 MB
ORDER = {"schedule": "* * * * *", "maxMiPerSecond": 10_000}
MB = 1e6


class JumpingClock:
    """The machine's time, in which nobody sleeps: what would be waited for is there at once."""

    def __init__(self) -> None:
        self._ahead = timedelta(hours=1)  # files are old by it

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def sleep(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    def jitter(self) -> float:
        return 0.0


def fill(server: Orthanc) -> None:
    """Store the images."""
    for number in range(STUDIES * EACH + 1):
        large = number == STUDIES * EACH
        dataset = image_of(f"1.2.3.{number}", size=LARGE if large else 524_288, seed=number)
        dataset.Rows, dataset.Columns = 16, 16
        dataset.StudyInstanceUID = f"1.2.{number % STUDIES + 1}"
        dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
        answer = server.rest("POST", "/instances", data=as_file(dataset))
        answer.raise_for_status()


def places_of(scene: Stage, way: str) -> Surroundings:
    """Return where the scrub of one of the two looks; both Orthancs keep their files under ``data``."""
    own = scene.folder / way
    run, peers, images = own / "run", own / "peers", scene.servers[way].data
    for folder in (run, peers):
        folder.mkdir(exist_ok=True)
    (peers / "scrub.json").write_text(json.dumps(ORDER))
    if way == "encrypted":
        (run / "storage.keys").write_bytes((own / "etc" / "keys").read_bytes())
        if not (images / "sealed").exists():
            (images / "sealed").symlink_to("encrypted")
    return Surroundings(run=run, peers=peers, images=images)


async def scrub(server: Orthanc, places: Surroundings, sealed: bool) -> ScrubPass:
    """Return a whole pass."""
    config = gate_config(
        component=Component.ORTHANC,
        leaves=[leaf("control", CaName.CONTROL, "orthanc.rad-archive.svc")],
        trust=[CaName.CONTROL],
        lineage_id=LINEAGE,
        orthanc_url=f"http://127.0.0.1:{server.http}",
        storage=StorageKeyring(transit_key="x", max_age_days=90) if sealed else None,
    )
    (places.images / "scrub" / "state.json").unlink(missing_ok=True)
    clock = JumpingClock()
    feed = ScrubFeed(Context(config, places, LocalVault(clock.now), clock))
    task = asyncio.create_task(feed.run())
    while not (feed.told and feed.told.last):
        assert not task.done(), "the scrub ended"
        await asyncio.sleep(0.005)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    feed.close()
    return feed.told.last


def plain(files: list[Path]) -> int:
    """Read files from the disk, at the scrub's own priority, and do nothing with what comes; return how many bytes."""
    reader = OffCache()
    with ThreadPoolExecutor(1, initializer=be_nice) as thread:
        return thread.submit(lambda: sum(len(part) for path in files for part in reader.parts(path))).result()


@dataclass(frozen=True)
class Round:
    """MB/s and CPU milliseconds a MB, of the plain read and of the scrub."""

    plain: float
    scrub: float
    plain_cpu: float
    scrub_cpu: float


def measure(scene: Stage, rounds: int) -> dict[str, list[Round]]:
    """Return what was measured each way, round by round, in turn."""
    found: dict[str, list[Round]] = {way: [] for way in WAYS}
    for way in WAYS:
        fill(scene.servers[way])
    for number in range(-1, rounds):
        for way in WAYS:
            server, places = scene.servers[way], places_of(scene, way)
            root = server.data / "encrypted" / "id" if way == "encrypted" else server.data
            files = sorted(path for path in root.glob("??/??/*") if len(path.name) == 36)
            times = [(time.perf_counter(), time.process_time())]
            size = plain(files)
            times.append((time.perf_counter(), time.process_time()))
            result = asyncio.run(scrub(server, places, way == "encrypted"))
            times.append((time.perf_counter(), time.process_time()))
            assert result.damaged == 0 and result.bytes == size and result.objects == len(files) == STUDIES * EACH + 1
            walls, cpus = ([after[n] - before[n] for before, after in pairwise(times)] for n in (0, 1))
            if number >= 0:
                rates = [size / MB / seconds for seconds in walls]
                found[way].append(Round(*rates, *(1000 * seconds * MB / size for seconds in cpus)))
    return found


def record_of(found: dict[str, list[Round]]) -> Record:
    """Return the whole result."""
    rows: list[list[Cell]] = []
    limits = []
    for way, measured in found.items():
        ratios = [one.scrub / one.plain for one in measured]
        rates = [quartiles([one.plain for one in measured]), quartiles([one.scrub for one in measured])]
        cpu = [
            statistics.median(one.plain_cpu for one in measured),
            statistics.median(one.scrub_cpu for one in measured),
        ]
        rows.append([way, *rates, quartiles(ratios), *cpu])
        limits.append(Limit(f"scrub by plain read, {way}", statistics.median(ratios), BOUND, at_most=False))
    columns = [
        "storage",
        "plain read, MB/s: median (middle half)",
        "scrub, MB/s",
        "ratio: median (middle half)",
        "plain read, CPU ms a MB",
        "scrub, CPU ms a MB",
    ]
    return Record(
        benchmark="scrub",
        about="Every stored image read again and held against the index, against a plain read of the same files.",
        tables=[Table("Scrub", columns, rows)],
        limits=limits,
        notes=[
            f"{STUDIES * EACH} CT images of 0.5 MB in {STUDIES} studies and an object of {LARGE / MB:g} MB, stored in "
            "Orthanc of the archive's image with its index in PostgreSQL, files on this machine's disk.",
            "Both read with O_DIRECT, one file after the other, 1 MiB at a time; plain read does nothing with it. The "
            "scrub asks the index too, authenticates and decrypts where files are encrypted, and sums with MD5.",
            "MD5 takes most of the scrub's CPU time. CPU is the agent's own, without Orthanc and PostgreSQL.",
            "Without a rate, both at the lowest priority.",
        ],
        samples={way: [vars(one) for one in measured] for way, measured in found.items()},
    )


def main() -> int:
    """Run the benchmark: exit 0 when the promise is kept, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Needs root, .venv and the unpacked images (images/build --rootfs)."
    )
    parser.add_argument("--rounds", type=int, default=7, help="passes over each (%(default)s)")
    asked = begin(parser)
    with stage() as scene:
        found = measure(scene, asked.rounds)
    return conclude(record_of(found), asked)


if __name__ == "__main__":
    sys.exit(main())
