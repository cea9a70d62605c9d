"""Data keys of the stored images: wrapped on the volume beside them, unwrapped in the pod's memory only.

The list that the storage plugin reads is described in ``images/archive/storage/keyring.h``.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, ValidationError

from pacs_operator.agent.content import KeyMissingError, Keys
from pacs_operator.agent.errors import AgentError
from pacs_operator.agent.files import PRIVATE, read_if_there, require_memory, sync_folder, write_atomic
from pacs_operator.domain.agentconfig import Time
from pacs_operator.domain.model import Model
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.vault.pods import DataKey

REWRAP_AGAIN = timedelta(days=1)  # how late a rotation of the Transit key is followed
MAX_KEY_ID = 2**32 - 1
#: Bytes at which the plugin takes no list (``MAX_FILE`` in images/archive/storage/keyring.cpp): some 14,000 keys.
MAX_RING = 2**20


class StorageKeysError(AgentError):
    """The keys on the volume are not what this archive's images need."""

    reason = "StorageKeysInvalid"
    retry = False


class StorageKeysFullError(AgentError):
    """One more data key, and the storage plugin would take the list no more: not even at Orthanc's next start."""

    reason = "StorageKeysFull"
    retry = False


class DataKeyVault(Protocol):
    """What makes and opens data keys; errors are `pacs_operator.domain.errors.VaultError`."""

    def make_data_key(self, lineage_id: str, key: str, context: str) -> DataKey:
        """Make one."""

    def unwrap_data_key(self, lineage_id: str, key: str, context: str, wrapped: str) -> bytes:
        """Open one."""

    def rewrap_data_key(self, lineage_id: str, key: str, context: str, wrapped: str) -> str:
        """Wrap one by the newest version of the Transit key."""


class WrappedKey(Model):
    """One file in the folder of keys: all that is needed to have the key unwrapped again, and no secret."""

    id: Annotated[int, Field(ge=1, le=MAX_KEY_ID)]
    lineage_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    transit_key: Annotated[str, Field(min_length=1, max_length=253)]
    context: Annotated[str, Field(min_length=1, max_length=64)]
    wrapped: Annotated[str, Field(pattern=r"^vault:v[0-9]{1,9}:[A-Za-z0-9+/=]{1,512}$")]
    created: Time


@dataclass(frozen=True)
class Place:
    """Where keys lie.

    Parameters
    ----------
    wrapped
        Folder on the images' volume, one file a key; never removed, since old images need old keys.
    objects
        The storage's folder of objects: while one is there, there has to be a key.
    ring
        The list for the storage plugin, in memory.
    """

    wrapped: Path
    objects: Path
    ring: Path


class StorageKeys:
    """Keeps the plugin's list of keys as it should be.

    Parameters
    ----------
    vault
        Makes and opens keys.
    lineage_id, transit_key
        The archive's lineage, and the Transit key that bears this pod's name.
    place
        Where keys lie.
    max_age
        A new key is made for new images once the newest is older.
    """

    def __init__(
        self, vault: DataKeyVault, lineage_id: str, transit_key: str, place: Place, max_age: timedelta
    ) -> None:
        self._vault, self._lineage, self._transit_key = vault, lineage_id, transit_key
        self._place, self._max_age = place, max_age
        self._plain: dict[int, bytes] = {}
        self._rewrapped: datetime | None = None
        self.refused: StorageKeysFullError | None = None
        self.active: int | None = None  # data key of new images in the list that is there

    def keep(self, now: datetime, full: int | None = None) -> int:
        """Have every key in memory and one that is young enough; return the id of the one for new images.

        ``full`` is the number of a key that has sealed as much as one may: the newest then gets a successor.
        What Vault does not answer leaves the list as it is: images that were readable stay so. Where one more key
        would make the list too long for the plugin, none is made, ``refused`` says so, and the newest stays in use.
        A key whose wrapped file is gone stays in the list while this pod lives, and seals nothing new.

        Raises
        ------
        StorageKeysError
            Files that are not this archive's, images without any key, or a key in memory alone.
        VaultError
            Vault does not make or open a key.
        """
        require_memory(self._place.ring.parent)
        if self.active is None:
            self._recall()
        known = self._read()
        for wrapped in known:
            if wrapped.id not in self._plain:
                self._plain[wrapped.id] = self._unwrap(wrapped)
        lost = sorted(self._plain.keys() - {wrapped.id for wrapped in known})
        following = max(self._plain, default=0) + 1  # never the number of a lost one: its images are there
        self.refused = None
        if not known and not lost:
            known.append(self._make(following, now))
        elif known and (known[-1].id == full or now - parse_time(known[-1].created) >= self._max_age):
            self._publish(known[-1].id)  # the next one may wait for Vault, images do not
            self.refused = self._no_room(following)
            known += [] if self.refused else [self._make(following, now)]
        if known:
            self._publish(known[-1].id)
        if lost:
            raise _lost(self._place.wrapped, lost)
        return known[-1].id

    def rewrap(self, now: datetime) -> None:
        """Follow a rotation of the Transit key, once a day: the keys stay, their wrapping is new, no image is touched.

        Raises
        ------
        StorageKeysError
            A file or an answer that is not this archive's; what lies there stays.
        VaultError
            Vault does not wrap anew.
        """
        if self._rewrapped is not None and now - self._rewrapped < REWRAP_AGAIN:
            return
        for key in self._read():
            self._rewrap(key)
        self._rewrapped = now

    @property
    def count(self) -> int:
        """Return how many keys are open."""
        return len(self._plain)

    def _read(self) -> list[WrappedKey]:
        """Return the keys on the volume, in the order of their ids."""
        self._place.wrapped.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = [self._parse(path) for path in _listed(self._place.wrapped)]
        if not found and _any(self._place.objects):
            raise StorageKeysError(
                f"{self._place.wrapped}: no key is there, but images are",
                action="restore the folder of keys from a backup; a new key would not open these images",
                reason="StorageKeysLost",
            )
        return sorted(found, key=lambda key: key.id)

    def _recall(self) -> None:
        """Take the keys that are in memory already: an agent that restarts alone needs no Vault to serve on.

        The list was written from keys that Vault had opened. One whose wrapped file is gone is taken too: this may be
        all there is of it. What Vault opened in this very start stays: it may have gone away in the middle.
        """
        with contextlib.suppress(OSError, ValueError, KeyMissingError):
            ring = Keys.read(self._place.ring)
            if ring.lineage == self._lineage:
                self._plain = ring.keys | self._plain
                self.active = ring.active

    def _parse(self, path: Path) -> WrappedKey:
        try:
            key = WrappedKey.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise StorageKeysError(
                f"{path}: not a wrapped key ({type(error).__name__})", action="restore the file from a backup"
            ) from None
        expected = (self._lineage, _context(self._lineage, key.id), f"{key.id}.json")
        if (key.lineage_id, key.context, path.name) != expected:
            raise StorageKeysError(
                f"{path}: wrapped for lineage {key.lineage_id}, not for this archive's {self._lineage}",
                action="mount the volume that belongs to this archive",
                reason="StorageKeysForeign",
            )
        return key

    def _unwrap(self, key: WrappedKey) -> bytes:
        return self._vault.unwrap_data_key(self._lineage, key.transit_key, key.context, key.wrapped)

    def _no_room(self, number: int) -> StorageKeysFullError | None:
        """Tell before a key is made whether the list would be too long with it; a key of 32 bytes stands in for it."""
        if len(ring_of(self._lineage, number, {**self._plain, number: bytes(32)})) < MAX_RING:
            return None
        return StorageKeysFullError(
            f"data key {number} is due, and the list of {len(self._plain)} keys has no room for it (1 MiB); "
            f"data key {number - 1} stays in use",
            action="raise spec.encryption.dataKeyMaxAgeDays and dataKeyMaxChunks, so that it may serve longer",
        )

    def _make(self, number: int, now: datetime) -> WrappedKey:
        """Make a key; it lies wrapped on the volume before anything is encrypted with it."""
        context = _context(self._lineage, number)
        made = self._vault.make_data_key(self._lineage, self._transit_key, context)
        key = {
            "id": number,
            "lineageId": self._lineage,
            "transitKey": self._transit_key,
            "context": context,
            "wrapped": made.wrapped,
            "created": rfc3339(now),
        }
        checked = self._checked(key, made.plain)
        self._write(checked)
        self._plain[number] = made.plain
        return checked

    def _rewrap(self, key: WrappedKey) -> None:
        wrapped = self._vault.rewrap_data_key(self._lineage, key.transit_key, key.context, key.wrapped)
        if _version(wrapped) <= _version(key.wrapped):
            return
        self._write(self._checked({**key.model_dump(by_alias=True), "wrapped": wrapped}, self._plain[key.id]))

    def _checked(self, document: dict[str, object], plain: bytes) -> WrappedKey:
        """Have what will lie on the volume opened, or it does not get there: images would hang on it."""
        with contextlib.suppress(ValidationError):
            key = WrappedKey.model_validate(document)
            if self._unwrap(key) == plain:
                return key
        raise StorageKeysError(
            f"data key {document['id']}: does not unwrap to the key that was made",
            action="see Vault's audit log; something between the pods and Vault may alter answers",
        )

    def _write(self, key: WrappedKey) -> None:
        content = key.model_dump_json(by_alias=True, indent=1).encode()
        write_atomic(self._place.wrapped / f"{key.id}.json", content, PRIVATE)
        sync_folder(self._place.wrapped)

    def _publish(self, active: int) -> None:
        content = ring_of(self._lineage, active, self._plain)
        if read_if_there(self._place.ring) != content:
            write_atomic(self._place.ring, content, PRIVATE)
        self.active = active


def ring_of(lineage_id: str, active: int, keys: dict[int, bytes]) -> bytes:
    """Return the plugin's list of open keys.

    Parameters
    ----------
    lineage_id
        The archive's lineage.
    active
        Number of the key for new images.
    keys
        Keys of 32 bytes by number.

    Returns
    -------
    bytes
        The list as ``images/archive/storage/keyring.h`` describes it.
    """
    lines = ["pacs-keys 1", f"lineage {lineage_id}", f"active {active}"]
    lines += [f"key {number} {plain.hex()}" for number, plain in sorted(keys.items())]
    return "\n".join([*lines, "end", ""]).encode("ascii")


def _lost(folder: Path, numbers: list[int]) -> StorageKeysError:
    return StorageKeysError(
        f"{folder}: the files of {len(numbers)} data keys are gone (first: {numbers[0]}), they are in memory alone",
        action="put the files back from a backup before Orthanc's pod restarts: after that nothing opens their images",
        reason="StorageKeysLost",
    )


def _context(lineage_id: str, number: int) -> str:
    return f"{lineage_id}/{number}"


def _version(wrapped: str) -> int:
    """Return the version of the Transit key in ``vault:v<version>:<ciphertext>``; 0 for anything else."""
    found = re.fullmatch(r"vault:v([0-9]{1,9}):.+", wrapped)
    return int(found[1]) if found else 0


def _listed(folder: Path) -> list[Path]:
    """Return the files of wrapped keys; raises where a sick disk cannot say, as `Path.glob` would not."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".json")


def _any(folder: Path) -> bool:
    """Tell whether a file lies anywhere below, listing no more than is needed; raises where a sick disk cannot say."""

    def unless_gone(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    return any(files for _, _, files in os.walk(folder, onerror=unless_gone))
