"""The images as built, unpacked once a session; their programs run as a pod would run them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.machine import enterable

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "images"))

from builder.oci import configuration_of, unpack  # noqa: E402

ENTER = Path(__file__).with_name("enter.py")
T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str, seconds: float = 180.0) -> T:
    """Return a condition's first true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass(frozen=True)
class Image:
    """An unpacked image and its configuration."""

    name: str
    root: Path
    configuration: dict[str, Any]
    entry: dict[str, Any]

    @property
    def uid(self) -> int:
        return int(self.configuration["User"].split(":")[0])

    @property
    def command(self) -> list[str]:
        return list(self.configuration.get("Entrypoint") or []) + list(self.configuration.get("Cmd") or [])

    def _inside(self, program: list[str], mounts: dict[Path, str]) -> list[str]:
        pairs = [f"--mount={host}:{inside}" for host, inside in mounts.items()]
        return [sys.executable, str(ENTER), str(self.root), str(self.uid), *pairs, "--", *program]

    def _environment(self, more: dict[str, str] | None) -> dict[str, str]:
        own = dict(variable.split("=", 1) for variable in self.configuration["Env"])
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **own, **(more or {})}

    def run(
        self, *program: str, mounts: dict[Path, str] | None = None, env: dict[str, str] | None = None, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the image to its end: own user, no privileges, read-only root."""
        return subprocess.run(
            self._inside(list(program), mounts or {}), capture_output=True, text=True, input=text,
            env=self._environment(env), timeout=240, check=False,
        )  # fmt: skip

    def start(
        self, *program: str, log: Path, mounts: dict[Path, str] | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program of the image the same way; the process has its id after the exec, too."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                self._inside(list(program), mounts or {}), stdout=stream, stderr=subprocess.STDOUT,
                env=self._environment(env),
            )  # fmt: skip

    def owned(self, folder: Path) -> Path:
        """Make a folder that belongs to the image's user, as a volume does by fsGroup."""
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["chown", f"{self.uid}:{self.uid}", str(folder)], check=True)
        return folder


@pytest.fixture(scope="session")
def built() -> dict[str, Any]:
    """Build what is not in the cache, and return build/images.json."""
    subprocess.run([str(REPOSITORY / "images/build")], check=True)
    return dict(json.loads((REPOSITORY / "build/images.json").read_text()))


@pytest.fixture(scope="session")
def image(built: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Image]]:
    """Return images by name, each unpacked once into a folder that the image's users may enter."""
    top = enterable(tmp_path_factory.mktemp("rootfs"))
    known: dict[str, Image] = {}

    def get(name: str) -> Image:
        if name not in known:
            archive = Path(built[name]["archive"])
            unpack(archive, top / name)
            known[name] = Image(name, top / name, configuration_of(archive), built[name])
        return known[name]

    yield get
    subprocess.run(["rm", "-rf", str(top)], check=True)
