"""An archive with policy Delete: what stands in the way of its end, and how its data are kept after all.

The clock is the cluster's own, and the shortest grace is a day: that the data go when it is over is shown on a real
API server with a moved clock (``tests/apiserver/test_destruction.py``), not here.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.support import TESTBED, Cluster, Modality, run, second_archive, until

PEER = """
apiVersion: pacs-operator.io/v1alpha1
kind: DicomPeer
metadata: {name: xa1, namespace: imaging}
spec:
  archiveRef: {name: doomed}
  aeTitles: [XA1]
  certificate: {dnsName: xa1.imaging.example}
  sourceCIDRs: [198.18.60.11/32]
  rights: [Echo]
"""
OPS, SERVING = "doomed-ops", ("doomed-edge", "doomed-archive", "doomed-data")


@pytest.fixture(scope="module")
def xa1(cluster: Cluster) -> Iterator[Modality]:
    deletion = {"confirmName": "doomed", "graceHours": 24}
    with second_archive(cluster, "doomed", 30765, deletionPolicy="Delete", deletion=deletion):
        cluster.kubectl("apply", "-f", "-", stdin=PEER)
        try:
            cluster.kubectl("wait", "--for=condition=Ready", "pacsarchive/doomed", "--timeout=300s")
            people = ("--user=anna", "--user=ben", "--user=carla")
            bind = ("create", "rolebinding", "approvers", "--clusterrole=pacs-operator-approver")
            cluster.kubectl("-n", OPS, *bind, *people)
            device = Modality("xa1", "198.18.60.11", "XA1", archive="doomed", called="DOOMED", port="30765")
            yield device.ready(cluster)
        finally:
            retain = ("pacsarchive", "doomed", "--type=merge", "-p", '{"spec":{"deletionPolicy":"Retain"}}')
            cluster.kubectl("patch", *retain, check=False)
            run(TESTBED, "modality", "delete", "xa1", check=False)
            cluster.kubectl("delete", "-n", "imaging", "dicompeer/xa1")


def approve(cluster: Cluster, person: str, act: str, *, by: str = "") -> str:
    """Have a person approve under the own name; ``by`` is who asks in that name."""
    doomed = cluster.get("pacsarchive", "doomed")
    expires = (datetime.now(UTC) + timedelta(days=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    approval: dict[str, Any] = {
        "apiVersion": "pacs-operator.io/v1alpha1",
        "kind": "PacsApproval",
        "metadata": {"name": f"{act.lower()}-{person}", "namespace": OPS},
        "spec": {
            "archiveRef": {"name": "doomed"},
            "archiveUID": doomed["metadata"]["uid"],
            "lineageID": doomed["status"]["lineageID"],
            "act": act,
            "approver": person,
            "expiresAt": expires,
            "reason": "contract ended, images handed over",
        },
    }
    return cluster.kubectl("create", f"--as={by or person}", "-f", "-", stdin=json.dumps(approval))


def patched(cluster: Cluster, spec: dict[str, Any]) -> None:
    cluster.kubectl("patch", "pacsarchive", "doomed", "--type=merge", "-p", json.dumps({"spec": spec}))


def blocked(cluster: Cluster) -> dict[str, str]:
    conditions = cluster.get("pacsarchive", "doomed")["status"]["conditions"]
    return next((each for each in conditions if each["type"] == "DeletionBlocked"), {"reason": "", "message": ""})


def waits_for(cluster: Cluster, reason: str) -> str:
    until(f"the deletion is blocked: {reason}", lambda: blocked(cluster)["reason"] == reason, 90, every=1)
    return blocked(cluster)["message"]


def volumes(cluster: Cluster) -> set[str]:
    claims = cluster.get("pvc", "-A", "-l", "pacs-operator.io/archive=doomed")["items"]
    return {claim["metadata"]["uid"] for claim in claims}


def running(cluster: Cluster) -> list[str]:
    return [name for zone in SERVING for name in cluster.pods(zone)]


def test_it_serves_until_two_people_agree_and_its_data_outlast_a_change_of_mind(
    cluster: Cluster, xa1: Modality
) -> None:
    until("the device is served", xa1.echo, 30)
    kept = volumes(cluster)
    assert len(kept) == 2
    cluster.kubectl("delete", "pacsarchive", "doomed", "--wait=false")
    assert "Delete has 0 of 2" in waits_for(cluster, "ApprovalsMissing")

    # Nobody approves in another's name, and one person under two names of objects is one.
    approve(cluster, "anna", "Delete")
    with pytest.raises(AssertionError, match="ended with 1"):
        approve(cluster, "ben", "Delete", by="anna")
    until("anna's word is known", lambda: "Delete has 1 of 2: anna" in blocked(cluster)["message"], 60)
    approve(cluster, "ben", "Delete")
    until("shredding is asked for", lambda: "Shred has 0 of 2" in blocked(cluster)["message"], 60)
    assert xa1.echo(), "an archive serves until nobody's word is missing"

    # A legal hold is above everybody.
    patched(cluster, {"retention": {"legalHold": True}})
    waits_for(cluster, "LegalHold")
    for person in ("anna", "ben"):
        approve(cluster, person, "Shred")
    assert blocked(cluster)["reason"] == "LegalHold"
    assert xa1.echo()
    patched(cluster, {"retention": {"legalHold": False}})

    assert "data are destroyed after" in waits_for(cluster, "GracePeriod")
    until("everything is stopped", lambda: running(cluster) == [], 120, every=1)
    assert not xa1.echo()
    assert volumes(cluster) == kept

    # A word taken back starts it again.
    cluster.kubectl("delete", "-n", OPS, "pacsapproval", "delete-ben", "--as=ben")
    waits_for(cluster, "ApprovalsMissing")
    until("it serves again", xa1.echo, 240, every=2)
    assert volumes(cluster) == kept

    # And with Retain the resource goes, the data stay.
    patched(cluster, {"deletionPolicy": "Retain"})
    gone = lambda: "doomed" not in cluster.kubectl("get", "pacsarchive", "-o", "name")  # noqa: E731
    until("the resource is gone", gone, 180, every=1)
    assert volumes(cluster) == kept
