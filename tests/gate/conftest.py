"""One archive, one pair of authorities and one gate for all tests of this folder; each test has its own peers."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .archive import ORTHANC_FQDN, ORTHANC_NAME, Archive, resolver
from .device import Device, client_context
from .hospital import Hospital, make_hospital
from .pki import Authority, Leaf
from .process import Gate, Site, peer, running_gate, wait_for
from .web import Client, Upstream, WebStage, admitted, running_upstream, running_web, web_layout

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    internal = Authority("internal")
    archive = Archive(folder, internal.issue(ORTHANC_NAME, server=True), internal)
    with resolver() as names:
        names.names[ORTHANC_FQDN] = "127.0.0.1"
        yield Site(folder, Authority("peers"), internal, archive, names)
    archive.stop()


@pytest.fixture(scope="session")
def gate(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(site, tmp_path_factory.mktemp("gate") / "run") as running:
        wait_for(running.archive_reachable, "HAProxy's check of the archive is good")
        yield running


@pytest.fixture(scope="module")
def trusting_gate(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """Return a gate whose archive may name authorities; it starts with none."""
    with running_gate(site, tmp_path_factory.mktemp("issuers") / "run", issuers=True) as running:
        wait_for(running.archive_reachable, "archive up")
        yield running


@pytest.fixture
def hospital() -> Hospital:
    return make_hospital()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> Iterator[None]:
    if "upstream" in request.fixturenames:
        request.getfixturevalue("upstream").seen.clear()
    yield
    if "stage" in request.fixturenames:
        upstream = request.getfixturevalue("upstream")
        upstream.gate.set()
        upstream.last = upstream.ended = 0
        request.getfixturevalue("stage").gate.apply({})
    if "gate" in request.fixturenames:
        gate = request.getfixturevalue("gate")
        gate.issuers = [] if gate.layout.issuers else None
        gate.apply({})


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


@pytest.fixture(scope="session")
def stage(site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebStage]:
    """Return a gate with DICOMweb of its own."""
    with running_web(site, tmp_path_factory.mktemp("web"), web_layout(upstream.port)) as running:
        yield running


@pytest.fixture
def client(stage: WebStage) -> Client:
    return admitted(stage, "viewer")[0]


@pytest.fixture
def make_device(gate: Gate, site: Site) -> Iterator[Callable[..., Device]]:
    """Return a maker of devices, each an accepted peer with a certificate of its own."""
    devices: list[Device] = []

    def make(
        title: str, *, leaf: Leaf | None = None, kind: str = "EC", source: str = "127.0.0.1", **rights: object
    ) -> Device:
        name = f"{title.lower()}-{next(_numbers)}.imaging.example"
        leaf = leaf or site.peers.issue(name, kind=kind)
        gate.put(peer(title.lower(), name, title, **rights))  # type: ignore[arg-type]
        devices.append(Device(gate.port, client_context(site.peers, leaf), calling=title, source=source))
        return devices[-1]

    yield make
    for device in devices:
        device.close()
