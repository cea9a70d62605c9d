"""The tool, killed or failing at every change it makes to a volume."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from .volume import CHUNK, UUID, Ring, content, leftovers, objects

DATA = content(20 * CHUNK)  # two writes of chunks, and the header's
MOST = 40  # changes of one act, at most


class Bench:
    """A volume that the tool works on, with a fault at a chosen change."""

    def __init__(self, program: Path, folder: Path, fault: Path) -> None:
        self.program, self.fault = program, fault
        self.root, self.keys, self.order = folder / "volume", folder / "keys", folder / "order"
        self.root.mkdir()
        Ring().write(self.keys)

    def call(
        self, act: str, *words: str | int, at: int = 0, what: str = "kill", data: bytes = b""
    ) -> tuple[int, bytes]:
        """Run one act; with ``at`` it is struck there. The exit status, -9 when it was killed."""
        self.order.write_text(f"{at} {what}" if at else "")
        strike = {"LD_PRELOAD": str(self.fault), "PACS_FAULT_ROOT": str(self.root), "PACS_FAULT_FILE": str(self.order)}
        command = [str(self.program), act, str(self.keys), str(self.root), *map(str, words)]
        done = subprocess.run(command, input=data, capture_output=True, env=strike, check=False, timeout=60)
        return done.returncode, done.stdout

    def put(self, uuid: str, at: int = 0, what: str = "kill") -> int:
        return self.call("put", 1, uuid, at=at, what=what, data=DATA)[0]

    def reads(self, uuid: str) -> str:
        """Return whether an object is there whole, in part or not at all."""
        if uuid not in objects(self.root):
            return "absent"
        code, read = self.call("get", 1, uuid, 0, len(DATA))
        return "whole" if (code, read) == (0, DATA) else f"broken ({code})"


@pytest.fixture
def bench(plain: Path, tmp_path: Path, fault: Path) -> Bench:
    return Bench(plain, tmp_path, fault)


def test_a_write_that_is_killed_leaves_all_or_nothing(bench: Bench) -> None:
    seen = []
    for at in range(1, MOST):
        uuid = f"{at:08d}-0000-4000-8000-000000000000"
        code = bench.put(uuid, at)
        if code == 0:
            break
        assert code == -9, (at, code)
        assert bench.call("sweep")[0] == 0
        seen.append(bench.reads(uuid))
        assert leftovers(bench.root) == set(), (at, seen)
    assert code == 0, "there were more changes than were struck"
    # Check file, folders, temporary file, its bytes, sync, two names, two syncs of folders, the temporary name.
    assert len(seen) >= 14
    assert set(seen) == {"absent", "whole"}, seen
    assert seen == sorted(seen), "once it is there, it stays"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "failing"])
def test_a_write_that_fails_leaves_nothing_without_any_restart(bench: Bench, error: int) -> None:
    codes = []
    for at in range(1, MOST):
        uuid = f"{at:08d}-0000-4000-8000-000000000000"
        codes.append(bench.put(uuid, at, str(error)))
        expected = "whole" if codes[-1] == 0 else "absent"
        assert (at, bench.reads(uuid)) == (at, expected)
        assert {name for name in leftovers(bench.root) if "check" not in name} <= {f"tmp/{uuid}"}
        if codes[-1] == 0:
            assert bench.call("sweep")[0] == 0
            assert leftovers(bench.root) == set()
        if codes[-3:] == [0, 0, 0]:
            break
    assert codes.count(1) >= 10, codes


@pytest.mark.parametrize("act", ["remove", "reseal"])
def test_what_is_killed_on_the_way_ends_well_the_second_time(bench: Bench, act: str) -> None:
    struck = 0
    for at in range(1, MOST):
        Ring().write(bench.keys)
        uuid = f"{at:08d}-0000-4000-8000-000000000000"
        assert bench.put(uuid) == 0
        Ring().with_key(2, "two").write(bench.keys)
        code, _ = bench.call(act, 1, uuid, at=at)
        assert bench.call("sweep")[0] == 0
        if act == "reseal":
            assert bench.reads(uuid) == "whole", "no moment without the object"
        assert bench.call(act, 1, uuid)[0] == 0
        assert bench.reads(uuid) == ("whole" if act == "reseal" else "absent")
        assert leftovers(bench.root) == set(), at
        if code == 0:
            break
        assert code == -9
        struck += 1
    assert struck >= {"remove": 3, "reseal": 8}[act]
    assert UUID not in objects(bench.root)
