"""Peers come, are narrowed and go within 10 seconds, without a restart and without cutting others."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PEER
from .support import Cluster, Modality, new_study, until


@pytest.fixture
def busy(ct1: Modality, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """CT1 in the middle of a long store on one association."""
    command = ct1.storm("store", new_study(), tmp_path / "busy.json", count=2000)
    sender = subprocess.Popen([*command, "--seconds", "40"], stdout=subprocess.PIPE, text=True)
    assert sender.stdout
    assert sender.stdout.readline() == "1\n"
    yield sender
    sender.wait(timeout=60)
    assert json.loads((tmp_path / "busy.json").read_text())["refused"] == []


def test_added_narrowed_removed(archive: Cluster, mr1: Modality, busy: "subprocess.Popen[str]", tmp_path: Path) -> None:
    before = archive.archive_pods()
    study, out = new_study(), tmp_path / "stored.json"

    def stores() -> bool:
        subprocess.run([*mr1.storm("store", study, out, count=1), "--seconds", "5"], check=False, timeout=60)
        return json.loads(out.read_text())["left"] == []

    assert stores()
    archive.kubectl("apply", "-f", "-", stdin=PEER.replace("rights: [Echo, Store]", "rights: [Echo]"))
    until("MR1 may no longer store", lambda: not stores(), 10)
    assert mr1.echo()
    archive.kubectl("delete", "-n", "imaging", "dicompeer/mr1")
    until("MR1 is refused", lambda: not mr1.echo(), 10)
    assert archive.archive_pods() == before


def test_the_removed_peers_open_association_ends(archive: Cluster, mr1: Modality, tmp_path: Path) -> None:
    command = mr1.storm("store", new_study(), tmp_path / "cut.json", count=5000)
    sender = subprocess.Popen([*command, "--seconds", "25"], stdout=subprocess.PIPE, text=True)
    assert sender.stdout
    assert sender.stdout.readline() == "1\n"
    archive.kubectl("delete", "-n", "imaging", "dicompeer/mr1")
    sender.wait(timeout=90)
    cut = json.loads((tmp_path / "cut.json").read_text())
    assert cut["left"], "the removed peer stored everything: its association was never ended"
    assert cut["refused"]


REFUSED = {
    "outside the bounds": ("198.18.20.11/32", "10.1.2.3/32", "SourceNotAllowed"),
    "too many rights": ("rights: [Echo, Store]", "rights: [Echo, FindWorklist]", "RightNotAllowed"),
    "title taken": ("aeTitles: [MR1]", "aeTitles: [CT1]", "DuplicateAETitle"),
    "identity taken": ("mr1.imaging.example", "ct1.imaging.example", "DuplicateIdentity"),
    "no such archive": ("archiveRef: {name: radiology}", "archiveRef: {name: cardiology}", "ArchiveNotFound"),
    "no consent": ("namespace: imaging", "namespace: default", "NamespaceNotAllowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_peer_beyond_its_bounds_is_refused_with_the_reason(archive: Cluster, ct1: Modality, case: str) -> None:
    old, new, reason = REFUSED[case]
    manifest = PEER.replace("name: mr1", "name: refused").replace(old, new)
    archive.kubectl("apply", "-f", "-", stdin=manifest)
    namespace = "default" if "namespace: default" in manifest else "imaging"
    try:

        def verdict() -> str | None:
            peer = archive.get("dicompeer", "refused", "-n", namespace)
            conditions = peer.get("status", {}).get("conditions", [])
            return next((c["reason"] for c in conditions if c["type"] == "Accepted" and c["status"] == "False"), None)

        assert until("the peer is refused", verdict, 15) == reason
        assert ct1.echo()
    finally:
        archive.kubectl("delete", "-n", namespace, "dicompeer/refused")
