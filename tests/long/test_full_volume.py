"""A volume runs full under C-STORE: what was acknowledged stays, the rest is refused, and room brings service back.

A second, small archive stands on volumes of exactly the size asked for; a file laid beside the data fills them.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.support import TESTBED, Cluster, Modality, folder_of, new_study, run, second_archive, until

PEER = """
apiVersion: pacs-operator.io/v1alpha1
kind: DicomPeer
metadata: {name: us1, namespace: imaging}
spec:
  archiveRef: {name: tiny}
  aeTitles: [US1]
  certificate: {dnsName: us1.imaging.example}
  sourceCIDRs: [198.18.40.11/32]
  rights: [Echo, Store, Get]
"""
#: What is left free, bytes. The index grows by some kilobytes an image, and reuses its write-ahead log.
ROOM = {"archive": 8 * 1024 * 1024, "data": 256 * 1024}

EDGE = 512  # rows and columns: half a megabyte an image


@pytest.fixture(scope="module")
def us1(cluster: Cluster) -> Iterator[Modality]:
    storage = {"sizeGi": 1, "storageClassName": "hostpath-limited"}
    with second_archive(cluster, "tiny", 30763, storage=storage, database={"mode": "Managed", **storage}):
        cluster.kubectl("apply", "-f", "-", stdin=PEER)
        try:
            cluster.kubectl("wait", "--for=condition=Ready", "pacsarchive/tiny", "--timeout=300s")
            yield Modality("us1", "198.18.40.11", "US1", archive="tiny", called="TINY", port="30763").ready(cluster)
        finally:
            run(TESTBED, "modality", "delete", "us1", check=False)
            cluster.kubectl("delete", "-n", "imaging", "dicompeer/us1")


@contextmanager
def full(folder: Path, room: int) -> Iterator[None]:
    """Leave little room, as a neighbour's forgotten file would."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        block = bytes(64 * 1024)
        while shutil.disk_usage(folder).free > room:
            file.write(block)
            file.flush()
    try:
        yield
    finally:
        filler.unlink()


@pytest.mark.parametrize(("zone", "claim"), [("archive", "images"), ("data", "database")])
def test_full(cluster: Cluster, us1: Modality, tmp_path: Path, zone: str, claim: str) -> None:
    study, stored = new_study(), tmp_path / "stored.json"
    with full(folder_of(cluster, f"tiny-{zone}", claim), ROOM[zone]):
        run(*us1.storm("store", study, stored, count=4000, edge=EDGE), "--seconds", "90")
        result = json.loads(stored.read_text())
        assert result["refused"], "the volume never ran full: nothing was proven"
        assert result["left"]
    assert result["acknowledged"], "nothing was stored before the volume ran full: nothing was proven"
    until("room brings service back", us1.echo, 120, every=2)
    whole = partial(us1.all_whole, study, result["acknowledged"], tmp_path, EDGE)
    until("every acknowledged image comes back whole", whole, 180, every=3)
    more = tmp_path / "more.json"
    run(*us1.storm("store", new_study(), more, count=3))
    assert len(json.loads(more.read_text())["acknowledged"]) == 3


def files_of_images(folder: Path) -> dict[int, list[Path]]:
    """Return the archive's files on the node that are large enough to hold pixels, with all names of each."""
    names: dict[int, list[Path]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 2 * EDGE * EDGE:
            names.setdefault(path.stat().st_ino, []).append(path)
    return names


def test_a_file_lost_or_damaged_on_the_volume_is_seen(cluster: Cluster, us1: Modality, tmp_path: Path) -> None:
    """What the tests of loss rely on: the index still lists these images, and retrieving them tells."""
    study, stored = new_study(), tmp_path / "stored.json"
    folder = folder_of(cluster, "tiny-archive", "images")
    before = files_of_images(folder)
    run(*us1.storm("store", study, stored, count=3, edge=EDGE))
    acknowledged = json.loads(stored.read_text())["acknowledged"]
    assert us1.all_whole(study, acknowledged, tmp_path, EDGE)
    damaged, lost, _ = (names for inode, names in sorted(files_of_images(folder).items()) if inode not in before)
    invert_last_byte(damaged[0])
    # The archive keeps a damaged image back, and a C-GET may end at the first image that cannot be read.
    assert len(us1.get_back(study, tmp_path, EDGE)["whole"]) < 3
    for name in lost:
        name.unlink()
    assert len(us1.get_back(study, tmp_path, EDGE)["whole"]) < 2
    with pytest.raises(AssertionError, match="not back"):
        us1.all_whole(study, acknowledged, tmp_path, EDGE)


def invert_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
