"""Tells whether the bytes of a stored file are those that were stored, without the storage plugin.

A second reading of the form in ``images/archive/storage/format.h``: what one program wrote is held against what
another understands.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CHUNK, TAG, HEADER = 65_536, 16, 56
_MAGIC = b"PACE\x01\x01"
_INFO = b"pacs-operator storage 1"


class AlteredError(Exception):
    """The bytes are not those that were stored."""


class KeyMissingError(Exception):
    """The data key that the file names is not in the list."""


@dataclass(frozen=True)
class Expected:
    """What the index knows of one file.

    Parameters
    ----------
    uuid
        The file's name.
    kind
        Orthanc's content type; 1 is DICOM.
    size, md5
        Of the bytes that were handed to the storage; ``md5`` in lower-case hex.
    """

    uuid: str
    kind: int
    size: int
    md5: str


@dataclass(frozen=True)
class Keys:
    """The list of data keys, as ``images/archive/storage/keyring.h`` has it."""

    lineage: str
    keys: dict[int, bytes]
    active: int

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """Return the list.

        Raises
        ------
        OSError
            It is not there.
        KeyMissingError
            It is not whole.
        """
        return cls.parse(path.read_text("ascii"))

    @classmethod
    def parse(cls, listed: str) -> "Keys":
        """Return the list that a text is.

        Raises
        ------
        KeyMissingError
            It is not whole.
        """
        lineage, keys, active, whole = "", {}, 0, False
        for words in (line.split(" ") for line in listed.splitlines()):
            match words:
                case ["lineage", text]:
                    lineage = text
                case ["active", number]:
                    active = int(number)
                case ["key", number, text]:
                    keys[int(number)] = bytes.fromhex(text)
                case ["end"]:
                    whole = True
        if not (whole and lineage and active in keys):
            raise KeyMissingError
        return cls(lineage, keys, active)


class PlainContent:
    """A file as Orthanc's own storage writes it."""

    def __init__(self, expected: Expected) -> None:
        self._expected, self._size = expected, 0
        self._digest = hashlib.md5(usedforsecurity=False)

    def feed(self, part: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._size += len(part)
        self._digest.update(part)

    def end(self) -> None:
        """Compare with the index.

        Raises
        ------
        AlteredError
            Another length, or another sum.
        """
        if self._size != self._expected.size or self._digest.hexdigest() != self._expected.md5:
            raise AlteredError


class SealedContent:
    """A file as the encrypting storage writes it: every byte is authenticated, then compared with the index."""

    def __init__(self, expected: Expected, keys: Keys) -> None:
        self._expected, self._keys = expected, keys
        self._plain = PlainContent(expected)
        self._pending = bytearray()
        self._cipher: AESGCM | None = None
        self._header = b""
        self._next = 0
        self._last = max(0, (expected.size - 1) // CHUNK)

    def feed(self, part: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        AlteredError
            They are not what was written, or not this object's.
        KeyMissingError
            The list has no such key.
        """
        self._pending += part
        if self._cipher is None:
            if len(self._pending) < HEADER:
                return
            self._begin(bytes(self._pending[:HEADER]))
            del self._pending[:HEADER]
        used = 0
        with memoryview(self._pending) as pending:
            while self._next < self._last and len(pending) - used >= CHUNK + TAG:
                self._open(pending[used : used + CHUNK + TAG])
                used += CHUNK + TAG
        del self._pending[:used]
        if self._next == self._last and len(self._pending) > CHUNK + TAG:
            raise AlteredError

    def end(self) -> None:
        """Authenticate the last chunk, and compare with the index.

        Raises
        ------
        AlteredError
            Cut off, longer, or another content than the index knows.
        """
        if self._cipher is None or self._next != self._last:
            raise AlteredError
        self._open(self._pending)
        self._plain.end()

    def _begin(self, header: bytes) -> None:
        kind, number = int.from_bytes(header[6:8]), int.from_bytes(header[8:12])
        length = int.from_bytes(header[16:24])
        if not header.startswith(_MAGIC) or (kind, length) != (self._expected.kind, self._expected.size):
            raise AlteredError
        if number not in self._keys.keys:
            raise KeyMissingError
        info = b"\0".join((_INFO, self._keys.lineage.encode(), self._expected.uuid.encode(), str(kind).encode()))
        derived = HKDF(SHA256(), 32, salt=header[24:HEADER], info=info).derive(self._keys.keys[number])
        self._cipher, self._header = AESGCM(derived), header

    def _open(self, sealed: bytes | bytearray | memoryview) -> None:
        if self._cipher is None:
            raise AlteredError
        nonce = bytes(7) + self._next.to_bytes(4) + (b"\x01" if self._next == self._last else b"\x00")
        try:
            self._plain.feed(self._cipher.decrypt(nonce, sealed, self._header))
        except InvalidTag:
            raise AlteredError from None
        self._next += 1
