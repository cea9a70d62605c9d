"""What is quarantined where images are encrypted: by the real tool, built from its source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "images/archive/plugin"))

from pacs_quarantine import Outcome, PlainShelf, Quarantine
from pacs_sealed import KEYS, SealedShelf, seal_all, shelf_of

ORDERED = "pacs-orders 1\nrate 1048576\nclear /srv\nend\n"
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


def in_clear(tmp_path: Path, content: bytes) -> str:
    """Keep an object as an archive without encryption does; return its name."""
    plain = PlainShelf(tmp_path / "quarantine")
    before = set(plain.names())
    assert Quarantine(plain, 9, 10**6).keep(content, "Upload", "", NOON) is Outcome.HELD
    (name,) = set(plain.names()) - before
    return name


@pytest.mark.parametrize(
    ("orders", "taken"),
    [
        (ORDERED, True),
        (ORDERED.replace("end", f"reseal {'ab' * 32}\nend"), True),
        (None, False),
        (ORDERED.replace("clear /srv\n", ""), False),
        (ORDERED.removesuffix("end\n"), False),
        (ORDERED.replace("orders 1", "orders 2"), False),
    ],
)
def test_what_lies_in_clear_is_taken_for_genuine_only_while_that_is_ordered(
    tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch, orders: str | None, taken: bool
) -> None:
    name = in_clear(tmp_path, CANARY)
    monkeypatch.setenv(KEYS, str(ring(tmp_path)))
    if orders is not None:
        (tmp_path / "keys.orders").write_text(orders)
    shelf = shelf_of({"StorageDirectory": str(tmp_path), "PacsArchive": {"StorageEncryption": "Transit"}}, tool)
    assert shelf.names() == ([name] if taken else [])
    assert (tmp_path / "quarantine" / name).exists() is not taken, "what nobody vouches for is left for a person"


@pytest.mark.parametrize("refused", [0, 1])
def test_what_cannot_be_sealed_stays_as_it_is_and_the_rest_goes_on(
    tmp_path: Path, sealed: SealedShelf, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    plain = PlainShelf(tmp_path / "quarantine")
    names = sorted(in_clear(tmp_path, content) for content in (CANARY, CANARY[::-1]))
    whole, put = (plain.get(names[0], 0, 10**6), sealed.put)

    def full(name: str, data: bytes) -> None:
        if name in names[:refused]:
            raise OSError("pacs-storage put failed")
        put(name, data)

    monkeypatch.setattr(sealed, "put", full)
    seal_all(plain, sealed)
    assert (plain.names(), sealed.names()) == (names[:refused], names[refused:])
    monkeypatch.setattr(sealed, "put", put)
    seal_all(plain, sealed)
    assert (plain.names(), sealed.names()) == ([], names), "at the next start"
    assert sealed.get(names[0], 0, len(whole)) == whole


@pytest.mark.parametrize("length", [None, -1, 0])
def test_a_sealed_twin_that_lost_bytes_is_made_anew(tmp_path: Path, sealed: SealedShelf, length: int | None) -> None:
    name, plain = in_clear(tmp_path, CANARY), PlainShelf(tmp_path / "quarantine")
    sealed.put(name, plain.get(name, 0, plain.size(name)))
    (twin,) = (tmp_path / "quarantine" / "id").rglob(name)
    whole = twin.read_bytes()
    twin.write_bytes(whole[:length])
    seal_all(plain, sealed)
    assert (plain.names(), sealed.names()) == ([], [name])
    assert Quarantine(sealed, 3, 10**6).content(name) == CANARY
    assert (twin.read_bytes() == whole) is (length is None), "a whole one is left as it is"


def test_another_object_under_the_name_is_not_taken_away(tmp_path: Path, sealed: SealedShelf) -> None:
    name, plain = in_clear(tmp_path, CANARY), PlainShelf(tmp_path / "quarantine")
    size = plain.size(name)
    sealed.put(name, bytes(size))
    seal_all(plain, sealed)
    assert (plain.names(), sealed.get(name, 0, size)) == ([name], bytes(size))
