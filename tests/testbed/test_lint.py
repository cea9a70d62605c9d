"""The scripts pass shellcheck and stay small."""

import subprocess

from .conftest import TESTBED


def test_shellcheck_finds_nothing() -> None:
    answer = subprocess.run(
        ["shellcheck", "--external-sources", "testbed"], cwd=TESTBED, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout


def test_files_stay_small() -> None:
    for path in [TESTBED / "testbed", *TESTBED.glob("lib/*.sh")]:
        assert len(path.read_text().splitlines()) <= 250, path
