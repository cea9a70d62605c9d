"""Two people let one reader in for some hours: the reader gets images, and nobody after the end or by one's word."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import Cluster, Modality, approve, new_study, run, until

OPS = "radiology-ops"
READER = {
    "holder": "dr-keller",
    "aeTitle": "EMERGENCY1",
    "sourceCIDRs": ["198.18.30.7/32"],
    "rights": ["Find", "Get"],
    "hours": 1,
}
EDGE = 64
SECONDS = 30  # that the last consent counts


@pytest.fixture
def prepared(archive: Cluster) -> Iterator[Cluster]:
    """An archive that break-glass readers are prepared for, and two approvers."""
    patch = ("patch", "pacsarchive", "radiology", "--type=merge", "-p")
    archive.kubectl(*patch, '{"spec":{"breakGlass":{"maxHours":1}}}')
    bind = ("create", "rolebinding", "approvers", "--clusterrole=pacs-operator-approver")
    archive.kubectl("-n", OPS, *bind, "--user=anna", "--user=ben")
    yield archive
    archive.kubectl("-n", OPS, "delete", "pacsapprovals", "--all")
    archive.kubectl("-n", OPS, "delete", "rolebinding", "approvers")
    archive.kubectl(*patch, '{"spec":{"breakGlass":null}}')
    archive.wait_ready()


@pytest.fixture
def workstation() -> Iterator[Modality]:
    device = Modality("bg1", "198.18.30.7", "EMERGENCY1")
    yield device
    device.gone()


def consent(cluster: Cluster, person: str, name: str, hours: float = 24) -> None:
    reason = "RIS is down, trauma room needs the priors"
    approve(cluster, person, name, act="BreakGlass", reason=reason, hours=hours, breakGlass=READER)


def events(cluster: Cluster, reason: str) -> int:
    return len(cluster.get("events", "-A", "--field-selector", f"reason={reason}")["items"])


def test_two_people_open_it_for_a_time_and_one_alone_opens_nothing(
    prepared: Cluster, ct1: Modality, workstation: Modality, tmp_path: Path
) -> None:
    study, out = new_study(), tmp_path / "stored.json"
    run(*ct1.storm("store", study, out, count=2, edge=EDGE))
    stored = json.loads(out.read_text())["acknowledged"]
    pods, ended = prepared.archive_pods(), events(prepared, "BreakGlassEnded")

    def reads() -> bool:
        return set(workstation.get_back(study, tmp_path, EDGE)["whole"]) == set(stored)

    def said(reason: str) -> bool:
        return prepared.condition("BreakGlass")["reason"] == reason

    consent(prepared, "anna", "glass-anna")
    until("one person's word is known", lambda: said("NotOpened"), 30)
    assert "a second person has not" in prepared.condition("BreakGlass")["message"]
    consent(prepared, "ben", "glass-ben")
    until("two people's word opens it", lambda: said("ReadersOpen"), 30)
    name = f"{READER['holder']}.break-glass.pacs.internal"
    workstation.ready(prepared, dns_name=name, peer=f"_break-glass/{READER['holder']}")
    until("the reader gets the study", reads, 30)
    assert not workstation.echo(), "what two people did not name it may not do"

    # The same certificate, and one person's word.
    prepared.kubectl("-n", OPS, "delete", "pacsapproval", "glass-ben")
    until("the reader is refused", lambda: not reads(), 30)
    until("the status says so", lambda: said("NotOpened") or said("NoReaders"), 30)
    assert not reads()

    # Both again, for less than a minute: its end needs nobody.
    consent(prepared, "ben", "glass-ben-again", hours=SECONDS / 3600)
    until("the reader gets the study again", reads, 30)
    until("the reader is refused after the end", lambda: not reads(), SECONDS + 30, every=2)
    until("the end is told", lambda: events(prepared, "BreakGlassEnded") > ended, 60, every=1)
    assert not reads()
    assert ct1.echo()
    assert prepared.archive_pods() == pods, "nothing restarts for it"
