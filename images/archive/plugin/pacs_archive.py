"""Orthanc plugin of the archive: what DICOM alone does not guard.

- C-STORE, REST and STOW-RS (`pacs_ingest`): another content under a known SOP Instance UID is refused and kept in
  quarantine; the probes' reserved identifiers are theirs alone (`pacs_rules`); SOP classes and transfer syntaxes are
  those of the archive's list; a preamble, where a program could hide, is blanked. Any failure of a check refuses the
  object. Needs ``OverwriteInstances: IfChanged``: under it Orthanc itself answers success for identical content,
  from its index and without asking here; under ``Never`` it does so for any content.
- Storage commitment: each object is read again from the disk. Needs ``MaximumStorageCacheSize: 0``.
- C-MOVE: images are sent where the asking AE title may have them sent, nowhere else (`pacs_outbound`).
- ``/pacs/quarantine``: what a person does with a quarantined object (`pacs_release`); ``GET /pacs/ingest``: counts.
- Encryption: Orthanc does not start with another storage area than ``PacsArchive.StorageEncryption`` says
  (`pacs_storage`).
- ``GET /pacs/activity``: what each calling AE title stored and was refused (`pacs_activity`).

Log lines and metrics hold enumerated reasons and calling AE titles, never identifiers of patients or objects.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import orthanc
import pacs_outbound
from pacs_accept import Accepted, guard_unfolding
from pacs_activity import Activity
from pacs_inflight import InFlight
from pacs_ingest import Ingest, log, stored_copies
from pacs_quarantine import Quarantine
from pacs_release import Acts, routes
from pacs_routes import serve
from pacs_rules import SUCCESS, Refusal, Reserved
from pacs_sealed import shelf_of
from pacs_storage import check_storage

Reason = orthanc.StorageCommitmentFailureReason

_activity = Activity()
_counts: Counter[str] = Counter()
_counts_lock = threading.Lock()


def verify(instance_id: str) -> None:
    """Read a stored instance from the disk; raises when it is not what was stored."""
    orthanc.RestApiPost(f"/instances/{instance_id}/attachments/dicom/verify-md5", b"")


def count(refusal: Refusal) -> None:
    """Add one to a refusal's metric."""
    with _counts_lock:
        _counts[refusal.reason] += 1
        publish(refusal)


def publish(refusal: Refusal) -> None:
    """Publish a refusal's metric at its present value."""
    name = "pacs_store_refused_" + "".join(f"_{c.lower()}" if c.isupper() else c for c in refusal.reason)[1:]
    orthanc.SetMetricsValue(name, float(_counts[refusal.reason]), orthanc.MetricsType.DEFAULT)


def refused(refusal: Refusal, cause: str, aet: str = "") -> None:
    """Count and tell one refusal; uploads come from nobody's AE title."""
    count(refusal)
    log("store-refused", refusal.reason, aet, cause=cause)


def incoming_store(instance: orthanc.DicomInstance, ingest: Ingest) -> int:
    """Return the status that a C-STORE gets: `SUCCESS` lets Orthanc store the object."""
    aet = instance.GetInstanceRemoteAet()
    if ingest.too_large(instance.GetInstanceSize()):  # before its bytes are copied once more
        refused(Refusal.OBJECT_TOO_LARGE, "", aet)
        _activity.refused(aet, Refusal.OBJECT_TOO_LARGE, time.time())
        return Refusal.OBJECT_TOO_LARGE.status
    refusal, cause = ingest.refusal(instance, instance.GetInstanceData(), "C-STORE", aet)
    if refusal is None:
        return SUCCESS
    refused(refusal, cause, aet)
    _activity.refused(aet, refusal, time.time())
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


def answer_ingest(output: orthanc.RestOutput, quarantine: Quarantine, **request: object) -> None:
    """Answer ``GET /pacs/ingest``: counts and times alone."""
    if request["method"] == "GET":
        with _counts_lock:
            counts = {refusal.reason: _counts[refusal.reason] for refusal in Refusal}
        answer = {"quarantine": quarantine.report(), "refused": counts}
        output.AnswerBuffer(json.dumps(answer), "application/json")
    else:
        output.SendMethodNotAllowed("GET")


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
        log("commitment-refused", "ProcessingFailure", peer, cause=type(problem).__name__)
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


def largest(configuration: dict[str, object]) -> int | None:
    """Return ``PacsArchive.MaxObjectBytes``; None when objects of any size are stored.

    Raises
    ------
    ValueError
        It is no positive whole number.
    """
    section = configuration.get("PacsArchive")
    size = section.get("MaxObjectBytes") if isinstance(section, dict) else None
    if size is not None and (type(size) is not int or size < 1):
        raise ValueError("PacsArchive.MaxObjectBytes: a positive whole number is required, or nothing")
    return size


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
    check_storage(configuration)
    reserved, accepted = Reserved.from_configuration(configuration), Accepted.from_configuration(configuration)
    guard_unfolding(accepted, largest(configuration))
    quarantine = Quarantine.from_configuration(configuration, lambda: shelf_of(configuration))
    ingest = Ingest(reserved, accepted, quarantine, InFlight(), largest(configuration))
    orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: incoming_store(instance, ingest))
    orthanc.RegisterReceivedInstanceCallback(lambda data, origin: ingest.received(data, origin, refused))
    for uri, answer in routes(Acts(quarantine, ingest)).items():
        serve(uri, answer)
    serve("/pacs/ingest", lambda output, uri, **request: answer_ingest(output, quarantine, **request))
    orthanc.RegisterStorageCommitmentScpCallback(commitment, committed)
    orthanc.RegisterOnStoredInstanceCallback(stored)
    serve("/pacs/activity", answer_activity)
    orthanc.RegisterOnChangeCallback(changed)
    pacs_outbound.register(configuration, log)


start()
