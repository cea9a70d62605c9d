"""The running demo as tests see it: kubectl, the modality outside the cluster, and waiting on conditions."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydicom.uid import generate_uid

from pacs_operator.domain.names import Zone, namespace_of

ROOT = Path(__file__).parents[2]
TESTBED = ROOT / "testbed" / "testbed"
WORK = ROOT / "build" / "demo"
STATE = Path(os.environ.get("PACS_TESTBED_STATE", "/var/lib/pacs-testbed"))
GATE = "198.18.0.10"
HOST = "198.18.0.1"  # this machine, as the node sees it
NODE_PORT = "30762"
LEGACY_NODE_PORT = "31112"
# What the zones' admission policy lets only an administrator on call do.
ON_CALL = ("--as=oncall", "--as-group=pacs-break-glass", "--as-group=system:masters")


def run(*command: str | Path, check: bool = True, stdin: str | None = None, timeout: float = 300) -> str:
    """Run a command and return what it printed; its errors go to the test's output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True, input=stdin, timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def until(what: str, condition: Callable[[], Any], seconds: float = 60, every: float = 0.25) -> Any:
    """Wait until a condition holds and return its value; on time-out say what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        last: AssertionError | None = None
        try:
            value = condition()
        except AssertionError as error:
            value, last = None, error
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}") from last
        time.sleep(every)


@dataclass(frozen=True)
class Pod:
    """What must not change when the operator restarts: identity of pods and restarts of their containers."""

    uid: str
    restarts: int


class Cluster:
    """The local cluster with the demo's archive in it."""

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None, timeout: float = 300) -> str:
        return run("kubectl", *arguments, check=check, stdin=stdin, timeout=timeout)

    def get(self, *what: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.kubectl("get", *what, "-o", "json"))
        return document

    def archive(self) -> dict[str, Any]:
        return self.get("pacsarchive", "radiology")

    def condition(self, kind: str) -> dict[str, str]:
        found = [c for c in self.archive().get("status", {}).get("conditions", []) if c["type"] == kind]
        return found[0] if found else {"status": "Absent", "reason": "", "message": ""}

    def wait_ready(self, seconds: float = 300) -> None:
        def ready() -> bool:
            archive = self.archive()
            current = archive.get("status", {}).get("observedGeneration") == archive["metadata"]["generation"]
            return current and self.condition("Ready")["status"] == "True"

        until("the archive is Ready", ready, seconds, every=1)

    def look_again(self) -> None:
        """Have the operator make a pass now: it looks by itself every two minutes at what no event tells it."""
        self.kubectl("label", "--overwrite", "dicompeer/ct1", "-n", "imaging", f"test/touched=t{time.monotonic_ns()}")

    def read_config_again(self, namespace: str, pod: str) -> None:
        """Have the kubelet bring a pod's ConfigMaps up to date now; by itself it does so about once a minute."""
        mark = f"test/touched=t{time.monotonic_ns()}"
        self.kubectl("annotate", "--overwrite", "pod", pod, "-n", namespace, mark, *ON_CALL)

    def pods(self, namespace: str, component: str | None = None) -> dict[str, Pod]:
        selector = ["-l", f"pacs-operator.io/component={component}"] if component else []
        items = self.get("pods", "-n", namespace, *selector)["items"]
        return {
            item["metadata"]["name"]: Pod(
                uid=item["metadata"]["uid"],
                restarts=sum(
                    status["restartCount"]
                    for key in ("containerStatuses", "initContainerStatuses")
                    for status in item["status"].get(key, [])
                ),
            )
            for item in items
            if "deletionTimestamp" not in item["metadata"]
        }

    def archive_pods(self) -> dict[str, Pod]:
        """Every pod that serves: gate, Orthanc, PostgreSQL."""
        zones = ("radiology-edge", "radiology-archive", "radiology-data")
        return {name: pod for zone in zones for name, pod in self.pods(zone).items()}

    def events_of_writes(self) -> int:
        """Return how many writes the operator made, by the API server's audit log."""
        user = "system:serviceaccount:pacs-operator-system:pacs-operator"
        count = 0
        with (STATE / "log" / "audit.log").open() as log:
            for line in log:
                event = json.loads(line)
                lease = event.get("objectRef", {}).get("resource") == "leases"
                if event.get("user", {}).get("username") == user and not lease:
                    count += 1
        return count


def folder_of(cluster: Cluster, namespace: str, claim: str) -> Path:
    """Return where the node keeps a claim's volume."""
    volume = cluster.get("pvc", claim, "-n", namespace)["spec"]["volumeName"]
    source = cluster.get("pv", volume)["spec"]
    return Path((source.get("local") or source["hostPath"])["path"])


@dataclass(frozen=True)
class Modality:
    """A device outside the cluster, in a network namespace with its own address."""

    name: str
    address: str
    title: str
    archive: str = "radiology"
    called: str = "RADIOLOGY"
    port: str = NODE_PORT
    host: str = GATE
    identity: str = ""  # whose key and certificate it shows, if not its own

    @property
    def folder(self) -> Path:
        """Where its key and certificate are."""
        return WORK / (self.identity or self.name)

    def ready(self, cluster: Cluster, *, dns_name: str = "", peer: str = "") -> "Modality":
        """Have the namespace, the key and the certificate.

        Parameters
        ----------
        cluster
            Whose Vault signs.
        dns_name, peer
            Identity, and the role that stands for it; those of the device's ``DicomPeer`` when empty.
        """
        run(TESTBED, "modality", "add", self.name, self.address)
        self.folder.mkdir(parents=True, exist_ok=True)
        key, request = self.folder / "key.pem", self.folder / "request.pem"
        dns_name = dns_name or f"{self.name}.imaging.example"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        subject = ("-subj", f"/CN={dns_name}", "-addext", f"subjectAltName=DNS:{dns_name}")
        run("openssl", "req", "-new", "-key", key, *subject, "-out", request)
        lineage = cluster.get("pacsarchive", self.archive)["status"]["lineageID"]
        environment = run(TESTBED, "openbao", "env")
        enrol = (
            f"{environment}\nexec {ROOT}/deploy/vault/enrol-modality --lineage {lineage} "
            f"--peer {peer or f'imaging/{self.name}'} --csr {request} --out {self.folder}/chain.pem"
        )
        until("the modality is enrolled", lambda: run("bash", "-c", enrol) or True, 30)
        chain = (self.folder / "chain.pem").read_text()
        own = chain.rindex("-----BEGIN CERTIFICATE-----")
        (self.folder / "ca.pem").write_text(chain[own:])
        return self

    def gone(self) -> None:
        run(TESTBED, "modality", "delete", self.name, check=False)

    def here(self, program: str) -> list[str]:
        """Return the words with which a program of the repository's environment runs as this device."""
        return [str(TESTBED), "modality", "exec", self.name, str(ROOT / ".venv" / "bin" / program)]

    @property
    def certificates(self) -> list[str]:
        """Return the options that say what it shows and whom it trusts."""
        files = {name: str(self.folder / f"{name}.pem") for name in ("chain", "key", "ca")}
        return ["--cert", files["chain"], "--key", files["key"], "--ca", files["ca"]]

    @property
    def gate(self) -> list[str]:
        """Return the options that say where the archive is, and how its gate proves itself."""
        return ["--host", self.host, "--port", self.port, "--server-name", f"{self.archive}.pacs.internal"]

    def command(self, *words: str, called: str | None = None, calling: str | None = None) -> list[str]:
        """Return the command line of a DICOM client of this device."""
        titles = ["--called", called or self.called, "--calling", calling or self.title]
        return [*self.here("pacs-probe"), "modality", *words, *self.gate, *titles, *self.certificates]

    def without_tls(self, act: str, port: str, *, calling: str | None = None) -> bool:
        """Tell whether a device that knows no TLS can do this at a port of the gate, from this device's address."""
        words = ["--host", self.host, "--port", port, "--called", self.called, "--calling", calling or self.title]
        command = [*self.here("pacs-probe"), "modality", act, "--study", "ultrasound", *words]
        return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0

    def echo(self, **titles: str) -> bool:
        """Tell whether C-ECHO succeeds."""
        done = subprocess.run(self.command("echo", **titles), check=False, capture_output=True, timeout=60)
        return done.returncode == 0

    def storm(self, act: str, study: str, out: Path, count: int = 100, edge: int = 64) -> list[str]:
        """Return the command line that stores many images, or retrieves and compares them, as this device."""
        what = ["--study", study, "--out", str(out), "--count", str(count), "--edge", str(edge)]
        titles = ["--called", self.called, "--calling", self.title]
        script = str(ROOT / "tests" / "cluster" / "storm.py")
        return [*self.here("python"), script, act, *what, *self.gate, *titles, *self.certificates]

    @contextmanager
    def receiving(self, port: int, out: Path, *, identity: str = "") -> Iterator[None]:
        """Listen over mutual TLS at this device's address, with its certificate or with another device's.

        Parameters
        ----------
        port
            TCP port.
        out
            Where it writes down what came, when the block ends.
        identity
            Name of the device whose certificate it shows, if not its own.
        """
        script = str(ROOT / "tests" / "cluster" / "station.py")
        shown = replace(self, identity=identity or self.identity)
        words = ["receive", "--title", self.title, "--listen", f"{self.address}:{port}", "--out", str(out)]
        command = [*self.here("python"), script, *words, *shown.certificates]
        out.unlink(missing_ok=True)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as station:
            assert station.stdin
            assert station.stdout
            assert station.stdout.readline() == "listening\n"
            yield
            station.stdin.close()
            assert station.wait(30) == 0

    def get_back(self, study: str, folder: Path, edge: int = 64) -> dict[str, Any]:
        """Retrieve a storm's study and compare every image with what was sent."""
        out = folder / "retrieved.json"
        run(*self.storm("retrieve", study, out, count=5000, edge=edge))
        retrieved: dict[str, Any] = json.loads(out.read_text())
        return retrieved

    def all_whole(self, study: str, acknowledged: Iterable[str], folder: Path, edge: int = 64) -> bool:
        """Tell that every acknowledged image comes back as it was sent; otherwise fail and say what is not there."""
        retrieved = self.get_back(study, folder, edge)
        lost = set(acknowledged) - set(retrieved["whole"])
        summary = f"{len(lost)} not back, C-GET ended with {retrieved['status']}, damaged: {retrieved['damaged']}"
        assert not lost, summary
        assert not retrieved["damaged"], summary
        return True


@contextmanager
def reachable(cluster: Cluster) -> Iterator[str]:
    """Let pods reach what listens on this machine, until the block ends; yields the address at which they do."""
    (node,) = cluster.get("nodes")["items"]
    way = (node["spec"]["podCIDR"], "via", GATE)
    run("ip", "route", "replace", *way)
    try:
        yield HOST
    finally:
        run("ip", "route", "delete", *way, check=False)


@contextmanager
def second_archive(cluster: Cluster, name: str, node_port: int, **changes: Any) -> Iterator[None]:
    """Have a small archive beside the demo's, applied and not waited for; afterwards nothing of it is left.

    Parameters
    ----------
    name, node_port
        Of the archive and its gate; its AE title is the name in capitals.
    changes
        Sections of its spec that differ from the example's.
    """
    manifest = yaml.safe_load((ROOT / "examples" / "radiology.yaml").read_text())
    manifest["metadata"]["name"] = name
    manifest["spec"]["dicom"]["aeTitle"] = name.upper()
    manifest["spec"]["gate"] = {"service": {"type": "NodePort", "nodePort": node_port}, "replicas": 1}
    manifest["spec"] |= changes
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    try:
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "pacsarchive", name, "--timeout=180s")
        for zone in Zone:
            namespace = namespace_of(name, zone)
            cluster.kubectl("annotate", "namespace", namespace, f"pacs-operator.io/release-data={namespace}")
            cluster.kubectl("delete", "namespace", namespace, "--timeout=120s")


def approve(cluster: Cluster, person: str, name: str, *, act: str, reason: str, hours: float, **more: Any) -> None:
    """Have a person consent to an act on the demo's archive, logged in under the own name.

    Parameters
    ----------
    person, name
        Who, and what the ``PacsApproval`` is called.
    act, reason, hours, more
        Of its spec; it expires after so many hours.
    """
    radiology = cluster.archive()
    expires = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    approval: dict[str, Any] = {
        "apiVersion": "pacs-operator.io/v1alpha1",
        "kind": "PacsApproval",
        "metadata": {"name": name, "namespace": "radiology-ops"},
        "spec": {
            "archiveRef": {"name": "radiology"},
            "archiveUID": radiology["metadata"]["uid"],
            "lineageID": radiology["status"]["lineageID"],
            "act": act,
            "approver": person,
            "expiresAt": expires,
            "reason": reason,
            **more,
        },
    }
    cluster.kubectl("create", f"--as={person}", "-f", "-", stdin=json.dumps(approval))


def new_study() -> str:
    """Return a Study Instance UID short enough for a series below it."""
    return str(generate_uid())[:58].rstrip(".")
