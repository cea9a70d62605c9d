"""The drill of the offline start: the node's pods come up as after a reboot, and Vault is sealed."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cluster.support import STATE, TESTBED, Cluster, Modality, new_study, run, until

ZONES = ("radiology-edge", "radiology-archive", "radiology-data")
PODS = STATE / "kubelet" / "pods"
# One of those who may approve for the archive; on call at night, so that every zone is theirs.
ANNA = ("--as=anna", "--as-group=system:masters")


@pytest.fixture
def declared(archive: Cluster) -> Iterator[X25519PrivateKey]:
    """The archive declares a key, and its pods have sealed to it; afterwards it is as before."""
    key = X25519PrivateKey.generate()
    recipient = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    wanted = {"recipient": recipient, "holder": "the drill", "reason": "a drill of the offline start"}
    _patch(archive, wanted)
    try:
        until("all has been sealed", lambda: archive.condition("OfflineStart")["reason"] == "NeverTried", 300, every=1)
        archive.wait_ready()
        yield key
    finally:
        run(TESTBED, "openbao", "unseal", check=False)
        take_away(archive)
        _patch(archive, None)
        archive.wait_ready(600)
        rolled(archive)


def rolled(archive: Cluster) -> None:
    """Wait until every pod is of the newest template: an archive is Ready while its replicas change in turn."""
    for zone in ZONES:
        for workload in archive.kubectl("get", "deployments,statefulsets", "-n", zone, "-o", "name").split():
            archive.kubectl("rollout", "status", "-n", zone, workload, "--timeout=300s", timeout=330)


def _patch(archive: Cluster, value: object) -> None:
    body = json.dumps({"spec": {"offlineStart": value}})
    archive.kubectl("patch", "pacsarchive", "radiology", "--type=merge", "-p", body)


def bring(archive: Cluster, key: X25519PrivateKey) -> None:
    """Do what docs/offline-start.md says that a person does."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    end = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for zone in ZONES:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pacs-offline-start", "namespace": zone},
            "stringData": {"private.pem": pem, "notAfter": end},
        }
        apply = ("apply", "--server-side", "--force-conflicts", *ANNA, "-f", "-")
        archive.kubectl(*apply, stdin=json.dumps(secret))


def take_away(archive: Cluster) -> None:
    for zone in ZONES:
        archive.kubectl("delete", "secret", "pacs-offline-start", "-n", zone, "--ignore-not-found", *ANNA)


def reboot(archive: Cluster) -> None:
    """Empty the pods' memory volumes and end all that runs in them, as a reboot of the node does; the pods stay."""
    for uid in (pod.uid for pod in archive.archive_pods().values()):
        for volume in (PODS / uid / "volumes" / "kubernetes.io~empty-dir").iterdir():
            if _in_memory(volume):
                run("find", volume, "-mindepth", "1", "-delete")
    for zone in ZONES:
        for sandbox in _sandboxes(zone):
            containerd("tasks", "kill", "--signal", "SIGKILL", sandbox)


def _in_memory(volume: Path) -> bool:
    return run("stat", "--file-system", "--format=%T", volume).strip() == "tmpfs"


def _sandboxes(namespace: str) -> list[str]:
    chosen = f'labels."io.kubernetes.pod.namespace"=={namespace},labels."io.cri-containerd.kind"==sandbox'
    found = containerd("containers", "list", "--quiet", chosen).split()
    running = {line.split()[0] for line in containerd("tasks", "list").splitlines()[1:]}
    return [one for one in found if one in running]


def containerd(*words: str) -> str:
    return run("ctr", "--address", "/run/pacsnode/containerd.sock", "--namespace", "k8s.io", *words)


def agents_say(archive: Cluster, reason: str) -> bool:
    """Tell whether the agent of every zone says so in its log since it started."""
    return all(f'"{reason}"' in _log(archive, zone) for zone in ZONES)


def _log(archive: Cluster, zone: str) -> str:
    pods = ("-l", "pacs-operator.io/component in (gate, orthanc, postgres)", "--prefix", "--tail=400")
    return archive.kubectl("logs", "-n", zone, *pods, "-c", "agent", check=False)


@pytest.mark.timeout(1200)  # each wait may last as long as agents' and the kubelet's own pauses between two looks
def test_a_reboot_while_vault_is_sealed(
    declared: X25519PrivateKey, archive: Cluster, ct1: Modality, tmp_path: Path
) -> None:
    before, study, meanwhile = archive.archive_pods(), new_study(), new_study()
    run(*ct1.storm("store", study, tmp_path / "before.json", count=5))
    run(TESTBED, "openbao", "seal")
    reboot(archive)
    until("agents say why they wait", lambda: agents_say(archive, "VaultSealed"), 120, every=2)
    assert not ct1.echo()
    bring(archive, X25519PrivateKey.generate())
    until("another's private half opens nothing", lambda: agents_say(archive, "OfflineKeyWrong"), 240, every=2)
    assert not ct1.echo()
    bring(archive, declared)
    until("the archive serves without Vault", ct1.echo, 300, every=2)
    until("agents say by what they started", lambda: agents_say(archive, "StartedOffline"), 30, every=2)
    assert {name: pod.uid for name, pod in archive.archive_pods().items()} == {
        name: pod.uid for name, pod in before.items()
    }
    run(*ct1.storm("store", meanwhile, tmp_path / "meanwhile.json", count=5))
    assert _all_back(ct1, study, meanwhile, tmp_path)
    archive.look_again()
    until("the operator says so", lambda: archive.condition("VaultReady")["reason"] == "StartedOffline", 180, every=1)
    run(TESTBED, "openbao", "unseal")
    take_away(archive)
    until("all is renewed", lambda: archive.condition("VaultReady")["status"] == "True", 300, every=1)
    until("it is known to have been tried", lambda: archive.condition("OfflineStart")["reason"] == "Tried", 60, every=1)
    archive.wait_ready()
    assert _all_back(ct1, study, meanwhile, tmp_path)


def _all_back(ct1: Modality, study: str, meanwhile: str, folder: Path) -> bool:
    """Tell that what was stored before the outage and in it comes back as it was sent."""
    acknowledged = {
        name: json.loads((folder / f"{name}.json").read_text())["acknowledged"] for name in ("before", "meanwhile")
    }
    assert [len(found) for found in acknowledged.values()] == [5, 5]
    return ct1.all_whole(study, acknowledged["before"], folder) and ct1.all_whole(
        meanwhile, acknowledged["meanwhile"], folder
    )
