"""The demo run again on its own running archive: nothing restarts, nothing is made anew, and it works again."""

import json
import os
import subprocess

from tests.cluster.support import ROOT, WORK, Cluster


def test_a_second_demo_finds_the_same_archive(archive: Cluster) -> None:
    before, identity = archive.archive_pods(), identity_of(archive)
    exchange = WORK / "exchange.json"
    exchange.unlink()
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    subprocess.run([ROOT / "demo" / "demo"], check=True, env=environment, timeout=600)
    archive.wait_ready()
    assert archive.archive_pods() == before
    assert identity_of(archive) == identity
    objects = json.loads(exchange.read_text())["objects"]
    assert len(objects) >= 100
    assert [item for item in objects if not item["equal"]] == []


def identity_of(cluster: Cluster) -> dict[str, object]:
    """Return what makes the archive this one: resource, data, volumes, and the certificates that serve."""
    archive = cluster.archive()
    volumes = cluster.get("pvc", "-A", "-l", "pacs-operator.io/archive=radiology")["items"]
    assert {"images", "database"} <= {item["metadata"]["name"] for item in volumes}  # and the reports of imports
    serving = {leaf["serial"] for leaf in archive["status"]["certificates"]}
    assert serving
    return {
        "resource": archive["metadata"]["uid"],
        "lineage": archive["status"]["lineageID"],
        "volumes": {item["metadata"]["uid"]: item["spec"]["volumeName"] for item in volumes},
        "certificates": serving,
    }
