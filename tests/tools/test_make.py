"""The Makefile is the front door: every target listed or internal, CI as people run it, no linter left out."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Makefile").read_text()
MAKE = shutil.which("make") or "make"
INTERNAL = {"shellcheck", "compiler", "dcmtk"}
TIERS = ["lint", "prepare", "test-unit", "test-process", "test-api", "test-cluster"]


def phony() -> set[str]:
    return {name for line in re.findall(r"^\.PHONY: (.+)$", TEXT, re.MULTILINE) for name in line.split()}


def prerequisites(target: str) -> list[str]:
    found = re.search(rf"^{target}: ([^#\n]*)", TEXT, re.MULTILINE)
    assert found, target
    return found[1].split()


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run([MAKE, *words], cwd=ROOT, env=own | environment, capture_output=True, text=True, check=False)


def test_every_target_is_listed_or_internal() -> None:
    listed = set(re.findall(r"^  make (\S+)", make("help").stdout, re.MULTILINE))
    assert phony() - INTERNAL == listed
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", TEXT, re.MULTILINE))
    assert targets == phony(), "a file of that name would switch the target off"


def test_ci_runs_the_tests_as_people_do() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "exec make test"
    assert prerequisites("test")[: len(TIERS)] == TIERS


def test_every_folder_of_tests_belongs_to_a_tier() -> None:
    run = {
        path for words in re.findall(r"\$\(PYTEST\) (.+)", TEXT) for path in words.split() if path.startswith("tests/")
    }
    folders = {f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")}
    # The cluster's own checks stop and start it, so they are named, not collected.
    assert run == folders | {"tests/testbed/cluster_checks.py"}


def test_the_long_run_measures_every_benchmark_that_the_proof_demands() -> None:
    assert "$(MAKE) bench" in TEXT[TEXT.index("\ntest-long:") : TEXT.index("\nbench:")]
    asked = re.findall(r"proof\.py --lacking ([a-z_ ]+)\)", TEXT)
    demanded = re.search(r"^BENCHMARKS = \((.+)\)$", (ROOT / "tools" / "proof.py").read_text(), re.MULTILINE)
    assert demanded
    assert sorted(" ".join(asked).split()) == sorted(re.findall(r"\w+", demanded[1]))
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in " ".join(asked).split())


def test_lint_asks_every_tool_that_is_configured() -> None:
    plan = make("--dry-run", "--assume-new=lint", "lint").stdout
    for command in ("ruff format --check .", "ruff check .", "mypy", "lint-imports", "deptry .", "shellcheck"):
        assert re.search(rf"(^|[/ ]){re.escape(command)}( |$)", plan, re.MULTILINE), command
    for script in ("treecheck.py", "crddiff.py --released"):
        assert f"tools/{script}" in plan
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert configured["mypy"]["files"] == ["."]
    assert configured["mypy"]["strict"] is True


@pytest.mark.parametrize(("status", "words"), [(0, ""), (1, "install it by this system's own means")])
def test_the_scripts_linter_is_installed_when_it_is_missing(tmp_path: Path, status: int, words: str) -> None:
    for name in ("bash", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "apt-get").write_text(f'#!{tmp_path}/bash\necho "apt-get $*"\nexit {status}\n')
    (tmp_path / "apt-get").chmod(0o755)
    done = make("shellcheck", f"PATH={tmp_path}")
    assert done.stdout.startswith("shellcheck is missing: installing its Debian package\napt-get install ")
    assert (done.returncode == 0) is (status == 0)
    assert words in done.stderr
