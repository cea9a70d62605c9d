"""Where images are encrypted, what is quarantined is encrypted by the same tool with the same keys."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pacs_quarantine import IDENTIFIER, PlainShelf, Shelf, free_room

TOOL = "/opt/pacs/bin/pacs-storage"
KEYS = "PACS_STORAGE_KEYS"
#: Content type of what lies here; part of what is authenticated, so that it can pass for no image.
_TYPE = "5000"
_SECONDS = 600.0
#: What the agent lays beside the list of keys before Orthanc starts (``storage/orders.h``), while clear images count.
_ORDERS = re.compile(rb"pacs-orders 1\nrate [1-9][0-9]*\nclear /[^\n]*\n(reseal [0-9a-f]{64}\n)?end\n")


class SealedShelf:
    """Files in the layout and format of ``images/archive/storage``.

    Parameters
    ----------
    root
        Folder that the tool works in.
    keys
        The list of data keys, in the pod's memory.
    tool
        ``pacs-storage``.
    """

    def __init__(self, root: Path, keys: Path, tool: str = TOOL) -> None:
        self._root, self._keys, self._tool = root, keys, tool
        root.mkdir(mode=0o700, exist_ok=True)

    def names(self) -> list[str]:
        """Return the names of all that lie here."""
        return sorted(path.name for path in (self._root / "id").glob("*/*/*") if IDENTIFIER.fullmatch(path.name))

    def room(self) -> int:
        """Return how many bytes still fit, images considered."""
        return free_room(self._root)

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes; the tool seals, writes and names them in one step."""
        self._run("put", _TYPE, name, data=data)

    def get(self, name: str, start: int, size: int) -> bytes:
        """Return exactly so many bytes, every one authenticated."""
        return self._run("get", _TYPE, name, str(start), str(size))

    def remove(self, name: str) -> None:
        """Forget a name."""
        self._run("remove", _TYPE, name)

    def discard(self, name: str) -> None:
        """Forget what is not legible, with the name that the tool then leaves because it knows no day."""
        self.remove(name)
        for left in (self._root / "day").rglob(name):
            left.unlink()

    def _run(self, act: str, *words: str, data: bytes = b"") -> bytes:
        command = [self._tool, act, str(self._keys), str(self._root), *words]
        try:
            done = subprocess.run(command, input=data, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise OSError(f"pacs-storage {act} took too long") from None
        if done.returncode != 0:  # what it says may name files
            raise OSError(f"pacs-storage {act} failed")
        return done.stdout


def shelf_of(configuration: Mapping[str, object], tool: str = TOOL) -> Shelf:
    """Return the place of quarantined objects: encrypted where images are, and then all of them.

    Raises
    ------
    OSError
        The volume cannot be written, or there are no keys.
    """
    root = Path(str(configuration["StorageDirectory"])) / "quarantine"
    section = configuration.get("PacsArchive")
    if not isinstance(section, Mapping) or section.get("StorageEncryption") != "Transit":
        return PlainShelf(root)
    keys = Path(os.environ[KEYS])
    sealed = SealedShelf(root, keys, tool)
    if clear_ordered(keys):
        seal_all(PlainShelf(root), sealed)
    return sealed


def clear_ordered(keys: Path) -> bool:
    """Tell whether what lies in clear may be what was stored; in doubt somebody planted it."""
    try:
        return _ORDERS.fullmatch(keys.with_name(f"{keys.name}.orders").read_bytes()) is not None
    except OSError:
        return False


def seal_all(plain: PlainShelf, sealed: SealedShelf) -> None:
    """Encrypt what was quarantined before images were; what cannot be is left as it is until the next start.

    The storage plugin counts what is left, so the volume does not pass for encrypted; Orthanc serves all the same.
    """
    for name in plain.names():
        with suppress(OSError):
            _seal(plain, sealed, name)


def _seal(plain: PlainShelf, sealed: SealedShelf, name: str) -> None:
    """Write one and read it back before the clear one goes."""
    data = plain.get(name, 0, plain.size(name))
    if name in sealed.names() and not _legible(sealed, name, len(data)):
        sealed.discard(name)  # cut off by a loss of power; the clear one is whole
    if name not in sealed.names():
        sealed.put(name, data)
    if sealed.get(name, 0, len(data)) != data:
        raise OSError("what was sealed is not what was read")
    plain.remove(name)


def _legible(sealed: SealedShelf, name: str, size: int) -> bool:
    try:
        sealed.get(name, 0, size)
    except OSError:
        return False
    return True
