"""What is quarantined where images are encrypted: by the real tool, built from its source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "images/archive/plugin"))

from pacs_quarantine import Outcome, PlainShelf, Quarantine
from pacs_sealed import SealedShelf, seal_all

NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z
CANARY = b"Canary^Name" * 1000
SOURCES = REPOSITORY / "images/archive/storage"
LEAVE_OUT = {"plugin.cpp", "fuzz.cpp", "mutate.cpp"}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("tool") / "pacs-storage"
    sources = [str(path) for path in sorted(SOURCES.glob("*.cpp")) if path.name not in LEAVE_OUT]
    subprocess.run(["g++", "-std=c++20", "-pthread", "-O1", "-o", str(program), *sources, "-lcrypto"], check=True)
    return str(program)


def ring(folder: Path, digit: str = "a") -> Path:
    text = f"pacs-keys 1\nlineage {'0123456789abcdef' * 2}\nactive 1\nkey 1 {digit * 64}\nend\n"
    (folder / "keys").write_text(text)
    return folder / "keys"


@pytest.fixture
def sealed(tmp_path: Path, tool: str) -> SealedShelf:
    return SealedShelf(tmp_path / "quarantine", ring(tmp_path), tool)


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "quarantine").rglob("*") if path.is_file()]


def test_nothing_lies_in_clear_and_all_comes_back(tmp_path: Path, sealed: SealedShelf) -> None:
    held = Quarantine(sealed, 3, 10**6)
    assert held.keep(CANARY, "C-STORE", "CT1", NOON) is Outcome.HELD
    assert held.keep(CANARY, "C-STORE", "CT1", NOON) is Outcome.KNOWN
    (name,) = sealed.names()
    assert held.content(name) == CANARY
    assert not any(word in path.read_bytes() for path in files(tmp_path) for word in (b"Canary", b"CT1", b"C-STORE"))
    again = Quarantine(sealed, 3, 10**6)
    assert again.content(name) == CANARY
    again.forget(name)
    assert sealed.names() == []


@pytest.mark.parametrize("damage", ["bit", "cut", "key"])
def test_what_was_changed_is_not_handed_out(tmp_path: Path, sealed: SealedShelf, damage: str) -> None:
    held = Quarantine(sealed, 3, 10**6)
    held.keep(CANARY, "C-STORE", "CT1", NOON)
    (name,) = sealed.names()
    assert held.content(name) == CANARY
    (file,) = (tmp_path / "quarantine" / "id").rglob(name)
    whole = file.read_bytes()
    if damage == "key":
        ring(tmp_path, "b")
    else:
        file.write_bytes(whole[:-1] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(OSError, match="pacs-storage get failed"):
        held.content(name)
    assert len(sealed.names()) == 1, "and it is kept"


def test_without_keys_nothing_is_kept_and_nothing_lies_in_clear(tmp_path: Path, sealed: SealedShelf) -> None:
    held = Quarantine(sealed, 3, 10**6)
    (tmp_path / "keys").unlink()
    assert held.keep(CANARY, "C-STORE", "CT1", NOON) is Outcome.FAILED
    assert not any(b"Canary" in path.read_bytes() for path in files(tmp_path))
    ring(tmp_path)
    assert held.keep(CANARY, "C-STORE", "CT1", NOON) is Outcome.HELD


def test_what_was_held_in_clear_is_sealed_when_encryption_comes(tmp_path: Path, sealed: SealedShelf) -> None:
    plain = PlainShelf(tmp_path / "quarantine")
    held = Quarantine(plain, 3, 10**6)
    held.keep(CANARY, "Upload", "", NOON)
    (name,) = plain.names()
    sealed.put(name, plain.get(name, 0, plain.size(name)))  # cut off after the first step, and asked again
    seal_all(plain, sealed)
    assert plain.names() == []
    assert Quarantine(sealed, 3, 10**6).content(name) == CANARY
    assert not any(b"Canary" in path.read_bytes() for path in files(tmp_path))
