"""What every object passes on its way in, by C-STORE, REST or STOW-RS.

Three paths lead into Orthanc. Its C-STORE filter hears of the first alone, and can answer with a DICOM status.
Its received-instance callback hears of all, but can only keep, drop (with success!) or replace the bytes: an upload
is refused by replacing it with bytes that are no DICOM, which Orthanc answers with an error (REST 400; STOW-RS
Failed SOP Sequence). An exception there would store the object, so none may leave.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orthanc
from pacs_accept import LARGEST_FRAME, Accepted, frame_bytes
from pacs_inflight import InFlight
from pacs_quarantine import Outcome, Quarantine
from pacs_rules import Refusal, Reserved, printable

PREAMBLE = bytes(128)
_MARK = slice(128, 132)
_NOT_DICOM = b"refused by the archive"
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def md5(data: bytes) -> str:
    """Return the digest that Orthanc keeps of each object; whoever builds a collision deceives only himself."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def stored_copies(uid: str) -> list[str]:
    """Return Orthanc's identifiers of the instances with this SOP Instance UID, whatever their patient."""
    # Not LookupInstance: it answers "unknown" for two copies just as for none.
    found = json.loads(orthanc.RestApiPost("/tools/lookup", uid.encode()))
    return [entry["ID"] for entry in found if entry["Type"] == "Instance"]


def holds_same(instance_id: str, digest: str) -> bool:
    """Tell whether a stored instance has this content, by the digest that Orthanc took when it stored it."""
    return orthanc.RestApiGet(f"/instances/{instance_id}/attachments/dicom/md5").decode() == digest


def log(event: str, reason: str, aet: str, **more: str) -> None:
    """Write one log line that a monitor can read: enumerated words and the AE title only."""
    line = {
        "event": event,
        "reason": reason,
        "aet": printable(aet),
        **{key: word for key, word in more.items() if word},
    }
    orthanc.LogWarning(json.dumps(line))


class Ingest:
    """The checks, for any number of threads.

    Parameters
    ----------
    reserved
        What belongs to the probes.
    accepted
        SOP classes and transfer syntaxes that may be stored.
    quarantine
        Where a differing duplicate goes.
    in_flight
        Objects being stored now.
    max_bytes
        Largest object that is stored; None for any.
    """

    def __init__(
        self,
        reserved: Reserved,
        accepted: Accepted,
        quarantine: Quarantine,
        in_flight: InFlight,
        max_bytes: int | None = None,
    ) -> None:
        self._reserved, self._accepted = reserved, accepted
        self._quarantine, self._in_flight = quarantine, in_flight
        self._max_bytes = max_bytes
        self._wanted: set[str] = set()
        self._lock = threading.Lock()

    def too_large(self, size: int) -> bool:
        """Tell whether an object of so many bytes is larger than the archive takes."""
        return self._max_bytes is not None and size > self._max_bytes

    def refusal(self, instance: orthanc.DicomInstance, data: bytes, way: str, aet: str) -> tuple[Refusal | None, str]:
        """Judge one object; whatever fails refuses it.

        Parameters
        ----------
        instance, data
            The object as it would be stored, parsed and as bytes.
        way
            ``C-STORE`` or ``Upload``.
        aet
            AE title of the sender; empty for uploads, whom nobody has bound to a title.

        Returns
        -------
        tuple
            None when Orthanc may store it, and the type of the error where the check failed.
        """
        try:
            refusal = self._judge(instance, data, aet)
            if refusal is Refusal.DUPLICATE_DIFFERS:
                outcome = self._quarantine.keep(data, way, printable(aet), time.time())
                log("quarantined" if outcome is Outcome.HELD else "not-quarantined", outcome.value, aet, way=way)
        except Exception as problem:  # whatever failed, nothing may pass unchecked
            # The class alone: a message may quote the object.
            return Refusal.CHECK_FAILED, type(problem).__name__
        return refusal, ""

    def _judge(self, instance: orthanc.DicomInstance, data: bytes, aet: str) -> Refusal | None:
        tags = json.loads(instance.GetInstanceSimplifiedJson())
        uids = {key: str(tags.get(key) or "") for key in _UIDS}
        refusal = self._reserved.refusal(aet, str(tags.get("PatientID") or ""), uids) or self._accepted.refusal(
            str(tags.get("SOPClassUID") or ""), instance.GetInstanceTransferSyntaxUid()
        )
        if refusal is not None:
            return refusal
        # An image of a kilobyte may claim frames of gigabytes, and whoever looks at it would end the archive.
        if frame_bytes(tags, instance.GetInstanceTransferSyntaxUid()) > max(self._max_bytes or 0, LARGEST_FRAME):
            return Refusal.OBJECT_TOO_LARGE
        uid = uids["SOPInstanceUID"].strip(" \0")
        if not uid:
            return Refusal.CHECK_FAILED
        digest = md5(data)
        # First hold, then look: in between, another copy may have reached the index.
        alone = self._in_flight.hold(uid, digest, time.monotonic())
        copies = stored_copies(uid)
        if not copies:
            return None if alone else Refusal.STORE_IN_PROGRESS
        if alone:
            self._in_flight.release(uid)
        return None if all(holds_same(copy, digest) for copy in copies) else Refusal.DUPLICATE_DIFFERS

    @contextmanager
    def released(self, uid: str, data: bytes) -> Iterator[bool]:
        """Let one object in past the check of duplicates; yields False when another is just being stored."""
        digest = md5(data)
        if stored_copies(uid):  # what holds it is in the index already, and about to be replaced
            self._in_flight.release(uid)
        alone = self._in_flight.hold(uid, digest, time.monotonic())
        if alone:
            with self._lock:
                self._wanted.add(digest)
        try:
            yield alone
        finally:
            if alone:
                with self._lock:
                    self._wanted.discard(digest)
                self._in_flight.release(uid)

    def received(self, data: bytes, origin: int, refused: Callable[[Refusal, str], None]) -> tuple[int, bytes | None]:
        """Answer Orthanc's question about an object that has come by any way; whatever fails refuses it.

        Parameters
        ----------
        data
            The object as it came.
        origin
            Orthanc's word for the way it came.
        refused
            Told of each upload that is refused.
        """
        try:
            return self._received(data, origin, refused)
        except Exception:  # in telling of a refusal
            return orthanc.ReceivedInstanceAction.MODIFY, _NOT_DICOM

    def _received(self, data: bytes, origin: int, refused: Callable[[Refusal, str], None]) -> tuple[int, bytes | None]:
        if origin == orthanc.InstanceOrigin.DICOM_PROTOCOL:  # the filter judges it; it has no preamble
            return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
        blanked = data[_MARK] == b"DICM" and data[:128] != PREAMBLE
        if blanked:
            data = PREAMBLE + data[128:]
        if self.too_large(len(data)):
            refused(Refusal.OBJECT_TOO_LARGE, "")
            return orthanc.ReceivedInstanceAction.MODIFY, _NOT_DICOM
        if not self._is_wanted(data):
            try:
                refusal, cause = self.refusal(orthanc.CreateDicomInstance(data), data, "Upload", "")
            except Exception as problem:  # not even readable
                refusal, cause = Refusal.CHECK_FAILED, type(problem).__name__
            if refusal is not None:
                refused(refusal, cause)
                return orthanc.ReceivedInstanceAction.MODIFY, _NOT_DICOM
        return (
            (orthanc.ReceivedInstanceAction.MODIFY, data)
            if blanked
            else (orthanc.ReceivedInstanceAction.KEEP_AS_IS, None)
        )

    def _is_wanted(self, data: bytes) -> bool:
        with self._lock:
            return bool(self._wanted) and md5(data) in self._wanted
