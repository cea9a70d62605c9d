"""What an object is, whatever way it was encoded on: a digest that two archives' copies share or do not."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from pacs_operator.probes.compare import decode

_TRAILING_PADDING = BaseTag(0xFFFCFFFC)
_PIXEL_DATA = BaseTag(0x7FE00010)
_SOP_INSTANCE = BaseTag(0x00080018)
# Trailing spaces and NULs of these are padding or without meaning (PS3.5 6.2).
_TEXT = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)


@dataclass(frozen=True)
class Content:
    """One object as it came.

    Parameters
    ----------
    syntax
        Transfer syntax in which it came.
    digest
        SHA-256 over its elements; equal for equal content in one transfer syntax, whatever the lengths of sequences
        are written like and odd values are padded with (`pacs_operator.probes.compare.EXCEPTIONS`).
    uid
        SOP Instance UID that stands in it; empty where it cannot be read.
    """

    syntax: str
    digest: str
    uid: str


def content_of(encoded: bytes, syntax: str) -> Content:
    """Return what an encoded dataset is; one that cannot be read is its bytes."""
    try:
        dataset = decode(encoded, UID(syntax))
        digest = hashlib.sha256()
        for part in _parts(dataset):
            digest.update(part)
        return Content(syntax, digest.hexdigest(), _uid(dataset))
    except Exception:  # whatever a foreign system sends: the parser's errors are of many kinds
        return Content(syntax, hashlib.sha256(b"unreadable" + encoded).hexdigest(), "")


def _uid(dataset: Dataset) -> str:
    if _SOP_INSTANCE not in dataset:
        return ""
    value = dataset.get_item(_SOP_INSTANCE).value
    return (value.decode("ascii") if isinstance(value, bytes) else str(value)).strip(" \0")


def _parts(dataset: Dataset) -> Iterator[bytes]:
    """Yield what counts, element by element; each value behind its length, so that none runs into the next."""
    # All at once: reading a sequence makes pydicom decode elements beside it, whose bytes are then gone.
    tags = sorted([*dataset.keys()])  # keys only: iterating the dataset would decode every element
    for tag, element in [(tag, dataset.get_item(tag)) for tag in tags]:
        if tag.element == 0 or tag.group == 2 or tag == _TRAILING_PADDING:
            continue
        vr = _vr(tag, element.VR)
        yield f"{int(tag):08x}{'' if tag == _PIXEL_DATA else vr}".encode()
        if vr == "SQ":
            items = dataset[tag].value
            yield len(items).to_bytes(8, "big")
            for item in items:
                yield b"<"
                yield from _parts(item)
                yield b">"
            continue
        value = element.value if isinstance(element, RawDataElement) else str(element.value).encode()
        value = _unpadded(value or b"", vr)
        yield len(value).to_bytes(8, "big")
        yield value


def _vr(tag: BaseTag, vr: str | None) -> str:
    if vr is not None:
        return str(vr)
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _unpadded(value: bytes, vr: str) -> bytes:
    if vr in _TEXT:
        return value.rstrip(b" \0")
    return value + b"\0" if len(value) % 2 else value
