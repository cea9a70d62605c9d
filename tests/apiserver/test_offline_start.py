"""The Secret by which pods start while Vault is away: who may make it, and what of ``spec.offlineStart`` is refused."""

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException, CustomObjectsApi

from .conftest import OPERATOR, as_user
from .test_bad_input import changed, put, refusal

NAME = "outage"
ZONE, OPS = f"{NAME}-edge", f"{NAME}-ops"
SECRET = "pacs-offline-start"  # a name
GOOD = {
    "recipient": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
    "holder": "IT on call, safe 3",
    "reason": "a power cut may end before Vault is back",
}


@pytest.fixture(scope="module")
def zone(chart: client.ApiClient) -> client.ApiClient:
    """Return an archive's zones with anna, who may approve and open; ben, who may open alone; cora, who has neither."""
    core = client.CoreV1Api(as_user(chart, OPERATOR))
    for name, kind in ((ZONE, "edge"), (OPS, "ops")):
        labels = {"pacs-operator.io/zone": kind, "pacs-operator.io/archive": NAME}
        body: Any = {"metadata": {"name": name, "labels": labels}}
        core.create_namespace(body)
    _bind(chart, ZONE, "pacs-operator-offline-starter", "anna", "ben")
    _bind(chart, OPS, "pacs-operator-approver", "anna")
    return chart


def _bind(api: client.ApiClient, namespace: str, role: str, *people: str) -> None:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name} for name in people]
    binding: Any = {"metadata": {"name": role}, "roleRef": reference, "subjects": subjects}
    client.RbacAuthorizationV1Api(api).create_namespaced_role_binding(namespace, binding)


def bring(api: client.ApiClient, name: str = SECRET, namespace: str = ZONE) -> None:
    """Make a Secret as ``kubectl apply --server-side`` does."""
    body: Any = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
    }
    client.CoreV1Api(api).patch_namespaced_secret(
        name, namespace, body, field_manager="kubectl", _content_type="application/apply-patch+yaml"
    )


def take_away(api: client.ApiClient, name: str = SECRET) -> None:
    client.CoreV1Api(api).delete_namespaced_secret(name, ZONE)


def denied(act: Any) -> str:
    with pytest.raises(ApiException) as caught:
        act()
    assert caught.value.status == 403
    return str(caught.value.body)


def test_one_who_may_approve_brings_it_and_takes_it_away(zone: client.ApiClient) -> None:
    anna = as_user(zone, "anna")
    bring(anna)
    assert "cannot get" in denied(lambda: client.CoreV1Api(anna).read_namespaced_secret(SECRET, ZONE))
    take_away(anna)


def test_another_name_is_refused(zone: client.ApiClient) -> None:
    assert "another" in denied(lambda: bring(as_user(zone, "anna"), "another"))


def test_whoever_may_not_approve_is_refused(zone: client.ApiClient) -> None:
    assert "ben may not approve for this archive" in denied(lambda: bring(as_user(zone, "ben")))
    assert "cora" in denied(lambda: bring(as_user(zone, "cora")))
    bring(as_user(zone, "anna"))
    assert "ben may not approve for this archive" in denied(lambda: take_away(as_user(zone, "ben")))
    take_away(as_user(zone, "anna"))


def test_nobody_but_a_person_is_let(zone: client.ApiClient) -> None:
    """A service account with every right there is is refused, and so is the operator; a person with them is not."""
    robot = "system:serviceaccount:default:robot"
    assert "is no person" in denied(lambda: bring(as_user(zone, robot, "system:masters")))
    assert "secrets" in denied(lambda: bring(as_user(zone, OPERATOR)))
    assert "is no person" in denied(lambda: bring(as_user(zone, OPERATOR, "system:masters")))
    bring(as_user(zone, "dora", "system:masters"))
    take_away(as_user(zone, "dora", "system:masters"))


def test_the_operator_reads_no_secret(zone: client.ApiClient) -> None:
    bring(as_user(zone, "anna"))
    assert "cannot get" in denied(
        lambda: client.CoreV1Api(as_user(zone, OPERATOR)).read_namespaced_secret(SECRET, ZONE)
    )
    take_away(as_user(zone, "anna"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipient": "aGVsbG8="}, "recipient"),
        ({"recipient": "A" * 43 + "="}, "32 zero bytes are no key"),
        ({"recipient": GOOD["recipient"][:-1]}, "recipient"),
        ({"recipient": "age1" + "q" * 40}, "recipient"),
        ({"holder": ""}, "holder"),
        ({"reason": "short"}, "reason"),
        ({"reason": None}, "reason"),
    ],
)
def test_what_is_no_key_is_refused(crds: CustomObjectsApi, archive: dict, change: dict, words: str) -> None:
    put(crds, changed(archive, "spec.offlineStart", GOOD))
    bad = {name: value for name, value in (GOOD | change).items() if value is not None}
    assert words in refusal(crds, changed(archive, "spec.offlineStart", bad))
