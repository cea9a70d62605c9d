"""The storage area as built: the tool under sanitizers, the image's tool with faults, and a real Orthanc."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.images.conftest import REPOSITORY, Image, built, image
from tests.machine import enterable

from .volume import Ring

__all__ = ["built", "image"]

SOURCE = REPOSITORY / "images/archive/storage"
#: Leaks are found, an allocation that a length in a file asks for is an error, not an abort.
SANITIZER = {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1:max_allocation_size_mb=256"}


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build tool and fuzzer under ASan and UBSan; both then end at the first thing that is undefined."""
    out = tmp_path_factory.mktemp("sanitized")
    subprocess.run(["make", "-s", "-C", str(SOURCE), f"OUT={out}", "SANITIZE=1", "tools"], check=True)
    return out


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the tool as in the image, where a library can be loaded before it (sanitizers want to be the first)."""
    program = tmp_path_factory.mktemp("plain") / "pacs-storage"
    subprocess.run(["make", "-s", "-C", str(SOURCE), f"OUT={program.parent}", str(program)], check=True)
    return program


@pytest.fixture(scope="session")
def fault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what makes an unchanged program end or fail at its n-th change of a volume."""
    library = tmp_path_factory.mktemp("fault") / "fault.so"
    flags = ["-Wall", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(Path(__file__).with_name("fault.c")), "-ldl"], check=True)
    library.chmod(0o755)
    return library


@dataclass
class Volume:
    """A volume, its list of keys, and the tool that looks at it."""

    root: Path
    keys: Path
    program: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def call(self, act: str, *words: str | int, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [*self.program, act, str(self.keys), str(self.root), *map(str, words)]
        done = subprocess.run(
            command, input=data, capture_output=True, env={**os.environ, **self.environment}, check=False, timeout=60
        )
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr.decode()
        return done

    def put(self, uuid: str, data: bytes) -> None:
        done = self.call("put", 1, uuid, data=data)
        assert done.returncode == 0, done.stderr

    def get(self, uuid: str, start: int, size: int) -> bytes | None:
        """Return what is read; None when it is refused, and then nothing at all was shown."""
        done = self.call("get", 1, uuid, start, size)
        if done.returncode == 0:
            return done.stdout
        assert (done.returncode, done.stdout) == (1, b""), (done.returncode, done.stderr)
        assert done.stderr.startswith(b"pacs-storage: "), done.stderr
        return None

    def path(self, uuid: str) -> Path:
        return self.root / "id" / uuid[:2] / uuid[2:4] / uuid


@pytest.fixture
def volume(sanitized: Path, tmp_path: Path) -> Volume:
    (tmp_path / "volume").mkdir()
    return Volume(
        tmp_path / "volume", Ring().write(tmp_path / "keys"), [str(sanitized / "pacs-storage")], dict(SANITIZER)
    )


@pytest.fixture(scope="module")
def archive_image(image: Callable[[str], Image]) -> Image:
    return image("archive")


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """Return a folder that the image's user may enter."""
    return enterable(tmp_path)


@pytest.fixture
def small_disk(reachable: Path) -> Iterator[Path]:
    """Return a file system of 4 MiB."""
    place = reachable / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "small", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)
