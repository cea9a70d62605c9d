"""What the others rely on, proven on a running cluster. Not collected by itself: it needs `testbed start`.

Run it with `pytest tests/testbed/cluster_checks.py`; it stops and starts the cluster twice.
"""

import json
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import TESTBED

HERE = Path(__file__).parent
NAMESPACE = "testbed-check"
NODE_PORT_URL = "http://198.18.0.10:30980/"
FRIEND, STRANGER = ("tb-in", "198.18.10.211"), ("tb-out", "198.18.10.212")

Answer = subprocess.CompletedProcess[str]


def run(*command: str | Path, check: bool = True, text: str | None = None) -> Answer:
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=180)
    assert not check or answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
    return answer


def cluster(*arguments: str, check: bool = True) -> Answer:
    return run(TESTBED / "testbed", *arguments, check=check)


def kubectl(*arguments: str, check: bool = True, text: str | None = None) -> Answer:
    kubeconfig = Path(cluster("kubeconfig").stdout.strip())
    return run(kubeconfig.parent / "bin/kubectl", "--kubeconfig", kubeconfig, *arguments, check=check, text=text)


def in_pod(workload: str, *command: str, check: bool = True) -> Answer:
    return kubectl("exec", "-n", NAMESPACE, workload, "--", "/peer", *command, check=check)


def modality_get(name: str) -> Answer:
    return cluster("modality", "exec", name, "curl", "-sS", "--max-time", "2", NODE_PORT_URL, check=False)


def eventually(seconds: float, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def all_available() -> None:
    for workload in ("statefulset/server", "deployment/friend", "deployment/stranger"):
        kubectl("rollout", "status", "-n", NAMESPACE, workload, "--timeout=90s")


def friend_is_served() -> None:
    """Rules of services follow a moment after their pods: wait for the good twin before judging the bad one."""
    eventually(10, lambda: modality_get(FRIEND[0]).stdout == FRIEND[1], "the modality that may is served")


def restarts() -> list[int]:
    pods = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-o", "json").stdout)["items"]
    return [status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of one static program that is both ends of a connection."""
    folder = tmp_path_factory.mktemp("peer")
    run(
        "env",
        "CGO_ENABLED=0",
        "go",
        "build",
        "-C",
        HERE / "peer",
        "-trimpath",
        "-ldflags=-s -w",
        "-o",
        folder / "peer",
        ".",
    )
    with tarfile.open(folder / "layer.tar", "w") as tar:
        tar.add(folder / "peer", "peer")
    layer = run("sha256sum", folder / "layer.tar").stdout.split()[0]
    (folder / "config.json").write_text(json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/peer"], "User": "10001:10001"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }))  # fmt: skip
    (folder / "manifest.json").write_text(
        json.dumps([{"Config": "config.json", "RepoTags": ["localhost/peer:1"], "Layers": ["layer.tar"]}])
    )
    path = folder / "peer-image.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("manifest.json", "config.json", "layer.tar"):
            tar.add(folder / name, name)
    return path


@pytest.fixture(scope="module", autouse=True)
def peers(archive: Path) -> Iterator[None]:
    reference = cluster("push", str(archive), "testbed-peer").stdout.strip()
    assert reference.startswith("localhost:5000/pacs-operator/testbed-peer@sha256:")
    kubectl("apply", "-f", "-", text=(HERE / "peers.yaml").read_text().replace("@IMAGE@", reference))
    for name, address in (FRIEND, STRANGER):
        cluster("modality", "add", name, address)
    all_available()
    friend_is_served()
    yield
    for name, _ in (FRIEND, STRANGER):
        cluster("modality", "delete", name)
    kubectl("delete", "namespace", NAMESPACE, "--wait=true")


def test_names_are_resolved_under_default_deny() -> None:
    (address,) = in_pod("deployment/friend", "lookup", f"server.{NAMESPACE}.svc.cluster.local").stdout.split()
    assert address.startswith("10.96.")
    unknown = in_pod("deployment/friend", "lookup", "no-such-host.example", check=False)
    assert "no such host" in unknown.stderr  # refused at once, not timed out


def test_a_policy_lets_one_pod_in_and_keeps_the_other_out() -> None:
    friend = in_pod("deployment/friend", "get", "http://server/")
    assert friend.stdout.startswith("10.244.")
    stranger = in_pod("deployment/stranger", "get", "http://server/", check=False)
    assert stranger.returncode != 0
    assert "Timeout" in stranger.stderr or "deadline" in stranger.stderr


def test_a_modality_keeps_its_source_address_through_the_node_port() -> None:
    (name, address), (other, _) = FRIEND, STRANGER
    assert modality_get(name).stdout == address
    refused = modality_get(other)
    assert refused.returncode == 28, refused.stderr  # curl: timed out; its twin on the same path was served


def test_policies_off_opens_what_policies_on_closes() -> None:
    try:
        cluster("policies", "off")
        assert modality_get(STRANGER[0]).stdout == STRANGER[1]
        assert in_pod("deployment/stranger", "get", "http://server/").stdout.startswith("10.244.")
    finally:
        cluster("policies", "on")
    assert modality_get(STRANGER[0]).returncode == 28
    assert modality_get(FRIEND[0]).stdout == FRIEND[1]


def volume(claim: str) -> Path:
    name = kubectl("get", "pvc", claim, "-n", NAMESPACE, "-o", "jsonpath={.spec.volumeName}").stdout
    return Path(kubectl("get", "pv", name, "-o", "jsonpath={.spec.local.path}").stdout)


def test_a_deleted_pod_ends_gracefully_and_its_volume_stays() -> None:
    folder = volume("data")
    (folder / "ended-gracefully").unlink(missing_ok=True)
    before = (folder / "started").read_text()
    kubectl("delete", "pod", "server-0", "-n", NAMESPACE, "--wait=true")
    assert (folder / "ended-gracefully").exists()
    all_available()
    assert (folder / "started").read_text() != before


def test_a_limited_volume_is_as_small_as_asked_for_and_goes_away() -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "small", "namespace": NAMESPACE},
             "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "hostpath-limited",
                      "resources": {"requests": {"storage": "32Mi"}}}}  # fmt: skip
    kubectl("apply", "-f", "-", text=json.dumps(claim))
    kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/small", "-n", NAMESPACE, "--timeout=30s")
    folder = volume("small")
    with pytest.raises(OSError, match="No space left"):
        (folder / "filler").write_bytes(bytes(33 << 20))
    kubectl("delete", "pvc", "small", "-n", NAMESPACE)
    eventually(
        30, lambda: not folder.exists() and not folder.with_name(folder.name + ".img").exists(), "volume removed"
    )


def test_openbao_is_sealed_and_unsealed() -> None:
    def health() -> str:
        curl = 'curl -s -o /dev/null -w "%{http_code}" --cacert "$BAO_CACERT" "$BAO_ADDR/v1/sys/health"'
        script = f'eval "$("$0" openbao env)"; {curl}'
        return run("bash", "-c", script, TESTBED / "testbed", check=False).stdout

    assert health() == "200"
    try:
        cluster("openbao", "seal")
        assert health() == "503"
    finally:
        cluster("openbao", "unseal")
    assert health() == "200"
    cluster("openbao", "stop")
    assert health() == "000"
    cluster("openbao", "start")
    assert health() == "200"


@pytest.mark.parametrize("how", [(), ("--hard",)], ids=["stop", "power cut"])
def test_everything_comes_back_after_stop_and_start(how: tuple[str, ...]) -> None:
    folder = volume("data")
    (folder / "image.dcm").write_text("must not be lost")
    (folder / "ended-gracefully").unlink(missing_ok=True)
    before = restarts()
    cluster("stop", *how)
    assert (folder / "ended-gracefully").exists() is (how == ())
    assert cluster("status", check=False).returncode == 1
    begun = time.monotonic()
    cluster("start")
    assert time.monotonic() - begun < 30
    assert len(restarts()) == len(before)
    assert sum(restarts()) >= sum(before)  # the statuses are fresh already
    all_available()
    assert sum(restarts()) == sum(before) + len(before)
    assert (folder / "image.dcm").read_text() == "must not be lost"
    friend_is_served()
    assert modality_get(STRANGER[0]).returncode == 28


def test_start_on_a_running_cluster_says_so() -> None:
    assert "runs already" in cluster("start").stderr
