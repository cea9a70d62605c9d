"""What breaks in a hospital's cluster, and what must not come of it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pacs_operator.domain.names import Port

from .support import ON_CALL, ROOT, TESTBED, Cluster, Modality, new_study, run, until

OPERATOR = ("-n", "pacs-operator-system")


def serials(cluster: Cluster) -> set[str]:
    return {leaf["serial"] for leaf in cluster.archive()["status"]["certificates"]}


def test_killing_the_operator_touches_no_archive(archive: Cluster) -> None:
    before, issued = archive.archive_pods(), serials(archive)
    assert len(before) == 4
    assert issued
    for _ in range(3):
        archive.kubectl(
            "delete", "pod", *OPERATOR, "-l", "app.kubernetes.io/name=pacs-operator", "--grace-period=0", "--force"
        )
        archive.kubectl("rollout", "status", *OPERATOR, "deployment/pacs-operator", "--timeout=120s")
    archive.wait_ready()
    assert archive.archive_pods() == before
    assert serials(archive) == issued


def test_nothing_is_written_when_nothing_changed(archive: Cluster) -> None:
    """A full pass is forced by touching a peer's label; it may read, and writes nothing."""
    until("the operator is quiet", lambda: quiet_for(archive, 10), 120, every=0)
    before = archive.events_of_writes()
    archive.look_again()
    assert quiet_for(archive, 15)
    assert archive.events_of_writes() == before


def quiet_for(cluster: Cluster, seconds: float) -> bool:
    """Watch the audit log for some time: absence of writes has no condition to wait on."""
    before, deadline = cluster.events_of_writes(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if cluster.events_of_writes() != before:
            return False
    return True


def test_deleted_and_edited_children_are_back_within_10_seconds(archive: Cluster, ct1: Modality) -> None:
    policies = {
        item["metadata"]["name"]: item["spec"]
        for item in archive.get("networkpolicies", "-n", "radiology-data")["items"]
    }
    assert policies
    before = archive.archive_pods()
    archive.kubectl("delete", "networkpolicy", "--all", "-n", "radiology-data")

    def restored() -> bool:
        items = archive.get("networkpolicies", "-n", "radiology-data")["items"]
        return {item["metadata"]["name"]: item["spec"] for item in items} == policies

    until("deleted policies are back", restored, 10)
    opened = json.dumps({"spec": {"ingress": [{}]}})
    name = next(name for name, spec in policies.items() if "Ingress" in spec["policyTypes"])
    archive.kubectl("patch", "networkpolicy", name, "-n", "radiology-data", "--type=merge", "-p", opened)
    until("an opened policy is closed", restored, 10)
    archive.kubectl("delete", "service", "orthanc", "-n", "radiology-archive")
    until(
        "a deleted Service is back",
        lambda: "orthanc" in archive.kubectl("get", "service", "-n", "radiology-archive", check=False),
        10,
    )
    files = {"orthanc", "peers"}
    archive.kubectl("delete", "configmap", "-n", "radiology-archive", *files)

    def configured() -> bool:
        items = archive.get("configmaps", "-n", "radiology-archive")["items"]
        return files <= {item["metadata"]["name"] for item in items}

    until("deleted ConfigMaps are back", configured, 10)
    assert archive.archive_pods() == before
    # The new Service has another address; the gates learn it from DNS.
    until("the modality is served again", ct1.echo, 90)


def test_one_gate_killed_the_other_serves(archive: Cluster, ct1: Modality) -> None:
    """The killed gate's successor finds no node to run on until the other one has answered, alone."""
    gates = archive.get("pods", "-n", "radiology-edge", "-l", "pacs-operator.io/component=gate")["items"]
    names = sorted(item["metadata"]["name"] for item in gates)
    assert len(names) == 2
    killed, survivor = names
    (address,) = (item["status"]["podIP"] for item in gates if item["metadata"]["name"] == survivor)
    alone = replace(ct1, host=address, port=str(Port.DICOM_TLS))
    with cordoned(archive):
        archive.kubectl("delete", "pod", "-n", "radiology-edge", killed, "--grace-period=0", "--force", *ON_CALL)
        until("the survivor's own address answers", alone.echo, 10)
        # The node's proxy needs a moment to forget the dead one; a modality tries again.
        until("the Service answers", ct1.echo, 10)
        for _ in range(5):
            assert ct1.echo()
            assert alone.echo()
        assert ready_gates(archive) == {survivor}, "the killed gate was replaced meanwhile: nothing was proven"
    until("two gates again", lambda: len(ready_gates(archive)) == 2, 60)
    archive.wait_ready()


@contextmanager
def cordoned(cluster: Cluster) -> Iterator[None]:
    """Let no new pod start."""
    (node,) = (item["metadata"]["name"] for item in cluster.get("nodes")["items"])
    cluster.kubectl("cordon", node)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", node)


def ready_gates(cluster: Cluster) -> set[str]:
    items = cluster.get("pods", "-n", "radiology-edge", "-l", "pacs-operator.io/component=gate")["items"]
    staying = [item for item in items if "deletionTimestamp" not in item["metadata"]]
    wanted = ("Ready", "True")
    return {
        item["metadata"]["name"]
        for item in staying
        if wanted in [(each["type"], each["status"]) for each in item["status"].get("conditions", [])]
    }


def test_no_acknowledged_image_is_lost_when_the_database_dies(archive: Cluster, ct1: Modality, tmp_path: Path) -> None:
    study, out = new_study(), tmp_path / "stored.json"
    sender = subprocess.Popen(ct1.storm("store", study, out, count=150), stdout=subprocess.PIPE, text=True)
    assert sender.stdout
    for line in sender.stdout:
        if int(line) == 30:
            break
    archive.kubectl("delete", "pod", "-n", "radiology-data", "postgres-0", "--grace-period=0", "--force")
    assert sender.wait(timeout=200) == 0
    stored = json.loads(out.read_text())
    assert stored["left"] == []
    assert len(stored["acknowledged"]) == 150
    until("every image is back", lambda: ct1.all_whole(study, stored["acknowledged"], tmp_path), 60, every=1)
    archive.wait_ready()


def test_vault_sealed_running_archives_serve_and_say_so(archive: Cluster, ct1: Modality) -> None:
    """Seen at once by an operator that starts, within two minutes by one that runs."""
    before = archive.archive_pods()
    run(TESTBED, "openbao", "seal")
    try:
        archive.kubectl("delete", "pod", *OPERATOR, "-l", "app.kubernetes.io/name=pacs-operator")
        until("VaultReady is False", lambda: archive.condition("VaultReady")["status"] == "False", 90)
        assert archive.condition("VaultReady")["reason"] == "VaultSealed"
        assert ct1.echo()
        assert archive.archive_pods() == before
    finally:
        run(TESTBED, "openbao", "unseal")
    until("VaultReady again", lambda: archive.condition("VaultReady")["status"] == "True", 180)
    assert archive.archive_pods() == before


def test_the_node_stops_and_all_comes_back(archive: Cluster, ct1: Modality) -> None:
    run(TESTBED, "stop")
    run(TESTBED, "start", timeout=120)
    archive.wait_ready(300)
    run(TESTBED, "modality", "add", ct1.name, ct1.address)
    until("the modality is served", ct1.echo, 60)


def test_deleted_with_retain_then_adopted_with_all_images(archive: Cluster, ct1: Modality, tmp_path: Path) -> None:
    study = new_study()
    run(*ct1.storm("store", study, tmp_path / "stored.json", count=5))
    stored = json.loads((tmp_path / "stored.json").read_text())["acknowledged"]
    assert len(stored) == 5
    lineage = archive.archive()["status"]["lineageID"]
    archive.kubectl("delete", "pacsarchive", "radiology", "--timeout=120s")
    assert not ct1.echo()
    retained = archive.get("namespace", "radiology-archive")
    assert retained["metadata"]["labels"]["pacs-operator.io/lineage"] == lineage
    assert archive.get("pvc", "-n", "radiology-archive")["items"]
    example = (ROOT / "examples" / "radiology.yaml").read_text()
    archive.kubectl("apply", "-f", "-", stdin=example)
    until(
        "a new archive does not take over retained data", lambda: archive.condition("Stalled")["status"] == "True", 60
    )
    assert lineage in archive.condition("Stalled")["message"]
    archive.kubectl("delete", "pacsarchive", "radiology", "--timeout=120s")
    adopt = example + f"  bootstrap: {{mode: Adopt, lineageID: {lineage}}}\n"
    archive.kubectl("apply", "-f", "-", stdin=adopt)
    # As the demo does, so that the tests that come after this one need no other gate.
    legacy = ("--patch-file", str(ROOT / "examples" / "radiology-legacy.yaml"))
    archive.kubectl("patch", "pacsarchive", "radiology", "--type=merge", *legacy)
    archive.wait_ready(400)
    assert archive.archive()["status"]["lineageID"] == lineage
    until("the modality is served again", ct1.echo, 60)
    assert ct1.all_whole(study, stored, tmp_path)
