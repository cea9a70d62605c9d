"""What an accepted association carries: large, long, and silent for a while."""

import hashlib
import random
from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom.sop_class import CTImageStorage

from .device import PDU_AC, Device, associate_rq, echo, read_answer, tls_connection
from .process import Gate, Site, wait_for

MakeDevice = Callable[..., Device]
LONGER_THAN_ANY_WAIT_BEFORE_ACCEPTANCE = 7.0


def image(size: int, seed: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.PatientID = "TEST"
    dataset.BitsAllocated = 8
    dataset.PixelData = random.Random(seed).randbytes(size)
    return dataset


def test_images_arrive_as_they_were_sent(make_device: MakeDevice, site: Site) -> None:
    """Sizes around the gate's buffer and TLS records, and one far beyond every buffer."""
    association = make_device("CT1").associate()
    for number, size in enumerate((2, 16_384, 16_386, 131_070, 131_072, 131_074, 24_000_000)):
        dataset = image(size, number)
        status = association.send_c_store(dataset)
        assert status.Status == 0x0000
        assert site.archive.stored[dataset.SOPInstanceUID] == hashlib.sha256(dataset.PixelData).hexdigest()
    association.release()
    assert association.is_released


def test_an_accepted_association_may_be_silent(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1")
    with tls_connection(gate.port, device.context) as connection:
        connection.sendall(associate_rq())
        assert read_answer(connection).pdu == PDU_AC
        connection.settimeout(LONGER_THAN_ANY_WAIT_BEFORE_ACCEPTANCE)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(15)
        connection.sendall(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")  # A-RELEASE-RQ, PS3.8 table 9-24
        assert connection.recv(1) == b"\x06"


def test_when_the_device_is_gone_the_archive_is_told(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1")
    association = device.associate()
    assert echo(association)
    assert gate.activity("imaging/ct1").open_associations == 1
    association.abort()
    wait_for(lambda: gate.activity("imaging/ct1").open_associations == 0, "the gate closes the archive's side too")
