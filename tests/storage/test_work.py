"""What lies in clear is sealed, what is sealed is sealed anew: all of it, killed or failing at any change."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.images.conftest import wait_for

from .conftest import Volume
from .test_crash import Bench
from .volume import CHUNK, OTHER, PART10, UUID, Ring, content, files, holding, key, leftovers, objects

SIZES = [0, 1, CHUNK, 3 * CHUNK + 5]
WORD = "ab" * 32
MOST = 60
CANARY = b"Canary^Patient"


def image_of(number: int) -> bytes:
    return bytes(128) + PART10 + CANARY + content(SIZES[number % len(SIZES)], number)


def name_of(number: int) -> str:
    return f"{number:02x}{number:02x}0000-0000-4000-8000-{number:012x}"


def lay(folder: Path, name: str, data: bytes, days: int = 0) -> Path:
    """Store as Orthanc does without the plugin; so many days after 1970-01-01, where that matters."""
    path = folder / name[:2] / name[2:4] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if days:
        os.utime(path, (days * 86400 + 100, days * 86400 + 100))
    return path


def order(keys: Path, clear: Path | None = None, reseal: str | None = None, rate: int = 10**12) -> None:
    lines = ["pacs-orders 1", f"rate {rate}"]
    lines += [f"clear {clear}"] if clear else []
    lines += [f"reseal {reseal}"] if reseal else []
    keys.with_name(keys.name + ".orders").write_text("\n".join([*lines, "end", ""]))


def work(volume: Volume) -> tuple[int, dict[str, Any]]:
    done = volume.call("work")
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def images(volume: Volume) -> Path:
    """Return the volume as a whole, with the sealed folder in it, as in the pod."""
    top = volume.root
    volume.root = top / "sealed"
    return top


def test_what_lies_in_clear_is_sealed_and_then_gone(volume: Volume, images: Path) -> None:
    for number in range(5):
        lay(images, name_of(number), image_of(number), days=20_000 + number)
    order(volume.keys, clear=images)
    code, told = work(volume)
    assert (code, told["kind"], told["state"], told["done"], told["left"]) == (0, "Clear", "Done", 5, 0)
    assert told["doneBytes"] == sum(len(image_of(number)) for number in range(5))
    assert holding(images, PART10, CANARY) == set()
    for number in range(5):
        data = image_of(number)
        assert volume.get(name_of(number), 0, len(data)) == data
        assert (volume.root / "day" / f"2024-10-0{4 + number}" / name_of(number)).is_file(), "the day it arrived"
    assert leftovers(volume.root) == set()
    assert {path.split("/")[0] for path in files(images)} == {"sealed"}
    assert sorted(path.name for path in images.iterdir()) == ["sealed"], "its folders went too"


def test_without_the_order_nothing_in_clear_is_touched(volume: Volume, images: Path) -> None:
    path = lay(images, UUID, image_of(3))
    for orders in ["", "pacs-orders 1\nrate 5\nclear /\n", f"pacs-orders 2\nrate 5\nclear {images}\nend\n"]:
        volume.keys.with_name("keys.orders").write_text(orders)
        assert work(volume)[1]["kind"] == "None"
        assert path.read_bytes() == image_of(3)
    order(volume.keys, clear=images)
    assert work(volume)[0] == 0
    assert not path.exists()


def test_what_is_nobodys_image_is_counted_and_keeps_it_from_being_done(volume: Volume, images: Path) -> None:
    lay(images, UUID, image_of(1))
    (images / "note.txt").write_bytes(CANARY)
    (images / "ab").mkdir()
    (images / "ab" / "part").write_bytes(CANARY)
    (images / "quarantine").mkdir()
    (images / "quarantine" / OTHER).write_bytes(CANARY)
    (images / "lost+found").mkdir()
    order(volume.keys, clear=images)
    code, told = work(volume)
    assert (code, told["state"], told["problem"], told["foreign"], told["done"]) == (1, "Waiting", "Foreign", 3, 1)
    for left in ("note.txt", "ab/part", f"quarantine/{OTHER}"):
        (images / left).unlink()
    assert work(volume)[0] == 0


def test_a_sealed_object_is_never_replaced_by_another_in_clear(volume: Volume, images: Path) -> None:
    volume.put(UUID, image_of(2))
    planted = lay(images, UUID, image_of(3))
    order(volume.keys, clear=images)
    code, told = work(volume)
    assert (code, told["failed"], told["problem"]) == (1, 1, "Failed")
    assert planted.read_bytes() == image_of(3), "a person looks at both"
    assert volume.get(UUID, 0, len(image_of(2))) == image_of(2)
    planted.write_bytes(image_of(2))
    assert work(volume)[0] == 0
    assert not planted.exists()


def test_one_that_lost_its_bytes_with_the_power_is_sealed_again(volume: Volume, images: Path) -> None:
    """Names may be on the disk without all bytes; the clear file goes only after the comparison."""
    data = image_of(3)
    volume.put(UUID, data)
    sealed = volume.path(UUID)
    sealed.write_bytes(sealed.read_bytes()[:-9])
    lay(images, UUID, data)
    order(volume.keys, clear=images)
    assert work(volume)[0] == 0
    assert volume.get(UUID, 0, len(data)) == data


def test_everything_is_sealed_with_the_newest_key_once_a_word(volume: Volume) -> None:
    for number in range(3):
        volume.put(name_of(number), image_of(number))
    Ring().with_key(2, "two").write(volume.keys)
    volume.put(name_of(3), image_of(3))
    assert work(volume)[1]["kind"] == "None", "a new key alone asks for nothing"
    order(volume.keys, reseal=WORD)
    code, told = work(volume)
    assert (code, told["kind"], told["state"], told["done"], told["reseal"]) == (0, "Keys", "Done", 3, WORD)
    Ring({2: key("two")}, active=2).write(volume.keys)
    for number in range(4):
        assert volume.get(name_of(number), 0, len(image_of(number))) == image_of(number)
    assert leftovers(volume.root) == {"resealed"}
    Ring({2: key("two")}, active=2).with_key(3, "three").write(volume.keys)
    assert work(volume)[1]["done"] == 0, "the same word asks once"
    order(volume.keys, reseal="cd" * 32)
    assert work(volume)[1]["done"] == 4


def key_ids(root: Path) -> dict[str, int]:
    """Return the number of the data key that each object is sealed with."""
    return {name: int.from_bytes(path.read_bytes()[8:12], "big") for name, path in objects(root).items()}


def test_a_key_that_comes_during_the_walk_does_not_begin_it_anew(volume: Volume) -> None:
    for number in range(12):
        volume.put(name_of(number), content(200_000, number))
    Ring().with_key(2, "two").write(volume.keys)
    order(volume.keys, reseal=WORD, rate=2_000_000)
    with subprocess.Popen(
        [*volume.program, "work", str(volume.keys), str(volume.root)],
        stdout=subprocess.PIPE,
        env={**os.environ, **volume.environment},
    ) as working:
        wait_for(lambda: 2 in key_ids(volume.root).values(), "the first is sealed anew", 30)
        Ring().with_key(2, "two").with_key(3, "three").write(volume.keys)
        told = json.loads(working.communicate(timeout=60)[0])
    assert (working.returncode, told["state"], told["done"], told["reseal"]) == (0, "Done", 12, WORD)
    assert set(key_ids(volume.root).values()) == {2, 3}, "what was done stayed, the rest got the newest"
    assert leftovers(volume.root) == {"resealed"}
    order(volume.keys, reseal="cd" * 32)
    assert work(volume)[0] == 0
    assert set(key_ids(volume.root).values()) == {3}, "another word asks for the newest of its own time"


@pytest.mark.parametrize("word", [WORD, "cd" * 32], ids=["the same order", "another order"])
def test_a_walk_that_was_killed_goes_on_to_the_key_it_began_with(bench: Struck, word: str) -> None:
    names = [name_of(number) for number in range(6)]
    for name in names:
        assert bench.put(name) == 0
    two = Ring().with_key(2, "two").write(bench.keys)
    order(two, reseal=WORD)
    assert bench.work(at=40) == -9
    begun = key_ids(bench.root)
    assert set(begun.values()) == {1, 2}, "killed in the middle"
    Ring().with_key(2, "two").with_key(3, "three").write(bench.keys)
    order(bench.keys, reseal=word)
    assert bench.call("sweep")[0] == 0
    assert bench.work() == 0
    again = 2 if word == WORD else 3
    assert key_ids(bench.root) == {name: 3 if key == 1 else again for name, key in begun.items()}
    assert leftovers(bench.root) == {"resealed"}


def test_what_is_quarantined_is_sealed_anew_too(volume: Volume, images: Path) -> None:
    volume.put(UUID, image_of(1))
    sealed, volume.root = volume.root, images / "quarantine"
    assert volume.call("put", 5000, OTHER, data=image_of(2)).returncode == 0
    Ring().with_key(2, "two").write(volume.keys)
    order(volume.keys, reseal=WORD)
    quarantine, volume.root = volume.root, sealed
    code, told = work(volume)
    assert (code, told["done"]) == (0, 2)
    Ring({2: key("two")}, active=2).write(volume.keys)
    volume.root = quarantine
    assert volume.call("get", 5000, OTHER, 0, 10).stdout == image_of(2)[:10]
    assert leftovers(quarantine) == set()


@pytest.mark.parametrize("damage", ["flip", "cut", "key"])
def test_one_bad_object_stops_no_other_and_is_kept(volume: Volume, damage: str) -> None:
    for number in range(3):
        volume.put(name_of(number), image_of(number))
    bad = volume.path(name_of(1))
    before = bad.read_bytes()
    after = {
        "flip": before[:-5] + bytes([before[-5] ^ 1]) + before[-4:],
        "cut": before[:-1],
        "key": before[:11] + b"\x07" + before[12:],
    }[damage]
    bad.write_bytes(after)
    Ring().with_key(2, "two").write(volume.keys)
    order(volume.keys, reseal=WORD)
    code, told = work(volume)
    assert (code, told["failed"], told["done"], told["reseal"]) == (1, 1, 2, "")
    assert told["problem"] == ("NoKey" if damage == "key" else "Corrupt")
    assert bad.read_bytes() == after
    bad.write_bytes(before)
    code, told = work(volume)
    assert (code, told["done"], told["reseal"]) == (0, 1, WORD)


def test_a_full_volume_waits_and_goes_on_when_there_is_room(volume: Volume, small_disk: Path) -> None:
    volume.root = small_disk / "sealed"
    for number in range(3):
        lay(small_disk, name_of(number), content(900_000, number))
    ballast = small_disk / "lost+found"
    ballast.mkdir()
    (ballast / "ballast").write_bytes(bytes(900_000))
    order(volume.keys, clear=small_disk)
    code, told = work(volume)
    assert (code, told["problem"], told["failed"], told["done"]) == (1, "VolumeFull", 3, 0)
    assert leftovers(volume.root) == set()
    for number in range(3):
        path = small_disk / name_of(number)[:2] / name_of(number)[2:4] / name_of(number)
        assert path.read_bytes() == content(900_000, number)
    (ballast / "ballast").unlink()
    assert work(volume)[0] == 0
    for number in range(3):
        assert volume.get(name_of(number), 0, 900_000) == content(900_000, number)


class Struck(Bench):
    """A volume whose worker is struck at a chosen change."""

    def __init__(self, program: Path, folder: Path, fault: Path) -> None:
        super().__init__(program, folder, fault)
        self.top = self.root
        self.root, self.log = self.top / "sealed", folder / "log"

    def work(self, at: int = 0, what: str = "kill") -> int:
        self.order.write_text(f"{at} {what}" if at else "")
        strike = {"LD_PRELOAD": str(self.fault), "PACS_FAULT_ROOT": str(self.top), "PACS_FAULT_FILE": str(self.order)}
        strike["PACS_FAULT_LOG"] = str(self.log)
        command = [str(self.program), "work", str(self.keys), str(self.root)]
        return subprocess.run(command, capture_output=True, env=strike, check=False, timeout=60).returncode


@pytest.fixture
def bench(plain: Path, tmp_path: Path, fault: Path) -> Struck:
    return Struck(plain, tmp_path, fault)


DATA = content(20 * CHUNK)


@pytest.mark.parametrize("what", ["kill", str(errno.ENOSPC), str(errno.EIO)], ids=["killed", "full", "failing"])
@pytest.mark.parametrize("kind", ["clear", "keys"])
def test_struck_at_any_change_nothing_is_lost_and_the_next_try_ends_it(bench: Struck, kind: str, what: str) -> None:
    struck = 0
    for at in range(1, MOST):
        uuid = f"{at:08d}-0000-4000-8000-000000000000"
        Ring().write(bench.keys)
        if kind == "clear":
            order(bench.keys, clear=bench.top)
            clear = lay(bench.top, uuid, DATA)
        else:
            bench.put(uuid)
            clear = bench.top / "none"
            Ring().with_key(2, "two").write(bench.keys)
            order(bench.keys, reseal=f"{at:064x}")
        code = bench.work(at, what)
        whole = bench.reads(uuid) == "whole"
        assert whole or (clear.exists() and clear.read_bytes() == DATA), (at, "lost")
        assert bench.call("sweep")[0] == 0
        assert bench.work() == 0, at
        assert (at, bench.reads(uuid), clear.exists()) == (at, "whole", False)
        assert leftovers(bench.root) - {"resealed"} == set(), at
        (path := objects(bench.root)[uuid]).unlink()
        for day in (bench.root / "day").rglob(path.name):
            day.unlink()
        if code == 0 and what == "kill":
            break
        struck += code != 0
    assert struck >= 10, struck


def in_memory_alone(log: Path, *gone: Path) -> list[set[str]]:
    """Replay what was changed and synced, by however many processes.

    Return, for each time that one of these went or was replaced, what a loss of power would have taken at that moment:
    files whose bytes, and folders whose names, were not yet with the disk. What is only being written does not count.
    """
    unsafe: dict[str, str] = {}
    found: list[set[str]] = []
    for line in log.read_text().splitlines():
        act, path, *inode = line.split(" ")
        if act in ("unlink", "name") and Path(path) in gone:
            found.append({what for what in unsafe.values() if not what.endswith("/tmp")})
        if act == "write":
            unsafe[inode[0]] = path
        elif act == "name":
            folder = str(Path(path).parent)
            unsafe[folder] = folder
        elif line == "sync everything":
            unsafe = {}
        elif act == "sync":
            unsafe = {key: what for key, what in unsafe.items() if key not in (path, *inode)}
    return found


@pytest.mark.parametrize("kind", ["clear", "keys"])
def test_nothing_goes_before_what_takes_its_place_is_with_the_disk(bench: Struck, kind: str) -> None:
    """Also when what takes its place was written by an earlier try, which was killed before it could be certain."""
    goings = 0
    for at in range(1, MOST):
        bench.log.unlink(missing_ok=True)
        uuid = f"{at:08d}-0000-4000-8000-000000000000"
        Ring().write(bench.keys)
        if kind == "clear":
            order(bench.keys, clear=bench.top)
            watched = [lay(bench.top, uuid, DATA)]
        else:
            assert bench.put(uuid) == 0
            Ring().with_key(2, "two").write(bench.keys)
            order(bench.keys, reseal=f"{at:064x}")
            # The old file, and then the word that it is done: from then on nobody looks again.
            watched = [objects(bench.root)[uuid], bench.root / "resealed"]
        code = bench.work(at)
        assert code in (0, -9)
        assert bench.work() == 0
        goings += len(found := in_memory_alone(bench.log, *watched))
        assert (at, found) == (at, [set()] * len(watched))
        if code == 0:
            break
    assert code == 0 and goings >= 10, goings
