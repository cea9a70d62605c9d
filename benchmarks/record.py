"""The result of a benchmark: tables for people, JSON for ``tools/proof.py``, and the facts they hold for."""
# ruff: noqa: S603  # fixed command lines without a shell

import argparse
import datetime as dt
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

ROOT = Path(__file__).parents[1]
PROOF = ROOT / "docs" / "proof"

Cell = str | int | float


@dataclass(frozen=True)
class Table:
    """Rows under column titles; units stand in the titles."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Limit:
    """A promise that a number keeps or breaks.

    Parameters
    ----------
    what
        What was measured, with its unit.
    value
        The number.
    bound
        What it is held against.
    at_most
        True when the value may not exceed the bound, False when it may not fall below it.
    aim
        True for what is aimed at and not promised: where it is missed, it is named, and nothing has failed.
    """

    what: str
    value: float
    bound: float
    at_most: bool = True
    aim: bool = False

    @property
    def kept(self) -> bool:
        """Tell whether the promise is kept."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def text(self) -> str:
        """Return the promise in words."""
        bound = f"{'at most' if self.at_most else 'at least'} {show(self.bound)}"
        return f"{self.what}: {show(self.value)}, {'aim: ' if self.aim else ''}{bound}"


@dataclass
class Record:
    """All that one run of a benchmark found.

    Parameters
    ----------
    benchmark
        Name of its file, without ending.
    about
        What was measured, in one sentence.
    tables
        The numbers.
    limits
        Promises and aims they are held against.
    notes
        What a reader must know to judge them: stand-ins, load, what is not included.
    samples
        The single measurements behind medians, by name.
    """

    benchmark: str
    about: str
    tables: list[Table] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)


def end_in_order() -> None:
    """Have SIGTERM unwind the program as an error does, so that servers stop and what was made is removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def git(*words: str) -> str:
    """Return what a git command prints about this checkout."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_facts() -> dict[str, Any]:
    """Return the commit this checkout stands on, and whether anything but the documentation differs from it."""
    changed = git("status", "--porcelain", "--", ".", ":!docs")
    return {
        "id": git("rev-parse", "HEAD"),
        "short": git("rev-parse", "--short=7", "HEAD"),
        "date": git("show", "-s", "--format=%cI", "HEAD"),
        "clean": not changed,
    }


def machine_facts() -> dict[str, Any]:
    """Return what numbers depend on: processor, memory, kernel, and who else was using them."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "memoryGiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "loadAverage": [round(load, 1) for load in os.getloadavg()],
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by the nearest-rank method, so that it is a value that was measured."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def spread(values: Sequence[float]) -> str:
    """Return median and range as text."""
    return f"{show(statistics.median(values))} ({show(min(values))} to {show(max(values))})"


def show(value: Cell) -> str:
    """Return a number with three significant digits, anything else as it is."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def publish(record: Record, out: Path | None = None) -> Path:
    """Print the tables and write the JSON document.

    Parameters
    ----------
    record
        What was found.
    out
        Folder to write to; by default ``docs/proof``.

    Returns
    -------
    Path
        ``<date>-<commit>-<benchmark>.json`` in that folder.
    """
    now, commit = dt.datetime.now(dt.UTC), commit_facts()
    document = {
        "benchmark": record.benchmark,
        "about": record.about,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit,
        "machine": machine_facts(),
        "tables": [asdict(table) for table in record.tables],
        "limits": [{**asdict(limit), "kept": limit.kept, "text": limit.text} for limit in record.limits],
        "notes": record.notes,
        "samples": _rounded(record.samples),
    }
    folder = out or PROOF
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d}-{commit['short']}-{record.benchmark}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _print(record)
    print(f"written: {path}")
    return path


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return what is asked on the command line, with what all benchmarks take, and have the run end in order."""
    parser.add_argument("--dry", action="store_true", help="show the result, keep nothing")
    parser.add_argument("--out", type=Path, help="folder for the JSON document (docs/proof)")
    asked = parser.parse_args()
    end_in_order()
    return asked


def conclude(record: Record, asked: argparse.Namespace) -> int:
    """Publish a result as asked; return the exit code: 0 when every promise is kept, 1 otherwise."""
    with tempfile.TemporaryDirectory() as thrown_away:
        publish(record, Path(thrown_away) if asked.dry else asked.out)
    return 0 if all(limit.kept or limit.aim for limit in record.limits) else 1


def _rounded(value: Any) -> Any:
    """Return a JSON-like value with floats cut to a tenth of a millisecond: more was not measured."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _print(record: Record) -> None:
    console = Console(width=max(Console().width, 160))
    for table in record.tables:
        shown = RichTable(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            shown.add_row(*(show(cell) for cell in row))
        console.print(shown)
    for limit in record.limits:
        verdict = "kept  " if limit.kept else "missed" if limit.aim else "BROKEN"
        console.print(f"{verdict} {limit.text}", highlight=False)
    for note in record.notes:
        console.print(f"- {note}", highlight=False)
