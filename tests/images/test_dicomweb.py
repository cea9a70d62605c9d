"""DICOMweb from a client through the gate to a real Orthanc: what is stored, found and retrieved, and what is not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from pacs_operator.domain.peer import Right

from .conftest import Image
from .orthanc_server import PREFIX, ROOT, instance, part10
from .test_character_sets import NAMES, content, named
from .webarchive import MEBIBYTE, STUDIES, WebArchive, address, admitted, parts, running_archive

JSON = {"Accept": "application/dicom+json"}
OCTETS = {"Accept": 'multipart/related; type="application/octet-stream"'}
CHUNKED = {"Transfer-Encoding": "chunked"}
FAILED, STORED = "00081198", "00081199"  # Failed and Referenced SOP Sequence (PS3.18 I.2)


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebArchive]:
    with running_archive(image("archive"), tmp_path_factory.mktemp("web")) as running:
        yield running


def fresh(**more: object) -> Dataset:
    return instance(generate_uid(), study=generate_uid(), **more)  # type: ignore[arg-type]


def told(reply_body: bytes) -> tuple[set[str], set[str]]:
    """Return the UIDs that were stored and those that were not."""
    answer = json.loads(reply_body)
    return tuple(  # type: ignore[return-value]
        {item["00081155"]["Value"][0] for item in answer.get(tag, {}).get("Value", [])} for tag in (STORED, FAILED)
    )


def test_what_was_stored_comes_back_equal(archive: WebArchive) -> None:
    sent = fresh()
    reply = archive.stow(part10(sent))
    assert (reply.status, told(reply.body)[0]) == (200, {sent.SOPInstanceUID})
    assert archive.retrieve(sent) == part10(sent)
    where = address(sent)
    [metadata] = json.loads(archive.client.ask(f"{where}/metadata", headers=JSON).body)
    assert metadata["00100020"]["Value"] == ["P1"]
    frames = archive.client.ask(f"{where}/frames/1", headers=OCTETS)
    assert parts(frames) == [sent.PixelData]
    rendered = archive.client.ask(f"{where}/rendered", headers={"Accept": "image/png"})
    assert (rendered.status, rendered.body[:4]) == (200, b"\x89PNG")
    [found] = json.loads(archive.client.ask(f"{STUDIES}?StudyInstanceUID={sent.StudyInstanceUID}").body)
    assert found["00081190"]["Value"][0].startswith("https://127.0.0.1:")


def test_bulk_data_comes_by_the_address_that_metadata_gave(archive: WebArchive) -> None:
    sent = fresh()
    sent.add_new(0x00420011, "OB", bytes(range(256)))
    assert archive.stow(part10(sent)).status == 200
    [metadata] = json.loads(archive.client.ask(f"{address(sent)}/metadata", headers=JSON).body)
    uri = metadata["00420011"]["BulkDataURI"]
    path = "/" + uri.split("/", 3)[3]
    reply = archive.client.ask(path, headers=OCTETS)
    assert parts(reply) == [bytes(range(256))]


def test_several_objects_in_one_request(archive: WebArchive) -> None:
    objects = [fresh() for _ in range(5)]
    reply = archive.stow(*map(part10, objects))
    assert told(reply.body)[0] == {one.SOPInstanceUID for one in objects}
    for one in objects:
        assert archive.retrieve(one) == part10(one)


def test_a_preamble_is_neutralised(archive: WebArchive) -> None:
    sent = fresh()
    assert archive.stow(part10(sent, preamble=b"MZ" + bytes(126))).status == 200
    stored = archive.retrieve(sent)
    assert stored[:132] == bytes(128) + b"DICM"
    assert stored[132:] == part10(sent)[132:]


def test_a_differing_duplicate_is_quarantined_and_answered_with_failure(archive: WebArchive) -> None:
    first = fresh(pixels=b"\1\2" * 8)
    assert archive.stow(part10(first)).status == 200
    other = instance(first.SOPInstanceUID, study=first.StudyInstanceUID, pixels=b"\7\7" * 8)
    held = archive.server.rest("GET", "/pacs/ingest").json()["quarantine"]["held"]
    reply = archive.stow(part10(other))
    assert reply.status != 200 or told(reply.body)[1]
    assert archive.retrieve(first) == part10(first)
    assert archive.server.rest("GET", "/pacs/ingest").json()["quarantine"]["held"] == held + 1
    again = archive.stow(part10(first))  # the twin: the same content once more
    assert (again.status, told(again.body)[1]) == (200, set())


def test_the_probes_range_is_refused_from_everybody_and_others_are_stored(archive: WebArchive) -> None:
    reserved = instance(f"{ROOT}.7.1", study=generate_uid())
    reserved.PatientID = f"{PREFIX}r1"
    reply = archive.stow(part10(reserved))
    assert reply.status != 200 or told(reply.body)[1]
    found = archive.client.ask(f"{STUDIES}?PatientID={PREFIX}r1")
    assert found.status == 204 or json.loads(found.body) == []
    assert archive.stow(part10(fresh())).status == 200


def test_what_is_no_dicom_is_answered_with_an_error_and_harms_nothing(archive: WebArchive) -> None:
    for body in (b"\0" * 1000, b"DICM", part10(fresh())[:200]):
        reply = archive.stow(body)
        assert reply.status != 200 or not told(reply.body)[0]
    assert archive.stow(part10(fresh())).status == 200


@pytest.mark.parametrize("charset", NAMES)
def test_a_name_in_each_character_set_is_found_by_qido(archive: WebArchive, charset: str) -> None:
    name = NAMES[charset].replace("^", "W^", 1)
    sent = named(charset, name)
    assert archive.stow(part10(sent)).status == 200
    assert archive.retrieve(sent).endswith(content(sent))
    [found] = json.loads(archive.client.ask(f"{STUDIES}?PatientName={quote(name, safe='')}").body)
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    assert "=".join(found["00100010"]["Value"][0].values()) == name
    none = archive.client.ask(f"{STUDIES}?PatientName={quote(name + 'x', safe='')}")
    assert none.status == 204 or json.loads(none.body) == []


def test_a_store_only_peer_finds_and_retrieves_nothing(archive: WebArchive) -> None:
    sent = fresh()
    modality = admitted(archive.stage, Right.STORE)
    assert archive.stow(part10(sent), client=modality).status == 200
    for path in (STUDIES, address(sent), f"{address(sent)}/metadata", f"{address(sent)}/rendered"):
        assert modality.ask(path).status == 403
        assert archive.client.ask(path).status == 200


def test_a_body_in_chunks_is_stored_and_one_that_is_too_large_is_not(archive: WebArchive) -> None:
    def chunks(dataset: Dataset) -> Iterator[bytes]:
        data = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + part10(dataset) + b"\r\n--cut--\r\n"
        stream = io.BytesIO(data)
        while piece := stream.read(MEBIBYTE):
            yield piece

    small, large = fresh(), fresh(pixels=bytes(17 * MEBIBYTE))
    assert archive.send(chunks(small), more=CHUNKED).status == 200
    assert archive.retrieve(small) == part10(small)
    # Who is still sending when the answer comes may meet the end of the connection first.
    assert archive.send(chunks(large), more=CHUNKED).status in (413, None)
    assert archive.server.instances(large.SOPInstanceUID) == []
    assert archive.stow(part10(fresh())).status == 200


def resident_mi(process: int) -> float:
    line = next(text for text in Path(f"/proc/{process}/status").read_text().splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_bodies_stream_through_gate_and_pod(
    image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of an object of 96 MiB, neither of the two HAProxies holds more than its buffers."""
    with running_archive(image("archive"), tmp_path_factory.mktemp("large"), body_mi=128) as archive:
        processes = (archive.stage.gate.process.pid, archive.stage.process.pid)
        before = [resident_mi(process) for process in processes]
        sent = fresh(pixels=bytes(96 * MEBIBYTE))
        assert archive.stow(part10(sent)).status == 200
        assert archive.retrieve(sent) == part10(sent)
        grown = [resident_mi(process) - was for process, was in zip(processes, before, strict=True)]
        assert max(grown) < 16, grown
