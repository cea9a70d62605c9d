"""The testbed's command and its shell functions, run on folders of the test's own."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TESTBED = Path(__file__).parents[2] / "testbed"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Folders of this test, so that no running cluster is seen or touched."""
    return os.environ | {
        "PACS_TESTBED_CACHE": str(tmp_path / "cache"),
        "PACS_TESTBED_STATE": str(tmp_path / "state"),
        "PACS_TESTBED_API_STATE": str(tmp_path / "api"),
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture
def testbed(environment: dict[str, str]) -> Run:
    """Run `testbed ARGUMENTS...`."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TESTBED / "testbed", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    return run


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the testbed that a test may change."""
    return Path(shutil.copytree(TESTBED, tmp_path / "testbed"))


@pytest.fixture
def shell(environment: dict[str, str], copy: Path) -> Run:
    """Run a piece of shell with all functions of the testbed loaded from the copy."""

    def run(script: str, **extra: str) -> subprocess.CompletedProcess[str]:
        load = f'set -euo pipefail; TESTBED_DIR={copy}; for f in "$TESTBED_DIR"/lib/*.sh; do FILES+=("$f"); done\n'
        order = (
            'source "$TESTBED_DIR/lib/common.sh"; for f in "${FILES[@]}"; do source "$f"; done; '
            'misuse() { die "$1" "" 2; }\n'
        )
        return subprocess.run(
            ["bash", "-c", load + order + script],
            env=environment | extra, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run
