"""The chart on a real API server: least privilege as declared, and admission that keeps strangers out of zones."""

import subprocess
import time
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client import ApiException

from pacs_operator.kube.inventory import rbac_rules

from .conftest import CHART, OPERATOR, as_user


def of_kind(rendered: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in rendered if document["kind"] == kind]


@pytest.mark.parametrize(("kind", "own"), [("ClusterRole", False), ("Role", True)])
def test_rights_are_exactly_the_inventory(rendered: list[dict[str, Any]], kind: str, own: bool) -> None:
    (role,) = [role for role in of_kind(rendered, kind) if role["metadata"]["name"] == "pacs-operator"]
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == {(group, resource): set(verbs) for group, resource, verbs in rbac_rules(operator_namespace=own)}


def test_the_operator_reaches_the_vaults_that_it_may_log_in_to(rendered: list[dict[str, Any]]) -> None:
    (policy,) = [item for item in rendered if item["kind"] == "NetworkPolicy"]
    opened = {
        block["ipBlock"]["cidr"]: [port["port"] for port in rule["ports"]]
        for rule in policy["spec"]["egress"]
        for block in rule["to"]
        if "ipBlock" in block
    }
    # The last digits of an address without port are no port.
    assert opened == {
        "198.18.0.20/32": [6443],
        "198.18.0.10/32": [8200],
        "192.0.2.10/32": [8300],
        "192.0.2.11/32": [443],
        "192.0.2.12/32": [443],
        "2001:db8::13/128": [8400],
    }
    (deployment,) = [item for item in rendered if item["kind"] == "Deployment"]
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {
        "name": "PACS_VAULT_OTHERS",
        "value": "https://vault.radiology.example:8300,https://vault.cardiology.example,"
        "https://192.0.2.12,https://[2001:db8::13]:8400",
    } in environment
    assert {"name": "PACS_CLUSTER_DOMAIN", "value": "hospital.internal"} in environment


def test_plain_manifests_begin_with_the_namespace_and_hold_no_crd(
    chart: client.ApiClient, plain_manifests: str
) -> None:
    """`make manifests` on an API server that has only the CRDs: fixture `chart` applied it at once."""
    documents = [document for document in yaml.safe_load_all(plain_manifests) if document]
    assert (documents[0]["kind"], documents[0]["metadata"]["name"]) == ("Namespace", "pacs-operator-system")
    kinds = [document["kind"] for document in documents]
    assert "CustomResourceDefinition" not in kinds
    assert {"PacsCatalog", "Deployment"} <= set(kinds)
    labels: Any = client.CoreV1Api(chart).read_namespace("pacs-operator-system").metadata
    assert labels.labels["pod-security.kubernetes.io/enforce"] == "restricted"


#: A person's, for the one Secret that lets pods start without Vault; it reads none.
OFFLINE_STARTER: Any = {
    "apiGroups": [""],
    "resources": ["secrets"],
    "resourceNames": ["pacs-offline-start"],
    "verbs": ["create", "patch", "delete"],
}


def test_no_wildcard_and_no_secrets(rendered: list[dict[str, Any]]) -> None:
    roles = [*of_kind(rendered, "ClusterRole"), *of_kind(rendered, "Role")]
    [starter] = [role for role in roles if role["rules"] == [OFFLINE_STARTER]]
    bindings = [*of_kind(rendered, "ClusterRoleBinding"), *of_kind(rendered, "RoleBinding")]
    assert starter["metadata"]["name"] not in {binding["roleRef"]["name"] for binding in bindings}
    for role in roles:
        for rule in role["rules"] if role is not starter else []:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in words
            assert not {"secrets", "pods/exec", "escalate", "bind", "impersonate"} & set(words)


def namespace(name: str, **labels: str) -> Any:
    ours = {
        "pacs-operator.io/zone": "edge",
        "pacs-operator.io/lineage": "0" * 32,
        "pacs-operator.io/archive": "scratch",
    }
    return {"metadata": {"name": name, "labels": labels or ours}}


@pytest.fixture(scope="session")
def installed(chart: client.ApiClient) -> client.ApiClient:
    """A zone of some archive beside the chart."""
    client.CoreV1Api(as_user(chart, OPERATOR)).create_namespace(namespace("scratch-edge"))
    client.CoreV1Api(chart).create_namespaced_service_account("scratch-edge", SERVICE_ACCOUNT)
    return chart


SERVICE_ACCOUNT: Any = {"metadata": {"name": "gate"}}
POD: Any = {
    "metadata": {"name": "stranger"},
    "spec": {"serviceAccountName": "default", "containers": [{"name": "c", "image": "x", "resources": {}}]},
}


def wait_for_policies(api: client.ApiClient) -> None:
    """Admission policies take effect some moments after they are written: wait until one refuses."""
    core = client.CoreV1Api(api)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            core.create_namespaced_pod("scratch-edge", POD, dry_run="All")
        except ApiException as error:
            if "belong to pacs-operator" in str(error.body):
                return
    raise AssertionError("the policy on zone workloads never took effect")


def test_a_stranger_cannot_run_pods_in_a_zone(installed: client.ApiClient) -> None:
    wait_for_policies(installed)
    core = client.CoreV1Api(installed)
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_pod("scratch-edge", POD, dry_run="All")
    assert "pods, workloads and shells in zone scratch-edge belong to pacs-operator" in str(caught.value.body)
    assert "Change the PacsArchive instead" in str(caught.value.body)
    core.create_namespaced_pod("default", POD, dry_run="All")


@pytest.mark.parametrize(
    ("kind", "create"),
    [
        (
            "deployments",
            lambda api, body: client.AppsV1Api(api).create_namespaced_deployment("scratch-edge", body, dry_run="All"),
        ),
        ("jobs", lambda api, body: client.BatchV1Api(api).create_namespaced_job("scratch-edge", body, dry_run="All")),
    ],
)
def test_workloads_in_a_zone_are_the_operators(installed: client.ApiClient, kind: str, create: Any) -> None:
    wait_for_policies(installed)
    template: Any = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "x"}]},
    }
    spec: dict[str, Any] = {"template": template}
    if kind == "deployments":
        spec["selector"] = {"matchLabels": {"a": "b"}}
    else:
        template["spec"]["restartPolicy"] = "Never"
    body = {"metadata": {"name": "stranger"}, "spec": spec}
    with pytest.raises(ApiException) as caught:
        create(installed, body)
    assert "belong to pacs-operator" in str(caught.value.body)
    create(as_user(installed, OPERATOR), body)
    create(as_user(installed, "oncall", "pacs-break-glass"), body)


def test_nobody_else_scales_what_stands_in_a_zone(installed: client.ApiClient) -> None:
    """Subresources are none of the resource's own rules: at no replicas a gate serves nobody."""
    wait_for_policies(installed)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    body: Any = {
        "metadata": {"name": "scaled"},
        "spec": {"template": template, "selector": {"matchLabels": {"a": "b"}}},
    }
    client.AppsV1Api(as_user(installed, OPERATOR)).create_namespaced_deployment("scratch-edge", body)
    client.AppsV1Api(installed).create_namespaced_deployment("default", body)
    on_call = as_user(installed, "oncall", "pacs-break-glass")
    sized = {"name": "c", "image": "x", "resources": {"requests": {"cpu": "1m"}, "limits": {"cpu": "2m"}}}
    pod: Any = {"metadata": {"name": "sized"}, "spec": {"serviceAccountName": "default", "containers": [sized]}}
    client.CoreV1Api(on_call).create_namespaced_pod("scratch-edge", pod)
    none: Any = {"spec": {"replicas": 0}}
    less: Any = {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1m"}}}]}}

    def scale(api: client.ApiClient, namespace: str) -> Any:
        return client.AppsV1Api(api).patch_namespaced_deployment_scale("scaled", namespace, none, dry_run="All")

    def resize(api: client.ApiClient) -> Any:
        return client.CoreV1Api(api).patch_namespaced_pod_resize("sized", "scratch-edge", less, dry_run="All")

    for act in (lambda: scale(installed, "scratch-edge"), lambda: resize(installed)):
        with pytest.raises(ApiException) as caught:
            act()
        assert "belong to pacs-operator" in str(caught.value.body)
    scale(installed, "default")
    scale(on_call, "scratch-edge")
    resize(on_call)


def test_nobody_else_gets_a_zones_token(installed: client.ApiClient) -> None:
    """Whoever holds such a token logs in to Vault as the gate."""
    wait_for_policies(installed)
    order: Any = ("gate", "scratch-edge", {"spec": {"audiences": ["vault"]}})
    with pytest.raises(ApiException) as caught:
        client.CoreV1Api(installed).create_namespaced_service_account_token(*order)
    assert "belong to pacs-operator" in str(caught.value.body)
    on_call = client.CoreV1Api(as_user(installed, "oncall", "pacs-break-glass"))
    granted = on_call.create_namespaced_service_account_token(*order).status
    assert granted
    assert granted.token


def test_retained_data_are_not_deleted_by_a_slip(installed: client.ApiClient) -> None:
    core = client.CoreV1Api(installed)
    for _ in range(200):
        try:
            core.delete_namespace("scratch-edge", dry_run="All")
        except ApiException as error:
            caught = error
            break
    else:
        raise AssertionError("deletion of a zone namespace was never refused")
    assert "scratch-edge holds data of lineage" in str(caught.body)
    assert "annotate it pacs-operator.io/release-data=scratch-edge" in str(caught.body)
    annotations = {"metadata": {"annotations": {"pacs-operator.io/release-data": "scratch-edge"}}}
    core.patch_namespace("scratch-edge", annotations)
    core.delete_namespace("scratch-edge", dry_run="All")
    core.patch_namespace("scratch-edge", {"metadata": {"annotations": {"pacs-operator.io/release-data": None}}})


def test_nobody_else_writes_the_lineage_labels(installed: client.ApiClient) -> None:
    wait_for_policies(installed)
    core = client.CoreV1Api(installed)
    for _ in range(200):
        try:
            core.create_namespace(namespace("forged"), dry_run="All")
        except ApiException as error:
            caught = error
            break
    else:
        raise AssertionError("a forged zone namespace was never refused")
    assert "written by pacs-operator alone" in str(caught.body)
    core.create_namespace(namespace("plain", team="imaging"), dry_run="All")
    client.CoreV1Api(as_user(installed, OPERATOR)).create_namespace(namespace("ours"), dry_run="All")


def test_the_operator_can_do_what_it_declares_and_no_more(installed: client.ApiClient) -> None:
    reviews = client.AuthorizationV1Api(installed)

    def allowed(verb: str, group: str, resource: str, namespace: str = "scratch-data") -> bool:
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
        review: Any = {"spec": {"user": OPERATOR, "resourceAttributes": attributes}}
        status = reviews.create_subject_access_review(review).status
        return status is not None and status.allowed

    for group, resource, verbs in rbac_rules(operator_namespace=False):
        assert all(allowed(verb, group, resource) for verb in verbs), resource
    for verb, group, resource in [
        ("get", "", "secrets"),
        ("create", "", "pods/exec"),
        ("get", "", "pods/log"),
        ("delete", "", "persistentvolumes"),
        ("create", "pacs-operator.io", "pacsapprovals"),
        ("create", "", "serviceaccounts/token"),
        ("delete", "pacs-operator.io", "pacsarchives"),
        ("update", "rbac.authorization.k8s.io", "clusterroles"),
    ]:
        assert not allowed(verb, group, resource), f"{verb} {resource}"


def test_helm_is_told_what_is_missing() -> None:
    command = ["helm", "template", "x", str(CHART), "--set", "image=registry.example/operator:latest"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    for words in ("image", "does not match pattern", "vault/caPem", "apiServer"):
        assert words in refused.stderr


def refused_soon(act: Any, words: str) -> str:
    """Return the refusal once the policy has taken effect."""
    for _ in range(200):
        try:
            act()
        except ApiException as error:
            if words in str(error.body):
                return str(error.body)
    raise AssertionError(f"never refused with: {words}")


def test_the_clusters_collectors_may_finish_what_was_deleted(installed: client.ApiClient) -> None:
    """Foreground deletion and history need the garbage collector's updates."""
    wait_for_policies(installed)
    rights = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}
    roles = client.RbacAuthorizationV1Api(installed)
    role: Any = {"metadata": {"name": "collector"}, "rules": [rights]}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "collector"}
    users = [f"system:serviceaccount:kube-system:{name}" for name in ("generic-garbage-collector", "somebody")]
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user} for user in users]
    roles.create_namespaced_role("scratch-edge", role)
    binding: Any = {"metadata": {"name": "collector"}, "roleRef": reference, "subjects": subjects}
    roles.create_namespaced_role_binding("scratch-edge", binding)
    collector, somebody = (client.CoreV1Api(as_user(installed, user)) for user in users)
    pod: Any = {**POD, "spec": {**POD["spec"], "serviceAccountName": "gate"}}
    collector.create_namespaced_pod("scratch-edge", pod, dry_run="All")
    with pytest.raises(ApiException) as caught:
        somebody.create_namespaced_pod("scratch-edge", pod, dry_run="All")
    assert "belong to pacs-operator" in str(caught.value.body)


def test_the_operator_stays_in_its_zones(installed: client.ApiClient) -> None:
    """A stolen operator token runs no pod beside somebody else's Secrets."""
    api = as_user(installed, OPERATOR)
    job: Any = {
        "metadata": {"name": "thief"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}},
    }
    jobs, core = client.BatchV1Api(api), client.CoreV1Api(api)
    refusal = refused_soon(
        lambda: jobs.create_namespaced_job("default", job, dry_run="All"), "pacs-operator writes only in its zones"
    )
    assert "default is none" in refusal
    jobs.create_namespaced_job("scratch-edge", job, dry_run="All")
    config: Any = {"metadata": {"name": "x"}}
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_config_map("kube-system", config, dry_run="All")
    assert "writes only in its zones" in str(caught.value.body)
    core.create_namespaced_config_map("scratch-edge", config, dry_run="All")
    client.CoreV1Api(installed).create_namespaced_config_map("default", config, dry_run="All")


def test_the_operator_claims_no_foreign_namespace(installed: client.ApiClient) -> None:
    admin, operator = client.CoreV1Api(installed), client.CoreV1Api(as_user(installed, OPERATOR))
    admin.create_namespace(namespace("foreign", team="lab"))
    admin.create_namespace(namespace("offered", **{"pacs-operator.io/consent": "scratch"}))
    claim: Any = {"metadata": {"labels": namespace("x")["metadata"]["labels"]}}
    refusal = refused_soon(
        lambda: operator.patch_namespace("foreign", claim, dry_run="All"), "is not a zone of pacs-operator"
    )
    assert "label it pacs-operator.io/consent=" in refusal
    operator.patch_namespace("offered", claim, dry_run="All")
