"""Which SOP classes and transfer syntaxes may be stored: Orthanc's own lists, held against every way in.

Orthanc turns others away when an association is negotiated (PS3.8, presentation context result 3 or 4). Uploads are
not negotiated, and an object may say another class than the one it was announced with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pacs_rules import Refusal


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


def _uids(value: object, key: str) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(isinstance(uid, str) and _is_uid(uid) for uid in value):
        raise ValueError(f"{key}: a list of UIDs is required")
    return frozenset(value)


def _is_uid(text: str) -> bool:
    return bool(text) and text.strip("0123456789.") == "" and "." in text
