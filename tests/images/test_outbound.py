"""Orthanc, gate and devices together: what is moved arrives whole, where it may and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.outbound import Outbound
from pacs_operator.domain.peer import Right

from .conftest import Image, wait_for
from .hospital import SUCCESS, UNABLE, WARNING, Hospital, running_hospital, study


@pytest.fixture(scope="module")
def hospital(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with running_hospital(image("archive"), tmp_path_factory.mktemp("hospital")) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(hospital: Hospital) -> Iterator[None]:
    yield
    for receiver in hospital.receivers.values():
        receiver.gate.set()
        receiver.refused.clear()
        receiver.images.clear()
        receiver.originators.clear()
        receiver.reports.clear()
        receiver.associations = 0


def workstation(hospital: Hospital, *moves_to: str) -> LivePeer:
    return hospital.device("WS1", Right.FIND, Right.MOVE, moves_to=moves_to)


def test_a_study_arrives_whole_at_a_listed_destination(hospital: Hospital) -> None:
    uid, images = study(9)
    hospital.apply(hospital.ct, workstation(hospital, "WS1", "WS2"), hospital.device("WS2"))
    hospital.store("CT1", *images)
    for destination in ("WS2", "WS1"):
        statuses = hospital.move("WS1", destination, QueryRetrieveLevel="STUDY", StudyInstanceUID=uid)
        assert statuses[-1].Status == SUCCESS
        assert (statuses[-1].NumberOfCompletedSuboperations, len(statuses)) == (9, 9)
        receiver = hospital.receivers[destination]
        assert {image.SOPInstanceUID: image for image in images} == receiver.images
        assert receiver.originators == {("WS1", 7)}


@pytest.mark.parametrize("destination", ["WS2", "WS3", "CT1", "NOBODY", "ws1"])
def test_an_unlisted_destination_gets_nothing(hospital: Hospital, destination: str) -> None:
    """WS2 receives and is somebody else's destination, WS3 receives and is nobody's, CT1 receives nothing."""
    uid, images = study(1)
    hospital.apply(
        hospital.ct,
        workstation(hospital, "WS1"),
        hospital.device("WS2", Right.MOVE, moves_to=("WS2", "WS1")),
        hospital.device("WS3"),
    )
    hospital.store("CT1", *images)
    assert hospital.result("WS1", destination, QueryRetrieveLevel="STUDY", StudyInstanceUID=uid) == UNABLE
    assert hospital.server.events("move-refused")[-1]["reason"] == "DestinationNotListed"
    assert [receiver.associations for receiver in hospital.receivers.values()] == [0, 0, 0]
    assert hospital.result("WS1", "WS1", QueryRetrieveLevel="STUDY", StudyInstanceUID=uid) == SUCCESS
    assert hospital.result("WS2", "WS2", QueryRetrieveLevel="STUDY", StudyInstanceUID=uid) == SUCCESS


def test_without_the_right_to_move_a_list_is_worth_nothing(hospital: Hospital) -> None:
    uid, images = study(1)
    listed = workstation(hospital, "WS1")
    hospital.apply(hospital.ct, listed.model_copy(update={"rights": [Right.ECHO, Right.FIND]}))
    hospital.store("CT1", *images)
    assert hospital.result("WS1", "WS1", QueryRetrieveLevel="STUDY", StudyInstanceUID=uid) is None
    assert hospital.receivers["WS1"].associations == 0
    hospital.apply(hospital.ct, listed)
    assert hospital.result("WS1", "WS1", QueryRetrieveLevel="STUDY", StudyInstanceUID=uid) == SUCCESS


def test_a_destination_comes_and_goes_without_a_restart(hospital: Hospital) -> None:
    uid, images = study(1)
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid}
    everybody = hospital.ct, hospital.device("WS2")
    for moves_to, result in ((), UNABLE), (("WS2",), SUCCESS), (("WS1",), UNABLE), (("WS1", "WS2"), SUCCESS):
        hospital.apply(workstation(hospital, *moves_to), *everybody)
        if not moves_to:
            hospital.store("CT1", *images)
        assert hospital.result("WS1", "WS2", **keys) == result
    hospital.apply(workstation(hospital, "WS1", "WS2"), hospital.ct, hospital.device("WS2", receives=False))
    assert hospital.result("WS1", "WS2", **keys) == UNABLE
    assert hospital.receivers["WS2"].associations == 2


def test_series_images_and_several_studies(hospital: Hospital) -> None:
    (first, some), (second, more) = study(3), study(2)
    hospital.apply(hospital.ct, workstation(hospital, "WS1"))
    hospital.store("CT1", *some, *more)
    received = hospital.receivers["WS1"].images
    wanted = [
        ({"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": f"{first}.1"}, some),
        ({"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": some[1].SOPInstanceUID}, some[1:2]),
        ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": [first, second]}, [*some, *more]),
    ]
    for keys, images in wanted:
        received.clear()
        assert hospital.result("WS1", "WS1", **keys) == SUCCESS
        assert received == {image.SOPInstanceUID: image for image in images}


@pytest.mark.parametrize("keys", [{"StudyInstanceUID": "1.2.3.4.5.6.7"}, {"PatientID": "P1"}, {}])
def test_what_is_not_stored_or_not_named_is_not_moved(hospital: Hospital, keys: dict[str, str]) -> None:
    hospital.apply(hospital.ct, workstation(hospital, "WS1"))
    assert hospital.result("WS1", "WS1", QueryRetrieveLevel="STUDY", **keys) == UNABLE
    assert hospital.receivers["WS1"].associations == 0


def test_an_image_that_the_device_does_not_take_keeps_none_of_the_others_back(hospital: Hospital) -> None:
    uid, images = study(9)
    hospital.apply(hospital.ct, workstation(hospital, "WS1"))
    hospital.store("CT1", *images)
    receiver = hospital.receivers["WS1"]
    receiver.refused.add(images[1].SOPInstanceUID)
    last = hospital.move("WS1", "WS1", QueryRetrieveLevel="STUDY", StudyInstanceUID=uid)[-1]
    assert (last.Status, last.NumberOfFailedSuboperations) == (WARNING, 1)
    assert len(receiver.images) == 8


def test_an_impostor_gets_nothing_and_the_requester_is_told(hospital: Hospital) -> None:
    """The certificate is the archive's own authority's, the name another device's."""
    uid, images = study(5)
    listed = workstation(hospital, "WS2")
    hospital.apply(hospital.ct, listed, hospital.device("WS2"))
    hospital.store("CT1", *images)
    hospital.device("WS3")
    impostor = hospital.receivers["WS3"]
    stolen = Outbound(address="127.0.0.1", port=impostor.port)
    hospital.apply(hospital.ct, listed, hospital.device("WS2").model_copy(update={"outbound": stolen}))
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid}
    assert hospital.result("WS1", "WS2", **keys) == UNABLE
    assert hospital.server.events("move-refused")[-1]["reason"] == "DestinationUnreachable"
    assert impostor.associations == 0
    hospital.apply(hospital.ct, listed, hospital.device("WS2"))
    assert hospital.result("WS1", "WS2", **keys) == SUCCESS


def test_a_slow_device_holds_nobody_up(hospital: Hospital) -> None:
    """Neither other moves nor what modalities store; Python's one lock is not held while an image is on its way."""
    uid, images = study(2)
    hospital.apply(hospital.ct, workstation(hospital, "WS1", "WS2"), hospital.device("WS2"))
    hospital.store("CT1", *images)
    hospital.receivers["WS2"].gate.clear()
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid}
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(hospital.result, "WS1", "WS2", **keys)
        wait_for(lambda: hospital.receivers["WS2"].associations, "the slow device is being sent to")
        hospital.store("CT1", *study(2)[1])
        assert hospital.result("WS1", "WS1", **keys) == SUCCESS
        assert not slow.done()
        hospital.receivers["WS2"].gate.set()
        assert slow.result(30) == SUCCESS


def test_log_lines_name_no_patient_and_no_object(hospital: Hospital) -> None:
    uid, images = study(1)
    hospital.apply(hospital.ct, workstation(hospital, "WS1"))
    hospital.store("CT1", *images)
    begun = len(hospital.server.log())
    for destination in ("WS1", "NOBODY"):
        hospital.move("WS1", destination, QueryRetrieveLevel="STUDY", StudyInstanceUID=uid)
    said = hospital.server.log()[begun:]
    assert "move-refused" in said
    for secret in (uid, "Surname", "P1", images[0].SOPInstanceUID):
        assert secret not in said


@pytest.mark.parametrize("document", ["[]", '{"WS1": ["WS2"]}', '{"WS1": {"WS2": 7}}', "{", "null", '"WS1"'])
def test_lists_of_another_form_change_nothing(hospital: Hospital, document: str) -> None:
    hospital.apply(hospital.ct, workstation(hospital, "WS1"))
    before = hospital.server.rest("GET", "/pacs/destinations").json()
    assert before == {"WS1": {"WS1": "ae-575331"}}
    assert hospital.server.rest("PUT", "/pacs/destinations", data=document).status_code == 400
    assert hospital.server.rest("DELETE", "/pacs/destinations").status_code == 405
    assert hospital.server.rest("GET", "/pacs/destinations").json() == before


def test_an_orthanc_that_starts_again_has_the_lists_that_the_agent_wrote(hospital: Hospital) -> None:
    hospital.apply(hospital.ct, workstation(hospital, "WS1"))
    written = json.loads((hospital.folder / "agent/run/orthanc/orthanc.json").read_text())
    assert written["PacsArchive"]["MoveDestinations"] == {"WS1": {"WS1": "ae-575331"}}
    entry = written["DicomModalities"]["ae-575331"]
    assert (entry["Host"], entry["Port"], entry["UseDicomTls"]) == ("127.0.0.1", hospital.gate.outbound_port, True)
    assert written["DicomModalities"]["ae-435431"]["Port"] == 1, "CT1 receives nothing"


def commit(hospital: Hospital, title: str, *uids: str) -> str:
    """Ask for storage commitment of some CT images; the transaction."""
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
        request.ReferencedSOPSequence.append(item)
    with hospital.association(title, StorageCommitmentPushModel) as association:
        status, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    assert status.Status == SUCCESS
    return str(request.TransactionUID)


def test_a_commitment_is_reported_to_the_modality_through_the_gate(hospital: Hospital) -> None:
    _, images = study(2)
    hospital.apply(hospital.device("MR1", Right.STORE, Right.STORAGE_COMMITMENT))
    hospital.store("MR1", *images)
    receiver = hospital.receivers["MR1"]
    stored = [image.SOPInstanceUID for image in images]
    transaction = commit(hospital, "MR1", *stored)
    (kind, report) = wait_for(lambda: receiver.reports, "the report")[0]
    assert (kind, report.TransactionUID) == (1, transaction)
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == stored
    receiver.reports.clear()
    commit(hospital, "MR1", stored[0], "1.2.3.4")
    (kind, report) = wait_for(lambda: receiver.reports, "the report")[0]
    assert kind == 2
    assert [item.FailureReason for item in report.FailedSOPSequence] == [0x0112]


def test_a_report_goes_to_no_impostor(hospital: Hospital) -> None:
    _, images = study(1)
    honest = hospital.device("MR1", Right.STORE, Right.STORAGE_COMMITMENT)
    hospital.device("WS3")
    impostor = hospital.receivers["WS3"]
    stolen = Outbound(address="127.0.0.1", port=impostor.port)
    hospital.apply(honest.model_copy(update={"outbound": stolen}))
    hospital.store("MR1", *images)
    failed = hospital.failed_jobs()
    commit(hospital, "MR1", images[0].SOPInstanceUID)
    wait_for(lambda: hospital.failed_jobs() > failed, "Orthanc gives the report up")
    assert (impostor.associations, impostor.reports) == (0, [])
    hospital.apply(honest)
    commit(hospital, "MR1", images[0].SOPInstanceUID)
    assert wait_for(lambda: hospital.receivers["MR1"].reports, "the report")
