"""A shadow of the demo's archive is made, bears what would hurt, and is removed; the archive notices nothing."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cluster.support import GATE, HOST, ROOT, TESTBED, Cluster, run

#: The demo's archive has DICOMweb.
ALWAYS = {"MalformedRequests", "SlowFlood", "AssociationFlood", "PreambleBlanked", "BombsRefused"}


def test_it_bears_the_attacks_and_leaves_nothing(archive: Cluster, tmp_path: Path) -> None:
    pods, out = archive.archive_pods(), tmp_path / "shadow.json"
    where = f"--gate-address {GATE} --visitor-cidr {HOST}/32 --json {out} --wait-seconds 400"
    words = f"exec {sys.executable} {ROOT}/tools/shadow.py try radiology {where}"
    environment = run(TESTBED, "openbao", "env")
    subprocess.run(["bash", "-c", f"{environment}\n{words}"], check=True, timeout=900)
    told = json.loads(out.read_text())
    assert told["images"] == archive.archive()["status"]["effective"]["images"]
    assert {each["attack"] for each in told["attacks"]} == ALWAYS
    assert {each["outcome"] for each in told["attacks"]} == {"Passed"}
    left = [each["metadata"]["name"] for each in archive.get("namespaces")["items"]]
    assert [name for name in left if name.startswith("radiology-shadow")] == []
    assert "radiology-shadow" not in archive.kubectl("get", "pacsarchives", "-o", "name")
    assert archive.archive_pods() == pods
