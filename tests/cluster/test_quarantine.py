"""The same SOP Instance UID with another content: refused, kept apart and unreadable, and a person decides."""

import json
from contextlib import suppress
from pathlib import Path

from tests.storage.volume import PART10

from .support import ON_CALL, Cluster, Modality, folder_of, new_study, run, until

ZONE = "radiology-archive"
EDGE, OTHER_EDGE = 64, 32  # rows and columns of the two images that claim one identity


def quarantine(cluster: Cluster, *words: str) -> str:
    agent = ("/opt/pacs/bin/pacs-agent", "quarantine", *words)
    return cluster.kubectl("exec", "-n", ZONE, "orthanc-0", "-c", "agent", *ON_CALL, "--", *agent)


def held(cluster: Cluster) -> list[str]:
    return [entry["id"] for entry in json.loads(quarantine(cluster, "list"))]


def told(cluster: Cluster) -> str:
    """Return what the archive's status says; the agent counts now and then, and the operator asks at each pass."""
    cluster.look_again()
    return cluster.condition("IngestClean")["reason"]


def contents(folder: Path) -> dict[Path, bytes]:
    """Return all files of a volume; what goes while they are read is not among them."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):
            found[path] = path.read_bytes()
    return found


def test_a_differing_duplicate_is_held_until_a_person_decides(archive: Cluster, ct1: Modality, tmp_path: Path) -> None:
    study, out = new_study(), tmp_path / "stored.json"
    run(*ct1.storm("store", study, out, count=1, edge=EDGE))
    stored = json.loads(out.read_text())["acknowledged"]
    assert len(stored) == 1
    assert held(archive) == []
    folder = folder_of(archive, ZONE, "images")
    before = contents(folder)
    run(*ct1.storm("store", study, out, count=1, edge=OTHER_EDGE), "--seconds", "0.01")  # once
    assert json.loads(out.read_text())["refused"] == ["0111"]
    assert ct1.all_whole(study, stored, tmp_path, EDGE)
    until("the status says so", lambda: told(archive) == "Quarantined", 90, every=5)

    for path, content in contents(folder).items():
        assert PART10 not in content, path
        assert b"Storm^Test" not in content, path
    assert len(contents(folder)) > len(before), "the search cannot have looked at the right place"

    (identifier,) = held(archive)
    quarantine(archive, "release", identifier)
    assert ct1.all_whole(study, stored, tmp_path, OTHER_EDGE)
    (former,) = held(archive)
    quarantine(archive, "discard", former, "--yes")
    until("the status says so", lambda: told(archive) == "Clean", 90, every=5)
    assert ct1.all_whole(study, stored, tmp_path, OTHER_EDGE)
