"""Each negative check of the conformance pod is seen red with its cause in place, and green when it is gone.

The operator is scaled to zero meanwhile: it would repair the sabotage within seconds. The pod that attacks is the
one the operator made, copied; it cannot read what was switched.
"""

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pacs_operator.domain.checks import Check
from pacs_operator.domain.results import CheckResult, RunResult
from tests.cluster.support import ON_CALL, TESTBED, Cluster, run, until

#: At the listener for devices; the gate's outbound side verifies by the same authority.
ASKED, NOT_ASKED = "server-rsa.pem verify required ", "server-rsa.pem verify optional "


@pytest.fixture(scope="module")
def unattended(cluster: Cluster) -> Iterator[Cluster]:
    """The archive without its operator, after one run whose Job and files were kept: the operator prunes them."""
    cluster.wait_ready()
    token = f"pacs-operator.io/run-conformance=sabotage-{int(time.time())}"
    cluster.kubectl("annotate", "--overwrite", "pacsarchive", "radiology", token)
    RUN.update(until("the run's Job and file are there", lambda: newest_run(cluster), 60, every=0.1))
    # Two runs of one name at once would remove each other's objects.
    ended = lambda: cluster.get("job", RUN["job"]["metadata"]["name"], "-n", "radiology-ops")["status"]  # noqa: E731
    until("that run has ended", lambda: "completionTime" in ended(), 120)
    cluster.wait_ready()
    scale(cluster, 0)
    yield cluster
    scale(cluster, 1)
    cluster.wait_ready()


RUN: dict[str, Any] = {}


def newest_run(cluster: Cluster) -> dict[str, Any] | None:
    """Return the Job under way and its ConfigMap; None while there is none."""
    jobs = cluster.get("jobs", "-n", "radiology-ops")["items"]
    active = [job for job in jobs if not job.get("status", {}).get("completionTime")]
    files = cluster.get("configmaps", "-n", "radiology-ops")["items"]
    found = [f for f in files for job in active if f["metadata"]["name"] == job["metadata"]["name"]]
    return {"job": active[0], "file": found[0]} if found else None


def scale(cluster: Cluster, replicas: int) -> None:
    where = ("-n", "pacs-operator-system")
    cluster.kubectl("scale", *where, "deployment/pacs-operator", f"--replicas={replicas}")
    cluster.kubectl("rollout", "status", *where, "deployment/pacs-operator", "--timeout=120s")
    pods = ("get", "pods", *where, "-l", "app.kubernetes.io/name=pacs-operator", "-o", "name")
    until(f"{replicas} operators", lambda: len(cluster.kubectl(*pods).split()) == replicas, 120)


def attack(cluster: Cluster) -> dict[str, str]:
    """Return the outcome of each check of one more run."""
    return {check: result.outcome for check, result in results(cluster).items()}


def results(cluster: Cluster) -> dict[str, CheckResult]:
    """Run a copy of the last conformance Job; return what each check found."""
    job, file = copy.deepcopy(RUN["job"]), copy.deepcopy(RUN["file"])
    file["metadata"] = {key: file["metadata"][key] for key in ("name", "namespace")}
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(file))
    name = f"sabotage-{int(time.time())}"
    labels = {k: v for k, v in job["spec"]["template"]["metadata"]["labels"].items() if "pacs-operator.io" in k}
    job["metadata"] = {"name": name, "namespace": "radiology-ops", "labels": {"test": "sabotage"}}
    job["spec"].pop("selector", None)
    job["spec"]["template"]["metadata"]["labels"] = labels
    job.pop("status", None)
    cluster.kubectl("create", "-f", "-", *ON_CALL, stdin=json.dumps(job))

    def message() -> str | None:
        pods = cluster.get("pods", "-n", "radiology-ops", "-l", f"batch.kubernetes.io/job-name={name}")["items"]
        states = [
            s.get("state", {}).get("terminated") for pod in pods for s in pod["status"].get("containerStatuses", [])
        ]
        return next((state.get("message") for state in states if state), None)

    result = RunResult.from_message(until("the conformance pod ended", message, 240, every=1))
    cluster.kubectl("delete", "job", name, "-n", "radiology-ops", *ON_CALL)
    return {check.check: check for check in result.checks}


def failed(outcomes: dict[str, str]) -> set[str]:
    return {check for check, outcome in outcomes.items() if outcome != "Passed"}


def edit(cluster: Cluster, namespace: str, name: str, key: str, change: Callable[[str], str]) -> dict[str, Any]:
    """Change one file in a ConfigMap by hand; return the ConfigMap as it was."""
    before = cluster.get("configmap", name, "-n", namespace)
    text = before["data"][key]
    changed = change(text)
    assert changed != text, f"the sabotage did not find what it wanted to change in {key}"
    patch = json.dumps({"data": {key: changed}})
    cluster.kubectl("patch", "configmap", name, "-n", namespace, "--type=merge", "-p", patch, *ON_CALL)
    return before


def restart(cluster: Cluster, namespace: str, component: str) -> None:
    """Replace a component's pods, and wait until the new ones serve."""
    (kind,) = {"gate": ["deployment"], "orthanc": ["statefulset"]}[component]
    cluster.kubectl("rollout", "restart", f"{kind}/{component}", "-n", namespace, *ON_CALL)
    cluster.kubectl("rollout", "status", f"{kind}/{component}", "-n", namespace, "--timeout=180s")


@contextmanager
def edited(cluster: Cluster, namespace: str, component: str, key: str, change: Callable[[str], str]) -> Iterator[None]:
    """Run with one configuration file changed and its pods restarted; put back afterwards."""
    before = edit(cluster, namespace, component, key, change)
    try:
        restart(cluster, namespace, component)
        yield
    finally:
        patch = json.dumps({"data": {key: before["data"][key]}})
        cluster.kubectl("patch", "configmap", component, "-n", namespace, "--type=merge", "-p", patch, *ON_CALL)
        restart(cluster, namespace, component)


def test_all_green_without_sabotage(unattended: Cluster) -> None:
    assert failed(attack(unattended)) == set()


def test_policies_not_enforced(unattended: Cluster) -> None:
    run(TESTBED, "policies", "off")
    try:
        red = failed(attack(unattended))
    finally:
        run(TESTBED, "policies", "on")
    assert {Check.ORTHANC_UNREACHABLE, Check.POSTGRES_UNREACHABLE} <= red


def test_old_tls_allowed(unattended: Cluster) -> None:
    def weaken(text: str) -> str:
        second_fence = "str(TlsExceptionNeeded) if "  # the gate looks at the suite once more when it knows who came
        assert second_fence in text
        text = text.replace(second_fence, f"{second_fence}FALSE ")
        return text.replace("ssl-min-ver TLSv1.2", "ssl-min-ver TLSv1.0").replace(
            "ssl-default-bind-ciphers ", "ssl-default-bind-ciphers AES128-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0:"
        )

    with edited(unattended, "radiology-edge", "gate", "haproxy.cfg", weaken):
        assert Check.OLD_TLS_REFUSED in failed(attack(unattended))


def test_client_certificates_not_asked_for(unattended: Cluster) -> None:
    """The second fence still holds: without a certificate there is no identity. It is another layer that refuses."""

    def weaken(text: str) -> str:
        assert ASKED in text
        return text.replace(ASKED, NOT_ASKED)

    with edited(unattended, "radiology-edge", "gate", "haproxy.cfg", weaken):
        check = results(unattended)[Check.NO_CERTIFICATE_REFUSED]
    assert (check.outcome, check.layer) == ("Passed", "gate")


def test_neither_certificate_nor_identity_asked_for(unattended: Cluster) -> None:
    """With both fences down, whoever knows an AE title is let in."""

    def weaken(text: str) -> str:
        text = text.replace(ASKED, NOT_ASKED)
        found = "set-var(txn.identity) ssl_c_der,hex,lua.only_dns_name"
        assert found in text
        return text.replace(found, "set-var(txn.identity) str(probe.radiology-ops.svc)")

    with edited(unattended, "radiology-edge", "gate", "haproxy.cfg", weaken):
        red = failed(attack(unattended))
    assert Check.NO_CERTIFICATE_REFUSED in red


def test_the_map_of_titles_removed(unattended: Cluster) -> None:
    """Any certificate may use any title."""

    def weaken(text: str) -> str:
        # The map stays, or the agent would see that it is gone and keep the gate from serving.
        return text.replace("str(WrongCallingAETitle) unless {", "str(WrongCallingAETitle) if FALSE !{")

    with edited(unattended, "radiology-edge", "gate", "haproxy.cfg", weaken):
        assert Check.BORROWED_AE_TITLE_REFUSED in failed(attack(unattended))


def test_echo_for_everybody(unattended: Cluster) -> None:
    def weaken(text: str) -> str:
        settings = json.loads(text)
        settings["DicomAlwaysAllowEcho"] = True
        return json.dumps(settings)

    with edited(unattended, "radiology-archive", "orthanc", "orthanc.json", weaken):
        assert Check.UNGRANTED_ECHO_REFUSED in failed(attack(unattended))


def test_a_right_widened(unattended: Cluster) -> None:
    """The store-only probe may query: in peers.json, as if the operator had been told so."""

    def weaken(text: str) -> str:
        live = json.loads(text)
        for peer in live["peers"]:
            if peer["id"] == "probe/store-only":
                peer["rights"] += ["Find", "Get"]
        live["revision"] = "sabotage"
        return json.dumps(live)

    before = edit(unattended, "radiology-archive", "peers", "peers.json", weaken)
    try:
        restart(unattended, "radiology-archive", "orthanc")
        red = failed(attack(unattended))
    finally:
        patch = json.dumps({"data": before["data"]})
        unattended.kubectl(
            "patch", "configmap", "peers", "-n", "radiology-archive", "--type=merge", "-p", patch, *ON_CALL
        )
        restart(unattended, "radiology-archive", "orthanc")
    assert {Check.UNGRANTED_FIND_REFUSED, Check.UNGRANTED_GET_REFUSED} <= red


def test_green_again(unattended: Cluster) -> None:
    assert failed(attack(unattended)) == set()
