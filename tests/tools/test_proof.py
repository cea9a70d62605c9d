"""The proof page is made only of what ran, all of it, green, on this commit."""

import datetime as dt
import importlib.util
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("proof", ROOT / "tools" / "proof.py")
assert SPEC and SPEC.loader
proof = importlib.util.module_from_spec(SPEC)
sys.modules["proof"] = proof
SPEC.loader.exec_module(proof)

HEAD = subprocess.run(
    ["git", "-C", ROOT, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
).stdout.strip()
COMMIT = {"id": HEAD, "short": HEAD[:7], "date": "2026-01-02T03:04:05+00:00", "clean": True}
TESTS = {
    "green": "def test_a_wolf_is_seen(): pass",
    "red": "def test_a_wolf_is_seen(): assert 'wolf' in 'sheep'",
    "skipped": "import pytest\ndef test_a_wolf_is_seen(): pytest.skip('no wolf')",
    "broken": "import pytest\n@pytest.fixture\ndef wolf(): raise OSError\ndef test_a_wolf_is_seen(wolf): pass",
    "empty": "",
}


@pytest.fixture(scope="session")
def junit(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What pytest itself writes for each way a test can end."""
    written = {}
    for name, code in TESTS.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "test_wolf.py").write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=out.xml", "test_wolf.py"]
        subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL)
        written[name] = (folder / "out.xml").read_text()
    return written


class Run:
    """The folders of one run, all green until something is changed."""

    def __init__(self, folder: Path, junit: dict[str, str]) -> None:
        self.results, self.out = folder / "results", folder / "out"
        self.results.mkdir()
        self.out.mkdir()
        for suite in proof.SUITES:
            (self.results / f"{suite}.xml").write_text(junit["green"])
        for name in proof.BENCHMARKS:
            self.benchmark(name)

    def benchmark(self, name: str, **changed: Any) -> None:
        document = {
            "benchmark": name,
            "about": f"What {name} costs.",
            "time": "2026-11-22T12:00:00Z",
            "commit": COMMIT,
            "tables": [{"title": "Sheep", "columns": ["way", "s"], "rows": [["plain|fancy", 1.23456]]}],
            "limits": [{"kept": True, "text": "ratio: 1.1, at most 1.3"}],
            "notes": ["counted by a dog"],
        } | changed
        (self.out / f"{name}.json").write_text(json.dumps(document))

    def prove(self) -> tuple[str, list[str]]:
        path, problems = proof.prove(self.results, self.out)
        assert (path.parent == self.out) == (not problems)
        return path.read_text(), problems


@pytest.fixture
def a_run(tmp_path: Path, junit: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(proof, "commit_facts", lambda: COMMIT)
    return Run(tmp_path, junit)


def test_all_green_is_written_down(a_run: Run) -> None:
    text, problems = a_run.prove()
    assert problems == []
    assert HEAD in text
    assert "| wolf: a wolf is seen | passed | 0 |" in text
    assert "| plain\\|fancy | 1.23 |" in text
    assert "- kept: ratio: 1.1, at most 1.3" in text
    assert "Not proven" not in text


@pytest.mark.parametrize("suite", proof.SUITES)
def test_a_missing_suite_fails(a_run: Run, suite: str) -> None:
    (a_run.results / f"{suite}.xml").unlink()
    text, problems = a_run.prove()
    assert problems == [f"suite {suite} is missing: there is no {suite}.xml"]
    assert "Not proven" in text


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("red", "suite api: failed: test_wolf::test_a_wolf_is_seen"),
        ("skipped", "suite api: skipped: test_wolf::test_a_wolf_is_seen"),
        ("broken", "suite api: error: test_wolf::test_a_wolf_is_seen"),
        ("empty", "suite api ran no test"),
    ],
)
def test_what_is_not_green_fails(a_run: Run, junit: dict[str, str], way: str, said: str) -> None:
    (a_run.results / "api.xml").write_text(junit[way])
    assert a_run.prove()[1] == [said]


def test_half_a_file_is_a_missing_suite(a_run: Run, junit: dict[str, str]) -> None:
    (a_run.results / "api.xml").write_text(junit["green"][:-20])
    [problem] = a_run.prove()[1]
    assert problem.startswith("suite api is missing: api.xml is not a whole JUnit file")


def test_a_suite_of_before_the_commit_fails(a_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    monkeypatch.setattr(proof, "commit_facts", lambda: COMMIT | {"date": later.isoformat()})
    assert a_run.prove()[1] == [f"suite {suite} ran before this commit was made" for suite in proof.SUITES]


def test_changed_files_fail(a_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "commit_facts", lambda: COMMIT | {"clean": False})
    assert a_run.prove()[1] == ["files differ from the commit: commit them and run again"]


def test_a_benchmark_that_is_missing_or_of_other_code_fails(a_run: Run) -> None:
    (a_run.out / "gate.json").unlink()
    a_run.benchmark("peer_effect", commit=COMMIT | {"id": "0" * 40})
    expected = [f"benchmark {name} is missing: no result of commit {HEAD[:7]}" for name in ("gate", "peer_effect")]
    assert a_run.prove()[1] == expected


def test_a_broken_limit_and_a_changed_tree_fail(a_run: Run) -> None:
    a_run.benchmark("gate", limits=[{"kept": False, "text": "ratio: 0.5, at least 0.85"}])
    a_run.benchmark("peer_effect", commit=COMMIT | {"clean": False})
    text, problems = a_run.prove()
    assert problems == [
        "benchmark gate: broken: ratio: 0.5, at least 0.85",
        f"benchmark peer_effect ran on files that differ from commit {HEAD[:7]}",
    ]
    assert "**BROKEN**: ratio: 0.5, at least 0.85" in text


@pytest.mark.parametrize("aim", [True, False])
def test_an_aim_that_is_missed_is_named_and_fails_nothing(a_run: Run, aim: bool) -> None:
    a_run.benchmark("gate", limits=[{"kept": False, "aim": aim, "text": "ratio: 0.8, at least 0.9"}])
    text, problems = a_run.prove()
    assert problems == ([] if aim else ["benchmark gate: broken: ratio: 0.8, at least 0.9"])
    assert ("**aim missed**" if aim else "**BROKEN**") + ": ratio: 0.8, at least 0.9" in text


def test_only_benchmarks_without_a_result_of_this_code_are_run_again(a_run: Run) -> None:
    assert proof.lacking(proof.BENCHMARKS, a_run.out, COMMIT) == []
    (a_run.out / "gate.json").unlink()
    a_run.benchmark("peer_effect", commit=COMMIT | {"id": "0" * 40})
    a_run.benchmark("steady_state", commit=COMMIT | {"clean": False})
    assert proof.lacking(proof.BENCHMARKS, a_run.out, COMMIT) == ["gate", "steady_state", "peer_effect"]
    assert proof.lacking(["apply_to_ready"], a_run.out, COMMIT) == []
    assert proof.lacking(["gate"], a_run.out / "not-made-yet", COMMIT) == ["gate"]


def test_the_newest_result_counts(a_run: Run) -> None:
    document = json.loads((a_run.out / "gate.json").read_text()) | {"time": "2026-11-22T13:00:00Z", "about": "Newer."}
    (a_run.out / "a-newer-one.json").write_text(json.dumps(document))
    assert "Newer." in a_run.prove()[0]


def test_a_later_commit_may_touch_what_the_benchmark_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(path: str) -> str:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
        author = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null")
        for words in (("add", "."), (*author, "commit", "-qm", path)):
            subprocess.run(["git", "-C", tmp_path, *words], check=True)
        return str(proof.git("rev-parse", "HEAD"))

    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setitem(proof.git.__globals__, "ROOT", tmp_path)
    same = partial(proof.same_code, "steady_state")
    code, page, test, tool, others, shared, more_code = map(
        commit,
        (
            *("code.py", "docs/page.md", "tests/gate/test_one.py", "tools/proof.py", "benchmarks/dicomweb.py"),
            *("tests/gate/pki.py", "more.py"),
        ),
    )
    for later in (page, test, tool, others):
        assert same(code, later)
    assert not same(others, shared), "benchmarks use what tests share"
    assert not same(shared, more_code)
    assert not same(more_code, shared)
    standins = commit("benchmarks/standins.py")
    assert not same(more_code, standins), "this one imports it"
    assert proof.same_code("gate", more_code, standins)
    assert not proof.same_code("gate", standins, commit("benchmarks/store_sender.py")), "run, not imported"


def test_what_a_benchmark_imports_is_its_own() -> None:
    assert proof.modules_of("steady_state") == {"steady_state", "apionly", "record", "standins"}
    assert proof.modules_of("reencrypt") == {"reencrypt", "gate", "record"}
