"""A STOW-RS request of two gigabytes, and objects at the archive's limit: refused early, and nobody else waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from pydicom import Dataset

from pacs_operator.domain.peer import Right

from .conftest import Image
from .orthanc_server import SECTION, part10
from .test_dicomweb import fresh, resident_mi, told
from .webarchive import MEBIBYTE, STUDIES, WebArchive, address, admitted, running_archive

TWO_GIGABYTES = 2 * 2**30
LIMIT_MI = 32
BODY_MI = LIMIT_MI + 1
KIND = 'multipart/related; type="application/dicom"; boundary=cut'
HEAD = b"--cut\r\nContent-Type: application/dicom\r\n\r\n"


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebArchive]:
    section = {**SECTION, "MaxObjectBytes": LIMIT_MI * MEBIBYTE}
    folder = tmp_path_factory.mktemp("gigabytes")
    with running_archive(image("archive"), folder, body_mi=BODY_MI, PacsArchive=section) as running:
        assert running.stow(part10(fresh())).status == 200
        yield running


def peaks_mi(archive: WebArchive) -> dict[str, float]:
    processes = {"gate": archive.stage.gate.process, "beside": archive.stage.process, "orthanc": archive.server.process}
    return {name: resident_mi(process.pid) for name, process in processes.items()}


def of_size(size: int) -> Dataset:
    """Return an object whose file has exactly this many bytes."""
    dataset = fresh(pixels=b"\0\0")
    dataset.PixelData = bytes(size - len(part10(dataset)) + 2)
    assert len(part10(dataset)) == size
    return dataset


def test_two_gigabytes_that_are_announced_are_refused_before_they_are_sent(archive: WebArchive) -> None:
    before = peaks_mi(archive)
    connection = archive.client.connect()
    connection.putrequest("POST", STUDIES)
    connection.putheader("Content-Type", KIND)
    connection.putheader("Content-Length", str(TWO_GIGABYTES))
    connection.endheaders()  # and not a byte of it
    assert connection.getresponse().status == 413
    connection.close()
    grown = {name: peak - before[name] for name, peak in peaks_mi(archive).items()}
    assert max(grown.values()) < 4, grown


def test_two_gigabytes_in_pieces_end_at_the_limit_while_others_are_served(archive: WebArchive) -> None:
    """What is sent beyond the limit is refused where it comes; what came until then is all that is ever held."""
    other = admitted(archive.stage, Right.FIND)
    sent, served, longest = 0, 0, 0.0

    def body() -> Iterator[bytes]:
        nonlocal sent, served, longest
        yield HEAD
        for _ in range(TWO_GIGABYTES // MEBIBYTE):
            yield bytes(MEBIBYTE)
            sent += MEBIBYTE
            if sent % (8 * MEBIBYTE) == 0:
                begun = time.monotonic()
                served += other.ask(f"{STUDIES}?PatientID=P1").status == 200
                longest = max(longest, time.monotonic() - begun)

    before = peaks_mi(archive)
    # Who is still sending when the answer comes may meet the end of the connection first.
    assert archive.send(body(), more={"Transfer-Encoding": "chunked"}).status in (413, None)
    grown = {name: peak - before[name] for name, peak in peaks_mi(archive).items()}
    assert sent < 2 * BODY_MI * MEBIBYTE, "it was told long before it had sent everything"
    assert served >= BODY_MI // 8
    assert longest < 10
    assert max(grown["gate"], grown["beside"]) < 16, grown
    assert grown["orthanc"] < 4 * BODY_MI + 16, grown


def test_an_object_just_within_the_limit_is_stored_and_one_just_beyond_is_not(archive: WebArchive) -> None:
    within, beyond = of_size(LIMIT_MI * MEBIBYTE), of_size(LIMIT_MI * MEBIBYTE + 2)
    refused = archive.stow(part10(beyond))
    assert refused.status != 200 or not told(refused.body)[0]
    assert archive.server.instances(beyond.SOPInstanceUID) == []
    before = resident_mi(archive.server.process.pid)
    assert archive.stow(part10(within)).status == 200
    assert archive.retrieve(within) == part10(within)
    assert archive.client.ask(address(beyond)).status == 404
    assert resident_mi(archive.server.process.pid) - before < 6 * LIMIT_MI


def test_an_object_beyond_the_bodys_limit_is_refused_by_its_length(archive: WebArchive) -> None:
    larger = of_size(BODY_MI * MEBIBYTE)
    assert archive.stow(part10(larger)).status == 413
    assert archive.server.instances(larger.SOPInstanceUID) == []
