"""The quarantine without Orthanc: its limits, and a volume that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "images/archive/plugin"))

import pacs_quarantine
from pacs_quarantine import Outcome, PlainShelf, Quarantine

NOBODY = "00000000-0000-0000-0000-000000000000"
NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z


class Small(PlainShelf):
    """A volume with little room."""

    def room(self) -> int:
        return 10


def open_at(folder: Path, objects: int = 3, size: int = 100, kind: type[PlainShelf] = PlainShelf) -> Quarantine:
    return Quarantine(kind(folder / "quarantine"), objects, size)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "quarantine").iterdir())


def test_objects_bytes_and_room_are_bounded(tmp_path: Path) -> None:
    held = open_at(tmp_path, objects=2, size=100)
    assert held.keep(b"a" * 100, "Upload", "", NOON) is Outcome.HELD
    assert held.keep(b"b", "Upload", "", NOON) is Outcome.FULL, "bytes"
    assert held.report()["full"] is True
    (name,) = names(tmp_path)
    held.forget(name)
    assert held.report()["full"] is False
    assert held.keep(b"a", "Upload", "", NOON) is held.keep(b"b", "Upload", "", NOON) is Outcome.HELD
    assert held.keep(b"c", "Upload", "", NOON) is Outcome.FULL, "objects"
    (tmp_path / "small").mkdir()
    small = open_at(tmp_path / "small", kind=Small)
    assert small.keep(b"d" * 11, "Upload", "", NOON) is Outcome.FULL, "room on the volume"
    assert small.keep(b"d" * 10, "Upload", "", NOON) is Outcome.HELD


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_volume_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    held = open_at(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        if step == "rename":
            broken.setattr(Path, "rename", fail)
        else:
            broken.setattr(os, "fsync" if step == "fsync" else "fdopen", fail)
        assert held.keep(b"a", "Upload", "", NOON) is Outcome.FAILED
    assert names(tmp_path) == []
    report = held.report()
    assert (report["held"], report["notTaken"], report["full"]) == (0, 1, True)
    assert held.keep(b"a", "Upload", "", NOON) is Outcome.HELD


def test_what_cannot_be_read_is_kept_and_counted(tmp_path: Path) -> None:
    held = open_at(tmp_path)
    assert held.keep(b"whole", "Upload", "", NOON) is Outcome.HELD
    (whole,) = names(tmp_path)
    (tmp_path / "quarantine" / NOBODY).write_bytes(b"no header")
    (tmp_path / "quarantine" / "a stranger").write_bytes(b"")
    again = open_at(tmp_path)
    report = again.report()
    assert (report["held"], report["unreadable"], report["oldest"]) == (2, 1, "2026-11-22T12:00:00Z")
    assert again.content(whole) == b"whole"
    assert [name for name, _ in again.items()] == [whole]
    assert len(names(tmp_path)) == 3


def test_content_that_changed_is_not_handed_out(tmp_path: Path) -> None:
    held = open_at(tmp_path)
    held.keep(b"whole", "Upload", "", NOON)
    (name,) = names(tmp_path)
    assert held.content(name) == b"whole"
    for damage in (b"whale", b"whol", b""):
        file = tmp_path / "quarantine" / name
        file.write_bytes(file.read_bytes()[: pacs_quarantine._HEADER_BYTES] + damage)
        with pytest.raises(OSError, match="not what was written"):
            held.content(name)
    with pytest.raises(KeyError):
        held.content(NOBODY)
