"""What leaves the archive leaves to listed devices that prove who they are, and to nobody else."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import PEER
from .support import Cluster, Modality, new_study, run, until

PORT, OTHER_PORT = 2762, 2763


def move(ws1: Modality, out: Path, *, listen: int = PORT, unlisted: str = "CT1") -> dict[str, Any]:
    """Have the demo's ultrasound study sent to the workstation, then to another title; return what came of it."""
    words = ["move", "--study", "ultrasound", "--listen", f"{ws1.address}:{listen}", "--unlisted", unlisted]
    subprocess.run([*ws1.command(*words), "--json", str(out)], check=False, capture_output=True, timeout=120)
    document: dict[str, Any] = json.loads(out.read_text())
    return document


def outcomes(document: dict[str, Any]) -> set[str]:
    return {each["outcome"] for each in document["objects"]}


def arrived(out: Path) -> tuple[int, int]:
    told = json.loads(out.read_text())
    return told["associations"], len(told["images"])


@pytest.fixture
def ws2(archive: Cluster) -> Iterator[Modality]:
    """A second workstation, which nobody lists."""
    spec = "rights: [Echo]\n  outbound: {address: 198.18.20.22, port: 2762}"
    peer = PEER.replace("mr1", "ws2").replace("MR1", "WS2").replace("198.18.20.11", "198.18.20.22")
    archive.kubectl("apply", "-f", "-", stdin=peer.replace("rights: [Echo, Store]", spec))
    archive.kubectl("wait", "--for=condition=Accepted", "-n", "imaging", "dicompeer/ws2", "--timeout=30s")
    modality = Modality("ws2", "198.18.20.22", "WS2").ready(archive)
    until("ws2 is served", modality.echo, 15)
    yield modality
    run("kubectl", "delete", "--ignore-not-found", "-n", "imaging", "dicompeer/ws2")
    modality.gone()


def test_only_a_listed_device_is_sent_to(archive: Cluster, ws1: Modality, ws2: Modality, tmp_path: Path) -> None:
    out, inbox = tmp_path / "move.json", tmp_path / "inbox.json"
    with ws2.receiving(PORT, inbox):
        document = move(ws1, out, unlisted="WS2")
    assert outcomes(document) == {"Equal"}
    assert document["moved"] == {"attack": "status-c000", "twin": "status-0000", "strangers": 0}
    assert arrived(inbox) == (0, 0)
    listed = json.dumps({"spec": {"moveDestinations": ["ws1", "ws2"]}})
    archive.kubectl("patch", "-n", "imaging", "dicompeer/ws1", "--type=merge", "-p", listed)

    def sent() -> bool:
        with ws2.receiving(PORT, inbox):
            move(ws1, out, unlisted="WS2")
        return arrived(inbox)[1] == 3

    try:
        until("the twin: listed, it is sent to", sent, 30)
    finally:
        archive.kubectl("apply", "-f", str(ws1.folder.parent / "ws1.yaml"))


def test_who_does_not_prove_the_listed_name_gets_nothing(ws1: Modality, tmp_path: Path) -> None:
    """Somebody else answers at the workstation's address, with a certificate of the archive's own authority."""
    out, inbox = tmp_path / "move.json", tmp_path / "inbox.json"
    with ws1.receiving(PORT, inbox, identity="ct1"):
        document = move(ws1, out, listen=OTHER_PORT)
    assert outcomes(document) == {"NotReturned"}
    assert document["moved"]["twin"] == "status-c000"
    assert arrived(inbox) == (0, 0)
    with ws1.receiving(PORT, inbox):
        document = move(ws1, out, listen=OTHER_PORT)
    assert document["moved"]["twin"] == "status-0000"
    assert arrived(inbox)[1] == 3


COMMITTING = "rights: [Echo, Store, StorageCommitment]\n  outbound: {address: 198.18.20.11, port: 2762}"


def test_a_modality_is_told_what_is_stored_on_an_association_of_the_archives(
    archive: Cluster, mr1: Modality, tmp_path: Path
) -> None:
    archive.kubectl("apply", "-f", "-", stdin=PEER.replace("rights: [Echo, Store]", COMMITTING))
    study, stored, out = new_study(), tmp_path / "stored.json", tmp_path / "report.json"
    run(*mr1.storm("store", study, stored, count=2))
    images = json.loads(stored.read_text())["acknowledged"]
    assert len(images) == 2
    nobodys = f"{study}.9"
    uids = [word for uid in (*images, nobodys) for word in ("--uid", uid)]
    script = str(Path(__file__).with_name("station.py"))
    words = ["commit", "--title", "MR1", "--called", "RADIOLOGY", "--listen", f"{mr1.address}:{PORT}", *uids]
    command = [*mr1.here("python"), script, *words, "--out", str(out), *mr1.gate, *mr1.certificates]

    def told() -> dict[str, Any]:
        run(*command)
        document: dict[str, Any] = json.loads(out.read_text())
        assert document["reports"], document
        return document

    document = until("the report", told, 30)
    assert document["answer"] == "0000"
    (report,) = document["reports"]
    assert report["transaction"] == document["transaction"]
    assert sorted(report["committed"]) == sorted(images)
    assert report["failed"] == [nobodys]
