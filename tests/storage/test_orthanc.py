"""The image's Orthanc with the encrypting storage area: what a reader gets, and what lies on the volume."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from tests.images.conftest import Image, wait_for
from tests.images.orthanc_server import SECTION, Orthanc, orthanc
from tests.machine import enterable

from .damage import KINDS
from .server import CANARY, attachment, encrypted, image_of, keys_of, upload, volume_of
from .volume import PART10, Ring, holding, key, leftovers, objects

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700


@pytest.fixture(scope="module")
def folder(archive_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = enterable(tmp_path_factory.mktemp("encrypted"))
    Ring().write(keys_of(place))
    return place


@pytest.fixture(scope="module")
def archive(archive_image: Image, folder: Path) -> Iterator[Orthanc]:
    with encrypted(archive_image, folder) as server:
        yield server


def file_of(server: Orthanc, uid: str, start: int | None = None, end: int | None = None) -> tuple[int, bytes]:
    (one,) = server.instances(uid)
    headers = {} if start is None else {"Range": f"bytes={start}-{end}"}
    got = server.rest("GET", f"/instances/{one}/attachments/dicom/data", headers=headers)
    return got.status_code, got.content


def state(server: Orthanc) -> dict[str, object]:
    return dict(server.rest("GET", "/pacs/storage").json())


def errors_of(server: Orthanc) -> int:
    return sum(int(str(state(server)[what])) for what in ("corrupt", "failed"))


@pytest.mark.parametrize("way", ["C-STORE", "REST"])
def test_what_is_stored_is_what_is_retrieved_whole_and_in_parts(
    archive: Orthanc, archive_image: Image, reachable: Path, way: str
) -> None:
    """Against an Orthanc with its own storage: the same object, the same answers."""
    dataset = image_of(generate_uid())
    with orthanc(archive_image, reachable) as plain:
        for server in (archive, plain):
            stored = server.store("CT1", dataset) if way == "C-STORE" else upload(server, dataset) - 200
            assert stored == SUCCESS
        uid = dataset.SOPInstanceUID
        ways = ("/file", "/frames/0/raw", "/tags?simplify", "/attachments/dicom/md5")
        for path in ways:
            ours, theirs = (s.rest("GET", f"/instances/{s.instances(uid)[0]}{path}").content for s in (archive, plain))
            assert ours == theirs and ours, path
        size = len(archive.stored(uid))
        for start, end in (
            (0, 0),
            (0, 999),
            (65_535, 65_536),
            (65_536, 131_071),
            (1000, 199_999),
            (size - 1, size - 1),
        ):
            assert file_of(archive, uid, start, end) == file_of(plain, uid, start, end)
            assert file_of(archive, uid, start, end)[0] == 206


def test_nothing_on_the_volume_is_legible(
    archive: Orthanc, folder: Path, archive_image: Image, reachable: Path
) -> None:
    """Its twin: the same search finds the same object in Orthanc's own storage."""
    dataset = image_of(generate_uid())
    assert archive.store("CT1", dataset) == SUCCESS
    assert holding(folder / "volume", PART10, CANARY.encode()) == set()
    assert leftovers(folder / "volume" / "encrypted") == set()
    with orthanc(archive_image, reachable) as plain:
        assert plain.store("CT1", dataset) == SUCCESS
        found = holding(reachable / "data", PART10, CANARY.encode())
        assert [name for name in found if len(Path(name).name) == 36]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_an_error_and_never_other_bytes(archive: Orthanc, folder: Path, kind: str) -> None:
    uids = [generate_uid(), generate_uid()]
    for seed, uid in enumerate(uids):
        assert archive.store("CT1", image_of(uid, seed=seed)) == SUCCESS
    whole = [file_of(archive, uid)[1] for uid in uids]
    first, second = (objects(folder / "volume" / "encrypted")[attachment(archive, uid)] for uid in uids)
    intact = first.read_bytes()
    errors = errors_of(archive)
    first.write_bytes(KINDS[kind](intact, second.read_bytes()))
    status, got = file_of(archive, uids[0])
    assert status >= 400 and CANARY.encode() not in got
    assert errors_of(archive) > errors
    for start in range(0, len(whole[0]) - 100, 30_000):
        status, got = file_of(archive, uids[0], start, start + 99)
        assert status >= 400 or got == whole[0][start : start + 100]
    assert file_of(archive, uids[1]) == (200, whole[1]), "the neighbour is not concerned"
    first.write_bytes(intact)
    assert file_of(archive, uids[0]) == (200, whole[0])


def test_a_new_key_is_taken_while_serving_and_a_foreign_one_is_not(archive_image: Image, reachable: Path) -> None:
    keys = Ring().write(keys_of(reachable))
    old, new, later = (generate_uid() for _ in range(3))
    with encrypted(archive_image, reachable) as server:
        assert server.store("CT1", image_of(old)) == SUCCESS
        Ring().with_key(2, "two").write(keys)
        assert server.store("CT1", image_of(new)) == SUCCESS
        assert (state(server)["activeKey"], state(server)["keys"], state(server)["keysRefused"]) == (2, 2, "")
        ids = {path.read_bytes()[8:12] for path in objects(reachable / "volume" / "encrypted").values()}
        assert ids == {b"\0\0\0\1", b"\0\0\0\2"}
        for wrong in (replace(Ring(), lineage="f" * 32), Ring({1: key("other")}), Ring({2: key("two")}, active=3)):
            wrong.write(keys)
            assert server.store("CT1", image_of(generate_uid())) == SUCCESS
            assert state(server)["activeKey"] == 2
            assert state(server)["keysRefused"]
        keys.unlink()
        assert all(file_of(server, uid)[0] == 200 for uid in (old, new))
        Ring().with_key(2, "two").with_key(3, "three").write(keys)
        assert server.store("CT1", image_of(later)) == SUCCESS
        assert (state(server)["activeKey"], state(server)["keysRefused"]) == (3, "")
    assert key("one")[:16] not in server.log()


def started(image: Image, folder: Path, **more: Any) -> str:
    """Return what Orthanc said when it did not start; empty when it did."""
    try:
        with encrypted(image, folder, **more):
            return ""
    except AssertionError as ended:
        return str(ended)


REFUSED = {
    "no place for images": ({"PACS_STORAGE_ROOT": ""}, "PACS_STORAGE_ROOT is not set"),
    "no list of keys": ({"PACS_STORAGE_KEYS": ""}, "PACS_STORAGE_KEYS is not set"),
    "neither": ({"PACS_STORAGE_ROOT": "", "PACS_STORAGE_KEYS": ""}, "PACS_STORAGE_KEYS is not set"),
    "relative": ({"PACS_STORAGE_ROOT": "srv"}, "PACS_STORAGE_ROOT is not an absolute path"),
    "list absent": ({"PACS_STORAGE_KEYS": "/etc/orthanc/absent"}, "the list of keys is not there"),
    "place that cannot be written": ({"PACS_STORAGE_ROOT": "/proc/none"}, "make folder"),
}


def reason(said: str) -> str:
    """Return the one line that says why."""
    (line,) = [line for line in said.splitlines() if "pacs-storage: Orthanc does not start: " in line]
    return line


@pytest.mark.parametrize("which", REFUSED)
def test_without_place_or_keys_orthanc_does_not_start(archive_image: Image, reachable: Path, which: str) -> None:
    Ring().write(keys_of(reachable))
    environment, why = REFUSED[which]
    assert why in reason(started(archive_image, reachable, env=environment))
    assert started(archive_image, reachable) == ""


WRONG_KEYS = {
    "wrong key": Ring({1: key("other")}),
    "other archive's": replace(Ring(), lineage="f" * 32),
    "active key missing": replace(Ring(), active=9),
}


@pytest.mark.parametrize("which", WRONG_KEYS)
def test_with_keys_that_are_not_the_volumes_orthanc_does_not_start(
    archive_image: Image, reachable: Path, which: str
) -> None:
    keys = Ring().write(keys_of(reachable))
    uid = generate_uid()
    with encrypted(archive_image, reachable) as server:
        assert server.store("CT1", image_of(uid)) == SUCCESS
    WRONG_KEYS[which].write(keys)
    said = reason(started(archive_image, reachable))
    assert "key" in said
    assert key("other")[:8] not in said
    Ring().write(keys)
    with encrypted(archive_image, reachable) as server:
        assert file_of(server, uid)[0] == 200


MODES: dict[str, tuple[dict[str, Any], str]] = {
    "wanted, not loaded": ({"Plugins": ["/usr/share/orthanc/plugins/libOrthancPython.so"]}, "does not list"),
    "loaded, not wanted": ({"PacsArchive": SECTION}, "is not Transit"),
    "misspelt": ({"PacsArchive": {**SECTION, "StorageEncryption": "transit"}}, "may be None or Transit"),
}


@pytest.mark.parametrize("which", MODES)
def test_another_storage_area_than_wanted_does_not_start(archive_image: Image, reachable: Path, which: str) -> None:
    Ring().write(keys_of(reachable))
    more, why = MODES[which]
    assert why in started(archive_image, reachable, **more)
    assert started(archive_image, reachable) == ""


@pytest.mark.parametrize("root", ["/var/lib/orthanc", "/var/lib/orthanc/encrypted"])
def test_beside_encrypted_images_none_is_ever_written_in_clear(
    archive_image: Image, reachable: Path, root: str
) -> None:
    """An index of encrypted images, and all settings of encryption gone: Orthanc does not start. Its twin: empty."""
    Ring().write(keys_of(reachable))
    archive_image.owned(reachable / "data" / "lost+found").chmod(0o700)
    with encrypted(archive_image, reachable, env={"PACS_STORAGE_ROOT": root}) as server:
        pass
    with orthanc(archive_image, reachable) as server:
        assert server.ready(), "nothing was encrypted yet"
    with encrypted(archive_image, reachable, env={"PACS_STORAGE_ROOT": root}) as server:
        assert server.store("CT1", image_of(generate_uid())) == SUCCESS
    before = objects(reachable / "data" / root.removeprefix("/var/lib/orthanc").lstrip("/"))
    assert before
    with pytest.raises(AssertionError, match="holds encrypted images"), orthanc(archive_image, reachable):
        pass
    assert holding(reachable / "data", PART10) == set()


def test_the_state_is_told_and_its_test_leaves_nothing(archive_image: Image, reachable: Path) -> None:
    Ring().write(keys_of(reachable))
    root = reachable / "volume" / "encrypted"
    with encrypted(archive_image, reachable) as server:
        expected = {"mode": "Transit", "activeKey": 1, "keys": 1, "selfTest": "Passed", "corrupt": 0, "failed": 0}
        assert expected.items() <= state(server).items()
        assert objects(root) == {} and leftovers(root) == set()
        (root / "id").rename(root / "away")
        (root / "id").write_text("in the way")
        assert state(server)["selfTest"] == "Passed", "for a minute"
        assert server.rest("POST", "/pacs/storage", data="").status_code == 405
    (root / "id").unlink()
    (root / "away").rename(root / "id")
    for folder in ((root / "day"), *(root / "day").iterdir()):
        folder.chmod(0o500)
    with encrypted(archive_image, reachable) as server:
        assert state(server)["selfTest"] == "Failed"


def test_chunks_are_counted_and_never_too_low_after_a_crash(archive_image: Image, reachable: Path) -> None:
    """The next data key comes by this number."""
    Ring().write(keys_of(reachable))

    def counted(server: Orthanc) -> int:
        return int(str(state(server)["chunks"]))

    with encrypted(archive_image, reachable) as server:
        before = counted(server)
        assert server.store("CT1", image_of(generate_uid(), 200_000)) == SUCCESS
        assert counted(server) == before + 4, "200,000 bytes and a header are four chunks"
        server.process.kill()
        server.process.wait(30)
    with encrypted(archive_image, reachable) as server:
        assert before + 4 < counted(server) <= before + 2**20 + 10
        Ring().with_key(2, "two").write(keys_of(reachable))
        wait_for(lambda: state(server)["activeKey"] == 2, "the new key is taken")
        assert counted(server) < 10, "each key has its own count"


def test_a_full_volume_refuses_and_leaves_nothing(archive_image: Image, reachable: Path, small_disk: Path) -> None:
    Ring().write(keys_of(reachable))
    stored = []
    with encrypted(archive_image, reachable, volume=small_disk) as server:
        for _ in range(9):
            uid = generate_uid()
            status = server.store("CT1", image_of(uid, size=900_000))
            if status != SUCCESS:
                break
            stored.append(uid)
        assert status == OUT_OF_RESOURCES
        assert len(stored) >= 3
        assert leftovers(small_disk / "encrypted") == set()
        assert all(file_of(server, uid)[0] == 200 for uid in stored)
        assert state(server)["selfTest"] in ("Passed", "VolumeFull")
        server.rest("DELETE", f"/instances/{server.instances(stored[0])[0]}").raise_for_status()
        assert server.store("CT1", image_of(generate_uid(), size=900_000)) == SUCCESS


@pytest.mark.parametrize("at", [2, 5, 8, 9, 10, 11])
def test_orthanc_killed_within_a_write_keeps_what_it_confirmed(
    archive_image: Image, reachable: Path, fault: Path, at: int
) -> None:
    Ring().write(keys_of(reachable))
    root, etc = reachable / "volume" / "encrypted", reachable / "etc"
    (etc / "fault.so").write_bytes(fault.read_bytes())
    env = {"LD_PRELOAD": "/etc/orthanc/fault.so", "PACS_FAULT_ROOT": "/srv", "PACS_FAULT_FILE": "/etc/orthanc/fault"}
    kept, lost = generate_uid(), generate_uid()
    with encrypted(archive_image, reachable, env=env) as server:
        assert server.store("CT1", image_of(kept)) == SUCCESS
        (etc / "fault").write_text(f"{at} kill")
        with pytest.raises(AssertionError):
            assert server.store("CT1", image_of(lost)) == SUCCESS
        wait_for(lambda: server.process.poll() is not None, "Orthanc is killed")
    (etc / "fault").unlink()
    with encrypted(archive_image, reachable) as server:
        assert file_of(server, kept)[0] == 200
        assert server.instances(lost) == []
        assert leftovers(root) == set()
        assert server.store("CT1", image_of(lost)) == SUCCESS, "the modality sends it again"
        assert file_of(server, lost)[0] == 200


def test_the_tool_of_the_image_finds_what_is_damaged(archive_image: Image, reachable: Path) -> None:
    Ring().write(keys_of(reachable))
    with encrypted(archive_image, reachable) as server:
        for _ in range(2):
            assert server.store("CT1", image_of(generate_uid())) == SUCCESS
    root = reachable / "volume" / "encrypted"

    def check() -> subprocess.CompletedProcess[str]:
        mounts = {volume_of(archive_image, reachable): "/srv", reachable / "etc": "/etc/orthanc"}
        return archive_image.run(
            "/opt/pacs/bin/pacs-storage", "check", "/etc/orthanc/keys", "/srv/encrypted", mounts=mounts
        )

    assert check().stdout == "2 objects, 0 not as written\n"
    name, path = sorted(objects(root).items())[0]
    path.write_bytes(KINDS["bit flipped in the middle"](path.read_bytes(), b""))
    done = check()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "2 objects, 1 not as written")
    assert done.stdout.startswith(name)


def test_no_compiler_is_in_the_image(archive_image: Image) -> None:
    names = {"g++", "gcc", "cc", "cc1plus", "as", "ld", "make"}
    found = {path.name for folder in ("usr/bin", "usr/libexec") for path in (archive_image.root / folder).rglob("*")}
    assert names & found == set()
    assert not (archive_image.root / "usr/include/orthanc").exists()
