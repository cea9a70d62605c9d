"""Folders as a pod has them: ``/tls`` and ``/run/pacs`` in memory, ConfigMaps swapped by a link."""

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from pacs_operator.agent.log import configure
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.gatepeers import LivePeers
from tests.images.conftest import REPOSITORY, image  # noqa: F401  # fixture: built images, unpacked
from tests.machine import enterable
from tests.vault.conftest import archive, lineage, world  # noqa: F401  # fixtures: a real OpenBao


@pytest.fixture(scope="session")
def built() -> dict[str, Any]:
    """Build the two servers that agents stand beside here, when they are not in the cache."""
    subprocess.run([str(REPOSITORY / "images/build"), "archive", "database"], check=True)
    return dict(json.loads((REPOSITORY / "build/images.json").read_text()))


class MountedConfigMap:
    """A folder that changes as the kubelet changes it: new folder, then one rename of ``..data``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._version = folder, name, 0
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes) -> None:
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        (version / self._name).write_bytes(content)
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self._folder / "..data")
        visible = self._folder / self._name
        if not visible.is_symlink():
            visible.symlink_to(f"..data/{self._name}")

    def put_peers(self, peers: LivePeers) -> None:
        self.put(peers.model_dump_json(by_alias=True).encode())


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a tmpfs of its own."""
    folder = tmp_path / "memory"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0777", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def surroundings(tmp_path: Path, memory: Path) -> Surroundings:
    """Return a pod's folders; ports are chosen by the system."""
    for name in ("tls", "run"):
        (memory / name).mkdir()
    (tmp_path / "config").mkdir()
    return Surroundings(
        tls=memory / "tls", run=memory / "run", config=tmp_path / "config", peers=tmp_path / "peers",
        health_port=0, control_port=0,
    )  # fmt: skip


@pytest.fixture
def mounted_peers(surroundings: Surroundings) -> MountedConfigMap:
    """Return the ConfigMap ``peers`` as mounted."""
    return MountedConfigMap(surroundings.peers, "peers.json")


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """Return what the agent logs."""
    stream = io.StringIO()
    configure(stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback only, whatever the machine's environment says."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def entered(tmp_path: Path) -> None:
    """Let the servers' own users reach this test's folder."""
    enterable(tmp_path)
