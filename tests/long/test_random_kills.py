"""The operator is killed between its writes, drawn at random, while an archive is made, peers change, a gate is rolled.

What comes of it is what comes of an undisturbed operator: the same objects, the same pods, each certificate once.
The seed is printed; ``PACS_SEED`` repeats a run.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import CaName, Component, Zone, namespace_of, pki_mount
from pacs_operator.render.importer import JOURNAL
from tests.cluster.support import STATE, TESTBED, Cluster, Pod, run, second_archive, until

NAME = "spare"
OPERATOR = "system:serviceaccount:pacs-operator-system:pacs-operator"
ZONES = [namespace_of(NAME, zone) for zone in (Zone.EDGE, Zone.ARCHIVE, Zone.DATA)]
PEERS = 6
PEER = """
apiVersion: pacs-operator.io/v1alpha1
kind: DicomPeer
metadata: {{name: spare{number}, namespace: imaging, labels: {{test: random-kills}}}}
spec:
  archiveRef: {{name: spare}}
  aeTitles: [SPARE{number}]
  certificate: {{dnsName: spare{number}.imaging.example}}
  sourceCIDRs: [198.18.50.{number}/32]
  rights: {rights}
"""
Draw = random.Random


@pytest.fixture(scope="module")
def draw() -> Draw:
    seed = int(os.environ.get("PACS_SEED", random.randrange(2**32)))
    print(f"PACS_SEED={seed}")
    return Draw(seed)


@pytest.mark.timeout(2400)
def test_an_operator_killed_at_random_ends_where_an_undisturbed_one_does(archive: Cluster, draw: Draw) -> None:
    neighbours = archive.archive_pods()
    with ExitStack() as stack:
        with killed(archive, [draw.randint(1, 25) for _ in range(2)]):
            stack.enter_context(second_archive(archive, NAME, 30764))
        wait_ready(archive)
        made = pods(archive)
        assert Counter(name.partition("-")[0] for name in made) == {"gate": 1, "orthanc": 1, "postgres": 1}

        stack.callback(remove_peers, archive)
        wanted = peers_change(archive, draw)
        until("the list of peers is the last one asked for", lambda: live_peers(archive) == wanted, 120, every=1)
        wait_ready(archive)
        assert pods(archive) == made
        remove_peers(archive)
        until("no peer is left", lambda: live_peers(archive) == {}, 60, every=1)
        wait_ready(archive)

        with killed(archive, [draw.randint(1, 4)]):
            patch = json.dumps({"spec": {"scheduling": {"gate": {"cpuMilli": 60}}}})
            archive.kubectl("patch", "pacsarchive", NAME, "--type=merge", "-p", patch)
        wait_ready(archive)
        gate = [name for name in made if name.startswith("gate-")]
        until("the old gate has drained", lambda: not pods(archive).keys() & set(gate), 120, every=1)
        rolled = pods(archive)
        assert {name: pod for name, pod in rolled.items() if name in made} == {
            name: pod for name, pod in made.items() if name not in gate
        }
        assert len(rolled) == len(made)
        assert all(pod.restarts == 0 for pod in (*made.values(), *rolled.values()))

        sets = archive.get("replicasets", "-n", namespace_of(NAME, Zone.EDGE))["items"]
        assert len(sets) == 2, "the gate was rolled another number of times than once"
        assert objects(archive, NAME) == objects(archive, "radiology")
        assert issued(archive) == issued_undisturbed({Component.GATE: 2, Component.ORTHANC: 1, Component.POSTGRES: 1})
        assert archive.archive_pods() == neighbours


@contextmanager
def killed(cluster: Cluster, gaps: list[int]) -> Iterator["Future[None]"]:
    """Kill the operator after so many writes, and again after so many of its successor's; all kills have to happen."""
    with (STATE / "log" / "audit.log").open() as log, ThreadPoolExecutor(1) as pool:
        first = until("an operator runs", lambda: operator_process(cluster), 60)
        log.seek(0, os.SEEK_END)
        print("the operator dies after so many writes:", gaps)
        kills = pool.submit(kill_after, cluster, log, gaps, first)
        yield kills
        kills.result(timeout=400)


def kill_after(cluster: Cluster, log: TextIO, gaps: list[int], first: tuple[str, int]) -> None:
    """SIGKILL from the node: it strikes at once, where the API's way would let the operator write on for a second."""
    for number, gap in enumerate(gaps):
        # A successor waits for its predecessor's lease to end, so it has written nothing before it is found.
        pod, process = until("an operator runs", lambda: operator_process(cluster), 60) if number else first
        for _ in range(gap):
            wait_for_write(log)
        os.kill(process, signal.SIGKILL)
        # A new pod at once, instead of the same one after the kubelet's ever longer pauses.
        cluster.kubectl("delete", "pod", "-n", "pacs-operator-system", pod, "--grace-period=0", "--force")


def operator_process(cluster: Cluster) -> tuple[str, int] | None:
    """Return name and process of the operator's pod; None while there is none."""
    found = cluster.get("pods", "-n", "pacs-operator-system", "-l", "app.kubernetes.io/name=pacs-operator")["items"]
    for pod in (item["metadata"] for item in found if "deletionTimestamp" not in item["metadata"]):
        for group in Path("/proc").glob("[0-9]*/cgroup"):
            with suppress(OSError):
                ours = b"pacs-operator" in (group.parent / "cmdline").read_bytes()
                if ours and f"pod{pod['uid']}" in group.read_text().replace("_", "-"):
                    return pod["name"], int(group.parent.name)
    return None


def wait_for_write(log: TextIO) -> None:
    """Return when the operator has written anything but its lease."""
    deadline, line = time.monotonic() + 150, ""
    while time.monotonic() < deadline:
        line += log.readline()
        if not line.endswith("\n"):
            time.sleep(0.01)
            continue
        event, line = json.loads(line), ""
        lease = event.get("objectRef", {}).get("resource") == "leases"
        if event.get("user", {}).get("username") == OPERATOR and not lease:
            return
    raise AssertionError("the operator wrote nothing for 150 s: it was not killed as often as asked for")


def wait_ready(cluster: Cluster) -> None:
    def ready() -> bool:
        found = cluster.get("pacsarchive", NAME)
        status = found.get("status", {})
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return current and any((c["type"], c["status"]) == ("Ready", "True") for c in status.get("conditions", []))

    # Killed while it creates a Service with a fixed node port, the operator leaves the port allocated and no Service:
    # the API server drops the request half done, and gives leaked ports back only after three rounds of three minutes.
    until(f"{NAME} is Ready", ready, 900, every=1)


def pods(cluster: Cluster) -> dict[str, Pod]:
    return {name: pod for zone in ZONES for name, pod in cluster.pods(zone).items()}


def remove_peers(cluster: Cluster) -> None:
    cluster.kubectl("delete", "dicompeers", "-n", "imaging", "-l", "test=random-kills")


def peers_change(cluster: Cluster, draw: Draw) -> dict[str, list[str]]:
    """Add, widen, narrow and remove peers until the operator has died, and on; return what stands."""
    standing: dict[str, list[str]] = {}

    def change() -> None:
        number = draw.randint(1, PEERS)
        rights = draw.choice((["Echo"], ["Echo", "Store"], ["Echo", "Store", "Find", "Get"], []))
        if rights:
            cluster.kubectl("apply", "-f", "-", stdin=PEER.format(number=number, rights=json.dumps(rights)))
            standing[f"imaging/spare{number}"] = sorted(rights)
        elif standing.pop(f"imaging/spare{number}", None):
            cluster.kubectl("delete", "-n", "imaging", f"dicompeer/spare{number}")

    with killed(cluster, [draw.randint(1, 12)]) as kills:
        while not kills.done():
            change()
    for _ in range(2 * PEERS):  # nobody sees these until the successor leads
        change()
    return standing


def live_peers(cluster: Cluster) -> dict[str, list[str]]:
    """Return the rights that the data plane enforces, without the probes'."""
    lists = []
    for zone in (Zone.EDGE, Zone.ARCHIVE):
        text = cluster.get("configmap", "peers", "-n", namespace_of(NAME, zone))["data"]["peers.json"]
        peers = json.loads(text)["peers"]
        lists.append({peer["id"]: peer["rights"] for peer in peers if not peer["id"].startswith("probe/")})
    assert lists[0] == lists[1]
    return lists[0]


def objects(cluster: Cluster, name: str) -> set[str]:
    """Return kind and name of everything that an archive consists of, whatever was tested or imported there before."""
    kinds = (
        "networkpolicies,services,configmaps,serviceaccounts,deployments,statefulsets,pvc,resourcequotas,limitranges"
    )
    found = set()
    for zone in Zone:
        for item in cluster.get(kinds, "-n", namespace_of(name, zone))["items"]:
            if zone is not Zone.OPS or item["kind"] != "ConfigMap":
                found.add(f"{zone} {item['kind']} {item['metadata']['name'].replace(name, 'ARCHIVE')}")
    return found - {f"{Zone.OPS} PersistentVolumeClaim {JOURNAL}"}


def issued(cluster: Cluster) -> Counter[tuple[str, str]]:
    """Count what Vault has signed: by authority and common name, of roots and of the leaves of what serves."""
    lineage = cluster.get("pacsarchive", NAME)["status"]["lineageID"]
    counted: Counter[tuple[str, str]] = Counter()
    wanted = issued_undisturbed(dict.fromkeys(Component, 1))
    for ca in CaName:
        mount = pki_mount(lineage, ca)
        for serial in json.loads(bao("list", f"{mount}/certs")):
            pem = json.loads(bao("read", f"{mount}/cert/{serial}"))["data"]["certificate"]
            (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            key = (ca.value, str(name.value).replace(lineage, "LINEAGE"))
            if key in wanted:
                counted[key] += 1
    return counted


def bao(verb: str, path: str) -> str:
    return run("bash", "-c", f'eval "$("{TESTBED}" openbao env)"; exec bao {verb} -format=json {path}')


def issued_undisturbed(replicas: dict[Component, int]) -> Counter[tuple[str, str]]:
    """Count what as many pods need, each certificate once; one root for each authority."""
    counted: Counter[tuple[str, str]] = Counter((ca.value, f"pacs LINEAGE {ca.value}") for ca in CaName)
    for component in (Component.GATE, Component.ORTHANC, Component.POSTGRES):
        for leaf in leaves_of(component, NAME):
            counted[leaf.ca.value, leaf.dns_names[0]] += replicas[component]
    return counted
