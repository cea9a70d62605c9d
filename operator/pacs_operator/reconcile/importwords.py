"""What the conditions of a ``PacsImport`` say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pacs_operator.domain.conditions import since
from pacs_operator.domain.importing import ImportCondition, ImportConditionType, ImportStatus
from pacs_operator.domain.status import MAX_MESSAGE
from pacs_operator.domain.times import rfc3339
from pacs_operator.kube.port import metadata

if TYPE_CHECKING:
    from pacs_operator.reconcile.imports import ImportState

_REPORT = "which objects they are, the journal tells (docs/import.md)"


@dataclass(frozen=True)
class _Finding:
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


@dataclass(frozen=True)
class _Trouble:
    """Why a slice settled nothing, in words; ``action`` is what a person can do."""

    reason: str
    message: str
    action: str


#: By the word of the slice's end.
_TROUBLES = {
    "Incomplete": _Trouble(
        reason="TryingAgain",
        message="objects are left that source or archive did not manage",
        action="each is tried three times and then counted as failed; nothing to do",
    ),
    "SourceUnreachable": _Trouble(
        reason="SourceUnreachable",
        message="the source does not answer, or breaks off",
        action="check spec.source.address and port, the source itself and firewalls on the way",
    ),
    "SourceUntrusted": _Trouble(
        reason="SourceUntrusted",
        message="TLS with the source fails",
        action="compare caPEM and serverName with the source's certificate, and have it trust the archive's peers CA",
    ),
    "SourceRefused": _Trouble(
        reason="SourceRefused",
        message="the source rejects the association, or offers no C-FIND, or not what spec.source.retrieve asks for "
        "(C-GET or C-MOVE), of the Study Root model",
        action="enter callingAETitle at the source with the right to query and retrieve, and compare calledAETitle",
    ),
    "SourceQueryFailed": _Trouble(
        reason="SourceQueryFailed",
        message="the source answers a query with a failure",
        action="look into the source's log; what it could list is imported",
    ),
    "MoveDestinationUnknown": _Trouble(
        reason="MoveDestinationUnknown",
        message="the source answers C-MOVE with status A801: it does not know spec.source.moveDestination, or cannot "
        "open an association to it",
        action="enter that AE title at the source with address and port of the archive's gate, and the source as a "
        "DicomPeer with right Store; the gate's log has a refusal",
    ),
    "MoveFails": _Trouble(
        reason="MoveFails",
        message="the source says that sending to spec.source.moveDestination fails, and nothing arrives",
        action="see the gate's log for a refusal: the source must be a DicomPeer of the archive with right Store, and "
        "must call it by its AE title, over TLS or a legacy listener; check the address that the source has for it",
    ),
    "NothingArrives": _Trouble(
        reason="NothingArrives",
        message="the source ends C-MOVE without a failure, and the archive does not have what was asked for",
        action="check which address the source has for spec.source.moveDestination: images may go to another system",
    ),
    "ArchiveUnreachable": _Trouble(
        reason="ArchiveUnreachable",
        message="the archive's gate does not answer, or breaks off",
        action="see the archive's own conditions",
    ),
    "ArchiveRefused": _Trouble(
        reason="ArchiveRefused",
        message="the archive's gate turns the import away",
        action="wait while the archive starts; if it stays, see the gate's log for the peer probe/import",
    ),
    "ArchiveFull": _Trouble(
        reason="ArchiveFull",
        message="the archive answers that it is out of resources",
        action="look at the images' volume and make room; the import goes on by itself",
    ),
    "JournalUnusable": _Trouble(
        reason="JournalUnusable",
        message="the journal cannot be written",
        action="look at volume claim imports in the ops zone: it may be full",
    ),
    "OutOfMemory": _Trouble(
        reason="OutOfMemory",
        message="the pod of the slice met its memory limit",
        action="an object takes four times its size: set spec.storage.maxObjectMi of the archive, from which the next "
        "slice's memory follows; what ends three slices is counted as failed, and the rest comes",
    ),
    "NoResult": _Trouble(
        reason="NoResult",
        message="the pod of the slice ended without a word",
        action="see its events; nothing is lost, the next slice goes on",
    ),
}


def conditions(state: ImportState, now: datetime) -> list[ImportCondition]:
    """Return the conditions of one import; times change only where the status does."""
    found = {
        ImportConditionType.COMPLETE: _complete(state.status),
        ImportConditionType.PROGRESSING: _progressing(state),
        ImportConditionType.FAILED: _failed(state),
    }
    before = {condition.type: condition for condition in state.status.conditions}
    return [
        ImportCondition(
            type=kind,
            status=finding.status,
            reason=finding.reason,
            message=finding.message[:MAX_MESSAGE],
            observed_generation=int(metadata(state.live).get("generation") or 0),
            last_transition_time=since(before.get(kind), finding.status, now),
        )
        for kind, finding in found.items()
    ]


def _complete(status: ImportStatus) -> _Finding:
    if status.completed_time is None:
        return _Finding("False", reason="InProgress", message=_counts(status))
    counts = status.counts
    differs = counts is not None and counts.differing + counts.refused + counts.failed > 0
    if not (differs or status.codes or status.ranges_at_limit or status.undated == "NotSearched"):
        reason = "AllThereByUid" if _unhashed(status) else "AllThere"
        return _Finding("True", reason=reason, message=_counts(status))
    parts = [_counts(status)]
    if status.codes:
        parts.append(", ".join(f"{code} {number}" for code, number in sorted(status.codes.items())))
    if status.ranges_at_limit:
        parts.append(f"{status.ranges_at_limit} times of a day in which the source may hold more than it answered")
    if status.undated == "NotSearched":
        parts.append("studies without a date could not be asked for")
    return _Finding("True", reason="Differences", message=f"{'; '.join(parts)}; {_REPORT}")


def _unhashed(status: ImportStatus) -> int:
    """Return how many objects are in the archive without their content having been compared with the source's."""
    counts = status.counts
    if counts is None or counts.hashed is None:
        return 0
    return counts.imported + counts.identical + counts.present - counts.hashed


def _counts(status: ImportStatus) -> str:
    counts = status.counts
    if counts is None:
        return "No slice of the work has ended yet"
    unhashed = _unhashed(status)
    compared = f"; content compared with the source's: {counts.hashed}, not compared: {unhashed}" if unhashed else ""
    present = f"{counts.present} present before (what differs of them is in quarantine), " if counts.present else ""
    return (
        f"{counts.objects} objects listed{'' if status.listed else ' so far'}: {counts.imported} imported, "
        f"{counts.identical} identical, {present}{counts.differing} differing, {counts.refused} refused, "
        f"{counts.failed} failed, {counts.pending} pending{compared}"
    )


_TURNS = {
    "Done": _Finding("False", reason="Finished", message="Nothing is left to do"),
    "Suspended": _Finding(
        "False", reason="Paused", message="spec.suspend is true; it goes on where it was when it is false"
    ),
    "Contained": _Finding(
        "False",
        reason="ArchiveContained",
        message="The archive is contained; it goes on where it was when that is lifted",
    ),
    "Waiting": _Finding(
        "False",
        reason="NotItsTurn",
        message="Another PacsImport of this archive is at work; one works at a time, the oldest first",
    ),
    "NotReady": _Finding(
        "False", reason="ArchiveNotReady", message="Gate or Orthanc has no ready pod; it goes on when both have"
    ),
    "Working": _Finding("True", reason="Importing", message="A slice of the work runs; counts change at its end"),
}


def _progressing(state: ImportState) -> _Finding:
    if state.error is not None:
        return _Finding("False", reason=state.error.reason, message=str(state.error))
    if state.held is not None:
        return _Finding("False", reason=state.held.reason, message=f"No slice is started: {state.held}")
    return _pause(state) if state.turn == "Pause" else _TURNS[state.turn]


def _pause(state: ImportState) -> _Finding:
    trouble = _TROUBLES.get(state.status.last_stop or "", _TROUBLES["NoResult"])
    until = rfc3339(state.until) if state.until else "a pause"
    text = f"The last slice settled nothing: {trouble.message}. Tried again after {until} ({trouble.action})"
    return _Finding("False", reason=trouble.reason, message=text)


def _failed(state: ImportState) -> _Finding:
    if state.error is not None:
        return _Finding("True", reason=state.error.reason, message=str(state.error))
    return _Finding("False", reason="NotFailed", message="Nothing is wrong that only an edit could help")
