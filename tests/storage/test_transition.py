"""An archive that stored in clear becomes an encrypted one while it serves; no image is away for a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from tests.images.conftest import Image, wait_for
from tests.images.orthanc_server import Orthanc, orthanc

from .server import CANARY, attachment, encrypted, image_of, keys_of, volume_of
from .volume import PART10, Ring, holding, leftovers, objects

SUCCESS = 0x0000
SEALED = {"PACS_STORAGE_ROOT": "/srv/sealed"}
IN_CLEAR = (PART10, CANARY.encode())
FAST = 10**12


def order(folder: Path, *, rate: int, clear: bool = True, reseal: str = "") -> None:
    """Lay down what the agent would; replaced whole, as it does."""
    lines = [
        "pacs-orders 1",
        f"rate {rate}",
        *(["clear /srv"] if clear else []),
        *([f"reseal {reseal}"] * bool(reseal)),
    ]
    path = keys_of(folder).with_name("keys.orders")
    (fresh := path.with_suffix(".fresh")).write_text("\n".join([*lines, "end", ""]))
    fresh.chmod(0o644)
    fresh.rename(path)


def work(server: Orthanc) -> dict[str, Any]:
    return dict(server.rest("GET", "/pacs/storage").json()["work"])


def before(image: Image, folder: Path, count: int) -> dict[str, bytes]:
    """Store so many images, and one for the quarantine, in an archive without encryption; return them by UID."""
    datasets = [image_of(generate_uid(), seed=number) for number in range(count)]
    Ring().write(keys_of(folder))
    with orthanc(image, folder, mounts={volume_of(image, folder): "/srv"}, StorageDirectory="/srv") as server:
        for dataset in datasets:
            assert server.store("CT1", dataset) == SUCCESS
        other = image_of(datasets[0].SOPInstanceUID, seed=99)
        assert server.store("CT1", other) != SUCCESS
        stored = {str(one.SOPInstanceUID): server.stored(one.SOPInstanceUID) for one in datasets}
    found = holding(folder / "volume", *IN_CLEAR)
    assert len(found) == count + 1 and any(name.startswith("quarantine/") for name in found)
    return stored


@pytest.mark.parametrize("killed", [False, True])
def test_none_becomes_transit_while_every_image_is_served(archive_image: Image, reachable: Path, killed: bool) -> None:
    stored = before(archive_image, reachable, 6)
    volume, removed = reachable / "volume", next(iter(stored))
    order(reachable, rate=150_000)
    with encrypted(archive_image, reachable, env=SEALED, StorageDirectory="/srv") as server:
        wait_for(lambda: work(server)["done"] >= 2, "two are sealed")
        assert work(server)["left"] >= 1, "otherwise nothing below is asked half-way"
        assert {uid: server.stored(uid) for uid in stored} == stored
        fresh = image_of(generate_uid(), seed=50)
        assert server.store("CT1", fresh) == SUCCESS
        stored[str(fresh.SOPInstanceUID)] = server.stored(fresh.SOPInstanceUID)
        name = attachment(server, removed)
        assert server.rest("DELETE", f"/instances/{server.instances(removed)[0]}").status_code == 200
        del stored[removed]
        if killed:
            server.process.kill()
            server.process.wait(30)
    order(reachable, rate=FAST)
    with encrypted(archive_image, reachable, env=SEALED, StorageDirectory="/srv") as server:
        wait_for(lambda: work(server)["allSealed"], "all are sealed")
        assert (work(server)["failed"], work(server)["foreign"]) == (0, 0)
        assert holding(volume, *IN_CLEAR) == set()
        assert {uid: server.stored(uid) for uid in stored} == stored
        if not killed:  # one that was killed may not have got as far as the file; the index decided
            assert name not in objects(volume / "sealed"), "what was removed stays so"
        assert leftovers(volume / "sealed") == set()


def test_nothing_in_clear_is_read_without_the_order_or_after_the_end(archive_image: Image, reachable: Path) -> None:
    stored = before(archive_image, reachable, 2)
    volume, (uid, other) = reachable / "volume", stored
    with encrypted(archive_image, reachable, env=SEALED, StorageDirectory="/srv") as server:
        (one,) = server.instances(uid)
        assert server.rest("GET", f"/instances/{one}/file").status_code != 200
        assert work(server)["kind"] == "None"
    order(reachable, rate=FAST)
    with encrypted(archive_image, reachable, env=SEALED, StorageDirectory="/srv") as server:
        wait_for(lambda: work(server)["allSealed"], "all are sealed")
        assert server.stored(uid) == stored[uid]
        name = attachment(server, uid)
        for sealed in volume.rglob(name):
            sealed.unlink()
        planted = volume / name[:2] / name[2:4] / name
        planted.parent.mkdir(parents=True)
        planted.write_bytes(stored[other])
        planted.chmod(0o644)
        for folder in (planted.parent, planted.parent.parent):
            folder.chmod(0o755)
        (one,) = server.instances(uid)
        assert server.rest("GET", f"/instances/{one}/file").status_code != 200, "though the order still stands"
        assert server.stored(other) == stored[other]


def test_all_is_sealed_anew_while_every_image_is_served(archive_image: Image, reachable: Path) -> None:
    Ring().write(keys_of(reachable))
    datasets = [image_of(generate_uid(), seed=number) for number in range(4)]
    with encrypted(archive_image, reachable, env=SEALED, StorageDirectory="/srv") as server:
        for dataset in datasets:
            assert server.store("CT1", dataset) == SUCCESS
        stored = {str(one.SOPInstanceUID): server.stored(one.SOPInstanceUID) for one in datasets}
        Ring().with_key(2, "two").write(keys_of(reachable))
        order(reachable, rate=300_000, clear=False, reseal="ab" * 32)
        wait_for(lambda: work(server)["done"] >= 1, "one is sealed anew")
        assert work(server)["state"] == "Working"
        assert {uid: server.stored(uid) for uid in stored} == stored
        order(reachable, rate=FAST, clear=False, reseal="ab" * 32)
        wait_for(lambda: work(server)["reseal"] == "ab" * 32, "all are sealed anew")
        assert {uid: server.stored(uid) for uid in stored} == stored
    Ring({2: Ring().with_key(2, "two").keys[2]}, active=2).write(keys_of(reachable))
    with encrypted(archive_image, reachable, env=SEALED, StorageDirectory="/srv") as server:
        assert {uid: server.stored(uid) for uid in stored} == stored, "the old key is needed no more"
