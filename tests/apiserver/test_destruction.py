"""The operator destroys an archive under its real rights and real admission; people approve as themselves."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client

from pacs_operator import render
from pacs_operator.kube.client import KubeClient
from pacs_operator.kube.inventory import APPROVAL, ARCHIVE, CONFIG_MAP, NAMESPACE, PVC
from pacs_operator.kube.port import Manifest, annotations_of
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.reconcile.context import Ports
from tests.engine.recordingvault import RecordingVault
from tests.engine.simapi import WriteLog
from tests.engine.world import SETTINGS, World, archive_manifest

from .conftest import OPERATOR, as_user

NAME = "oldarchive"
LINEAGE = "cd" * 16
ZONES = [f"{NAME}-{zone}" for zone in ("edge", "archive", "data", "ops")]


class Scene:
    """One operator process, an administrator, and the controllers that this API server lacks."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api, self.person = api, KubeClient(api)
        self.core = client.CoreV1Api(api)
        self.now = datetime.now(UTC)
        vault = RecordingVault(WriteLog())
        ports = Ports(
            kube=KubeClient(as_user(api, OPERATOR)),
            vault=lambda _settings: vault,
            agents=World().agents,
            renderer=render,
            clock=lambda: self.now,
            draw_lineage=lambda: LINEAGE,
        )
        self.reconciler = ArchiveReconciler(ports, SETTINGS)

    def settle(self) -> None:
        for _ in range(12):
            self.reconciler.reconcile(NAME)
            self.finish()
            if self.person.get(ARCHIVE, NAME) is None:
                return

    def finish(self) -> None:
        """Do the collectors' work: what is being deleted has nothing left to wait for."""
        collector = as_user(self.api, "system:kube-controller-manager", "system:masters")
        apps, core = client.AppsV1Api(collector), client.CoreV1Api(collector)
        loose: Any = {"metadata": {"finalizers": None}}
        for zone in ZONES:
            for gate in apps.list_namespaced_deployment(zone).items:
                self.loosen(gate, lambda name, zone=zone: apps.patch_namespaced_deployment(name, zone, loose))
            for one in apps.list_namespaced_stateful_set(zone).items:
                self.loosen(one, lambda name, zone=zone: apps.patch_namespaced_stateful_set(name, zone, loose))
            for claim in core.list_namespaced_persistent_volume_claim(zone).items:
                self.loosen(
                    claim, lambda name, zone=zone: core.patch_namespaced_persistent_volume_claim(name, zone, loose)
                )
            live = self.person.get(NAMESPACE, zone)
            if live is not None and live["metadata"].get("deletionTimestamp"):
                body: Any = {**live, "spec": {"finalizers": []}}
                core.replace_namespace_finalize(zone, body)

    @staticmethod
    def loosen(item: Any, act: Any) -> None:
        if item.metadata.deletion_timestamp and item.metadata.finalizers:
            act(item.metadata.name)

    def condition(self, kind: str) -> str:
        live = self.person.get(ARCHIVE, NAME) or {}
        found = {item["type"]: item["reason"] for item in live["status"]["conditions"]}
        return str(found.get(kind))

    def zones(self) -> list[str]:
        return [zone for zone in ZONES if self.person.get(NAMESPACE, zone) is not None]

    def approve(self, person: str, act: str) -> None:
        live: Manifest = self.person.get(ARCHIVE, NAME) or {}
        expires = datetime.now(UTC) + timedelta(days=6)
        KubeClient(as_user(self.api, person)).create(
            {
                "apiVersion": APPROVAL.api_version,
                "kind": APPROVAL.kind,
                "metadata": {"name": f"{act.lower()}-{person}", "namespace": f"{NAME}-ops"},
                "spec": {
                    "archiveRef": {"name": NAME},
                    "archiveUID": live["metadata"]["uid"],
                    "lineageID": LINEAGE,
                    "act": act,
                    "approver": person,
                    "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "reason": "end of the contract",
                },
            }
        )


@pytest.fixture
def scene(chart: client.ApiClient) -> Scene:
    scene = Scene(chart)
    hostpath: Any = {"metadata": {"name": "hostpath"}, "provisioner": "example.org/none", "allowVolumeExpansion": True}
    client.StorageV1Api(chart).create_storage_class(hostpath)
    manifest = archive_manifest(
        deletionPolicy="Delete", deletion={"confirmName": NAME}, retention={"minimumYears": 1, "legalHold": True}
    )
    scene.person.create({**manifest, "metadata": {"name": NAME}})
    scene.settle()
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pacs-operator-approver"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name} for name in ("anna", "ben")]
    binding: Any = {"metadata": {"name": "approvers"}, "roleRef": reference, "subjects": subjects}
    client.RbacAuthorizationV1Api(chart).create_namespaced_role_binding(f"{NAME}-ops", binding)
    return scene


def test_from_delete_to_the_record(scene: Scene) -> None:
    marks = annotations_of(scene.person.get(NAMESPACE, f"{NAME}-archive") or {})
    assert marks["pacs-operator.io/legal-hold"] == "true"
    assert marks["pacs-operator.io/minimum-years"] == "1"
    scene.person.delete(scene.person.get(ARCHIVE, NAME) or {})
    for person in ("anna", "ben"):
        for act in ("Delete", "OverrideRetention"):
            scene.approve(person, act)
    scene.settle()
    assert scene.condition("DeletionBlocked") == "LegalHold"
    scene.person.patch(ARCHIVE, NAME, None, {"spec": {"retention": {"legalHold": False}}})
    scene.settle()
    assert scene.condition("DeletionBlocked") == "GracePeriod"
    assert scene.zones() == ZONES
    assert scene.person.list(PVC, f"{NAME}-archive")
    scene.now += timedelta(hours=25)
    scene.settle()
    assert scene.person.get(ARCHIVE, NAME) is None
    assert scene.zones() == [f"{NAME}-ops"]
    (record,) = [
        item
        for item in scene.person.list(CONFIG_MAP, f"{NAME}-ops")
        if item["metadata"]["name"].startswith("destruction-")
    ]
    approvers = {entry["approver"] for entry in json.loads(record["data"]["decision.json"])["approvals"]}
    assert approvers == {"anna", "ben"}
    assert set(record["data"]) == {"grace.json", "decision.json", "removal.json"}
    scene.core.delete_namespace(f"{NAME}-ops", dry_run="All")  # released, once the record is kept elsewhere
