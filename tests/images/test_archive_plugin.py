"""The archive's plugin in a real Orthanc: what a sender may do to what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from tests.machine import enterable, free_port

from .conftest import Image, wait_for
from .orthanc_server import PREFIX, ROOT, SECTION, Orthanc, instance, orthanc

SUCCESS, DUPLICATE, NOT_AUTHORIZED, RETRY = 0x0000, 0x0111, 0x0124, 0xA700


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = enterable(tmp_path_factory.mktemp("archive"))
    with orthanc(image("archive"), folder) as server:
        yield server


def test_identical_duplicate_succeeds_and_a_different_one_does_not_replace(archive: Orthanc) -> None:
    uid = generate_uid()
    assert archive.store("CT1", instance(uid)) == SUCCESS
    before = archive.stored(uid)
    assert archive.store("CT1", instance(uid)) == SUCCESS
    counted = archive.metric("pacs_store_refused_duplicate_differs")
    assert archive.store("CT1", instance(uid, pixels=b"\3\4" * 8)) == DUPLICATE
    assert archive.stored(uid) == before
    assert archive.metric("pacs_store_refused_duplicate_differs") == counted + 1


def test_same_uid_under_another_patient_is_a_duplicate(archive: Orthanc) -> None:
    uid = generate_uid()
    assert archive.store("CT1", instance(uid)) == SUCCESS
    assert archive.store("CT2", instance(uid, patient="P2")) == DUPLICATE
    assert len(archive.instances(uid)) == 1


def test_a_refusal_is_logged_without_identifiers(archive: Orthanc) -> None:
    uid = generate_uid()
    archive.store("CT7", instance(uid, patient="PAT-77"))
    archive.store("CT7", instance(uid, patient="PAT-77", pixels=b"\5\6" * 8))
    assert archive.events("store-refused")[-1] == {"event": "store-refused", "reason": "DuplicateDiffers", "aet": "CT7"}
    for secret in (uid, "PAT-77", "Surname"):
        assert secret not in archive.log()


@pytest.mark.parametrize(
    ("patient", "uid", "study"),
    [
        (f"{PREFIX}run1", "1.2.3.4.1", "1.2.3"),
        (f" {PREFIX.lower()}run1", "1.2.3.4.2", "1.2.3"),
        ("P1", f"{ROOT}.7.1", "1.2.3"),
        ("P1", "1.2.3.4.3", f"{ROOT}.7"),
    ],
    ids=["prefix", "prefix in disguise", "SOP Instance UID", "Study Instance UID"],
)
def test_reserved_identifiers_are_refused_from_a_peer_and_taken_from_a_probe(
    archive: Orthanc, patient: str, uid: str, study: str
) -> None:
    assert archive.store("CT1", instance(uid, patient=patient, study=study)) == NOT_AUTHORIZED
    assert archive.instances(uid) == []
    own = generate_uid(prefix=f"{ROOT}.")
    assert archive.store("PACSPROBE", instance(own, patient=f"{PREFIX}run1", study=study)) == SUCCESS
    assert len(archive.instances(own)) == 1


def test_identifiers_that_only_resemble_the_reserved_ones_are_stored(archive: Orthanc) -> None:
    uid = f"{ROOT}1.5"
    assert archive.store("CT1", instance(uid, patient=f"X{PREFIX}")) == SUCCESS
    assert len(archive.instances(uid)) == 1


@pytest.mark.parametrize(("patient", "uid"), [("P1", "1.2.3.5.1"), (f"{PREFIX}r", "1.2.3.5.2"), ("P1", f"{ROOT}.8.1")])
def test_a_probe_may_store_nothing_but_marked_objects(archive: Orthanc, patient: str, uid: str) -> None:
    assert archive.store("PACSPROBE", instance(uid, patient=patient)) == NOT_AUTHORIZED
    assert archive.instances(uid) == []
    assert archive.events("store-refused")[-1]["reason"] == "ProbeOutsideReserved"


FAULTY = """
import sys
sys.path.insert(0, "/opt/pacs/plugin")
import pacs_archive, pacs_ingest
def index_away(uid):
    raise ConnectionError("no answer for " + uid)
pacs_ingest.stored_copies = index_away
"""


def test_when_the_check_fails_the_object_is_refused(
    archive: Orthanc, image: Callable[[str], Image], tmp_path: Path
) -> None:
    """The same plugin with a failing look-up in the index; its twin is the healthy one."""
    uid = generate_uid()
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "faulty.py").write_text(FAULTY)
    with orthanc(image("archive"), tmp_path, PythonScript="/etc/orthanc/faulty.py") as faulty:
        assert faulty.store("CT1", instance(uid)) == RETRY
        assert faulty.instances(uid) == []
        refused = {"event": "store-refused", "reason": "CheckFailed", "aet": "CT1", "cause": "ConnectionError"}
        assert faulty.events("store-refused") == [refused]
        assert uid not in faulty.log()
    assert archive.store("CT1", instance(uid)) == SUCCESS


def as_file(dataset: Dataset) -> bytes:
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


MUTE = """
import sys
sys.path.insert(0, "/opt/pacs/plugin")
import pacs_archive, pacs_quarantine
def full(*_):
    raise MemoryError("no room for a line")
pacs_archive.count = full
pacs_quarantine.Quarantine.keep = full
"""


def test_when_a_refusal_cannot_be_told_nor_kept_the_object_is_refused_all_the_same(
    image: Callable[[str], Image], tmp_path: Path
) -> None:
    uid, foreign = generate_uid(), generate_uid()
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "mute.py").write_text(MUTE)
    with orthanc(image("archive"), tmp_path, PythonScript="/etc/orthanc/mute.py") as mute:
        assert mute.upload(as_file(instance(uid))) == 200
        assert mute.upload(as_file(instance(uid, pixels=bytes(16)))) == 400
        assert mute.upload(as_file(instance(foreign, patient=f"{PREFIX}r"))) == 400
        assert mute.store("CT1", instance(uid, pixels=bytes(16))) != SUCCESS
        assert len(mute.instances(uid)) == 1
        assert mute.instances(foreign) == []
        assert mute.store("CT1", instance(generate_uid())) == SUCCESS


@pytest.mark.parametrize("differing", ["pixels", "patient"])
def test_simultaneous_contents_under_one_uid_leave_exactly_one_acknowledged(archive: Orthanc, differing: str) -> None:
    """Whatever was acknowledged is what is stored afterwards, and nothing else is."""
    answers: set[int | None] = set()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(25):
            uid = generate_uid()
            values = [
                {"pixels": bytes([n, 7]) * 8} if differing == "pixels" else {"patient": f"P{n}"} for n in range(4)
            ]
            copies = [instance(uid, **value) for value in values]
            statuses = list(pool.map(lambda copy: archive.store("CT1", copy), copies))
            answers.update(statuses)
            acknowledged = [copy for copy, status in zip(copies, statuses, strict=True) if status == SUCCESS]
            assert len(acknowledged) == 1, statuses
            kept = dcmread(BytesIO(archive.stored(uid)))
            assert (kept.PatientID, kept.PixelData) == (acknowledged[0].PatientID, acknowledged[0].PixelData)
    assert answers <= {SUCCESS, DUPLICATE, RETRY}


def test_an_uploaded_preamble_is_blanked(archive: Orthanc) -> None:
    uid = generate_uid()
    buffer = BytesIO()
    dcmwrite(buffer, instance(uid), enforce_file_format=True)
    plain = buffer.getvalue()
    assert archive.rest("POST", "/instances", data=b"MZ" + b"\x90" * 126 + plain[128:]).ok
    assert archive.stored(uid) == bytes(128) + plain[128:]


def activity_of(archive: Orthanc, aet: str) -> dict[str, Any]:
    answer = archive.rest("GET", "/pacs/activity")
    assert answer.headers["Content-Type"] == "application/json"
    return dict(answer.json()["peers"].get(aet, {}))


def test_activity_counts_what_each_title_stored_and_was_refused(archive: Orthanc) -> None:
    assert activity_of(archive, "CT20") == {}
    uid, before = generate_uid(), now()
    assert archive.store("CT20", instance(uid)) == SUCCESS
    seen = activity_of(archive, "CT20")
    assert before <= seen.pop("lastStore") <= now()
    assert seen == {"stores": 1, "refusedDuplicates": 0, "refusedReserved": 0, "refusedOther": 0}
    assert archive.store("CT20", instance(uid, pixels=b"\7\7" * 8)) == DUPLICATE
    assert archive.store("CT20", instance("1.2.3.6.1", patient=f"{PREFIX}run1")) == NOT_AUTHORIZED
    refused = activity_of(archive, "CT20")
    assert before <= refused.pop("lastRefusal") <= now()
    assert refused.pop("lastRefusalReason") == "ReservedForProbes"
    assert refused.pop("lastStore")
    assert refused == {"stores": 1, "refusedDuplicates": 1, "refusedReserved": 1, "refusedOther": 0}
    assert archive.store("CT21", instance(generate_uid())) == SUCCESS
    assert activity_of(archive, "CT21")["stores"] == activity_of(archive, "CT20")["stores"] == 1


def test_activity_leaves_out_what_is_stored_already_or_was_not_sent_by_dicom(archive: Orthanc) -> None:
    """The twin is the first copy: it counts."""
    uid = generate_uid()
    assert archive.store("CT22", instance(uid)) == SUCCESS
    counted = archive.rest("GET", "/pacs/activity").json()
    assert counted["peers"]["CT22"]["stores"] == 1
    assert archive.store("CT22", instance(uid)) == SUCCESS
    assert archive.upload(as_file(instance(generate_uid()))) == 200
    assert archive.rest("GET", "/pacs/activity").json() == counted


def test_activity_tells_nothing_of_patients_and_takes_no_writes(archive: Orthanc) -> None:
    uid = generate_uid()
    assert archive.store("CT23", instance(uid, patient="PAT-23")) == SUCCESS
    assert archive.store("CT23", instance(uid, patient="PAT-23", pixels=b"\5\1" * 8)) == DUPLICATE
    text = archive.rest("GET", "/pacs/activity").text
    assert "CT23" in text
    for secret in (uid, "PAT-23", "Surname"):
        assert secret not in text
    for method in ("POST", "PUT", "DELETE"):
        assert archive.rest(method, "/pacs/activity", data=b"{}").status_code == 405


def test_activity_counts_every_one_of_simultaneous_stores(archive: Orthanc) -> None:
    with ThreadPoolExecutor(4) as pool:
        copies = [instance(generate_uid()) for _ in range(40)]
        assert set(pool.map(lambda copy: archive.store("CT24", copy), copies)) == {SUCCESS}
    assert activity_of(archive, "CT24")["stores"] == 40


FULL = """
import sys
sys.path.insert(0, "/opt/pacs/plugin")
import orthanc, pacs_archive
def full(uuid, content_type, compression, content, custom):
    raise OSError("no space left on device")
orthanc.RegisterStorageArea(lambda *_: full(*_), lambda *_: b"", lambda *_: None)
"""


def test_what_the_disk_does_not_take_is_no_store(image: Callable[[str], Image], tmp_path: Path) -> None:
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "full.py").write_text(FULL)
    with orthanc(image("archive"), tmp_path, PythonScript="/etc/orthanc/full.py") as server:
        assert server.store("CT1", instance(generate_uid())) not in (SUCCESS, None)
        assert activity_of(server, "CT1") == {}


def test_asked_to_stop_it_ends_in_order(image: Callable[[str], Image], tmp_path: Path) -> None:
    """Killed by a signal of its own making it closes neither index nor storage area, and a node keeps its memory."""
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    with orthanc(image("archive"), tmp_path) as server:
        assert server.store("CT1", instance(generate_uid())) == SUCCESS
        server.process.terminate()
        assert server.process.wait(30) == 0


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"PacsArchive": None}, "section PacsArchive is absent"),
        ({"PacsArchive": {**SECTION, "ReservedPatientPrefix": " "}}, "ReservedPatientPrefix: a text is required"),
        ({"PacsArchive": {**SECTION, "ReservedUidRoot": ""}}, "ReservedUidRoot: a UID is required"),
        ({"PacsArchive": {**SECTION, "ProbeAETitles": None}}, "ProbeAETitles: a list of AE titles is required"),
        ({"PacsArchive": {**SECTION, "Quarantine": None}}, "Quarantine: MaxObjects and MaxBytes are required"),
        ({"PacsArchive": {**SECTION, "Quarantine": {"MaxObjects": 0, "MaxBytes": 1}}}, "positive whole numbers"),
        ({"PacsArchive": {**SECTION, "Quarantine": {"MaxObjects": 1, "MaxBytes": "1"}}}, "positive whole numbers"),
        ({"AcceptedSopClasses": None}, "AcceptedSopClasses: a list of UIDs is required"),
        ({"AcceptedTransferSyntaxes": []}, "AcceptedTransferSyntaxes: a list of UIDs is required"),
        ({"AcceptedSopClasses": ["1.2.840.*"]}, "AcceptedSopClasses: a list of UIDs is required"),
        ({"OverwriteInstances": "Never"}, "OverwriteInstances: 'Never' is set"),
        ({"MaximumStorageCacheSize": 128}, "MaximumStorageCacheSize: 128 is set"),
    ],
)
def test_orthanc_does_not_start_without_the_checks(
    image: Callable[[str], Image], tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    tmp_path.parent.chmod(0o755)
    tmp_path.chmod(0o755)
    with pytest.raises(AssertionError, match="Orthanc ended with 255"), orthanc(image("archive"), tmp_path, **more):
        pass
    assert message in (tmp_path / "log").read_text()


def file_of(archive: Orthanc, uid: str) -> Path:
    """Return the file that holds an object."""
    (found,) = archive.instances(uid)
    uuid = archive.rest("GET", f"/instances/{found}/attachments/dicom/info").json()["Uuid"]
    return archive.data / uuid[:2] / uuid[2:4] / uuid


def test_storage_commitment_reads_the_disk(image: Callable[[str], Image], tmp_path: Path) -> None:
    """One object is there, one was lost from the disk behind Orthanc's back, one was never sent."""
    reports: list[Any] = []
    entity = AE(ae_title="CT1")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    entity.add_requested_context(StorageCommitmentPushModel)
    port = free_port()

    def report(event: evt.Event) -> tuple[int, None]:
        reports.append((event.event_type, event.event_information))
        return 0x0000, None

    listener = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)])
    assert listener
    peer = {"AET": "CT1", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    try:
        with orthanc(image("archive"), tmp_path, DicomModalities={"ct1": peer}) as server:
            kept, lost, never = (instance(generate_uid()) for _ in range(3))
            assert [server.store("CT1", one) for one in (kept, lost)] == [SUCCESS, SUCCESS]
            assert server.stored(lost.SOPInstanceUID)
            file_of(server, lost.SOPInstanceUID).unlink()
            request_commitment(entity, server.dicom, [kept, lost, never])
            wait_for(lambda: reports, "commitment report")
    finally:
        listener.shutdown()
    ((kind, information),) = reports
    assert kind == 2
    assert [str(item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence] == [kept.SOPInstanceUID]
    failed = {str(item.ReferencedSOPInstanceUID): item.FailureReason for item in information.FailedSOPSequence}
    assert failed == {lost.SOPInstanceUID: 0x0110, never.SOPInstanceUID: 0x0112}


def request_commitment(entity: AE, port: int, objects: list[Any]) -> None:
    """Ask for storage commitment of these objects."""
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for one in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    association = entity.associate("127.0.0.1", port, ae_title="ARCHIVE")
    assert association.is_established
    status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    assert status.Status == 0x0000
