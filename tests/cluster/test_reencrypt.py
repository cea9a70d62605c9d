"""Images under an older data key are sealed anew when a person asks, and every one of them stays what it was."""

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .support import ON_CALL, Cluster, Modality, folder_of, new_study, run, until

ZONE = "radiology-archive"
ANNOTATION = "pacs-operator.io/reencrypt-images"
KEY_ID = slice(8, 12)  # of a stored file, big endian: images/archive/storage/format.h
IMAGES = 20


def stored(cluster: Cluster) -> list[Path]:
    return list((folder_of(cluster, ZONE, "images") / "sealed" / "id").glob("*/*/*"))


def keys_of(cluster: Cluster) -> set[int]:
    """Return which data keys the stored files are under."""
    found = set()
    for path in stored(cluster):
        with suppress(FileNotFoundError):  # what the storage writes to test itself goes again
            found.add(int.from_bytes(path.read_bytes()[KEY_ID], "big"))
    return found


def encryption(cluster: Cluster) -> dict[str, Any]:
    cluster.look_again()
    told: dict[str, Any] = cluster.archive()["status"]["encryption"]
    return told


def aged(cluster: Cluster) -> int:
    """Let the newest data key be as old as one may become, and Orthanc start; return the number of the next one."""
    before = encryption(cluster)["activeDataKey"]
    folder = folder_of(cluster, ZONE, "images") / "keys"
    for path in folder.glob("*.json"):
        key = json.loads(path.read_text())
        key["created"] = (datetime.now(UTC) - timedelta(days=91)).strftime("%Y-%m-%dT%H:%M:%SZ")
        path.write_text(json.dumps(key))
    cluster.kubectl("delete", "pod", "-n", ZONE, "orthanc-0", *ON_CALL)
    until("a newer data key is there", lambda: encryption(cluster)["activeDataKey"] == before + 1, 120, every=2)
    return int(before) + 1


def test_every_image_comes_under_the_newest_key_and_back_whole(archive: Cluster, ct1: Modality, tmp_path: Path) -> None:
    study, out = new_study(), tmp_path / "stored.json"
    run(*ct1.storm("store", study, out, count=IMAGES))
    images = json.loads(out.read_text())["acknowledged"]
    newest = aged(archive)
    archive.wait_ready()
    until("the modality is served", ct1.echo, 60)
    assert newest not in keys_of(archive)

    token = str(time.time_ns())
    archive.kubectl("annotate", "--overwrite", "pacsarchive", "radiology", f"{ANNOTATION}={token}")

    def ordered() -> bool:
        return "reseal" in archive.kubectl("get", "configmap", "peers", "-n", ZONE, "-o", "yaml")

    until("it is ordered", ordered, 30)
    archive.read_config_again(ZONE, "orthanc-0")
    until("no image is under an older key", lambda: keys_of(archive) == {newest}, 120, every=1)

    def handled() -> bool:
        archive.look_again()
        return archive.archive()["status"].get("lastHandledReencryptToken") == token

    until("the status says so", handled, 90, every=2)
    progress = encryption(archive)["reencrypt"]
    assert (progress["kind"], progress["state"], progress["left"], progress["failed"]) == ("Keys", "Done", 0, 0)
    assert progress["done"] >= IMAGES
    assert ct1.all_whole(study, images, tmp_path)
    archive.kubectl("annotate", "pacsarchive", "radiology", f"{ANNOTATION}-")
