"""Whole datasets compared, element by element; what may differ is listed here, and nothing else may."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pynetdicom import dsutils

EXCEPTIONS: dict[str, str] = {
    "group 0002": "file meta information belongs to the file, not to the dataset; DIMSE does not carry it (PS3.7)",
    "(gggg,0000)": "group lengths are retired and count bytes, not content (PS3.5 7.2)",
    "(FFFC,FFFC)": "data set trailing padding carries no meaning (PS3.10 7.2)",
    "trailing padding": "a value of odd length is padded with one space or NUL (PS3.5 6.2)",
    "VR of encapsulated Pixel Data": "it is OB by PS3.5 A.4; in files that say OW it comes back as OB, bytes unchanged",
    "length encoding": "defined and undefined lengths of sequences and items are equivalent (PS3.5 7.5)",
}
_TRAILING_PADDING = BaseTag(0xFFFCFFFC)
_PIXEL_DATA = BaseTag(0x7FE00010)
_UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class Difference:
    """Where two datasets differ: the path of tags and keywords, and in what; never a value."""

    path: str
    what: str

    def __str__(self) -> str:
        """Return one line for a report."""
        return f"{self.path} {self.what}"


def encode(dataset: Dataset, syntax: UID) -> bytes:
    """Return the dataset as DIMSE carries it."""
    encoded = dsutils.encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise ValueError(f"dataset cannot be encoded in {syntax.name}")
    return encoded


def decode(encoded: bytes, syntax: UID) -> Dataset:
    """Return the dataset that DIMSE carried in a transfer syntax."""
    return dsutils.decode(BytesIO(encoded), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)


def differences(sent: Dataset, received: Dataset) -> list[Difference]:
    """Return every difference outside :data:`EXCEPTIONS`; an empty list means equal."""
    return list(_compare(sent, received, ""))


def _compare(sent: Dataset, received: Dataset, path: str) -> Iterator[Difference]:
    for tag in sorted(_content(sent) | _content(received)):
        here = path + _name(tag)
        if tag not in received:
            yield Difference(here, "is missing")
        elif tag not in sent:
            yield Difference(here, "was added")
        elif not _same_bytes(sent, received, tag):
            yield from _compare_element(sent, received, tag, here)


def _content(dataset: Dataset) -> set[BaseTag]:
    tags = list(dataset.keys())  # keys only: iterating the dataset itself would decode every element
    return {tag for tag in tags if tag.element != 0 and tag.group != 2 and tag != _TRAILING_PADDING}


def _name(tag: BaseTag) -> str:
    keyword = keyword_for_tag(tag)
    return f"({tag.group:04X},{tag.element:04X})" + (f" {keyword}" if keyword else "")


def _same_bytes(sent: Dataset, received: Dataset, tag: BaseTag) -> bool:
    """Compare undecoded values: the strictest comparison, and the only one for values that cannot be decoded."""
    one, other = sent.get_item(tag), received.get_item(tag)
    if not isinstance(one, RawDataElement) or not isinstance(other, RawDataElement):
        return False
    same_vr = one.VR == other.VR or _corrected_vr(one, other)
    same_encoding = same_vr and one.is_little_endian == other.is_little_endian
    return same_encoding and _unpadded(one.value or b"", other.value or b"")


def _corrected_vr(one: RawDataElement, other: RawDataElement) -> bool:
    encapsulated = one.length == other.length == _UNDEFINED_LENGTH
    return one.tag == _PIXEL_DATA and encapsulated and (one.VR, other.VR) == ("OW", "OB")


def _unpadded(one: bytes, other: bytes) -> bool:
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) % 2 == 1 and long in (short + b" ", short + b"\x00"))


def _compare_element(sent: Dataset, received: Dataset, tag: BaseTag, path: str) -> Iterator[Difference]:
    try:
        one, other = sent[tag], received[tag]
    except (ValueError, NotImplementedError, LookupError):  # what pydicom raises where it cannot decode a value
        yield Difference(path, "has another value")
        return
    if one.VR != other.VR:
        yield Difference(path, f"has VR {other.VR} instead of {one.VR}")
    elif one.VR == "SQ":
        if len(one.value) != len(other.value):
            yield Difference(path, f"has {len(other.value)} items instead of {len(one.value)}")
        for number, (item, twin) in enumerate(zip(one.value, other.value, strict=False), start=1):
            yield from _compare(item, twin, f"{path}[{number}] ")
    elif one.value != other.value:
        yield Difference(path, "has another value")
