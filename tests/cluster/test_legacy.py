"""A device without TLS: served at its port, from its address, under its title, until its time is over."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .support import LEGACY_NODE_PORT, NODE_PORT, TESTBED, Cluster, Modality, run, until


def stores(device: Modality, **changes: str) -> bool:
    return device.without_tls("store", **({"port": LEGACY_NODE_PORT} | changes))


def test_it_stores_and_one_property_that_differs_keeps_it_out(archive: Cluster, ct1: Modality, us7: Modality) -> None:
    assert stores(us7)
    assert not stores(us7, calling="US8")
    assert not stores(us7, port=NODE_PORT)
    assert not us7.without_tls("get", LEGACY_NODE_PORT), "it has no right to retrieve"
    stranger = Modality("stranger", "198.18.99.11", "US7")
    run(TESTBED, "modality", "add", stranger.name, stranger.address)
    try:
        assert not stores(stranger)
    finally:
        stranger.gone()
    assert stores(us7)
    back = subprocess.run(ct1.command("get", "--study", "ultrasound"), check=False, capture_output=True, timeout=60)
    assert back.returncode == 0, "what came without TLS is not what is served with it"


def patched(cluster: Cluster, what: str, spec: dict[str, Any]) -> None:
    namespace = () if what.startswith("pacsarchive") else ("-n", "imaging")
    cluster.kubectl("patch", what, *namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


@pytest.fixture
def always_staffed(archive: Cluster, us7: Modality) -> Iterator[None]:
    """Each minute begins an hour at which somebody is there, so that a port closes within one."""
    spec = archive.archive()["spec"]["dicom"]["staffedHours"]
    expires = archive.get("dicompeer", "us7", "-n", "imaging")["spec"]["legacy"]["expires"]
    patched(archive, "pacsarchive/radiology", {"dicom": {"staffedHours": {"schedule": "* * * * *"}}})
    yield
    patched(archive, "dicompeer/us7", {"legacy": {"expires": expires, "reason": "as before the test"}})
    patched(archive, "pacsarchive/radiology", {"dicom": {"staffedHours": spec}})
    archive.wait_ready()


def test_it_is_closed_out_when_its_time_is_over_and_one_command_extends_it(
    archive: Cluster, ct1: Modality, us7: Modality, always_staffed: None
) -> None:
    archive.wait_ready()
    before = archive.archive_pods()
    assert stores(us7)
    end = (datetime.now(UTC) + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    patched(archive, "dicompeer/us7", {"legacy": {"expires": end, "reason": "the test has no patience"}})
    until("it is closed out", lambda: not us7.without_tls("echo", LEGACY_NODE_PORT), 90, every=1)
    assert datetime.now(UTC) >= datetime.fromisoformat(end)
    assert ct1.echo()

    def refused() -> str | None:
        archive.look_again()
        peer = archive.get("dicompeer", "us7", "-n", "imaging")
        conditions = peer.get("status", {}).get("conditions", [])
        return next((c["reason"] for c in conditions if c["type"] == "Accepted" and c["status"] == "False"), None)

    assert until("its status says so", refused, 60, every=5) == "LegacyExpired"

    later = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    patched(archive, "dicompeer/us7", {"legacy": {"expires": later, "reason": "its successor is late"}})
    until("it stores again", lambda: stores(us7), 60)
    record = archive.get("dicompeer", "us7", "-n", "imaging")["status"]["legacy"]
    assert {"expires": end, "reason": "the test has no patience"} in record["earlier"]
    assert archive.archive_pods() == before
