"""Reads files from the disk, not from memory: the kernel's page cache would answer for a disk that lost the bytes."""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

PART = 1 << 20  # bytes of one read; a multiple of every disk's block, as O_DIRECT wants it
_REFUSED = (errno.EINVAL, errno.EOPNOTSUPP)


class OffCache:
    """One reader with one buffer; not for several threads at once."""

    def __init__(self) -> None:
        self._buffer = mmap.mmap(-1, PART)  # begins at a page, as O_DIRECT wants it

    def parts(self, path: Path) -> Iterator[memoryview]:
        """Yield a file's content, part by part; each is overwritten by the next.

        Where the file system knows no O_DIRECT, what the cache has of the file is dropped first.

        Raises
        ------
        OSError
            The file is missing, is no file of its own (a link), or the disk gives no bytes.
        """
        descriptor = _open(path)
        try:
            yield from self._read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, size: int) -> Iterator[memoryview]:
        view, position, direct = memoryview(self._buffer), 0, _directly(descriptor)
        while position < size:
            try:
                count = os.preadv(descriptor, [view], position)
            except OSError as error:
                if not direct or error.errno not in _REFUSED:
                    raise
                direct = _through_cache(descriptor)
                continue
            if count == 0:
                raise OSError(errno.EIO, "the file ends before its size")
            if direct and count < PART and position + count < size:
                direct = _through_cache(descriptor)  # a read that stopped half-way leaves no block's boundary
            yield view[:count]
            position += count
        if not direct:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _open(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    for more in (os.O_DIRECT | os.O_NOATIME, os.O_NOATIME, os.O_DIRECT):
        try:
            return os.open(path, flags | more)
        except OSError as error:
            if error.errno not in (*_REFUSED, errno.EPERM):  # O_NOATIME is for the owner of a file
                raise
    return os.open(path, flags)


def _directly(descriptor: int) -> bool:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
        return True
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return False


def _through_cache(descriptor: int) -> bool:
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_DIRECT)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return False
