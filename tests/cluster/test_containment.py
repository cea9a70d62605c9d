"""One edit closes the archive to all but the peers that an emergency needs, in under 30 s, and one opens it again."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import Cluster, Modality, new_study, until

CLOSED_SECONDS = 30
CONTAINMENT = {"mode": "Isolated", "reason": "drill", "spareEmergencyPeers": [{"namespace": "imaging", "name": "ct1"}]}


def contain(cluster: Cluster, containment: object) -> None:
    patch = json.dumps({"spec": {"containment": containment}})
    cluster.kubectl("patch", "pacsarchive", "radiology", "--type=merge", "-p", patch)


@pytest.fixture
def lifted(archive: Cluster) -> Iterator[None]:
    yield
    contain(archive, None)
    archive.wait_ready()


def storing(device: Modality, out: Path) -> "subprocess.Popen[str]":
    """Store on one association until it ends, or for 40 s."""
    words = [*device.storm("store", new_study(), out, count=100_000), "--seconds", "40", "--once"]
    sender = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert sender.stdout
    assert sender.stdout.readline() == "1\n"
    return sender


def test_all_but_the_spared_are_closed_out_at_once(
    archive: Cluster, ct1: Modality, mr1: Modality, tmp_path: Path, lifted: None
) -> None:
    before = archive.archive_pods()
    spared, other = storing(ct1, tmp_path / "spared.json"), storing(mr1, tmp_path / "other.json")
    contain(archive, CONTAINMENT)
    begun = time.monotonic()
    other.communicate(timeout=CLOSED_SECONDS)
    # Who asks now and is refused found the gate closed, however long that takes.
    asked = time.monotonic() - begun
    print(f"the open association ended after {asked:.1f} s")
    assert not mr1.echo()
    assert asked < CLOSED_SECONDS
    assert ct1.echo()
    assert spared.poll() is None, "the association of the spared peer was ended too"

    until("the gates confirm it", lambda: archive.condition("Contained")["status"] == "True", 60)
    assert archive.condition("Contained")["reason"] == "Isolated"
    assert archive.condition("Ready")["reason"] == "Contained"
    assert archive.archive_pods() == before, "what an intruder left in memory is evidence"

    contain(archive, None)
    until("mr1 is served again", mr1.echo, 30)
    spared.communicate(timeout=90)
    assert json.loads((tmp_path / "spared.json").read_text())["refused"] == []
    archive.wait_ready()
    assert archive.archive_pods() == before
    assert archive.condition("Contained")["status"] == "False"
