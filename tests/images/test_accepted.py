"""What may be stored: turned away at the association, by status, by REST and by STOW-RS, from a real Orthanc."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)
from pynetdicom import AE, _config

from pacs_operator.domain.storable import SOP_CLASSES, TRANSFER_SYNTAXES, expand
from tests.machine import enterable

from .conftest import Image
from .orthanc_server import PYTHON, WEB, Orthanc, instance, orthanc, part10

PRIVATE = "1.2.826.0.1.3680043.10.99.1"
ACCEPTED, REJECTED = {0}, {3, 4}  # PS3.8 table 9-18; Orthanc says 3 for transfer syntaxes, too


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Take in the default's classes but MR, and one private class."""
    folder = enterable(tmp_path_factory.mktemp("archive"))
    classes = [uid for uid in expand(["Default", PRIVATE], SOP_CLASSES) if uid != MRImageStorage]
    with orthanc(image("archive"), folder, Plugins=[PYTHON, WEB], AcceptedSopClasses=classes) as server:
        yield server


def negotiated(archive: Orthanc, sop_class: str, syntax: str) -> int:
    """Return the result of one presentation context, proposed beside one that is always accepted."""
    entity = AE(ae_title="CT1")
    entity.add_requested_context(EncapsulatedPDFStorage, ImplicitVRLittleEndian)
    entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", archive.dicom, ae_title="ARCHIVE")
    assert association.is_established
    contexts = [*association.accepted_contexts, *association.rejected_contexts]
    association.release()
    results = [context.result for context in contexts if context.abstract_syntax == sop_class]
    assert len(results) == 1
    return int(results[0] or 0)


@pytest.mark.parametrize(
    ("sop_class", "syntax", "result"),
    [
        (UltrasoundImageStorage, ExplicitVRLittleEndian, ACCEPTED),
        (MRImageStorage, ExplicitVRLittleEndian, REJECTED),
        (PRIVATE, ExplicitVRLittleEndian, ACCEPTED),
        (f"{PRIVATE}1", ExplicitVRLittleEndian, REJECTED),
        (CTImageStorage, JPEGBaseline8Bit, ACCEPTED),
        (CTImageStorage, DeflatedExplicitVRLittleEndian, REJECTED),
        (CTImageStorage, "1.2.840.10008.1.2.4.94", REJECTED),
    ],
)
def test_what_is_not_on_the_list_is_turned_away_at_the_association(
    archive: Orthanc, sop_class: str, syntax: str, result: set[int]
) -> None:
    assert negotiated(archive, sop_class, syntax) in result


def test_every_class_and_syntax_of_the_default_is_accepted_by_this_orthanc(archive: Orthanc) -> None:
    """A list that Orthanc does not understand would be no list."""
    entity = AE(ae_title="CT1")
    wanted = [uid for uid in SOP_CLASSES if uid != MRImageStorage]
    for start in range(0, len(wanted), 100):
        entity.requested_contexts = []
        for uid in wanted[start : start + 100]:
            entity.add_requested_context(uid, ImplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", archive.dicom, ae_title="ARCHIVE")
        assert association.rejected_contexts == []
        association.release()
    refused = [uid for uid in TRANSFER_SYNTAXES if negotiated(archive, UltrasoundImageStorage, uid) not in ACCEPTED]
    assert refused == []


def of_class(uid: str) -> Dataset:
    dataset = instance(generate_uid())
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(uid)
    return dataset


def refused(archive: Orthanc, reason: str) -> int:
    return int(archive.rest("GET", "/pacs/ingest").json()["refused"][reason])


@pytest.mark.parametrize("way", ["rest", "stow"])
def test_an_upload_is_held_against_the_same_lists(archive: Orthanc, way: str) -> None:
    def send(data: bytes) -> bool:
        return archive.upload(data) == 200 if way == "rest" else archive.stow(data).ok

    classes, syntaxes = refused(archive, "SopClassNotAccepted"), refused(archive, "TransferSyntaxNotAccepted")
    for uid in (UltrasoundImageStorage, PRIVATE):
        assert send(part10(of_class(uid)))
    bad = [of_class(MRImageStorage), of_class(f"{PRIVATE}1")]
    for dataset in bad:
        assert not send(part10(dataset))
        assert archive.instances(dataset.SOPInstanceUID) == []
    assert refused(archive, "SopClassNotAccepted") == classes + 2
    referring = instance(generate_uid())  # to pixels elsewhere (PS3.5 A.6); test_bombs has the deflated ones
    del referring.PixelData
    referring.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.94")
    assert not send(part10(referring))
    assert archive.instances(referring.SOPInstanceUID) == []
    assert refused(archive, "TransferSyntaxNotAccepted") == syntaxes + 1


def test_an_object_of_another_class_than_announced_is_refused_with_a_status(
    archive: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Announced and sent as CT, which is accepted; the object itself says MR: Data Set does not match SOP Class."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)  # sends a file's bytes as they are
    entity = AE(ae_title="CT1")
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    for said, status in ((MRImageStorage, 0xA900), (CTImageStorage, 0x0000)):
        dataset = of_class(CTImageStorage)
        header, _, rest = part10(dataset).rpartition(CTImageStorage.encode())
        assert len(said) == len(CTImageStorage)
        (tmp_path / "one.dcm").write_bytes(header + said.encode() + rest)
        association = entity.associate("127.0.0.1", archive.dicom, ae_title="ARCHIVE")
        assert association.send_c_store(tmp_path / "one.dcm").Status == status
        association.release()
        assert bool(archive.instances(dataset.SOPInstanceUID)) is (status == 0)
