"""Orthanc plugin of the archive: what DICOM alone does not guard.

- C-STORE: another content under a known SOP Instance UID is refused; the probes' reserved identifiers are
  theirs alone (`pacs_rules`). Any failure of the check refuses the object. Needs ``OverwriteInstances:
  IfChanged``: under it Orthanc itself answers success for identical content, from its index and without asking
  here; under ``Never`` it does so for any content.
- Storage commitment: each object is read again from the disk. Needs ``MaximumStorageCacheSize: 0``.
- REST and STOW uploads: the preamble is blanked, where a program could hide (C-STORE never carries one). They
  pass by the C-STORE check: whoever can reach HTTP has to be kept from uploading.
- ``GET /pacs/activity``: what each calling AE title stored and was refused (`pacs_activity`).

Log lines and metrics hold enumerated reasons and calling AE titles, never identifiers of patients or objects.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter

import orthanc
from pacs_activity import Activity
from pacs_inflight import InFlight
from pacs_rules import SUCCESS, Refusal, Reserved, printable

Reason = orthanc.StorageCommitmentFailureReason
PREAMBLE = bytes(128)

_in_flight = InFlight()
_activity = Activity()
_counts: Counter[str] = Counter()
_counts_lock = threading.Lock()


def stored_copies(uid: str) -> list[str]:
    """Return Orthanc's identifiers of the instances with this SOP Instance UID, whatever their patient."""
    # Not LookupInstance: it answers "unknown" for two copies just as for none.
    found = json.loads(orthanc.RestApiPost("/tools/lookup", uid.encode()))
    return [entry["ID"] for entry in found if entry["Type"] == "Instance"]


def holds_same(instance_id: str, digest: str) -> bool:
    """Tell whether a stored instance has this content, by the digest that Orthanc took when it stored it."""
    return orthanc.RestApiGet(f"/instances/{instance_id}/attachments/dicom/md5").decode() == digest


def verify(instance_id: str) -> None:
    """Read a stored instance from the disk; raises when it is not what was stored."""
    orthanc.RestApiPost(f"/instances/{instance_id}/attachments/dicom/verify-md5", b"")


def judge(instance: orthanc.DicomInstance, reserved: Reserved) -> Refusal | None:
    """Judge one object that a peer sends.

    Parameters
    ----------
    instance
        The object as received, not stored yet.
    reserved
        What belongs to the probes.

    Returns
    -------
    Refusal or None
        None when Orthanc may store it.
    """
    tags = json.loads(instance.GetInstanceSimplifiedJson())
    uids = {key: str(tags.get(key) or "") for key in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")}
    refusal = reserved.refusal(instance.GetInstanceRemoteAet(), str(tags.get("PatientID") or ""), uids)
    if refusal is not None:
        return refusal
    uid = uids["SOPInstanceUID"].strip(" \0")
    if not uid:
        return Refusal.CHECK_FAILED
    # MD5 because Orthanc keeps no other digest; whoever builds a collision deceives only himself.
    digest = hashlib.md5(instance.GetInstanceData(), usedforsecurity=False).hexdigest()
    # First hold, then look: in between, another copy may have reached the index.
    alone = _in_flight.hold(uid, digest, time.monotonic())
    copies = stored_copies(uid)
    if not copies:
        return None if alone else Refusal.STORE_IN_PROGRESS
    if alone:
        _in_flight.release(uid)
    return None if all(holds_same(copy, digest) for copy in copies) else Refusal.DUPLICATE_DIFFERS


def count(refusal: Refusal) -> None:
    """Add one to a refusal's metric."""
    with _counts_lock:
        _counts[refusal.reason] += 1
        publish(refusal)


def publish(refusal: Refusal) -> None:
    """Publish a refusal's metric at its present value."""
    name = "pacs_store_refused_" + "".join(f"_{c.lower()}" if c.isupper() else c for c in refusal.reason)[1:]
    orthanc.SetMetricsValue(name, float(_counts[refusal.reason]), orthanc.MetricsType.DEFAULT)


def alert(event: str, reason: str, aet: str, cause: str = "") -> None:
    """Write one log line that a monitor can read: enumerated words and the AE title only."""
    line = {"event": event, "reason": reason, "aet": printable(aet)}
    if cause:
        line["cause"] = cause
    orthanc.LogWarning(json.dumps(line))


def incoming_store(instance: orthanc.DicomInstance, reserved: Reserved) -> int:
    """Return the status that a C-STORE gets: `SUCCESS` lets Orthanc store the object."""
    try:
        refusal, cause = judge(instance, reserved), ""
    except Exception as problem:  # whatever failed, nothing may pass unchecked
        # The class alone: a message may quote the object.
        refusal, cause = Refusal.CHECK_FAILED, type(problem).__name__
    if refusal is None:
        return SUCCESS
    aet = instance.GetInstanceRemoteAet()
    count(refusal)
    _activity.refused(aet, refusal, time.time())
    alert("store-refused", refusal.reason, aet, cause)
    return refusal.status


def stored(instance: orthanc.DicomInstance, instance_id: str) -> None:
    """Count what a peer sent once it is stored: that the filter let it pass does not mean that the disk took it."""
    del instance_id
    if instance.GetInstanceOrigin() == orthanc.InstanceOrigin.DICOM_PROTOCOL:
        _activity.stored(instance.GetInstanceRemoteAet(), time.time())


def answer_activity(output: orthanc.RestOutput, uri: str, **request: object) -> None:
    """Answer ``GET /pacs/activity``."""
    del uri
    if request["method"] == "GET":
        output.AnswerBuffer(json.dumps({"peers": _activity.report()}), "application/json")
    else:
        output.SendMethodNotAllowed("GET")


def received(data: bytes, origin: int) -> tuple[int, bytes | None]:
    """Blank the preamble of an uploaded object."""
    uploaded = origin != orthanc.InstanceOrigin.DICOM_PROTOCOL
    if uploaded and data[128:132] == b"DICM" and data[:128] != PREAMBLE:
        return orthanc.ReceivedInstanceAction.MODIFY, PREAMBLE + data[128:]
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None


def commitment(*request: object) -> str:
    """Begin a storage commitment (job, transaction, classes, instances, peer, called); look-ups need the peer."""
    return str(request[4])


def committed(sop_class: str, sop_instance: str, peer: str) -> int:
    """Tell whether one object is safely stored, by reading it again from the disk."""
    try:
        copies = stored_copies(sop_instance)
        for copy in copies:
            verify(copy)
        stored_as = {orthanc.RestApiGet(f"/instances/{copy}/metadata/SopClassUid").decode() for copy in copies}
    except Exception as problem:  # an object that cannot be read back is not committed
        alert("commitment-refused", "ProcessingFailure", peer, type(problem).__name__)
        return Reason.PROCESSING_FAILURE
    if not copies:
        return Reason.NO_SUCH_OBJECT_INSTANCE
    return Reason.SUCCESS if stored_as == {sop_class} else Reason.CLASS_INSTANCE_CONFLICT


def check_configuration(configuration: dict[str, object]) -> None:
    """Refuse settings under which Orthanc passes by this plugin's checks.

    Raises
    ------
    ValueError
        A setting is not what the checks need.
    """
    # Under "Never" a duplicate gets status success and is dropped before the filter hears of it.
    for key, needed in (("OverwriteInstances", "IfChanged"), ("MaximumStorageCacheSize", 0)):
        if configuration.get(key) != needed:
            raise ValueError(f"{key}: {configuration.get(key)!r} is set, the archive plugin needs {needed!r}")


def changed(change: int, level: int, resource: str) -> None:
    """Publish all metrics at zero once Orthanc serves, so that their absence means: no plugin."""
    del level, resource
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        with _counts_lock:
            for refusal in Refusal:
                publish(refusal)


def start() -> None:
    """Register the guards; an error here ends Orthanc, which may not serve without them."""
    configuration = json.loads(orthanc.GetConfiguration())
    check_configuration(configuration)
    reserved = Reserved.from_configuration(configuration)
    orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: incoming_store(instance, reserved))
    orthanc.RegisterReceivedInstanceCallback(received)
    orthanc.RegisterStorageCommitmentScpCallback(commitment, committed)
    orthanc.RegisterOnStoredInstanceCallback(stored)
    orthanc.RegisterRestCallback("/pacs/activity", answer_activity)
    orthanc.RegisterOnChangeCallback(changed)


start()
