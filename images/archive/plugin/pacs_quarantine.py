"""Objects that came under a known SOP Instance UID with other content: kept whole, beside the archive, never served.

A folder on the images' volume; one file an object, named by a random identifier: a line of JSON (since when, which
AE title, digest) padded to 1,024 bytes, then the object as it came. Only a person takes something out (`pacs_release`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PART = ".part"
_HEADER_BYTES = 1024
#: Share of the volume that stays free for images: a flood of duplicates must not end the archive's service.
_FREE_SHARE = 0.05


class Outcome(Enum):
    """What became of an object that may not be stored."""

    HELD = "Held"
    KNOWN = "Known"  # this very content is held already: senders try again
    FULL = "Full"  # too many, too large, or no room on the volume
    FAILED = "Failed"  # the volume did not take it


class Shelf(Protocol):
    """Where bytes lie under a name; all or nothing, and still there after a power cut."""

    def names(self) -> list[str]:
        """Return the names of all that lie here."""

    def room(self) -> int:
        """Return how many bytes still fit, images considered."""

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes; OSError when they are not safely kept, and then nothing is."""

    def get(self, name: str, start: int, size: int) -> bytes:
        """Return at most so many bytes from a position on."""

    def remove(self, name: str) -> None:
        """Forget a name; FileNotFoundError when there is none."""


class PlainShelf:
    """Files as they are, where images are stored as they are.

    Parameters
    ----------
    folder
        Made when it is missing; what a killed writer left behind there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        for left_over in folder.glob(f"*{_PART}"):
            left_over.unlink()
        _sync(folder.parent)

    def names(self) -> list[str]:
        """Return the names of all that lie here."""
        return sorted(path.name for path in self._folder.iterdir() if IDENTIFIER.fullmatch(path.name))

    def room(self) -> int:
        """Return how many bytes still fit, images considered."""
        return free_room(self._folder)

    def size(self, name: str) -> int:
        """Return how many bytes lie under a name."""
        return (self._folder / name).stat().st_size

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes: temporary file, its content on the disk, its name on the disk."""
        path = self._folder / name
        part = path.with_suffix(_PART)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            _sync(self._folder)
        except BaseException:
            part.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise

    def get(self, name: str, start: int, size: int) -> bytes:
        """Return at most so many bytes from a position on."""
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def remove(self, name: str) -> None:
        """Forget a name."""
        (self._folder / name).unlink()
        _sync(self._folder)


def free_room(folder: Path) -> int:
    """Return how many bytes fit on a folder's volume when a share stays free for images."""
    usage = shutil.disk_usage(folder)
    return usage.free - int(usage.total * _FREE_SHARE)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Held:
    """What is known of one object without reading it.

    Parameters
    ----------
    since
        Seconds since the epoch.
    way
        ``C-STORE``, ``Upload`` (REST and STOW-RS) or ``Replaced`` (a release put another in its place).
    aet
        AE title of the sender, empty for uploads.
    size
        Bytes of the object.
    sha256
        Of the object, hexadecimal.
    """

    since: float
    way: str
    aet: str
    size: int
    sha256: str


class Quarantine:
    """All that is held, for any number of threads.

    Parameters
    ----------
    shelf
        Where it lies.
    max_objects, max_bytes
        Beyond either an object is not kept; the bytes count objects, not headers.
    """

    def __init__(self, shelf: Shelf, max_objects: int, max_bytes: int) -> None:
        self._shelf, self._max_objects, self._max_bytes = shelf, max_objects, max_bytes
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._unread: list[str] = []
        self._counts = dict.fromkeys(Outcome, 0)
        self._full = False
        for name in shelf.names():
            try:
                self._held[name] = Held(**json.loads(shelf.get(name, 0, _HEADER_BYTES)))
            except (OSError, ValueError, TypeError):  # kept all the same: a person can still look at it
                self._unread.append(name)

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object], shelf: Callable[[], Shelf]) -> Quarantine:
        """Open the quarantine with the limits of Orthanc's section ``PacsArchive``.

        Raises
        ------
        ValueError
            ``PacsArchive.Quarantine`` lacks ``MaxObjects`` or ``MaxBytes``, or one is no positive whole number.
        """
        section = configuration.get("PacsArchive")
        limits = section.get("Quarantine") if isinstance(section, Mapping) else None
        objects, size = (limits.get(key) if isinstance(limits, Mapping) else None for key in ("MaxObjects", "MaxBytes"))
        if type(objects) is not int or type(size) is not int or objects < 1 or size < 1:
            raise ValueError("PacsArchive.Quarantine: MaxObjects and MaxBytes are required, positive whole numbers")
        return cls(shelf(), objects, size)

    def keep(self, data: bytes, way: str, aet: str, now: float) -> Outcome:
        """Keep an object; ``now`` is in seconds since the epoch."""
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            outcome = self._keep(data, Held(now, way, aet, len(data), digest))
            self._counts[outcome] += 1
            if outcome is not Outcome.KNOWN:
                self._full = outcome is not Outcome.HELD
            return outcome

    def _keep(self, data: bytes, held: Held) -> Outcome:
        if any(other.sha256 == held.sha256 for other in self._held.values()):
            return Outcome.KNOWN
        name = str(uuid.uuid4())
        try:
            if not self._fits(held.size):
                return Outcome.FULL
            self._shelf.put(name, json.dumps(asdict(held)).encode().ljust(_HEADER_BYTES - 1) + b"\n" + data)
        except OSError:
            return Outcome.FAILED
        self._held[name] = held
        return Outcome.HELD

    def _fits(self, size: int) -> bool:
        objects, total = len(self._held) + len(self._unread), sum(held.size for held in self._held.values())
        return objects < self._max_objects and total + size <= self._max_bytes and size <= self._shelf.room()

    def items(self) -> Iterator[tuple[str, Held]]:
        """Yield identifiers and what is known of each, oldest first."""
        with self._lock:
            return iter(sorted(self._held.items(), key=lambda item: item[1].since))

    def content(self, name: str) -> bytes:
        """Return an object as it came.

        Raises
        ------
        KeyError
            Nothing is held under this identifier.
        OSError
            It cannot be read, or is not what was written.
        """
        held = self._held[name]
        data = self._shelf.get(name, _HEADER_BYTES, held.size)
        if hashlib.sha256(data).hexdigest() != held.sha256:
            raise OSError("not what was written")
        return data

    def forget(self, name: str) -> None:
        """Take an object out for good; KeyError when there is none."""
        with self._lock:
            if name not in self._held:
                raise KeyError(name)
            self._shelf.remove(name)
            del self._held[name]
            self._full = False

    def report(self) -> dict[str, object]:
        """Return counts: what is held now, and what became of objects since Orthanc started."""
        with self._lock:
            oldest = min((held.since for held in self._held.values()), default=None)
            return {
                "held": len(self._held) + len(self._unread),
                "bytes": sum(held.size for held in self._held.values()),
                "unreadable": len(self._unread),
                "oldest": None if oldest is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(oldest)),
                "full": self._full,
                "taken": self._counts[Outcome.HELD],
                "notTaken": self._counts[Outcome.FULL] + self._counts[Outcome.FAILED],
            }
