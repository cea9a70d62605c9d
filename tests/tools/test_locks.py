"""The images' lists are subsets of the one resolution, to the letter."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"


def pins(name: str) -> dict[str, frozenset[str]]:
    """Return each pinned ``name==version`` with its hashes."""
    text = re.sub(r"\\\n", " ", (REQUIREMENTS / name).read_text())
    lines = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return {line.split()[0]: frozenset(re.findall(r"sha256:[0-9a-f]{64}", line)) for line in lines}


@pytest.mark.parametrize("name", ["operator.txt", "tools.txt"])
def test_subset(name: str) -> None:
    whole, part = pins("dev.txt"), pins(name)
    assert len(part) > 5
    for pin, hashes in part.items():
        assert "==" in pin
        assert hashes
        assert whole.get(pin) == hashes, pin
