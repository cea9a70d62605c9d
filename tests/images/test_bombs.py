"""Objects that are small on the wire and huge when unfolded: refused, and the archive serves on as small as before."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator

import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless
from pynetdicom import AE

from pacs_operator.domain.storable import TRANSFER_SYNTAXES

from .conftest import Image
from .orthanc_server import part10
from .test_dicomweb import fresh, resident_mi, told
from .webarchive import MEBIBYTE, WebArchive, address, running_archive

BOMB_MI = 512
GROWTH_MI = 64  # of Orthanc, while it refuses
JPIP_DEFLATED = UID("1.2.840.10008.1.2.4.95")
OUT_OF_RESOURCES = 0xA700


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebArchive]:
    with running_archive(image("archive"), tmp_path_factory.mktemp("bombs")) as running:
        assert running.stow(part10(fresh())).status == 200
        yield running


def deflated(dataset: Dataset, syntax: UID, pixels_mi: int) -> bytes:
    """Return a file whose data set is one deflated stream (PS3.5 A.5), of which the pixels are written here."""
    dataset.PixelData = b"\1\2"
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = part10(dataset)
    start = 144 + int.from_bytes(whole[140:144], "little")
    head = whole[:start].replace(DeflatedExplicitVRLittleEndian.encode(), syntax.encode())
    body = zlib.decompress(whole[start:], -15)[:-6]  # without the pixels' length and value
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [head, stream.compress(body + struct.pack("<I", pixels_mi * MEBIBYTE))]
    parts += [stream.compress(bytes(MEBIBYTE)) for _ in range(pixels_mi)]
    return b"".join((*parts, stream.flush()))


def run_length(rows: int, columns: int) -> Dataset:
    """Return an image of one compressed frame that says it has so many pixels, all of them 0 (PS3.5 G)."""
    dataset = fresh()
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    runs = b"\x81\0" * min(-(-rows * columns // 128), 4096)
    dataset.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + runs])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return dataset


def test_a_deflated_object_is_never_unfolded(archive: WebArchive) -> None:
    """Parsed whole before anybody looks at its transfer syntax, it would be in memory as what it unfolds to."""
    for syntax in (DeflatedExplicitVRLittleEndian, JPIP_DEFLATED):
        sent = fresh()
        bomb = deflated(sent, syntax, BOMB_MI)
        assert len(bomb) < MEBIBYTE
        before = resident_mi(archive.server.process.pid)
        reply = archive.stow(bomb)
        assert reply.status != 200 or not told(reply.body)[0]
        assert archive.server.upload(bomb) == 400
        assert resident_mi(archive.server.process.pid) - before < GROWTH_MI
        assert archive.server.instances(sent.SOPInstanceUID) == []
    honest = fresh()
    assert archive.stow(part10(honest)).status == 200
    assert archive.retrieve(honest) == part10(honest)


def test_where_the_list_has_it_a_deflated_object_is_unfolded_as_far_as_one_may_be_large(
    image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory
) -> None:
    syntaxes = [*TRANSFER_SYNTAXES, DeflatedExplicitVRLittleEndian]
    folder = tmp_path_factory.mktemp("deflated")
    with running_archive(image("archive"), folder, AcceptedTransferSyntaxes=syntaxes) as archive:
        sent, bomb = fresh(), fresh()
        honest = deflated(sent, DeflatedExplicitVRLittleEndian, 1)
        assert archive.stow(honest).status == 200
        assert archive.server.stored(sent.SOPInstanceUID) == honest
        before = resident_mi(archive.server.process.pid)
        reply = archive.stow(deflated(bomb, DeflatedExplicitVRLittleEndian, 4 * BOMB_MI))
        assert reply.status != 200 or not told(reply.body)[0]
        assert archive.server.instances(bomb.SOPInstanceUID) == []
        assert resident_mi(archive.server.process.pid) - before < BOMB_MI + GROWTH_MI
        assert archive.stow(part10(fresh())).status == 200


def test_a_compressed_request_is_not_unpacked(archive: WebArchive) -> None:
    sent = fresh()
    body = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + part10(sent) + b"\r\n--cut--\r\n"
    before = resident_mi(archive.server.process.pid)
    reply = archive.send(gzip.compress(body + bytes(BOMB_MI * MEBIBYTE)), more={"Content-Encoding": "gzip"})
    assert reply.status != 200 or not told(reply.body)[0]
    assert archive.server.instances(sent.SOPInstanceUID) == []
    assert resident_mi(archive.server.process.pid) - before < GROWTH_MI
    assert archive.send(body).status == 200
    assert len(archive.server.instances(sent.SOPInstanceUID)) == 1


def store(archive: WebArchive, dataset: Dataset) -> int:
    entity = AE(ae_title="CT1")
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", archive.server.dicom, ae_title="ARCHIVE")
    assert association.is_established
    status = association.send_c_store(dataset).Status
    association.release()
    return int(status)


def test_a_frame_that_claims_gigabytes_is_not_stored(archive: WebArchive) -> None:
    """Kept, it would end the archive whenever somebody looks at it: Orthanc makes room for all that is claimed."""
    for way in ("STOW-RS", "C-STORE"):
        claims, honest = run_length(65535, 65535), run_length(64, 64)
        before = resident_mi(archive.server.process.pid)
        if way == "C-STORE":
            assert store(archive, claims) == OUT_OF_RESOURCES
            assert store(archive, honest) == 0
        else:
            reply = archive.stow(part10(claims))
            assert reply.status != 200 or not told(reply.body)[0]
            assert archive.stow(part10(honest)).status == 200
        assert archive.server.instances(claims.SOPInstanceUID) == []
        assert archive.client.ask(f"{address(claims)}/rendered", headers={"Accept": "image/png"}).status == 404
        shown = archive.client.ask(f"{address(honest)}/rendered", headers={"Accept": "image/png"})
        assert (shown.status, shown.body[:4]) == (200, b"\x89PNG")
        assert resident_mi(archive.server.process.pid) - before < GROWTH_MI
    assert archive.server.metric("pacs_store_refused_object_too_large") == 2
