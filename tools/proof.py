"""Write down what a run of all tests and benchmarks proved of one commit; fail when anything is red or missing.

Reads the JUnit files that pytest left in ``build/proof`` and the benchmarks' JSON in ``docs/proof``; writes
``docs/proof/<date>-<commit>.md``. When something is missing, failed, skipped, broken, or of another commit, the page
goes to ``build/proof/not-proven.md`` instead and the exit code is 1.
"""

import argparse
import datetime as dt
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.record import PROOF, ROOT, commit_facts, git, machine_facts, show

SUITES = ("unit", "process", "api", "cluster", "long")
BENCHMARKS = ("gate", "storage", "dicomweb", "reencrypt", "scrub", "apply_to_ready", "steady_state", "peer_effect")
RESULTS = ROOT / "build" / "proof"
#: What no benchmark runs; other benchmarks' files are left out beside these.
NOT_MEASURED = (":!docs", ":!*.md", ":!tools", ":(exclude,glob)tests/**/test_*.py")
_OWN_IMPORT = re.compile(r"^from benchmarks\.([a-z_]+) import", re.MULTILINE)
#: The suite whose single tests are listed: each is a scenario that people ask about.
LISTED = "long"
Document = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One test: where it stands, what came of it, and how long it took."""

    place: str
    name: str
    outcome: str
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class Suite:
    """One JUnit file."""

    name: str
    started: dt.datetime
    cases: list[Case] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Return how many tests ended so."""
        return sum(case.outcome == outcome for case in self.cases)

    @property
    def seconds(self) -> float:
        """Return how long all tests took together."""
        return sum(case.seconds for case in self.cases)


def read_suite(path: Path) -> Suite:
    """Return what a JUnit file of pytest says.

    Raises
    ------
    ValueError
        Not a JUnit file, for example because pytest was killed while it wrote.
    """
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314  # written by our own pytest a moment ago
        [suite] = root.iter("testsuite")
        started = dt.datetime.fromisoformat(suite.attrib["timestamp"]).astimezone(dt.UTC)
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise ValueError(f"{path.name} is not a whole JUnit file: {error}") from error
    return Suite(path.stem, started, [_case(case) for case in suite.iter("testcase")])


def _case(case: "ElementTree.Element") -> Case:
    outcome, message = "passed", ""
    for kind, name in (("skipped", "skipped"), ("failure", "failed"), ("error", "error")):
        found = case.find(kind)
        if found is not None:
            outcome, message = name, found.attrib.get("message", "")
    return Case(case.attrib["classname"], case.attrib["name"], outcome, float(case.attrib["time"]), message)


def read_suites(folder: Path, problems: list[str]) -> list[Suite]:
    """Return all suites that are there, and add to the problems what is wrong with them."""
    suites = []
    for name in SUITES:
        path = folder / f"{name}.xml"
        try:
            suite = read_suite(path)
        except FileNotFoundError:
            problems.append(f"suite {name} is missing: there is no {path.name}")
            continue
        except ValueError as error:
            problems.append(f"suite {name} is missing: {error}")
            continue
        suites.append(suite)
        problems += _wrong_with(suite)
    return suites


def _wrong_with(suite: Suite) -> list[str]:
    """Return what keeps a suite from proving anything; a skipped test proves nothing either."""
    if not suite.cases:
        return [f"suite {suite.name} ran no test"]
    return [
        f"suite {suite.name}: {case.outcome}: {case.place}::{case.name}"
        for case in suite.cases
        if case.outcome != "passed"
    ]


def read_benchmarks(folder: Path, commit: Document, problems: list[str]) -> list[Document]:
    """Return the newest result of each benchmark on this commit, and add to the problems what is wrong with them."""
    found = []
    for name in BENCHMARKS:
        own = results_of(name, folder, commit)
        if not own:
            problems.append(f"benchmark {name} is missing: no result of commit {commit['short']}")
            continue
        newest = max(own, key=lambda one: str(one["time"]))
        found.append(newest)
        if not newest["commit"]["clean"]:
            problems.append(f"benchmark {name} ran on files that differ from commit {newest['commit']['short']}")
        problems += [f"benchmark {name}: broken: {limit['text']}" for limit in newest["limits"] if broken(limit)]
    return found


def broken(limit: Document) -> bool:
    """Tell whether a promise was broken; an aim that was missed is named, and breaks nothing."""
    return not limit["kept"] and not limit.get("aim")


def results_of(name: str, folder: Path, commit: Document) -> list[Document]:
    """Return the results of a benchmark that were measured on this code."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    own = [one for one in documents if one["benchmark"] == name]
    return [one for one in own if same_code(name, one["commit"]["id"], commit["id"])]


def lacking(names: Iterable[str], folder: Path, commit: Document) -> list[str]:
    """Return the benchmarks that have no result of this code, measured while no file differed from it."""
    return [name for name in names if not any(one["commit"]["clean"] for one in results_of(name, folder, commit))]


def same_code(name: str, one: str, other: str) -> bool:
    """Tell whether a benchmark runs the same code on two commits; what it takes from tests and others counts.

    So does a program of the folder that is run and not imported, for all of them.
    """
    if one == other:
        return True
    if one not in git("rev-list", "--max-count=200", other).split():
        return False
    changed = git("diff", "--name-only", one, other, "--", ".", *NOT_MEASURED).split()
    others = set[str]().union(*map(modules_of, BENCHMARKS)) - modules_of(name)
    return set(changed) <= {f"benchmarks/{each}.py" for each in others}


def modules_of(name: str) -> set[str]:
    """Return a benchmark's own module and those of the folder that it imports, directly or not."""
    found, todo = set[str](), {name}
    while todo:
        module = todo.pop()
        found.add(module)
        path = ROOT / "benchmarks" / f"{module}.py"
        todo |= set(_OWN_IMPORT.findall(path.read_text(encoding="utf-8"))) - found
    return found


def wrong_commit(commit: Document, suites: list[Suite]) -> list[str]:
    """Return why the results may not be this commit's."""
    problems = [] if commit["clean"] else ["files differ from the commit: commit them and run again"]
    made = dt.datetime.fromisoformat(commit["date"])
    problems += [f"suite {suite.name} ran before this commit was made" for suite in suites if suite.started < made]
    return problems


def page(commit: Document, suites: list[Suite], benchmarks: list[Document], problems: list[str]) -> str:
    """Return the whole page in Markdown."""
    machine = machine_facts()
    facts = [
        ["commit", f"`{commit['id']}` of {commit['date']}"],
        ["run", f"{min((suite.started for suite in suites), default=dt.datetime.now(dt.UTC)):%Y-%m-%d %H:%M} UTC"],
        ["machine", f"{machine['cores']} cores ({machine['processor']}), {machine['memoryGiB']} GiB"],
        ["kernel, Python", f"{machine['kernel']}, {machine['python']}"],
    ]
    verdict = "Every suite passed, nothing was skipped, every benchmark kept its limits (a missed aim is named below)."
    parts = [
        f"# Proof: {commit['short']}\n\nMade by `make test-long`.\n",
        verdict + "\n" if not problems else "**Not proven:**\n\n" + "".join(f"- {one}\n" for one in problems),
        markdown(["", ""], facts),
        "## Suites\n",
        markdown(["suite", "tests", "passed", "failed", "errors", "skipped", "seconds"], list(map(_counts, suites))),
        "## Long scenarios\n",
        markdown(["scenario", "outcome", "seconds"], _scenarios(suites)),
        "## Benchmarks\n",
        *map(_benchmark, benchmarks),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _counts(suite: Suite) -> list[Any]:
    outcomes = [suite.count(outcome) for outcome in ("passed", "failed", "error", "skipped")]
    return [suite.name, len(suite.cases), *outcomes, f"{suite.seconds:.0f}"]


def _scenarios(suites: list[Suite]) -> list[list[Any]]:
    cases = [case for suite in suites if suite.name == LISTED for case in suite.cases]
    return [[words(case), case.outcome, f"{case.seconds:.0f}"] for case in cases]


def words(case: Case) -> str:
    """Return a test's name as words, after the file it stands in."""
    return f"{case.place.rpartition('.')[2].removeprefix('test_')}: {case.name.removeprefix('test_').replace('_', ' ')}"


def _benchmark(document: Document) -> str:
    tables = [
        f"**{table['title']}**\n\n"
        + markdown(table["columns"], [[show(cell) for cell in row] for row in table["rows"]])
        for table in document["tables"]
    ]
    limits = "".join(f"- {_outcome(one)}: {one['text']}\n" for one in document["limits"])
    notes = "".join(f"- {note}\n" for note in document["notes"])
    head = f"### {document['benchmark']}\n\n{document['about']} Measured {document['time']}.\n"
    return "\n".join(part for part in (head, *tables, limits, notes) if part)


def _outcome(limit: Document) -> str:
    return "kept" if limit["kept"] else "**BROKEN**" if broken(limit) else "**aim missed**"


def markdown(columns: list[str], rows: list[list[Any]]) -> str:
    """Return a table; what would end a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def prove(results: Path, out: Path) -> tuple[Path, list[str]]:
    """Write the page and return its path and the problems; without problems it stands in ``out``."""
    commit, problems = commit_facts(), list[str]()
    suites = read_suites(results, problems)
    benchmarks = read_benchmarks(out, commit, problems) if out.is_dir() else []
    if not out.is_dir():
        problems += [f"benchmark {name} is missing: there is no {out.name}" for name in BENCHMARKS]
    problems += wrong_commit(commit, suites)
    day = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    path = results / "not-proven.md" if problems else out / f"{day}-{commit['short']}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(commit, suites, benchmarks, problems), encoding="utf-8")
    return path, problems


def main() -> int:
    """Write the page: exit 0 when everything is there and green."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JUnit files (build/proof)")
    parser.add_argument(
        "--out", type=Path, default=PROOF, help="folder of benchmarks' JSON and of the page (docs/proof)"
    )
    parser.add_argument(
        "--lacking", nargs="+", choices=BENCHMARKS, metavar="BENCHMARK",
        help="write nothing, print those of these benchmarks that have no result of this code yet",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.lacking:
        print("\n".join(lacking(arguments.lacking, arguments.out, commit_facts())))
        return 0
    path, problems = prove(arguments.results, arguments.out)
    for problem in problems:
        print(f"not proven: {problem}", file=sys.stderr)
    print(f"written: {path}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
