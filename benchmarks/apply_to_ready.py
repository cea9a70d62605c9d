"""From applying an archive until its pods are Ready: by the operator, against the same manifests applied plainly.

Both ends are the same four pods (two gates, Orthanc, PostgreSQL) with the same images, volumes and certificates from
the same Vault, whose authorities and roles stand beforehand. A third way lets the operator set Vault up, too.
"""
# ruff: noqa: S603, S607  # fixed command lines without a shell

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import yaml
from kubernetes import client, config, watch

from benchmarks.record import ROOT, Limit, Record, Table, begin, conclude, spread
from pacs_operator import render
from pacs_operator.domain import names
from pacs_operator.domain.archive import Archive, ArchiveSpec
from pacs_operator.domain.catalog import CatalogSpec, select_release
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import CaName, Component, Zone, namespace_of, pki_mount
from pacs_operator.domain.validation import parse
from pacs_operator.handlers.settings import read_environment
from pacs_operator.kube.apply import in_apply_order
from pacs_operator.reconcile.context import Settings
from pacs_operator.reconcile.peers import live_peers
from pacs_operator.vault.client import connect

TESTBED = ROOT / "testbed" / "testbed"
STATE = Path(os.environ.get("PACS_TESTBED_STATE", "/var/lib/pacs-testbed"))
RELEASE, NAMESPACE = "pacs-operator", "pacs-operator-system"
OPERATOR_USER = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
NAME = "bench"
WANTED = {Component.GATE: 2, Component.ORTHANC: 1, Component.POSTGRES: 1}
PLAIN, OPERATOR, WHOLE = "plain apply", "operator", "operator, Vault included"
RELEASE_DATA = f"{names.GROUP}/release-data"
BOUND = 1.3
Item = dict[str, Any]


def kubectl(*words: str, stdin: str | None = None, check: bool = True) -> str:
    """Run kubectl and return what it printed; its errors stay visible."""
    done = subprocess.run(["kubectl", *words], check=check, stdout=subprocess.PIPE, text=True, input=stdin)
    return done.stdout


def get(*words: str) -> Item:
    """Return one object."""
    document: Item = json.loads(kubectl("get", *words, "-o", "json"))
    return document


class Ground:
    """The running cluster with its operator and Vault, as the operator itself sees them.

    Parameters
    ----------
    folder
        For Vault's CA and the operator's token while this runs.
    node_port
        Free port of the nodes for the archive's gate.
    """

    def __init__(self, folder: Path, node_port: int) -> None:
        self.settings = _settings(folder)
        token = folder / "token"
        token.touch(mode=0o600)
        words = ("create", "token", RELEASE, "-n", NAMESPACE, "--duration=3h")
        token.write_text(kubectl(*words, f"--audience={self.settings.vault.audience}"))
        self.vault = connect(self.settings.vault, self.settings.cluster, token)
        self.resource = _resource(node_port)

    def desired(self, lineage: str) -> Desired:
        """Return what the operator would render from, with the two probe peers every archive has."""
        spec = parse(ArchiveSpec, self.resource["spec"], "spec")
        catalog = get("pacscatalog", spec.release.catalog)
        release = select_release(
            parse(CatalogSpec, catalog["spec"], "spec"), spec.release.catalog, spec.release.version
        )
        archive = Archive(name=NAME, uid=str(uuid.uuid4()), generation=1, spec=spec)
        return Desired(archive, lineage, release, self.settings.vault, self.settings.cluster, live_peers(NAME, []))

    def provision(self, lineage: str) -> None:
        """Have everything in Vault that this lineage needs."""
        self.vault.ensure_archive(NAME, lineage, self.settings.vault.audience)

    def clean(self) -> None:
        """Remove the archive, its retained data, and its lineage's authorities in Vault."""
        kubectl("delete", "pacsarchive", NAME, "--ignore-not-found", "--timeout=300s")
        lineages = set()
        for zone in Zone:
            namespace = namespace_of(NAME, zone)
            found = kubectl("get", "namespace", namespace, "--ignore-not-found", "-o", "json")
            if found.strip():
                lineages.add(json.loads(found)["metadata"].get("labels", {}).get(names.LABEL_LINEAGE, ""))
                kubectl("annotate", "namespace", namespace, f"{RELEASE_DATA}={namespace}", "--overwrite")
        zones = [namespace_of(NAME, zone) for zone in Zone]
        kubectl("delete", "namespace", *zones, "--ignore-not-found", "--timeout=300s")
        for lineage in sorted(lineages - {""}):
            self.vault.delete_archive_roles(NAME, lineage)
            for ca in CaName:
                _disable_mount(pki_mount(lineage, ca))


def _settings(folder: Path) -> Settings:
    """Return the running operator's settings, read from its own Deployment."""
    deployment = get("deployment", RELEASE, "-n", NAMESPACE)
    entries = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    environment = {entry["name"]: entry["value"] for entry in entries if "value" in entry}
    ca_file = folder / "vault-ca.pem"
    ca_file.write_text(get("configmap", f"{RELEASE}-vault-ca", "-n", NAMESPACE)["data"]["ca.pem"])
    environment |= {"PACS_OPERATOR_NAMESPACE": NAMESPACE, "PACS_VAULT_CA_FILE": str(ca_file)}
    return read_environment(environment).settings


def _resource(node_port: int) -> Item:
    resource: Item = yaml.safe_load((ROOT / "examples" / "radiology.yaml").read_text())
    resource["metadata"]["name"] = NAME
    spec = resource["spec"]
    spec["dicom"]["aeTitle"] = "BENCH"
    spec["peers"]["namespaceSelector"] = {"matchLabels": {f"{names.GROUP}/peers-of": NAME}}
    spec["gate"]["service"]["nodePort"] = node_port
    storage_class = os.environ.get("PACS_STORAGE_CLASS", "hostpath")
    for volume in ("storage", "database"):
        spec[volume]["storageClassName"] = storage_class
    return resource


def _disable_mount(mount: str) -> None:
    """Remove an authority for good: only Vault's administrator can, the operator cannot."""
    subprocess.run(["bao", "secrets", "disable", mount], check=True, stdout=subprocess.DEVNULL)


def plain(ground: Ground, lineage: str) -> Callable[[], None]:
    """Return the plain way: one server-side apply, as the account that admission lets write into zones."""
    manifests = in_apply_order(render.render_archive(ground.desired(lineage)))
    text = yaml.safe_dump_all(manifests)
    return lambda: _quiet("apply", "--server-side", f"--as={OPERATOR_USER}", "-f", "-", stdin=text)


def by_operator(ground: Ground, lineage: str | None) -> Callable[[], None]:
    """Return the operator's way: apply one ``PacsArchive``; with a lineage, one that Vault already knows."""
    resource = json.loads(json.dumps(ground.resource))
    if lineage is not None:  # where the operator itself writes the lineage it draws, before anything carries it
        resource["metadata"]["annotations"] = {names.LABEL_LINEAGE: lineage}
    text = yaml.safe_dump(resource)
    return lambda: _quiet("apply", "-f", "-", stdin=text)


def _quiet(*words: str, stdin: str) -> None:
    kubectl(*words, stdin=stdin)


class Race:
    """Measures from a start to four Ready pods.

    Parameters
    ----------
    timeout
        Seconds after which a run has failed.
    """

    def __init__(self, timeout: int) -> None:
        connection = config.new_client_from_config(os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]  # untyped library
        self._core = client.CoreV1Api(connection)
        self._timeout = timeout

    def run(self, start: Callable[[], None]) -> Item:
        """Return seconds until ``start`` returned, until all pods existed, and until all were Ready.

        Raises
        ------
        TimeoutError
            The pods did not become Ready; names those that are not.
        """
        began = time.monotonic()
        start()
        applied = time.monotonic() - began
        state: dict[str, tuple[str, bool]] = {}
        existed = 0.0
        selector = f"{names.LABEL_ARCHIVE}={NAME}"
        stream = watch.Watch().stream(  # type: ignore[no-untyped-call]  # untyped library
            self._core.list_pod_for_all_namespaces, label_selector=selector, timeout_seconds=self._timeout
        )
        for event in stream:
            pod = event["raw_object"]
            component = pod["metadata"]["labels"].get(names.LABEL_COMPONENT, "")
            if event["type"] == "DELETED":
                state.pop(pod["metadata"]["uid"], None)
            else:
                state[pod["metadata"]["uid"]] = (component, _is_ready(pod))
            if not existed and _complete([component for component, _ in state.values()]):
                existed = time.monotonic() - began
            if _complete([component for component, ready in state.values() if ready]):
                return {"applied": applied, "existed": existed, "ready": time.monotonic() - began}
        waiting = sorted(component for component, ready in state.values() if not ready)
        raise TimeoutError(f"not Ready within {self._timeout} s: {', '.join(waiting) or 'no pods at all'}")


def _is_ready(pod: Item) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _complete(components: list[str]) -> bool:
    return all(components.count(component.value) >= number for component, number in WANTED.items())


def measure(ground: Ground, race: Race, way: str) -> Item:
    """Make the archive one way on clean ground, measure, and clean up."""
    lineage = secrets.token_hex(16)
    if way != WHOLE:
        ground.provision(lineage)
    start = plain(ground, lineage) if way == PLAIN else by_operator(ground, None if way == WHOLE else lineage)
    try:
        return race.run(start)
    finally:
        ground.clean()


def rounds(ground: Ground, race: Race, ways: list[str], number: int) -> dict[str, list[Item]]:
    """Measure all ways in turn, the order rotated from round to round; the first run of all warms caches only."""
    results: dict[str, list[Item]] = {way: [] for way in ways}
    print(f"warm-up: {measure(ground, race, PLAIN)['ready']:.1f} s", flush=True)
    for turn in range(number):
        shift = turn % len(ways)
        for way in ways[shift:] + ways[:shift]:
            result = measure(ground, race, way)
            results[way].append(result)
            print(f"round {turn + 1} of {number}: {way}: {result['ready']:.1f} s", flush=True)
    return results


def record_of(results: dict[str, list[Item]]) -> Record:
    """Return the whole result."""
    base = statistics.median(run["ready"] for run in results[PLAIN])
    rows: list[list[str | int | float]] = []
    for way, runs in results.items():
        times = {part: [run[part] for run in runs] for part in ("applied", "existed", "ready")}
        ratio = statistics.median(times["ready"]) / base
        rows.append([way, len(runs), *(spread(times[part]) for part in ("applied", "existed", "ready")), ratio])
    columns = ["way", "runs", "kubectl returned s", "pods exist s", "pods Ready s", "ratio to plain"]
    ratio = statistics.median(run["ready"] for run in results[OPERATOR]) / base
    return Record(
        benchmark="apply_to_ready",
        about="Seconds from kubectl apply until the same four pods are Ready; median (least to most).",
        tables=[Table("From apply to Ready: median (least to most)", columns, rows)],
        limits=[Limit("operator / plain apply, medians, Vault provisioned beforehand", ratio, BOUND)],
        notes=[
            "Both ways start with authorities and roles in Vault, images on the node, no namespaces.",
            "plain apply: kubectl apply --server-side of what render_archive makes of the same spec, impersonating the "
            "operator's account, since admission lets nobody else write into zones.",
            "operator: kubectl apply of one PacsArchive that carries the lineage Vault was prepared for.",
            "Runs are interleaved, their order rotates, and one unmeasured run comes first.",
            "The demo's archive runs on the same node meanwhile.",
        ],
        samples=dict(results),
    )


def surroundings() -> None:
    """Use the cluster of KUBECONFIG and the Vault of BAO_ADDR where given, else the local ones."""
    if not os.environ.get("KUBECONFIG"):
        os.environ["KUBECONFIG"] = str(STATE / "admin.kubeconfig")
    os.environ["PATH"] = f"{STATE / 'bin'}{os.pathsep}{os.environ['PATH']}"
    if not os.environ.get("BAO_ADDR"):
        shown = subprocess.run([TESTBED, "openbao", "env"], check=True, capture_output=True, text=True).stdout
        for line in shown.splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            os.environ[name] = value.strip("'\"")


def main() -> int:
    """Run the benchmark: exit 0 when the ratio is kept, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="Needs the cluster of `make demo` (or KUBECONFIG, and BAO_ADDR, BAO_CACERT, BAO_TOKEN of Vault's "
        f"administrator) with the operator in it. Makes and removes an archive named {NAME}.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="measured runs of each way (%(default)s)")
    parser.add_argument("--node-port", type=int, default=30763, help="for the archive's gate (%(default)s)")
    parser.add_argument("--without-whole", action="store_true", help=f"leave out the way '{WHOLE}'")
    parser.add_argument("--timeout", type=int, default=300, help="seconds after which a run has failed (%(default)s)")
    arguments = begin(parser)
    surroundings()
    ways = [PLAIN, OPERATOR] + ([] if arguments.without_whole else [WHOLE])
    with tempfile.TemporaryDirectory(prefix="pacs-apply-") as folder:
        ground = Ground(Path(folder), arguments.node_port)
        ground.clean()
        return conclude(record_of(rounds(ground, Race(arguments.timeout), ways, arguments.rounds)), arguments)


if __name__ == "__main__":
    sys.exit(main())
