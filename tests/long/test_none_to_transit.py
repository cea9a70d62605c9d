"""An archive that began without encryption: everything on its volume is encrypted, and served all the while."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.support import Cluster, Modality, folder_of, new_study, run, second_archive, until
from tests.storage.volume import PART10

PEER = """
apiVersion: pacs-operator.io/v1alpha1
kind: DicomPeer
metadata: {name: nm1, namespace: imaging}
spec:
  archiveRef: {name: bare}
  aeTitles: [NM1]
  certificate: {dnsName: nm1.imaging.example}
  sourceCIDRs: [198.18.61.11/32]
  rights: [Echo, Store, Find, Get]
"""
ZONE, IMAGES = "bare-archive", 40


@pytest.fixture
def nm1(cluster: Cluster) -> Iterator[Modality]:
    """A device of an archive without encryption."""
    mode = {"mode": "None", "reason": "the first year ran on an encrypted storage system"}
    with second_archive(cluster, "bare", 30766, encryption=mode):
        cluster.kubectl("apply", "-f", "-", stdin=PEER)
        try:
            cluster.kubectl("wait", "--for=condition=Ready", "pacsarchive/bare", "--timeout=300s")
            device = Modality("nm1", "198.18.61.11", "NM1", archive="bare", called="BARE", port="30766")
            yield device.ready(cluster)
            device.gone()
        finally:
            cluster.kubectl("delete", "-n", "imaging", "dicompeer/nm1")


def test_what_lay_in_clear_is_encrypted_and_comes_back_whole(cluster: Cluster, nm1: Modality, tmp_path: Path) -> None:
    def condition() -> dict[str, str]:
        found = cluster.get("pacsarchive", "bare")["status"]["conditions"]
        return next(each for each in found if each["type"] == "ImagesEncrypted")

    def says(reason: str) -> bool:
        touched = f"test/touched=t{time.monotonic_ns()}"
        cluster.kubectl("label", "--overwrite", "dicompeer/nm1", "-n", "imaging", touched)
        return condition()["reason"] == reason

    def in_clear() -> list[Path]:
        files = [path for path in folder_of(cluster, ZONE, "images").rglob("*") if path.is_file()]
        return [path for path in files if PART10 in path.read_bytes()]

    study, out = new_study(), tmp_path / "stored.json"
    until("nm1 is served", nm1.echo, 60)
    run(*nm1.storm("store", study, out, count=IMAGES))
    images = json.loads(out.read_text())["acknowledged"]
    assert len(in_clear()) >= IMAGES, "the search cannot have looked at the right place"
    assert condition()["status"] == "False"

    change = {"spec": {"encryption": {"mode": "Transit", "reason": None}}}
    cluster.kubectl("patch", "pacsarchive", "bare", "--type=merge", "-p", json.dumps(change))
    until("nothing is left in clear", lambda: not in_clear(), 300, every=2)
    until("the modality is served", nm1.echo, 60, every=1)
    assert nm1.all_whole(study, images, tmp_path)
    until("it is verified", lambda: says("Verified"), 300, every=5)
    progress = cluster.get("pacsarchive", "bare")["status"]["encryption"]["reencrypt"]
    assert (progress["kind"], progress["left"], progress["failed"], progress["foreign"]) == ("Clear", 0, 0, 0)

    more = new_study()
    run(*nm1.storm("store", more, out, count=2))
    assert nm1.all_whole(more, json.loads(out.read_text())["acknowledged"], tmp_path)
    assert not in_clear()
