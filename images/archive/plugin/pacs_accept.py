"""Which SOP classes and transfer syntaxes may be stored: Orthanc's own lists, held against every way in.

Orthanc turns others away when an association is negotiated (PS3.8, presentation context result 3 or 4). Uploads are
not negotiated, and an object may say another class than the one it was announced with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pacs_rules import Refusal

NATIVE = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"))
DEFLATED = frozenset(("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))
#: A decoded frame of a compressed image, unless the archive takes larger objects (bytes). Images of scanners and
#: slides have far less, and Orthanc needs a multiple of it to show one.
LARGEST_FRAME = 2**28
#: A deflated data set when it is unfolded, where the archive takes such at all and no larger objects (bytes).
LARGEST_UNFOLDED = 2**29

_GUARD = "/libpacs-unfold.so"


@dataclass(frozen=True)
class Accepted:
    """Exact UIDs; no wildcards."""

    sop_classes: frozenset[str]
    transfer_syntaxes: frozenset[str]

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object]) -> Accepted:
        """Read ``AcceptedSopClasses`` and ``AcceptedTransferSyntaxes`` of Orthanc's configuration.

        Raises
        ------
        ValueError
            Absent, empty or not a list of UIDs: Orthanc would then accept what it pleases.
        """
        return cls(
            _uids(configuration.get("AcceptedSopClasses"), "AcceptedSopClasses"),
            _uids(configuration.get("AcceptedTransferSyntaxes"), "AcceptedTransferSyntaxes"),
        )

    def refusal(self, sop_class: str, transfer_syntax: str) -> Refusal | None:
        """Judge one object by what it says of itself; None when it may be stored."""
        if sop_class.strip(" \0") not in self.sop_classes:
            return Refusal.SOP_CLASS_NOT_ACCEPTED
        if transfer_syntax.strip(" \0") not in self.transfer_syntaxes:
            return Refusal.TRANSFER_SYNTAX_NOT_ACCEPTED
        return None


def guard_unfolding(accepted: Accepted, max_bytes: int | None, maps: Path = Path("/proc/self/maps")) -> None:
    """See to it that this process unfolds deflated data sets only where the archive's list has them, and bounded.

    Parameters
    ----------
    accepted, max_bytes
        The list, and the largest object that is stored; None for any.
    maps
        Where the kernel tells what is loaded.

    Raises
    ------
    ValueError
        What keeps it from that is not loaded (``images/archive/unfold``).
    """
    if _GUARD not in maps.read_text():
        raise ValueError("the guard against data sets that unfold in memory is not loaded")
    if accepted.transfer_syntaxes & DEFLATED:
        os.environ["PACS_RAW_DEFLATE_BYTES"] = str(max(max_bytes or 0, LARGEST_UNFOLDED))


def frame_bytes(tags: Mapping[str, object], transfer_syntax: str) -> int:
    """Return what one frame of a compressed image says it becomes when it is decoded; 0 for what says nothing.

    An image that is not compressed is as large as its file.
    """
    if transfer_syntax.strip(" \0") in NATIVE:
        return 0
    rows, columns, samples, bits = (
        int(str(tags.get(key) or otherwise).partition("\\")[0])
        for key, otherwise in (("Rows", 0), ("Columns", 0), ("SamplesPerPixel", 1), ("BitsAllocated", 8))
    )
    return rows * columns * samples * -(-bits // 8)


def _uids(value: object, key: str) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(isinstance(uid, str) and _is_uid(uid) for uid in value):
        raise ValueError(f"{key}: a list of UIDs is required")
    return frozenset(value)


def _is_uid(text: str) -> bool:
    return bool(text) and text.strip("0123456789.") == "" and "." in text
