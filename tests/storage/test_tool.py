"""Objects on a volume through `pacs-storage`, under ASan and UBSan: what is written is what is read, or nothing."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pacs_operator.agent.storagekeys import MAX_RING, ring_of

from .conftest import SANITIZER, Volume
from .damage import KINDS, flip
from .volume import CHUNK, HEADER, LINEAGE, OTHER, PART10, TAG, UUID, Ring, content, files, holding, key, leftovers

SIZE = 3 * CHUNK + 777
EDGES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, SIZE)


@pytest.mark.parametrize("size", EDGES)
def test_an_object_comes_back_whole_and_in_parts(volume: Volume, size: int) -> None:
    data = content(size)
    volume.put(UUID, data)
    assert volume.get(UUID, 0, size) == data
    assert volume.path(UUID).stat().st_size == HEADER + size + TAG * max(1, -(-size // CHUNK))
    for start in (0, 1, CHUNK - 1, CHUNK, size - 1):
        for length in (1, 100, CHUNK + 2):
            inside = start >= 0 and start + length <= size
            assert volume.get(UUID, max(start, 0), length) == (data[start : start + length] if inside else None)
    assert leftovers(volume.root) == set()


def test_nothing_of_an_object_is_on_the_volume(volume: Volume, tmp_path: Path) -> None:
    """Its twin, the same bytes written plainly, is found by the same search."""
    data = (PART10 + b"CANARY^PATIENT " * 20_000)[:SIZE]
    volume.put(UUID, data)
    assert holding(volume.root, PART10, b"CANARY") == set()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "object").write_bytes(data)
    assert holding(tmp_path / "plain", PART10, b"CANARY") == {"object"}
    again = volume.path(UUID).read_bytes()
    volume.put(OTHER, data)
    assert volume.path(OTHER).read_bytes()[HEADER:] != again[HEADER:], "equal objects look different"


def test_a_name_that_is_taken_is_not_written_over(volume: Volume) -> None:
    volume.put(UUID, b"first")
    assert volume.call("put", 1, UUID, data=b"later").returncode == 1
    assert volume.get(UUID, 0, 5) == b"first"
    assert leftovers(volume.root) == set()
    [day] = (volume.root / "day").rglob(UUID)
    day.unlink()  # as if the first had come on another day
    assert volume.call("put", 1, UUID, data=b"later").returncode == 1
    assert volume.get(UUID, 0, 5) == b"first"
    assert not day.exists()


@pytest.mark.parametrize("name", ["../../../etc/passwd", "", "0A1B2C3D-0000-4000-8000-0000000000AA", UUID + "/x"])
def test_only_a_uuid_becomes_a_path(volume: Volume, name: str) -> None:
    for act in (("put", 1, name), ("get", 1, name, 0, 1), ("remove", 1, name)):
        assert volume.call(*act).returncode == 1
    volume.put(UUID, b"x")


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_an_error_and_never_other_bytes(volume: Volume, kind: str) -> None:
    data = content(SIZE)
    volume.put(UUID, data)
    volume.put(OTHER, content(SIZE, seed=1))
    path = volume.path(UUID)
    before = path.read_bytes()
    path.write_bytes(KINDS[kind](before, volume.path(OTHER).read_bytes()))
    assert volume.get(UUID, 0, SIZE) is None
    for start in range(0, SIZE - 100, CHUNK // 2):
        assert volume.get(UUID, start, 100) in (None, data[start : start + 100])
    checked = volume.call("check")
    assert (checked.returncode, checked.stdout.decode().splitlines()[0][:36]) == (1, UUID)
    assert volume.get(OTHER, 0, SIZE) == content(SIZE, seed=1), "the neighbour is not concerned"
    path.write_bytes(before)
    assert volume.get(UUID, 0, SIZE) == data
    assert volume.call("check").returncode == 0


def test_no_byte_of_the_header_may_differ(volume: Volume) -> None:
    volume.put(UUID, b"object")
    path = volume.path(UUID)
    before = path.read_bytes()
    for at in range(HEADER):
        path.write_bytes(flip(at)(before, b""))
        assert volume.get(UUID, 0, 6) is None, at
    path.write_bytes(before)
    assert volume.get(UUID, 0, 6) == b"object"


def test_a_link_is_not_followed(volume: Volume, tmp_path: Path) -> None:
    volume.put(UUID, b"object")
    path = volume.path(UUID)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert volume.get(UUID, 0, 6) is None
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    assert volume.get(UUID, 0, 6) == b"object"


WRONG = {
    "another key": Ring({1: key("another")}),
    "another archive's": replace(Ring(), lineage="f" * 32),
    "without the object's key": Ring({2: key("two")}, active=2),
}


@pytest.mark.parametrize("which", WRONG)
@pytest.mark.parametrize("with_check_file", [True, False])
def test_a_list_of_keys_that_does_not_fit_opens_nothing(volume: Volume, which: str, with_check_file: bool) -> None:
    volume.put(UUID, b"object")
    if not with_check_file:
        (volume.root / "check" / "1").unlink()
    before = files(volume.root)
    WRONG[which].write(volume.keys)
    assert volume.get(UUID, 0, 6) is None
    if which != "without the object's key":  # which may be a new one, whose objects would be readable
        assert volume.call("put", 1, OTHER, data=b"new").returncode == 1
    assert files(volume.root) - before <= {"check/2"} | {name for name in files(volume.root) if OTHER in name}
    Ring().write(volume.keys)
    assert volume.get(UUID, 0, 6) == b"object"


def test_a_damaged_check_file_keeps_nobody_from_the_objects(volume: Volume) -> None:
    volume.put(UUID, b"object")
    check = volume.root / "check" / "1"
    check.write_bytes(flip(40)(check.read_bytes(), b""))
    assert volume.get(UUID, 0, 6) == b"object"
    volume.put(OTHER, b"new")
    assert check.stat().st_size == HEADER + TAG, "made anew"
    check.write_bytes(flip(40)(check.read_bytes(), b""))
    WRONG["another key"].write(volume.keys)
    assert volume.get(UUID, 0, 6) is None


BROKEN = {
    "empty": "",
    "no end": Ring().text().removesuffix("end\n"),
    "something after the end": Ring().text() + "key 2 " + key("two") + "\n",
    "cut within a line": Ring().text()[:-10],
    "another version": Ring().text().replace("pacs-keys 1", "pacs-keys 2"),
    "no lineage": Ring().text().replace(f"lineage {Ring().lineage}\n", ""),
    "short lineage": replace(Ring(), lineage="ab").text(),
    "active key absent": replace(Ring(), active=2).text(),
    "no active key": Ring().text().replace("active 1\n", ""),
    "key 0": Ring({0: key("zero")}, active=0).text(),
    "key id beyond 32 bits": Ring({2**32: key("x")}, active=1).text(),
    "short key": Ring({1: "ab" * 31}).text(),
    "upper-case key": Ring({1: key("one").upper()}).text(),
    "a key twice": Ring().text().replace("end\n", f"key 1 {key('two')}\nend\n"),
    "unknown line": Ring().text().replace("end\n", "colour blue\nend\n"),
    "binary": "\0\1\2\n" * 9,
}


@pytest.mark.parametrize("which", BROKEN)
def test_a_broken_list_of_keys_is_refused_without_a_word_of_it(volume: Volume, which: str) -> None:
    volume.put(UUID, b"object")
    volume.keys.write_text(BROKEN[which])
    done = volume.call("get", 1, UUID, 0, 6)
    assert (done.returncode, done.stdout) == (1, b"")
    assert key("one").encode()[:8] not in done.stderr.lower()
    Ring().write(volume.keys)
    assert volume.get(UUID, 0, 6) == b"object"


def test_the_longest_list_of_keys_that_the_agent_writes_is_taken_and_one_more_key_is_not(volume: Volume) -> None:
    keys = {1: bytes.fromhex(key("one")), **{number: number.to_bytes(32) for number in range(2, 14_100)}}
    while len(one_more := ring_of(LINEAGE, 1, keys)) < MAX_RING:
        keys[len(keys) + 1] = len(keys).to_bytes(32)
    assert len(keys) < 14_200, "some 14,000, as docs/encryption.md has it"
    del keys[len(keys)]
    volume.keys.write_bytes(ring_of(LINEAGE, 1, keys))
    volume.put(UUID, content(10))
    assert volume.get(UUID, 0, 10) == content(10)
    volume.keys.write_bytes(one_more)
    assert volume.get(UUID, 0, 10) is None


def test_a_key_that_took_anothers_number_seals_nothing(volume: Volume) -> None:
    """Objects of the one could never be told from those of the other."""
    Ring().with_key(2, "two").write(volume.keys)
    volume.put(UUID, b"object")
    Ring().with_key(2, "second two").write(volume.keys)
    assert volume.call("put", 1, OTHER, data=b"new").returncode == 1
    Ring().with_key(2, "two").with_key(3, "three").write(volume.keys)
    volume.put(OTHER, b"new")


def test_an_object_sealed_anew_needs_the_old_key_no_more(volume: Volume) -> None:
    data = content(SIZE)
    volume.put(UUID, data)
    volume.put(OTHER, data)
    Ring().with_key(2, "two").write(volume.keys)
    assert volume.call("reseal", 1, UUID).stdout == b"sealed anew\n"
    assert volume.call("reseal", 1, UUID).stdout == b"already\n"
    assert leftovers(volume.root) == set()
    assert (volume.get(UUID, 0, SIZE), volume.get(OTHER, 0, SIZE)) == (data, data)
    Ring({2: key("two")}, active=2).write(volume.keys)
    assert (volume.get(UUID, 0, SIZE), volume.get(OTHER, 0, SIZE)) == (data, None)


def test_a_damaged_object_is_not_sealed_anew(volume: Volume) -> None:
    volume.put(UUID, content(SIZE))
    path = volume.path(UUID)
    path.write_bytes(flip(-5)(path.read_bytes(), b""))
    damaged = path.read_bytes()
    Ring().with_key(2, "two").write(volume.keys)
    assert volume.call("reseal", 1, UUID).returncode == 1
    assert (path.read_bytes(), leftovers(volume.root)) == (damaged, set())


def test_removal_leaves_neither_name(volume: Volume) -> None:
    volume.put(UUID, b"object")
    volume.put(OTHER, b"stays")
    assert volume.call("remove", 1, UUID).returncode == 0
    assert volume.call("remove", 1, UUID).returncode == 0, "twice is once"
    assert volume.get(UUID, 0, 6) is None
    assert {name for name in files(volume.root) if UUID in name} == set()
    assert volume.get(OTHER, 0, 5) == b"stays"


def test_the_self_test_leaves_nothing_but_its_proof_of_the_key(volume: Volume) -> None:
    assert volume.call("selftest").returncode == 0
    assert files(volume.root) == {"check/1"}
    (volume.root / "id").rename(volume.root / "away")
    (volume.root / "id").write_text("not a folder")
    assert volume.call("selftest").returncode == 1


@pytest.mark.parametrize("folder", ["id/00/00", "tmp"])
@pytest.mark.parametrize("header", [b"", b"PACE"])
def test_a_self_test_that_lost_its_power_fails_no_later_one(volume: Volume, folder: str, header: bytes) -> None:
    """Names came to the disk and bytes did not: without a legible header its day is not known."""
    name, today = "00000000-0000-4000-8000-000000000000", datetime.now(UTC).strftime("%Y-%m-%d")
    assert volume.call("selftest").returncode == 0
    for place in (folder, f"day/{today}"):
        (volume.root / place).mkdir(parents=True, exist_ok=True)
    (volume.root / folder / name).write_bytes(header)
    (volume.root / "day" / today / name).hardlink_to(volume.root / folder / name)
    assert volume.call("sweep").returncode == 0
    assert volume.call("selftest").returncode == 0
    assert files(volume.root) == {"check/1"}


def test_a_full_volume_keeps_what_it_has_and_nothing_else(volume: Volume, small_disk: Path) -> None:
    volume.root = small_disk
    kept = 0
    while volume.call("put", 1, f"{kept:08d}-0000-4000-8000-000000000000", data=content(900_000)).returncode == 0:
        kept += 1
        assert kept < 9
    assert kept >= 3
    assert leftovers(volume.root) == set()
    for number in range(kept):
        assert volume.get(f"{number:08d}-0000-4000-8000-000000000000", 0, 900_000) == content(900_000)
    assert volume.call("remove", 1, "00000000-0000-4000-8000-000000000000").returncode == 0
    volume.put(UUID, content(900_000))


def test_fuzzing_finds_nothing(sanitized: Path) -> None:
    """Mutated files and lists of keys, the same ones each time."""
    command = [str(sanitized / "fuzz"), "20", "4"]
    done = subprocess.run(command, capture_output=True, text=True, env=SANITIZER, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 1000
