"""Files that others read while we write them, and the proof that keys stay in memory."""

import math
import os
import secrets
from pathlib import Path

from pacs_operator.agent.errors import KeysNotInMemoryError

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
PRIVATE = 0o600
PUBLIC = 0o644


def _unescape(field: str) -> str:
    """Undo the octal escapes of /proc/*/mountinfo (proc(5))."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def file_system_of(folder: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds a folder.

    Parameters
    ----------
    folder
        An absolute path without symbolic links.
    mountinfo
        Content of /proc/self/mountinfo; of several mounts on one point the last one is in effect.
    """
    best, kind = -1, "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescape(before.split()[4]))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def require_memory(folder: Path) -> None:
    """Refuse a folder that is not memory-backed: a key written to it would outlive the pod.

    Raises
    ------
    KeysNotInMemoryError
        The folder is missing or lies on anything but tmpfs or ramfs.
    """
    if not folder.is_dir():
        raise KeysNotInMemoryError(
            f"{folder}: no such folder; private keys have no place to be",
            action="mount an emptyDir volume with medium Memory there",
        )
    kind = file_system_of(folder.resolve(), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if kind not in MEMORY_FILE_SYSTEMS:
        raise KeysNotInMemoryError(
            f"{folder}: lies on {kind}, private keys may only be written to memory (tmpfs)",
            action="mount an emptyDir volume with medium Memory there",
        )


def write_atomic(path: Path, data: bytes, mode: int) -> None:
    """Replace a file in one step, so that a reader sees the old or the new content, never a part.

    Parameters
    ----------
    path
        Target; its folder exists.
    data
        The whole content.
    mode
        Permissions the file has from its first byte on.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk: what was renamed into it is found there after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_if_there(path: Path) -> bytes | None:
    """Return a file's content, or None when it does not exist."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed writer left behind; only our own naming, only in this folder."""
    for left_over in folder.glob(".*.????????"):
        left_over.unlink(missing_ok=True)


def used_percent(folder: Path) -> int | None:
    """Return how much of a folder's file system is used, in percent, as a process without privileges has it.

    Parameters
    ----------
    folder
        A volume's mount point.

    Returns
    -------
    int or None
        0 to 100, rounded up; None where this agent does not have the volume.
    """
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    used = found.f_blocks - found.f_bfree
    room = used + found.f_bavail  # as df counts: blocks kept back for root are neither used nor to be had
    if room == 0:
        return None
    return math.ceil(100 * used / room)
