"""Who may approve, lift a hold and delete data: admission on a real API server, each refusal beside its twin."""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from .conftest import OPERATOR, as_user

APPROVALS = ("pacs-operator.io", "v1alpha1", "keep-ops", "pacsapprovals")
ARCHIVES = ("pacs-operator.io", "v1alpha1", "pacsarchives")
LINEAGE = "5" * 32
CI = "system:serviceaccount:keep-ops:ci"


def zone(name: str, **more: str) -> Any:
    labels = {"pacs-operator.io/zone": name, "pacs-operator.io/lineage": LINEAGE, "pacs-operator.io/archive": "keep"}
    return {"metadata": {"name": f"keep-{name}", "labels": labels | more}}


@pytest.fixture(scope="module")
def ops(chart: client.ApiClient) -> client.ApiClient:
    """The zones of an archive, and people who may approve in its ops zone: everybody logged in."""
    operator = client.CoreV1Api(as_user(chart, OPERATOR))
    for name in ("ops", "archive"):
        operator.create_namespace(zone(name))
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pacs-operator-approver"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}]
    binding: Any = {"metadata": {"name": "approvers"}, "roleRef": reference, "subjects": subjects}
    client.RbacAuthorizationV1Api(chart).create_namespaced_role_binding("keep-ops", binding)
    refused(lambda: approve(chart, "anna", approver="ben"), "is not you")
    return chart


def approval(approver: str, **changed: Any) -> dict[str, Any]:
    expires = datetime.now(UTC) + timedelta(days=changed.pop("days", 6))
    return {
        "apiVersion": "pacs-operator.io/v1alpha1",
        "kind": "PacsApproval",
        "metadata": {"generateName": "delete-"},
        "spec": {
            "archiveRef": {"name": "keep"},
            "archiveUID": "0f8c0000-0000-4000-8000-000000000000",
            "lineageID": LINEAGE,
            "act": "Delete",
            "approver": approver,
            "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": "end of the contract",
            **changed,
        },
    }


def approve(api: client.ApiClient, user: str, *, dry: bool = True, **changed: Any) -> Any:
    body = approval(changed.pop("approver", user), **changed)
    custom = client.CustomObjectsApi(as_user(api, user))
    dry_run = "All" if dry else None
    return custom.create_namespaced_custom_object(*APPROVALS, body, field_validation="Strict", dry_run=dry_run)


def refused(act: Callable[[], Any], words: str) -> str:
    """Return the refusal's message; policies take effect some moments after they are written."""
    said = "nothing was refused"
    for _ in range(200):
        try:
            act()
        except ApiException as error:
            said = str(json.loads(error.body or "{}").get("message"))
            if words in said:
                return said
    raise AssertionError(f"never refused with {words!r}, last: {said}")


def test_everybody_approves_in_their_own_name_only(ops: client.ApiClient) -> None:
    message = refused(lambda: approve(ops, "anna", approver="ben"), "spec.approver: 'ben' is not you, you are 'anna'")
    assert "under their own name only" in message
    approve(ops, "ben")


@pytest.mark.parametrize("user", [CI, OPERATOR, "system:admin"])
def test_no_person_no_approval(ops: client.ApiClient, user: str) -> None:
    """Admission and the CRD refuse; RBAC would allow it, as it does with the twin."""
    binding: Any = {
        "metadata": {"name": user.replace(":", "-")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pacs-operator-approver"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    client.RbacAuthorizationV1Api(ops).create_namespaced_role_binding("keep-ops", binding)
    refused(lambda: approve(ops, user), "is no person")
    refused(lambda: approve(ops, user, approver="anna"), "is not you")
    approve(ops, "anna")


def test_a_week_at_most(ops: client.ApiClient) -> None:
    for days in (7.1, -1, 0):
        refused(lambda days=days: approve(ops, "anna", days=days), "give a time within the next 7 days")  # type: ignore[misc]
    approve(ops, "anna", days=6.9)


def test_in_the_ops_zone_of_its_archive(ops: client.ApiClient) -> None:
    other: dict[str, Any] = {"archiveRef": {"name": "radiology"}}
    refused(lambda: approve(ops, "anna", **other), "stand in namespace radiology-ops, not in keep-ops")
    approve(ops, "anna")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("act", "Rename", "supported values"),
        ("lineageID", "xyz", "spec.lineageID"),
        ("archiveUID", "", "spec.archiveUID"),
        ("expiresAt", "tomorrow", "spec.expiresAt"),
        ("reason", "why not", "spec.reason"),
        ("approver", "", "spec.approver"),
        ("archiveRef", {}, "spec.archiveRef.name"),
        ("approvedBy", "anna", 'unknown field "spec.approvedBy"'),
    ],
)
def test_bad_input(ops: client.ApiClient, field: str, value: Any, words: str) -> None:
    custom = client.CustomObjectsApi(as_user(ops, "anna"))
    body = approval("anna")
    custom.create_namespaced_custom_object(*APPROVALS, body, field_validation="Strict", dry_run="All")
    body["spec"][field] = value
    with pytest.raises(ApiException) as caught:
        custom.create_namespaced_custom_object(*APPROVALS, body, field_validation="Strict", dry_run="All")
    assert words in str(json.loads(caught.value.body or "{}")["message"])


def test_an_approval_never_changes(ops: client.ApiClient) -> None:
    created = approve(ops, "anna", dry=False)
    custom = client.CustomObjectsApi(ops)
    where = (*APPROVALS, created["metadata"]["name"])
    changed = copy.deepcopy(created)
    changed["spec"]["act"] = "OverrideRetention"
    with pytest.raises(ApiException) as caught:
        custom.replace_namespaced_custom_object(*where, changed)
    assert "delete this PacsApproval and write a new one" in str(caught.value.body)
    changed = copy.deepcopy(created)
    changed["metadata"]["labels"] = {"case": "4711"}
    custom.replace_namespaced_custom_object(*where, changed)
    client.CustomObjectsApi(as_user(ops, "anna")).delete_namespaced_custom_object(*where)


@pytest.fixture
def held(ops: client.ApiClient, archive: dict) -> Iterator[tuple[client.ApiClient, dict]]:
    """An archive under a legal hold, and two people who may edit it; only one of them may lift holds."""
    custom, roles = client.CustomObjectsApi(ops), client.RbacAuthorizationV1Api(ops)
    archive["spec"]["retention"] = {"legalHold": True}
    created: Any = custom.create_cluster_custom_object(*ARCHIVES, archive)
    for user, verbs in {"erna": ["get", "update"], "judge": ["get", "update", "lift-legal-hold"]}.items():
        rule = {"apiGroups": ["pacs-operator.io"], "resources": ["pacsarchives"], "verbs": verbs}
        role: Any = {"metadata": {"name": user}, "rules": [rule]}
        binding: Any = {
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        roles.create_cluster_role(role)
        roles.create_cluster_role_binding(binding)
    try:
        yield ops, created
    finally:
        custom.delete_cluster_custom_object(*ARCHIVES, "radiology")
        for user in ("erna", "judge"):
            roles.delete_cluster_role_binding(user)
            roles.delete_cluster_role(user)


def test_a_legal_hold_is_lifted_by_those_who_may(held: tuple[client.ApiClient, dict]) -> None:
    api, archive = held
    lifted = copy.deepcopy(archive)
    lifted["spec"]["retention"]["legalHold"] = False
    gone = copy.deepcopy(archive)
    del gone["spec"]["retention"]

    def write(user: str, body: dict) -> Any:
        custom = client.CustomObjectsApi(as_user(api, user))
        return custom.replace_cluster_custom_object(*ARCHIVES, "radiology", body, dry_run="All")

    message = refused(lambda: write("erna", lifted), "spec.retention.legalHold: 'erna' may not lift it")
    assert "RBAC verb lift-legal-hold on pacsarchives/radiology" in message
    refused(lambda: write("erna", gone), "may not lift it")
    raised = copy.deepcopy(archive)
    raised["spec"]["retention"]["minimumYears"] = 10
    write("erna", raised)
    write("judge", lifted)


def delete(api: client.ApiClient, user: str, name: str) -> Any:
    groups = "system:masters" if user == "root" else "system:authenticated"
    return client.CoreV1Api(as_user(api, user, groups)).delete_namespace(name, dry_run="All")


def annotate(api: client.ApiClient, name: str, **marks: str | None) -> None:
    annotations = {f"pacs-operator.io/{key.replace('_', '-')}": value for key, value in marks.items()}
    body: Any = {"metadata": {"annotations": annotations}}
    client.CoreV1Api(as_user(api, OPERATOR)).patch_namespace(name, body)


def test_the_operator_deletes_released_zones_it_made_and_nothing_else(ops: client.ApiClient) -> None:
    other: Any = {"metadata": {"name": "somebodys"}}
    client.CoreV1Api(ops).create_namespace(other)
    refused(lambda: delete(ops, OPERATOR, "somebodys"), "pacs-operator deletes only zones that it made")
    annotate(ops, "keep-ops", release_data="keep-ops")
    refused(lambda: delete(ops, OPERATOR, "keep-ops"), "is none or holds the record")
    refused(lambda: delete(ops, OPERATOR, "keep-archive"), "holds data of lineage")
    annotate(ops, "keep-archive", release_data="keep-archive")
    delete(ops, OPERATOR, "keep-archive")
    annotate(ops, "keep-archive", release_data=None)
    annotate(ops, "keep-ops", release_data=None)


def test_retention_outlives_the_resource_on_its_zones(ops: client.ApiClient) -> None:
    annotate(ops, "keep-archive", release_data="keep-archive", minimum_years="10")
    refused(lambda: delete(ops, "root", "keep-archive"), "stands under a legal hold or a minimum retention")
    delete(ops, OPERATOR, "keep-archive")
    annotate(ops, "keep-archive", legal_hold="true")
    refused(lambda: delete(ops, OPERATOR, "keep-archive"), "stands under a legal hold")
    annotate(ops, "keep-archive", legal_hold=None, minimum_years=None)
    delete(ops, "root", "keep-archive")
    annotate(ops, "keep-archive", release_data=None)


def test_claims_of_such_a_zone_as_well(ops: client.ApiClient) -> None:
    core, operator = client.CoreV1Api(ops), client.CoreV1Api(as_user(ops, OPERATOR))
    claim: Any = {
        "metadata": {
            "name": "images",
            "labels": {"pacs-operator.io/lineage": LINEAGE},
            "annotations": {"pacs-operator.io/release-data": "images"},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    operator.create_namespaced_persistent_volume_claim("keep-archive", claim)
    order = ("images", "keep-archive")
    annotate(ops, "keep-archive", minimum_years="10")
    refused(
        lambda: core.delete_namespaced_persistent_volume_claim(*order, dry_run="All"), "a minimum retention of its zone"
    )
    operator.delete_namespaced_persistent_volume_claim(*order, dry_run="All")
    annotate(ops, "keep-archive", minimum_years=None)
    core.delete_namespaced_persistent_volume_claim(*order, dry_run="All")


def test_a_claims_label_is_no_way_around(ops: client.ApiClient) -> None:
    """What keeps a claim goes by its label: taken off, one person alone would have the images away under a hold."""
    core, operator = client.CoreV1Api(ops), client.CoreV1Api(as_user(ops, OPERATOR))
    claim: Any = {
        "metadata": {"name": "labelled", "labels": {"pacs-operator.io/lineage": LINEAGE}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    operator.create_namespaced_persistent_volume_claim("keep-archive", claim)
    order = ("labelled", "keep-archive")
    for value in (None, "6" * 32):
        body: Any = {"metadata": {"labels": {"pacs-operator.io/lineage": value}}}
        refused(
            lambda body=body: core.patch_namespaced_persistent_volume_claim(*order, body, dry_run="All"),  # type: ignore[misc]
            "volume claim labelled: labels",
        )
        operator.patch_namespaced_persistent_volume_claim(*order, body, dry_run="All")
    other: Any = {"metadata": {"labels": {"team": "imaging"}}}
    core.patch_namespaced_persistent_volume_claim(*order, other, dry_run="All")


def test_nobody_else_writes_the_marks_of_retention(ops: client.ApiClient) -> None:
    core = client.CoreV1Api(ops)
    for mark in ("legal-hold", "minimum-years", "newest-store"):
        body: Any = {"metadata": {"annotations": {f"pacs-operator.io/{mark}": "1"}}}
        refused(lambda body=body: core.patch_namespace("keep-archive", body, dry_run="All"), "change spec.retention")  # type: ignore[misc]
    other: Any = {"metadata": {"annotations": {"team": "imaging"}}}
    core.patch_namespace("keep-archive", other, dry_run="All")


def test_nobody_else_writes_the_record(ops: client.ApiClient) -> None:
    core, operator = client.CoreV1Api(ops), client.CoreV1Api(as_user(ops, OPERATOR))
    forged: Any = {"metadata": {"name": "destruction-0f8c"}, "data": {"decision.json": "{}"}}
    words = "are the record of a destruction"
    refused(lambda: core.create_namespaced_config_map("keep-ops", forged, dry_run="All"), words)
    unnamed: Any = {"metadata": {"generateName": "destruction-"}}
    refused(lambda: core.create_namespaced_config_map("keep-ops", unnamed, dry_run="All"), words)
    operator.create_namespaced_config_map("keep-ops", forged)
    refused(lambda: core.patch_namespaced_config_map("destruction-0f8c", "keep-ops", forged, dry_run="All"), words)
    refused(lambda: core.delete_namespaced_config_map("destruction-0f8c", "keep-ops", dry_run="All"), words)
    refused(lambda: operator.delete_namespaced_config_map("destruction-0f8c", "keep-ops", dry_run="All"), words)
    other: Any = {"metadata": {"name": "notes", "labels": {"about": "notes"}}}
    core.create_namespaced_config_map("keep-ops", other)
    # A whole collection, as the end of a namespace takes it: such a request has no name of its own.
    refused(lambda: core.delete_collection_namespaced_config_map("keep-ops", dry_run="All"), words)
    core.delete_collection_namespaced_config_map("keep-ops", label_selector="about=notes", dry_run="All")
