"""Where stored files lie, and whether one is what the index knows; nothing here writes."""

import errno
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from pacs_operator.agent.content import AlteredError, Expected, Keys, PlainContent, SealedContent
from pacs_operator.agent.offcache import OffCache
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import AgentConfig, ScrubKind

_FOLDER = re.compile(r"[0-9a-f]{2}")
NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GONE = (errno.ENOENT, errno.ENOTDIR)
#: A file is there before its row: younger ones are not looked for in the index.
YOUNG = timedelta(minutes=10)
FOLDERS = 256


class Volume:
    """The stored files of one archive.

    Parameters
    ----------
    root
        Folder of the folders ``ab/cd/<uuid>``.
    ring
        The list of data keys where files are encrypted; None where they are not.
    """

    def __init__(self, root: Path, ring: Path | None) -> None:
        self._root, self._ring = root, ring
        self._reader = OffCache()
        self._keys: Keys | None = None

    @property
    def there(self) -> bool:
        """Tell whether the folder is there; without the volume every file would seem to be missing."""
        return self._root.is_dir()

    def path(self, uuid: str) -> Path:
        """Return where a file lies."""
        return self._root / uuid[:2] / uuid[2:4] / uuid

    def read_keys(self) -> None:
        """Take the list of data keys as it is now.

        Raises
        ------
        OSError, KeyMissingError
            It is not there, or not whole.
        """
        self._keys = None if self._ring is None else Keys.read(self._ring)

    def steps(self, expected: Expected) -> Iterator[int]:
        """Read a file part by part, yielding how many bytes came from the disk each time.

        Raises
        ------
        AlteredError, KeyMissingError, OSError
            See `kind_of`.
        """
        content = PlainContent(expected) if self._keys is None else SealedContent(expected, self._keys)
        for part in self._reader.parts(self.path(expected.uuid)):
            content.feed(part)
            yield len(part)
        content.end()

    def names(self, folder: int, before: datetime) -> Iterator[str]:
        """Yield the names of the files in one of the 256 folders that have been as they are for a while.

        Parameters
        ----------
        folder
            From 0 to 255.
        before
            When the index began to be asked.
        """
        limit = (before - YOUNG).timestamp()
        for inner in _entries(self._root / f"{folder:02x}"):
            if _FOLDER.fullmatch(inner.name):
                for entry in _entries(Path(inner.path)):
                    if NAME.fullmatch(entry.name) and _changed(entry) < limit:
                        yield entry.name


def volume_of(config: AgentConfig, places: Surroundings) -> Volume:
    """Return the files of the Orthanc beside an agent."""
    return Volume(places.sealed / "id", places.ring) if config.storage else Volume(places.images, None)


def kind_of(error: Exception) -> ScrubKind:
    """Return what an error of `Volume.steps` says of the file."""
    match error:
        case AlteredError():
            return "Changed"
        case OSError() if error.errno in _GONE:
            return "FileMissing"
        case OSError() if error.errno == errno.ELOOP:
            return "Changed"  # a link is no file of ours
        case _:
            return "Unreadable"


class Names:
    """Names of files that the index knows, eight bytes each, for a part of the folders."""

    def __init__(self, part: int, parts: int) -> None:
        self._part, self._parts = part, parts
        self._known = array("Q")

    def folders(self) -> list[int]:
        """Return the folders of this part."""
        return [folder for folder in range(FOLDERS) if folder * self._parts // FOLDERS == self._part]

    def add(self, uuid: str) -> None:
        """Note a name, when it is of this part."""
        if int(uuid[:2], 16) * self._parts // FOLDERS == self._part:
            self._known.append(_short(uuid))

    def sort(self) -> None:
        """Make ready to be asked."""
        self._known = array("Q", sorted(self._known))

    def __contains__(self, uuid: str) -> bool:
        short = _short(uuid)
        at = bisect_left(self._known, short)
        return at < len(self._known) and self._known[at] == short


def _short(uuid: str) -> int:
    return int(uuid.replace("-", "")[:16], 16)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def _changed(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_ctime
    except FileNotFoundError:
        return float("inf")  # just being removed
