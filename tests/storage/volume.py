"""Lists of data keys, and what lies on a volume."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

LINEAGE = "0" * 31 + "a"
CHUNK, TAG, HEADER = 65536, 16, 56
UUID = "0a1b2c3d-0000-4000-8000-0000000000aa"
OTHER = "0a1b2c3d-0000-4000-8000-0000000000bb"


def key(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()


@dataclass(frozen=True)
class Ring:
    """One list of keys, as the agent lays it down."""

    keys: dict[int, str] = field(default_factory=lambda: {1: key("one")})
    active: int = 1
    lineage: str = LINEAGE

    def with_key(self, number: int, seed: str) -> Ring:
        return replace(self, keys={**self.keys, number: key(seed)}, active=number)

    def text(self) -> str:
        lines = ["pacs-keys 1", f"lineage {self.lineage}", f"active {self.active}"]
        return "\n".join([*lines, *(f"key {number} {plain}" for number, plain in self.keys.items()), "end", ""])

    def write(self, path: Path) -> Path:
        """Replace the file whole, as the agent does."""
        fresh = path.with_suffix(".fresh")
        fresh.write_text(self.text())
        fresh.chmod(0o644)
        fresh.rename(path)
        return path


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes of which no chunk equals another."""
    return b"".join(hashlib.sha512(f"{seed} {n}".encode()).digest() for n in range(size // 64 + 1))[:size]


def files(root: Path) -> set[str]:
    """Return every file under a folder, relative."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def objects(root: Path) -> dict[str, Path]:
    """Return the stored objects by name."""
    return {path.name: path for path in (root / "id").rglob("*") if path.is_file()}


def leftovers(root: Path) -> set[str]:
    """Return what is neither an object under both its names nor a key's check file."""
    known = objects(root)
    days = {path.name: path for path in (root / "day").rglob("*") if path.is_file()}
    odd = {str(path) for name, path in days.items() if name not in known or not known[name].samefile(path)}
    odd |= {str(path) for name, path in known.items() if name not in days}
    return odd | {name for name in files(root) if name.split("/")[0] not in ("id", "day", "check")}


#: Every DICOM file has it behind its preamble (PS3.10 7.1): the prefix, and where group 0002 begins. The four letters
#: alone come up once in four billion random bytes, and encrypted images are nothing else.
PART10 = b"DICM\x02\x00"


def holding(root: Path, *needles: bytes) -> set[str]:
    """Return the files that contain any of these bytes."""
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in found if any(needle in path.read_bytes() for needle in needles)}
