"""The demo on a cluster that it takes for somebody's own: the local one, by a kubeconfig at another path."""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.cluster.support import GATE, HOST, ROOT, STATE, TESTBED, WORK, Cluster, reachable, run

#: The machine that runs the demo, as the node sees it; the local demo's device has another address.
HERE = f"{HOST}/32"


def test_the_device_of_somebodys_own_cluster_is_served(archive: Cluster, tmp_path: Path) -> None:
    pods, exchange = archive.archive_pods(), WORK / "exchange.json"
    local = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes((STATE / "admin.kubeconfig").read_bytes())
    variables = dict(re.findall(r"^export (\w+)=(\S+)$", run(TESTBED, "openbao", "env"), re.MULTILINE)) | {
        "KUBECONFIG": str(kubeconfig),
        "PACS_REGISTRY": "localhost:5000/pacs-operator",
        "PACS_PUSH_PREFIX": "nsenter --net=/run/netns/pacsnode",
        "PACS_VAULT_CIDRS": f"{GATE}/32",
        "PACS_API_CIDRS": f"{GATE}/32",
        "PACS_GATE_ADDRESS": GATE,
        "PACS_MODALITY_CIDR": HERE,
        "PACS_WORKSTATION_ADDRESS": HOST,
    }
    for told in (exchange, WORK / "move.json"):
        told.unlink()
    try:
        with reachable(archive):
            subprocess.run([ROOT / "demo" / "demo"], check=True, env=local | variables, timeout=600)
        assert archive.archive()["spec"]["peers"]["allowedCIDRs"] == [HERE]
        assert archive.get("dicompeer", "ct1", "-n", "imaging")["spec"]["sourceCIDRs"] == [HERE]
        objects = json.loads(exchange.read_text())["objects"]
        assert len(objects) >= 100
        assert [item for item in objects if not item["equal"]] == []
        assert archive.get("dicompeer", "us7", "-n", "imaging")["spec"]["sourceCIDRs"] == [HERE]
        moved = json.loads((WORK / "move.json").read_text())["objects"]
        assert [item["equal"] for item in moved] == [True] * 3
    finally:
        subprocess.run([ROOT / "demo" / "demo", "archive"], check=True, env=local, timeout=600)
    archive.wait_ready()
    assert archive.archive_pods() == pods, "other networks are let in without a restart"
