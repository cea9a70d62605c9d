"""A Kubernetes API server without kubelet, a Vault, and the operator's process between them, for `steady_state`."""
# ruff: noqa: S603  # fixed command lines without a shell

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from tests.vault.world import AUDIENCE, AUTH_PATH, OPERATOR, World

from benchmarks.record import ROOT
from pacs_operator.domain import names
from pacs_operator.kube.inventory import rbac_rules

TESTBED = ROOT / "testbed" / "testbed"
USER = f"system:serviceaccount:{OPERATOR.namespace}:{OPERATOR.service_account}"
Item = dict[str, Any]


def until(what: str, condition: Callable[[], Any], seconds: float, every: float = 0.25) -> Any:
    """Wait until a condition holds and return its value.

    Raises
    ------
    TimeoutError
        It did not within the time; says what.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)
    return value


class ApiServer:
    """``testbed api`` with a state folder and ports of its own, the CRDs and the operator's ServiceAccount.

    Parameters
    ----------
    state
        Folder that does not exist yet or is empty.
    port
        First of the three TCP ports.
    """

    def __init__(self, state: Path, port: int) -> None:
        self._environment = {**os.environ, "PACS_TESTBED_API_STATE": str(state), "PACS_TESTBED_API_PORT": str(port)}
        self.audit_log = state / "log" / "audit.log"
        self.kubeconfig = state / "admin.kubeconfig"
        self._kubectl = state / "bin" / "kubectl"
        subprocess.run([TESTBED, "api", "start"], check=True, env=self._environment)
        made = config.new_client_from_config(str(self.kubeconfig))  # type: ignore[no-untyped-call]  # untyped library
        self.client: client.ApiClient = made

    def stop(self) -> None:
        """Stop it and remove its state."""
        subprocess.run([TESTBED, "api", "stop"], check=True, env=self._environment)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and return what it printed."""
        command = [str(self._kubectl), f"--kubeconfig={self.kubeconfig}", *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=stdin).stdout

    def apply(self, *documents: Item) -> None:
        """Apply manifests on the server's side."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def prepare(self) -> None:
        """Install CRDs, StorageClasses and the operator's account with exactly the rights the chart gives it."""
        self.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        self.kubectl("apply", "-f", str(ROOT / "testbed" / "manifests" / "storageclass.yaml"))
        self.apply(*_account())

    def operator_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig of the operator's ServiceAccount."""
        words = ("create", "token", OPERATOR.service_account, "-n", OPERATOR.namespace, "--duration=12h")
        document = yaml.safe_load(self.kubeconfig.read_text())
        document["users"][0]["user"] = {"token": self.kubectl(*words).strip()}
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path

    def audited_writes(self, offset: int) -> list[str]:
        """Return verb and resource of the operator's writes after a byte of the audit log, by the server's record.

        The audit policy leaves Leases out: they are renewed every few seconds, whatever archives there are.
        """
        with self.audit_log.open("rb") as log:
            log.seek(offset)
            events = [json.loads(line) for line in log if line.endswith(b"\n")]
        return [
            f"{event['verb']} {event['objectRef']['resource']}"
            for event in events
            if event["user"]["username"] == USER and event["stage"] == "ResponseComplete"
        ]

    @property
    def audit_offset(self) -> int:
        """Return the length of the audit log."""
        return self.audit_log.stat().st_size


def _account() -> list[Item]:
    subject = [{"kind": "ServiceAccount", "name": OPERATOR.service_account, "namespace": OPERATOR.namespace}]
    found: list[Item] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR.namespace}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": OPERATOR.service_account, "namespace": OPERATOR.namespace},
        },
    ]
    group = "rbac.authorization.k8s.io"
    for own, role in ((False, "ClusterRole"), (True, "Role")):
        data = {"name": "pacs-operator", **({"namespace": OPERATOR.namespace} if own else {})}
        rules = [
            {"apiGroups": [api_group], "resources": [resource], "verbs": list(verbs)}
            for api_group, resource, verbs in rbac_rules(own)
        ]
        reference = {"apiGroup": group, "kind": role, "name": "pacs-operator"}
        head = {"apiVersion": f"{group}/v1", "metadata": data}
        found.append({**head, "kind": role, "rules": rules})
        found.append({**head, "kind": f"{role}Binding", "roleRef": reference, "subjects": subject})
    return found


class OperatorProcess:
    """The operator, started and stopped; its passes are read from the file that it writes.

    Parameters
    ----------
    api, world
        Where it works.
    folder
        For its log and its passes.
    ports
        TCP ports of health and metrics.
    """

    def __init__(self, api: ApiServer, world: World, folder: Path, ports: tuple[int, int]) -> None:
        self._folder, self._passes = folder, folder / "passes.jsonl"
        kubeconfig = api.operator_kubeconfig(folder / "operator.kubeconfig")
        token = world.token_file(OPERATOR.namespace, OPERATOR.service_account, life=12 * 3600)
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'operator'}",  # this tree's, wherever an installed one is
            "KUBECONFIG": str(kubeconfig),
            "PACS_BENCHMARK_PASSES": str(self._passes),
            "PACS_OPERATOR_NAMESPACE": OPERATOR.namespace,
            "PACS_OPERATOR_SERVICE_ACCOUNT": OPERATOR.service_account,
            "PACS_OPERATOR_POD_LABELS": json.dumps({"app.kubernetes.io/name": "pacs-operator"}),
            "PACS_POD_NAME": "benchmark",
            "PACS_VAULT_ADDRESS": world.bao.address,
            "PACS_VAULT_CA_FILE": str(world.bao.ca_file),
            "PACS_VAULT_AUTH_PATH": AUTH_PATH,
            "PACS_VAULT_AUDIENCE": AUDIENCE,
            "PACS_VAULT_CIDRS": "127.0.0.1/32",
            "PACS_VAULT_TOKEN_FILE": str(token),
            "PACS_HEALTH_PORT": str(ports[0]),
            "PACS_METRICS_PORT": str(ports[1]),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it with an empty list of passes."""
        self._passes.write_text("")
        command = [sys.executable, "-m", "benchmarks.counted_operator", "run"]
        with (self._folder / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it as a node does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def passes(self) -> list[Item]:
        """Return all passes since the start.

        Raises
        ------
        RuntimeError
            The process has ended by itself.
        """
        if self._process is None or self._process.poll() is not None:
            tail = (self._folder / "operator.log").read_text()[-2000:]
            raise RuntimeError(f"the operator does not run; its log ends:\n{tail}")
        lines = self._passes.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def cpu_seconds(self) -> float:
        """Return the processor time of the whole process so far, all threads.

        Raises
        ------
        RuntimeError
            The process was not started.
        """
        if self._process is None:
            raise RuntimeError("the operator does not run")
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime

    def memory_mib(self, field: str) -> float:
        """Return a line of ``/proc/<pid>/status``: VmRSS now, or VmHWM, the most there ever was.

        Raises
        ------
        RuntimeError
            The process was not started.
        """
        if self._process is None:
            raise RuntimeError("the operator does not run")
        status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(f"{field}:"))


def archive(number: int) -> Item:
    """Return one of the benchmark's archives."""
    resource: Item = yaml.safe_load((ROOT / "examples" / "radiology.yaml").read_text())
    name = f"bench-{number:03d}"
    resource["metadata"]["name"] = name
    spec = resource["spec"]
    spec["dicom"]["aeTitle"] = f"BENCH{number:03d}"
    spec["peers"]["namespaceSelector"] = {"matchLabels": {f"{names.GROUP}/peers-of": name}}
    spec["gate"]["service"].pop("nodePort", None)  # the API server picks one
    spec["conformance"] = {"suspend": True}  # one run, after creation: a later one would be a write of its own
    return resource


def catalog(version: str) -> Item:
    """Return a catalog of images that nobody pulls here."""
    images = {
        name: f"registry.example/pacs/{name}@sha256:{'0' * 64}" for name in ("archive", "gate", "database", "tools")
    }
    spec = {"floor": version, "releases": [{"version": version, "images": images}]}
    return {"apiVersion": names.API_VERSION, "kind": "PacsCatalog", "metadata": {"name": "stable"}, "spec": spec}
