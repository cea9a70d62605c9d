"""A stored file that the disk gives back otherwise is told by its name, and the right bytes put it right."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .support import ON_CALL, Cluster, Modality, folder_of, new_study, run

ZONE = "radiology-archive"


def files_of(cluster: Cluster) -> set[Path]:
    """Return the stored files of the demo's archive, on the node's disk."""
    return set((folder_of(cluster, ZONE, "images") / "sealed" / "id").glob("*/*/*"))


def stored_file(cluster: Cluster, device: Modality, folder: Path) -> Path:
    """Have one image stored and return a file of it that is new on the volume."""
    before, out = files_of(cluster), folder / "stored.json"
    run(*device.storm("store", new_study(), out, count=1))
    assert len(json.loads(out.read_text())["acknowledged"]) == 1
    return max(files_of(cluster) - before, key=lambda path: path.stat().st_size)


@contextmanager
def one_bit_other(path: Path) -> Iterator[None]:
    """Turn one bit in the middle of a file, until the block ends; what another could see of it stays as it was."""
    at = path.stat().st_size // 2
    with path.open("r+b") as file:

        def turn() -> None:
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1]))
            file.flush()

        turn()
        try:
            yield
        finally:
            turn()


def check(cluster: Cluster, name: str) -> str:
    """Have one file read from the disk now; return what is wrong with it."""
    command = ("/opt/pacs/bin/pacs-agent", "scrub", "check", name)
    return cluster.kubectl(
        "exec", "-n", ZONE, "orthanc-0", "-c", "agent", *ON_CALL, "--", *command, check=False
    ).strip()


def test_a_turned_bit_is_found_when_somebody_asks(archive: Cluster, ct1: Modality, tmp_path: Path) -> None:
    path = stored_file(archive, ct1, tmp_path)
    assert check(archive, path.name) == "Intact"
    with one_bit_other(path):
        assert check(archive, path.name) == "Changed"
    assert check(archive, path.name) == "Intact"
