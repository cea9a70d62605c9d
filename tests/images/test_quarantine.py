"""A differing duplicate in a real Orthanc: refused on every path, kept whole, never served, released by a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from tests.machine import enterable

from .conftest import Image
from .orthanc_server import PREFIX, PYTHON, ROOT, SECTION, WEB, Orthanc, instance, orthanc, part10

NOBODY = "00000000-0000-0000-0000-000000000000"
SUCCESS, DUPLICATE = 0x0000, 0x0111
Send = Callable[[Orthanc, Dataset], bool]


def by_store(archive: Orthanc, dataset: Dataset) -> bool:
    status = archive.store("CT1", dataset)
    assert status in (SUCCESS, DUPLICATE), status
    return status == SUCCESS


def by_rest(archive: Orthanc, dataset: Dataset) -> bool:
    status = archive.upload(part10(dataset))
    assert status in (200, 400), status
    return status == 200


def by_stow(archive: Orthanc, dataset: Dataset) -> bool:
    answer = archive.stow(part10(dataset))
    kept, failed = (len(answer.json().get(tag, {}).get("Value", [])) for tag in ("00081199", "00081198"))
    assert kept + failed == 1
    assert answer.ok is bool(kept)
    return bool(kept)


PATHS = pytest.mark.parametrize("send", [by_store, by_rest, by_stow])


def folder_for(tmp_path: Path) -> Path:
    return enterable(tmp_path)


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = folder_for(tmp_path_factory.mktemp("archive"))
    with orthanc(image("archive"), folder, Plugins=[PYTHON, WEB]) as server:
        yield server


def ingest(archive: Orthanc) -> dict[str, Any]:
    return dict(archive.rest("GET", "/pacs/ingest").json())


def held(archive: Orthanc) -> list[dict[str, Any]]:
    return list(archive.rest("GET", "/pacs/quarantine").json())


def hold_one(archive: Orthanc, **different: Any) -> tuple[Dataset, Dataset, str]:
    """Store an object and send another under its UID; return both and the identifier under which the other is held."""
    first = instance(generate_uid(), pixels=generate_uid().encode().ljust(64)[:16])
    second = instance(first.SOPInstanceUID, **{"pixels": generate_uid().encode()[-16:], **different})
    before = {entry["id"] for entry in held(archive)}
    assert by_rest(archive, first)
    assert not by_rest(archive, second)
    (name,) = {entry["id"] for entry in held(archive)} - before
    return first, second, name


@PATHS
@pytest.mark.parametrize("other", [{"pixels": b"\3\4" * 8}, {"patient": "P2"}, {"study": "1.2.4"}])
def test_a_differing_duplicate_is_refused_and_kept_whole(archive: Orthanc, send: Send, other: dict[str, Any]) -> None:
    uid = generate_uid()
    assert send(archive, instance(uid))
    stored, before = archive.stored(uid), ingest(archive)["quarantine"]
    assert send(archive, instance(uid)), "the twin: the same content again"
    assert ingest(archive)["quarantine"] == before
    assert not send(archive, instance(uid, **other))
    assert archive.stored(uid) == stored
    after = ingest(archive)["quarantine"]
    assert (after["held"], after["taken"]) == (before["held"] + 1, before["taken"] + 1)
    entry = held(archive)[-1]
    assert (entry["way"], entry["aet"]) == (("C-STORE", "CT1") if send is by_store else ("Upload", ""))
    file = archive.data / "quarantine" / entry["id"]
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_bytes()[1024:]
    if send is not by_store:
        assert kept == part10(instance(uid, **other))
    assert kept[128:132] == b"DICM"
    assert len(kept) == entry["size"]


@PATHS
def test_the_same_duplicate_again_is_refused_again_and_kept_once(archive: Orthanc, send: Send) -> None:
    uid = generate_uid()
    assert send(archive, instance(uid))
    assert not send(archive, instance(uid, patient="P2"))
    before = ingest(archive)["quarantine"]
    assert not send(archive, instance(uid, patient="P2"))
    assert ingest(archive)["quarantine"] == before


def test_what_is_quarantined_is_not_served(archive: Orthanc) -> None:
    uid = generate_uid()
    assert by_rest(archive, instance(uid, patient="SEEN"))
    assert not by_rest(archive, instance(uid, patient="UNSEEN"))
    asked = {
        patient: archive.rest(
            "POST", "/tools/find", data=json.dumps({"Level": "Patient", "Query": {"PatientID": patient}})
        ).json()
        for patient in ("SEEN", "UNSEEN")
    }
    assert len(asked["SEEN"]) == 1
    assert asked["UNSEEN"] == []
    assert len(archive.rest("GET", f"/dicom-web/instances?SOPInstanceUID={uid}").json()) == 1
    assert archive.rest("GET", "/dicom-web/studies?PatientID=UNSEEN").json() == []


def test_counts_and_lists_and_the_log_tell_nothing_of_patients(archive: Orthanc) -> None:
    _, second, name = hold_one(archive, patient="PAT-99")
    for text in (json.dumps(ingest(archive)), json.dumps(held(archive)), archive.log()):
        for secret in (str(second.SOPInstanceUID), "PAT-99", "Surname"):
            assert secret not in text
    assert archive.events("quarantined")[-1] == {"event": "quarantined", "reason": "Held", "aet": "", "way": "Upload"}
    assert archive.rest("GET", f"/pacs/quarantine/{name}").json()["held"]["PatientID"] == "PAT-99", "a person may look"


def test_a_person_sees_what_differs_by_name(archive: Orthanc) -> None:
    _, _, name = hold_one(archive, patient="P3")
    shown = archive.rest("GET", f"/pacs/quarantine/{name}").json()
    assert (shown["held"]["PatientID"], shown["stored"][0]["PatientID"]) == ("P3", "P1")
    assert shown["stored"][0]["differs"] == ["PatientID"]
    _, _, name = hold_one(archive)
    assert archive.rest("GET", f"/pacs/quarantine/{name}").json()["stored"][0]["differs"] == ["binary data"]


@pytest.mark.parametrize("different", [{}, {"patient": "P2"}, {"study": "1.2.5"}], ids=["pixels", "patient", "study"])
def test_a_released_object_is_served_and_the_other_is_held_in_its_stead(
    archive: Orthanc, different: dict[str, Any]
) -> None:
    first, second, name = hold_one(archive, **different)
    count = len(held(archive))
    assert archive.rest("POST", f"/pacs/quarantine/{name}/release").json() == {"released": name, "replaced": 1}
    assert archive.stored(first.SOPInstanceUID) == part10(second)
    assert len(held(archive)) == count
    newest = held(archive)[-1]
    assert newest["way"] == "Replaced"
    assert (archive.data / "quarantine" / newest["id"]).read_bytes()[1024:] == part10(first)
    assert archive.rest("POST", f"/pacs/quarantine/{newest['id']}/release").ok, "and back again"
    assert archive.stored(first.SOPInstanceUID) == part10(first)


def test_of_two_releases_at_once_one_wins(archive: Orthanc) -> None:
    for _ in range(10):
        first, second, name = hold_one(archive)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda n: archive_rest(archive, n), [name, name]))
        assert sorted(answers)[0] == 200
        assert sorted(answers)[1] in (404, 409)
        assert archive.stored(first.SOPInstanceUID) == part10(second)


def archive_rest(archive: Orthanc, name: str) -> int:
    """Ask for a release on a connection of its own."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{archive.http}/pacs/quarantine/{name}/release"
        return session.post(url, timeout=30).status_code


def test_a_discarded_object_is_gone_and_another_is_not(archive: Orthanc) -> None:
    (first, _, name), (_, _, other) = hold_one(archive), hold_one(archive)
    stored = archive.stored(first.SOPInstanceUID)
    assert archive.rest("DELETE", f"/pacs/quarantine/{name}").json() == {"discarded": name}
    names = {entry["id"] for entry in held(archive)}
    assert name not in names
    assert other in names
    assert not (archive.data / "quarantine" / name).exists()
    assert archive.stored(first.SOPInstanceUID) == stored
    for method, path in (("DELETE", ""), ("GET", ""), ("POST", "/release")):
        assert archive.rest(method, f"/pacs/quarantine/{name}{path}").status_code == 404


def test_wrong_words_are_refused(archive: Orthanc) -> None:
    _, _, name = hold_one(archive)
    assert archive.rest("GET", f"/pacs/quarantine/{name}/release").status_code == 405
    assert archive.rest("POST", f"/pacs/quarantine/{name}").status_code == 405
    assert archive.rest("DELETE", "/pacs/quarantine").status_code == 405
    assert archive.rest("POST", f"/pacs/quarantine/{name[:-1]}/release").status_code == 404
    assert archive.rest("GET", f"/pacs/quarantine/..%2f{name}").status_code == 404
    assert archive.rest("GET", f"/pacs/quarantine/{name}").ok


def test_what_is_not_as_it_was_written_is_not_released(archive: Orthanc) -> None:
    first, _, name = hold_one(archive)
    stored = archive.stored(first.SOPInstanceUID)
    file = archive.data / "quarantine" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    answer = archive.rest("POST", f"/pacs/quarantine/{name}/release")
    assert (answer.status_code, archive.stored(first.SOPInstanceUID)) == (500, stored)
    file.write_bytes(whole)
    assert archive.rest("POST", f"/pacs/quarantine/{name}/release").ok


def test_a_full_quarantine_refuses_as_before_and_counts(image: Callable[[str], Image], tmp_path: Path) -> None:
    section = {**SECTION, "Quarantine": {"MaxObjects": 1, "MaxBytes": 2**20}}
    with orthanc(image("archive"), folder_for(tmp_path), PacsArchive=section) as server:
        uid = generate_uid()
        assert server.store("CT1", instance(uid)) == SUCCESS
        stored = server.stored(uid)
        assert server.store("CT1", instance(uid, patient="P2")) == DUPLICATE
        assert server.store("CT1", instance(uid, patient="P3")) == DUPLICATE
        report = ingest(server)["quarantine"]
        assert (report["held"], report["taken"], report["notTaken"]) == (1, 1, 1)
        assert server.events("not-quarantined")[-1]["reason"] == "Full"
        assert server.stored(uid) == stored
        (entry,) = held(server)
        answer = server.rest("POST", f"/pacs/quarantine/{entry['id']}/release")
        assert (answer.status_code, server.stored(uid)) == (507, stored), "the served one would have no place"


def test_a_restart_forgets_nothing(image: Callable[[str], Image], tmp_path: Path) -> None:
    with orthanc(image("archive"), folder_for(tmp_path)) as server:
        first, second, name = hold_one(server)
        before = held(server)
        (server.data / "quarantine" / f"{NOBODY}.part").write_bytes(b"cut off")
    with orthanc(image("archive"), tmp_path) as server:
        assert held(server) == before
        assert [path.name for path in (server.data / "quarantine").iterdir()] == [name]
        assert not by_rest(server, second)
        assert ingest(server)["quarantine"]["held"] == 1, "known from before"
        assert server.rest("POST", f"/pacs/quarantine/{name}/release").ok
        assert server.stored(first.SOPInstanceUID) == part10(second)


@pytest.mark.parametrize("send", [by_rest, by_stow])
@pytest.mark.parametrize(
    ("patient", "uid", "study"),
    [(f"{PREFIX}r", "1.2.3.9.1", "1.2.3"), ("P1", f"{ROOT}.9.1", "1.2.3"), ("P1", "1.2.3.9.2", f"{ROOT}.9")],
)
def test_reserved_identifiers_are_refused_from_uploads(
    archive: Orthanc, send: Send, patient: str, uid: str, study: str
) -> None:
    count = ingest(archive)["refused"]["ReservedForProbes"]
    assert not send(archive, instance(uid, patient=patient, study=study))
    assert archive.instances(uid) == []
    assert ingest(archive)["refused"]["ReservedForProbes"] == count + 1
    assert send(archive, instance(generate_uid(), patient=f"X{PREFIX}"))


@pytest.mark.parametrize("preamble", [b"MZ" + b"\x90" * 126, b"\x7fELF" + b"\1" * 124, b"II*\0".ljust(128, b"\2")])
@pytest.mark.parametrize("send", ["rest", "stow", "zip"])
def test_a_preamble_is_blanked_on_every_path(archive: Orthanc, send: str, preamble: bytes) -> None:
    """By C-STORE none can come: the file's header is made by Orthanc."""
    uid = generate_uid()
    data = part10(instance(uid), preamble)
    if send == "rest":
        assert archive.upload(data) == 200
    elif send == "zip":
        assert archive.upload(zipped(data)) == 200
    else:
        assert archive.stow(data).ok
    assert archive.stored(uid) == bytes(128) + data[128:]
    assert not by_rest(archive, instance(uid, patient="P2"))
    assert archive.upload(part10(instance(uid, patient="P3"), preamble)) == 400
    assert all(file.read_bytes()[1024:1152] == bytes(128) for file in (archive.data / "quarantine").iterdir())


def zipped(data: bytes) -> bytes:
    from io import BytesIO
    from zipfile import ZipFile

    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("one.dcm", data)
    return buffer.getvalue()
