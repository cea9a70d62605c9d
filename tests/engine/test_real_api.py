"""The engine against a real API server: ownership, defaults, quantities and RBAC as Kubernetes means them.

It works as a ServiceAccount that may do exactly what the inventory declares; Vault and agents are simulated.
"""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from pacs_operator import render
from pacs_operator.domain import names
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.rotation import ANNOTATION_RESTARTED_FOR
from pacs_operator.kube.client import KubeClient
from pacs_operator.kube.crds import check_crds
from pacs_operator.kube.errors import ApiForbiddenError, ApiInvalidError
from pacs_operator.kube.inventory import ARCHIVE as ARCHIVE_KIND
from pacs_operator.kube.inventory import (
    CONFIG_MAP,
    DEPLOYMENT,
    LEASE,
    NAMESPACE,
    PEER,
    POLICY,
    SERVICE,
    STATEFUL_SET,
    Kind,
    rbac_rules,
)
from pacs_operator.kube.lease import Lease, LeaseName
from pacs_operator.kube.port import Manifest
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.reconcile.context import Ports
from pacs_operator.reconcile.revocation import PROBE_IDS
from tests.engine.recordingvault import RecordingVault
from tests.engine.simapi import WriteLog
from tests.engine.world import (
    ARCHIVE,
    PEER_LABEL,
    SETTINGS,
    START,
    World,
    archive_manifest,
    catalog_manifest,
    peer_manifest,
)

ROOT = Path(__file__).parents[2]
TESTBED = ROOT / "testbed" / "testbed"
OPERATOR = "pacs-operator"


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.ApiClient]:
    own = {"PACS_TESTBED_API_STATE": str(tmp_path_factory.mktemp("api")), "PACS_TESTBED_API_PORT": "17544"}
    env = os.environ | own
    subprocess.run([TESTBED, "api", "start"], check=True, env=env)
    try:
        shown = subprocess.run([TESTBED, "api", "kubeconfig"], check=True, capture_output=True, text=True, env=env)
        kubeconfig = shown.stdout.strip()
        kubectl: list[str | Path] = [Path(kubeconfig).parent / "bin" / "kubectl", "--kubeconfig", kubeconfig]
        subprocess.run([*kubectl, "apply", "--server-side", "-f", ROOT / "crds"], check=True)
        subprocess.run([*kubectl, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], check=True)
        yield config.new_client_from_config(kubeconfig)
    finally:
        subprocess.run([TESTBED, "api", "stop"], check=True, env=env)


class Person:
    """Somebody with kubectl and all rights."""

    def __init__(self, api: client.ApiClient) -> None:
        self.kube = KubeClient(api)
        self._api = api

    def make(self, manifest: Manifest) -> Manifest:
        return self.kube.create(manifest)

    def patch(self, kind: Kind, name: str, namespace: str | None, body: Any, *, json: bool = False) -> None:
        content = "application/json-patch+json" if json else "application/merge-patch+json"
        self.kube._call(
            "patch", kind.path(namespace, name), body=body, content_type=content, field_manager="kubectl-edit"
        )


@pytest.fixture(scope="module")
def person(admin: client.ApiClient) -> Person:
    person = Person(admin)
    for name, labels in (("imaging", PEER_LABEL), (OPERATOR, {})):
        person.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    hostpath: Any = {"metadata": {"name": "hostpath"}, "provisioner": "example.org/none", "allowVolumeExpansion": True}
    client.StorageV1Api(admin).create_storage_class(hostpath)
    for manifest in (catalog_manifest(), archive_manifest(), peer_manifest("ct1")):
        person.make(manifest)
    return person


@pytest.fixture(scope="module")
def account(admin: client.ApiClient, person: Person) -> client.ApiClient:
    """Return a client that may do what the inventory says and nothing else."""
    core, rbac = client.CoreV1Api(admin), client.RbacAuthorizationV1Api(admin)

    def named(**more: Any) -> Any:
        return {"metadata": {"name": OPERATOR}, **more}

    def rules(own: bool) -> list[dict[str, Any]]:
        return [
            {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
            for group, resource, verbs in rbac_rules(own)
        ]

    subject = [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": OPERATOR}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "name": OPERATOR}
    core.create_namespaced_service_account(OPERATOR, named())
    rbac.create_cluster_role(named(rules=rules(False)))
    rbac.create_cluster_role_binding(named(roleRef={**role, "kind": "ClusterRole"}, subjects=subject))
    rbac.create_namespaced_role(OPERATOR, named(rules=rules(True)))
    rbac.create_namespaced_role_binding(OPERATOR, named(roleRef={**role, "kind": "Role"}, subjects=subject))
    request = named(spec={"expirationSeconds": 3600})
    granted = core.create_namespaced_service_account_token(OPERATOR, OPERATOR, request).status
    assert granted
    assert granted.token
    configuration = client.Configuration()
    configuration.host = admin.configuration.host
    configuration.ssl_ca_cert = admin.configuration.ssl_ca_cert
    configuration.api_key = {"BearerToken": granted.token}
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    return client.ApiClient(configuration)


class Process:
    """One operator process with its own count of writes."""

    vault = RecordingVault(WriteLog())

    def __init__(self, account: client.ApiClient) -> None:
        self.account = account
        self.writes: Counter[str] = Counter()
        self.kube = KubeClient(account, lambda verb, kind: self.writes.update([f"{verb} {kind}"]))
        world = World()
        ports = Ports(
            kube=self.kube,
            vault=lambda _settings: self.vault,
            agents=world.agents,
            renderer=render,
            clock=lambda: START,
            draw_lineage=lambda: "ab" * 16,
        )
        self.reconciler = ArchiveReconciler(ports, SETTINGS)

    def reconcile(self) -> list[str]:
        before = Counter(self.writes)
        self.reconciler.reconcile(ARCHIVE)
        return sorted((self.writes - before).elements())


@pytest.fixture
def process(account: client.ApiClient) -> Process:
    process = Process(account)
    process.reconcile()
    return process


def test_the_inventorys_verbs_suffice_and_a_settled_archive_costs_no_write(account: client.ApiClient):
    first = Process(account)
    made = first.reconcile()
    assert len([entry for entry in made if entry.startswith("apply")]) > 35
    assert first.reconcile() == []
    assert Process(account).reconcile() == [], "the next process finds nothing to do either"
    live = first.kube.get(ARCHIVE_KIND, ARCHIVE)
    assert live is not None
    assert live["status"]["observedGeneration"] == live["metadata"]["generation"]
    assert names.FINALIZER in live["metadata"]["finalizers"]
    peer = first.kube.get(PEER, "ct1", "imaging")
    assert peer is not None
    assert peer["status"]["boundIdentity"] == "ct1.imaging.example"


def test_what_the_inventory_does_not_declare_is_forbidden(process: Process):
    secret = Kind("v1", "Secret", "secrets", True, ())
    with pytest.raises(ApiForbiddenError):
        process.kube.list(secret, "imaging")
    with pytest.raises(ApiForbiddenError):
        process.kube.delete({**archive_manifest(), "metadata": {"name": ARCHIVE, "uid": "x"}})
    with pytest.raises(ApiForbiddenError):
        process.kube.get(LEASE, "any", "imaging")


def test_the_crds_of_this_tree_are_new_enough(process: Process):
    check_crds(process.kube)


def test_a_rule_added_to_a_policy_goes(process: Process, person: Person):
    person.patch(
        POLICY, "gate-ingress", "radiology-edge", [{"op": "add", "path": "/spec/ingress/-", "value": {}}], json=True
    )
    assert [entry for entry in process.reconcile() if "Policy" in entry] == ["apply NetworkPolicy"]
    live = process.kube.get(POLICY, "gate-ingress", "radiology-edge")
    assert live is not None
    assert {} not in live["spec"]["ingress"]
    assert process.reconcile() == []


def test_a_file_added_to_a_config_goes(process: Process, person: Person):
    person.patch(CONFIG_MAP, "orthanc", "radiology-archive", {"data": {"evil.json": "{}"}})
    process.reconcile()
    live = process.kube.get(CONFIG_MAP, "orthanc", "radiology-archive")
    assert live is not None
    assert "evil.json" not in live["data"]
    assert process.reconcile() == []


@pytest.mark.parametrize(
    "change",
    [
        [{"op": "add", "path": "/spec/template/spec/hostNetwork", "value": True}],
        [{"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "extra", "image": "x:1"}}],
        [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x:1"}],
        [{"op": "replace", "path": "/spec/replicas", "value": 0}],
    ],
)
def test_a_weakened_workload_is_put_back(process: Process, person: Person, change: list[dict[str, Any]]):
    before = process.kube.get(DEPLOYMENT, "gate", "radiology-edge")
    person.patch(DEPLOYMENT, "gate", "radiology-edge", change, json=True)
    process.reconcile()
    after = process.kube.get(DEPLOYMENT, "gate", "radiology-edge")
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
    assert process.reconcile() == []


def test_harmless_drift_waits(process: Process, person: Person):
    person.patch(
        STATEFUL_SET, "orthanc", "radiology-archive", {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}
    )
    assert not [entry for entry in process.reconcile() if "StatefulSet" in entry]
    live = process.kube.get(ARCHIVE_KIND, ARCHIVE)
    assert live is not None
    assert "Drift by kubectl-edit" in live["status"]["waiting"][0]
    assert process.reconcile() == []
    undo = [{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]
    person.patch(STATEFUL_SET, "orthanc", "radiology-archive", undo, json=True)
    process.reconcile()


def test_what_a_changed_spec_takes_away_goes(process: Process, person: Person):
    gate = {"gate": {"service": {"annotations": {"example.org/a": "b"}}}}
    person.patch(ARCHIVE_KIND, ARCHIVE, None, {"spec": gate})
    process.reconcile()
    live = process.kube.get(SERVICE, "gate", "radiology-edge")
    assert live is not None
    assert live["metadata"]["annotations"]["example.org/a"] == "b"
    person.patch(ARCHIVE_KIND, ARCHIVE, None, {"spec": {"gate": {"service": {"annotations": None}}}})
    process.reconcile()
    live = process.kube.get(SERVICE, "gate", "radiology-edge")
    assert live is not None
    assert "example.org/a" not in (live["metadata"].get("annotations") or {})
    assert process.reconcile() == []


def test_a_deleted_child_comes_back_and_a_stray_one_goes(process: Process, person: Person):
    gone = process.kube.get(SERVICE, "postgres", "radiology-data")
    assert gone is not None
    person.kube.delete(gone)
    labels = {names.LABEL_ARCHIVE: ARCHIVE, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    stray = {"name": "stray", "namespace": "radiology-data", "labels": labels}
    person.make({"apiVersion": "v1", "kind": "ConfigMap", "metadata": stray})
    assert process.reconcile() == ["apply Service", "delete ConfigMap"]
    assert process.reconcile() == []


def live_ids(process: Process, zone: str) -> set[str]:
    live = process.kube.get(CONFIG_MAP, "peers", f"radiology-{zone}")
    assert live is not None
    return {peer.id for peer in LivePeers.model_validate_json(live["data"]["peers.json"]).peers}


def test_a_revocation_while_stalled_and_no_write_after_it(process: Process, person: Person):
    gone = person.make(peer_manifest("ct9", sourceCIDRs=["198.18.99.0/24"]))
    process.reconcile()
    person.patch(ARCHIVE_KIND, ARCHIVE, None, {"spec": {"release": {"catalog": "stabel"}}})
    person.kube.delete(gone)
    late = person.make(peer_manifest("mr9"))
    writes = process.reconcile()
    assert [entry for entry in writes if not entry.endswith(("Event", "PacsArchive", "DicomPeer"))] == [
        "patch ConfigMap",
        "patch ConfigMap",
        "patch NetworkPolicy",
    ]
    assert live_ids(process, "edge") == live_ids(process, "archive") == {*PROBE_IDS, "imaging/ct1"}
    policy = process.kube.get(POLICY, "gate-ingress", "radiology-edge")
    assert "198.18.99.0/24" not in repr((policy or {})["spec"])
    assert "198.18.10.11/32" in repr((policy or {})["spec"])
    assert process.reconcile() == []
    person.patch(ARCHIVE_KIND, ARCHIVE, None, {"spec": {"release": {"catalog": "stable"}}})
    process.reconcile()
    assert "imaging/mr9" in live_ids(process, "edge")
    assert process.reconcile() == []
    person.kube.delete(late)
    process.reconcile()
    assert Process(process.account).reconcile() == []


def test_the_mark_of_a_planned_restart_stays(process: Process, person: Person):
    template = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION_RESTARTED_FOR: "0b"}}}}}
    process.kube.patch(STATEFUL_SET, "orthanc", "radiology-archive", template)
    assert process.reconcile() == []
    person.patch(ARCHIVE_KIND, ARCHIVE, None, {"spec": {"scheduling": {"orthanc": {"memoryMi": 3000}}}})
    assert "apply StatefulSet" in process.reconcile()
    live = process.kube.get(STATEFUL_SET, "orthanc", "radiology-archive")
    assert live is not None
    assert live["spec"]["template"]["metadata"]["annotations"][ANNOTATION_RESTARTED_FOR] == "0b"
    assert process.reconcile() == []


def test_the_pods_security_level_is_put_back(process: Process, person: Person):
    level = "pod-security.kubernetes.io/enforce"
    person.patch(NAMESPACE, "radiology-edge", None, {"metadata": {"labels": {level: "privileged"}}})
    process.reconcile()
    live = process.kube.get(NAMESPACE, "radiology-edge")
    assert live is not None
    assert live["metadata"]["labels"][level] == "restricted"


def test_lists_come_in_pages(process: Process, monkeypatch: pytest.MonkeyPatch):
    whole = process.kube.list(CONFIG_MAP)
    monkeypatch.setattr("pacs_operator.kube.client.PAGE", 2)
    assert process.kube.list(CONFIG_MAP) == whole
    assert len(whole) > 4


def test_an_invalid_object_names_the_field(process: Process):
    bad = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "bad", "namespace": "imaging"},
        "spec": {"ports": [{"port": 0}]},
    }
    with pytest.raises(ApiInvalidError, match=r"spec.ports\[0\].port"):
        process.kube.apply(bad, force=True)


def test_a_lease_on_a_real_server(process: Process):
    one, other = (Lease(process.kube, LeaseName(OPERATOR, name), lambda: START) for name in ("one", "other"))
    assert one.try_hold()
    assert one.try_hold()
    assert not other.try_hold()
    one.release()
    assert other.try_hold()
