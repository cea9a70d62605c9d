"""The scrub beside the image's real Orthanc, and that what it reads comes from the disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from pacs_operator.agent.context import Context
from pacs_operator.agent.offcache import OffCache
from pacs_operator.agent.orthanc_rest import OrthancRest
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.scrub import ScrubFeed
from pacs_operator.agent.scrubcommand import Desk
from pacs_operator.agent.storedindex import StoredIndex
from pacs_operator.agent.volume import volume_of
from pacs_operator.domain.agentconfig import AgentConfig, ScrubPass, StorageKeyring
from pacs_operator.domain.names import CaName, Component
from tests.agent.support import FakeClock, LocalVault, gate_config, leaf
from tests.images.conftest import Image
from tests.images.orthanc_server import Orthanc, orthanc
from tests.machine import enterable

from .damage import KINDS
from .server import attachment, encrypted, image_of, keys_of
from .volume import LINEAGE, Ring, key

IMAGES = 6
GOOD = {"changed": 0, "unreadable": 0, "file_missing": 0, "row_missing": 0}


@dataclass
class Beside:
    """An agent's scrub beside a running Orthanc."""

    server: Orthanc
    images: Path
    config: AgentConfig
    places: Surroundings

    async def scrub(self) -> ScrubPass:
        """Let the scrub do one pass, at a time at which every file is old."""
        self.places.peers.joinpath("scrub.json").write_text(json.dumps({"schedule": "* * * * *"}))
        clock = FakeClock(datetime.now(UTC) + timedelta(hours=1))
        feed = ScrubFeed(
            Context(self.config, self.places, LocalVault(clock.now), clock),
            StoredIndex(OrthancRest(str(self.config.orthanc_url)), page=2),
        )
        before = feed.told and feed.told.last
        clock.busy = lambda: feed.busy > 0
        task = asyncio.create_task(feed.run())
        try:
            await clock.advance(86_400, until=lambda: bool(feed.told and feed.told.last and feed.told.last != before))
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            feed.close()
        assert feed.told is not None and feed.told.last is not None
        (self.images / "scrub" / "state.json").unlink()
        return feed.told.last

    def desk(self) -> Desk:
        return Desk(OrthancRest(str(self.config.orthanc_url)), volume_of(self.config, self.places), self.images)

    def path(self, name: str) -> Path:
        return volume_of(self.config, self.places).path(name)


def beside(server: Orthanc, images: Path, folder: Path, *, sealed: bool) -> Beside:
    config = gate_config(
        component=Component.ORTHANC,
        leaves=[leaf("control", CaName.CONTROL, "orthanc.rad-archive.svc")],
        trust=[CaName.CONTROL],
        lineage_id=LINEAGE,
        orthanc_url=f"http://127.0.0.1:{server.http}",
        storage=StorageKeyring(transit_key="x", max_age_days=90) if sealed else None,
    )
    run, peers = folder / "run", folder / "peers"
    for made in (run, peers):
        made.mkdir()
    places = Surroundings(run=run, peers=peers, images=images)
    Ring().write(places.ring)
    return Beside(server, images, config, places)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enterable(tmp_path_factory.mktemp("scrubbed"))


@pytest.fixture(scope="module", params=["encrypted", "plain"])
def archive(request: pytest.FixtureRequest, archive_image: Image, ground: Path) -> Iterator[Beside]:
    """An Orthanc with images of two studies, two of them large."""
    folder = ground / request.param
    folder.mkdir()
    if request.param == "encrypted":
        Ring().write(keys_of(folder))
        with encrypted(archive_image, folder, env={"PACS_STORAGE_ROOT": "/srv/sealed"}) as server:
            fill(server)
            yield beside(server, folder / "volume", folder, sealed=True)
    else:
        with orthanc(archive_image, folder) as server:
            fill(server)
            yield beside(server, server.data, folder, sealed=False)


def fill(server: Orthanc) -> None:
    for number in range(IMAGES):
        assert server.store("CT1", of_study(number)) == 0


def of_study(number: int) -> Dataset:
    dataset = image_of(generate_uid(), size=2_500_000 if number == 0 else 200_000, seed=number)
    study = f"1.2.{3 + number % 2}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.{number % 3}"
    return dataset


def counts(result: ScrubPass) -> dict[str, int]:
    return {name: getattr(result, name) for name in GOOD}


async def test_every_file_is_read_and_found_as_it_was_stored(archive: Beside) -> None:
    result = await archive.scrub()
    assert counts(result) == GOOD and result.objects == IMAGES
    names = [path for path in archive.images.rglob("*") if len(path.name) == 36 and "day" not in path.parts]
    assert result.bytes == sum(path.stat().st_size for path in names if path.is_file())


def names_of(archive: Beside) -> list[str]:
    found = archive.server.rest("GET", "/instances").json()
    infos = (archive.server.rest("GET", f"/instances/{one}/attachments/dicom/info").json() for one in found)
    return sorted(info["Uuid"] for info in infos)


async def test_all_kinds_of_damage_at_once_each_to_another_image(archive: Beside) -> None:
    first, second, third, fourth, *good = names_of(archive)
    intact = {name: archive.path(name).read_bytes() for name in (first, second, third)}
    archive.path(first).write_bytes(intact[first][:-1] + bytes([intact[first][-1] ^ 1]))
    archive.path(second).write_bytes(intact[second][: len(intact[second]) // 2])
    archive.path(third).unlink()
    stranger = "0a1b2c3d-0000-4000-8000-0000000000aa"
    archive.path(stranger).parent.mkdir(parents=True, exist_ok=True)
    archive.path(stranger).write_bytes(intact[first])
    result = await archive.scrub()
    assert counts(result) == {"changed": 2, "unreadable": 0, "file_missing": 1, "row_missing": 1}
    assert {one.object for one in result.found} == {first, second, third, stranger}
    assert archive.desk().check(first) == "Changed"
    assert archive.desk().check(third) == "FileMissing"
    assert archive.desk().check(stranger) == "RowMissing"
    assert archive.desk().check(fourth) is None and good
    archive.path(stranger).unlink()
    for name, content in intact.items():
        archive.path(name).unlink(missing_ok=True)
        archive.path(name).write_bytes(content)
    assert counts(await archive.scrub()) == GOOD


async def test_a_person_learns_which_image_it_is(archive: Beside) -> None:
    dataset = of_study(1)
    assert archive.server.store("CT1", dataset) == 0
    name = attachment(archive.server, dataset.SOPInstanceUID)
    content = archive.path(name).read_bytes()
    archive.path(name).unlink()
    state = archive.images / "scrub" / "state.json"
    await archive.scrub()
    found = {"kind": "FileMissing", "object": name}
    last = {"began": "2026-11-20T00:00:00Z", "ended": "2026-11-20T01:00:00Z", "fileMissing": 1, "found": [found]}
    state.write_text(json.dumps({"since": "2026-11-20T00:00:00Z", "last": last}))
    (shown,) = archive.desk().show()
    assert shown["kind"] == "FileMissing" and shown["object"] == name
    assert shown["SOPInstanceUID"] == dataset.SOPInstanceUID
    assert shown["StudyInstanceUID"] == dataset.StudyInstanceUID
    archive.path(name).write_bytes(content)
    (instance,) = archive.server.instances(dataset.SOPInstanceUID)
    assert archive.server.rest("DELETE", f"/instances/{instance}").status_code == 200
    state.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_seen_as_the_storage_plugin_sees_it(archive: Beside, kind: str) -> None:
    """The same alterations that Orthanc's plugin refuses to serve; and without encryption the index's sum sees them."""
    first, second = names_of(archive)[:2]
    own, other = (archive.path(name).read_bytes() for name in (first, second))
    # A key that is not in the list is no altered image: the list may be what is wrong.
    keyless = archive.config.storage is not None and kind == "bit flipped in the key id"
    altered = KINDS[kind](own, other)
    expected = "Unreadable" if keyless else "Changed"
    try:
        archive.path(first).write_bytes(altered)
        # Two plain files begin alike, and in clear they are already: that alters nothing.
        assert archive.desk().check(first) == (expected if altered != own else None)
        assert archive.desk().check(second) is None
    finally:
        archive.path(first).write_bytes(own)
    assert archive.desk().check(first) is None


def test_a_key_of_another_archive_opens_nothing(archive: Beside) -> None:
    """Its twin, without encryption, asks for no key."""
    name = names_of(archive)[0]
    assert archive.desk().check(name) is None
    Ring(keys={1: key("another")}).write(archive.places.ring)
    try:
        assert archive.desk().check(name) == (None if archive.config.storage is None else "Changed")
    finally:
        Ring().write(archive.places.ring)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Return a disk as a file, and where it is mounted."""
    device, place = tmp_path / "device", tmp_path / "mounted"
    place.mkdir()
    with device.open("wb") as file:
        file.truncate(32 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(device)], check=True)
    subprocess.run(["mount", "-o", "loop", str(device), str(place)], check=True)
    yield device, place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("directly", [True, False])
def test_what_it_reads_comes_from_the_disk_and_not_from_memory(
    disk: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, directly: bool
) -> None:
    """Its twin: an ordinary read of the same file is answered from memory, and shows nothing wrong."""
    device, place = disk
    content = bytes(range(256)) * 4096 + b"unlike any other" * 100
    path = place / "image"
    path.write_bytes(content)
    os.sync()
    assert path.read_bytes() == content
    where = device.read_bytes().index(b"unlike any other")
    with device.open("r+b") as file:
        file.seek(where)
        file.write(b"altered by disk!")
    assert path.read_bytes() == content, "from memory"
    if not directly:
        without_direct_reading(monkeypatch)
    assert b"".join(map(bytes, OffCache().parts(path))) == content.replace(b"unlike any other", b"altered by disk!", 1)


def without_direct_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every file system one that knows no O_DIRECT."""
    opened = os.open

    def refusing(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "no")
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", refusing)
