"""A volume runs full under C-STORE: what was acknowledged stays, the rest is refused, and room brings service back.

A second, small archive stands on volumes of exactly the size asked for; a file laid beside the data fills them.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from pydicom.uid import generate_uid

from tests.cluster.support import ROOT, TESTBED, Cluster, Modality, run, until

PEER = """
apiVersion: pacs-operator.io/v1alpha1
kind: DicomPeer
metadata: {name: us1, namespace: imaging}
spec:
  archiveRef: {name: tiny}
  aeTitles: [US1]
  certificate: {dnsName: us1.imaging.example}
  sourceCIDRs: [198.18.40.11/32]
  rights: [Echo, Store, Find]
"""
#: What is left free, bytes. The index grows by some kilobytes an image, and reuses its write-ahead log.
ROOM = {"archive": 8 * 1024 * 1024, "data": 256 * 1024}


@pytest.fixture(scope="module")
def us1(cluster: Cluster) -> Iterator[Modality]:
    manifest = yaml.safe_load((ROOT / "examples" / "radiology.yaml").read_text())
    manifest["metadata"]["name"] = "tiny"
    spec = manifest["spec"]
    spec["dicom"]["aeTitle"] = "TINY"
    spec["storage"] = {"sizeGi": 1, "storageClassName": "hostpath-limited"}
    spec["database"] = {"mode": "Managed", "sizeGi": 1, "storageClassName": "hostpath-limited"}
    spec["gate"] = {"service": {"type": "NodePort", "nodePort": 30763}, "replicas": 1}
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    cluster.kubectl("apply", "-f", "-", stdin=PEER)
    cluster.kubectl("wait", "--for=condition=Ready", "pacsarchive/tiny", "--timeout=300s")
    yield Modality("us1", "198.18.40.11", "US1", archive="tiny", called="TINY", port="30763").ready(cluster)
    run(TESTBED, "modality", "delete", "us1")
    cluster.kubectl("delete", "-n", "imaging", "dicompeer/us1")
    cluster.kubectl("delete", "pacsarchive", "tiny", "--timeout=180s")
    for zone in ("edge", "archive", "data", "ops"):
        name = f"tiny-{zone}"
        cluster.kubectl("annotate", "namespace", name, f"pacs-operator.io/release-data={name}")
        cluster.kubectl("delete", "namespace", name, "--timeout=120s")


def folder_of(cluster: Cluster, namespace: str, claim: str) -> Path:
    """Return where the node keeps a claim's volume."""
    volume = cluster.get("pvc", claim, "-n", namespace)["spec"]["volumeName"]
    source = cluster.get("pv", volume)["spec"]
    return Path((source.get("local") or source["hostPath"])["path"])


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
    study = generate_uid()[:58].rstrip(".")
    stored, found = tmp_path / "stored.json", tmp_path / "found.json"
    with full(folder_of(cluster, f"tiny-{zone}", claim), ROOM[zone]):
        run(*us1.storm("store", study, stored, count=4000), "--seconds", "90", "--edge", "512")
        result = json.loads(stored.read_text())
        assert result["refused"], "the volume never ran full: nothing was proven"
        assert result["left"]
    until("room brings service back", us1.echo, 120, every=2)

    def all_there() -> bool:
        run(*us1.storm("find", study, found), check=False)
        return set(result["acknowledged"]) <= set(json.loads(found.read_text()))

    until("every acknowledged image is there", all_there, 180, every=3)
    more = tmp_path / "more.json"
    run(*us1.storm("store", generate_uid()[:58].rstrip("."), more, count=3))
    assert len(json.loads(more.read_text())["acknowledged"]) == 3
