"""An external index on a real API server: which specs it takes, and that its pods are admitted."""

import copy
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from pacs_operator.kube.apply import Applier, in_apply_order
from pacs_operator.kube.client import KubeClient
from pacs_operator.kube.inventory import kind_of
from pacs_operator.render import render_archive
from tests.render.archives import certificate_pem, desired, pod_templates

from .conftest import OPERATOR, as_user
from .test_bad_input import changed, put, refusal
from .test_rendered import admit, differing

PASSWORD = {"mode": "Password", "passwordSecret": "index"}
EXTERNAL = {
    "host": "db.hospital.example", "name": "index", "user": "orthanc", "caPem": certificate_pem(),
    "cidrs": ["198.18.0.20/32"], "authentication": {"mode": "ClientCertificate"},
}  # fmt: skip
MANAGED = {"mode": "Managed", "sizeGi": 5, "storageClassName": "fast"}


def outside(**external: Any) -> dict[str, Any]:
    return {"mode": "External", "external": {**EXTERNAL, **external}}


def with_database(archive: dict[str, Any], database: dict[str, Any]) -> dict[str, Any]:
    body = changed(archive, "spec.database", database)
    body["spec"]["encryption"].pop("index", None)
    return body


@pytest.mark.parametrize(
    "database",
    [
        outside(),
        outside(authentication=PASSWORD, port=6432),
        outside(host="198.18.0.20"),
        outside(host="198.18.0.20", sslServerName="db.hospital.example"),
        outside(host="2001:db8::20", cidrs=["2001:db8::/64"]),
        MANAGED,
    ],
)
def test_taken(crds: client.CustomObjectsApi, archive: dict[str, Any], database: dict[str, Any]) -> None:
    put(crds, with_database(archive, database))


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ({"mode": "Managed"}, ["mode Managed needs sizeGi and storageClassName"]),
        ({**MANAGED, "external": EXTERNAL}, ["mode Managed", "has no external"]),
        ({"mode": "External"}, ["mode External needs external"]),
        ({**outside(), "sizeGi": 5}, ["neither sizeGi nor storageClassName"]),
        (outside(sslServerName="other.example"), ["sslServerName: given while host is a name"]),
        (outside(host="192.0.2.1"), ["spec.database.external.cidrs", "no packet would reach it"]),
        (outside(cidrs=["0.0.0.0/0"]), ["spec.database.external.cidrs", "/0 is refused"]),
        (outside(cidrs=["198.18.0.20"]), ["write network addresses with their length"]),
        (outside(authentication={"mode": "Password"}), ["passwordSecret", "name a Secret"]),
        (outside(authentication={**PASSWORD, "mode": "ClientCertificate"}), ["passwordSecret", "only there"]),
        (outside(host="/run/sockets"), ["spec.database.external.host"]),
        (outside(host="a.example,b.example"), ["spec.database.external.host"]),
        (outside(name="index?sslmode=disable"), ["spec.database.external.name"]),
        (outside(user="orthanc@x"), ["spec.database.external.user"]),
        (outside(port=0), ["spec.database.external.port"]),
    ],
)
def test_refused(
    crds: client.CustomObjectsApi, archive: dict[str, Any], database: dict[str, Any], words: list[str]
) -> None:
    message = refusal(crds, with_database(archive, database))
    assert [word for word in words if word not in message] == []


def test_no_storage_class_is_declared_for_what_is_elsewhere(
    crds: client.CustomObjectsApi, archive: dict[str, Any]
) -> None:
    said = changed(with_database(archive, outside()), "spec.encryption.index", {"mode": "StorageClass"})
    assert "which has no volume here" in refusal(crds, said)
    put(crds, changed(said, "spec.encryption.index", {"mode": "None", "reason": "the hospital's own database"}))


def test_what_is_made_reads_back_and_its_pods_are_admitted(chart: client.ApiClient) -> None:
    """A Secret's volume among them, which Pod Security and our own admission let the operator's pods have."""
    operator = KubeClient(as_user(chart, OPERATOR))
    service = {"type": "LoadBalancer", "loadBalancerNodePorts": "None"}  # holds no port of the nodes
    spec = {"database": outside(authentication=PASSWORD), "gate": {"service": service}}
    manifests = in_apply_order(render_archive(desired(spec, name="outside")))
    applier = Applier(operator)
    live = {}
    for manifest in manifests:
        written = applier.write(manifest, None)
        assert written
        live[id(manifest)] = written.manifest
    for manifest in manifests:
        data = manifest["metadata"]
        read = operator.get(kind_of(manifest), data["name"], data.get("namespace"))
        assert read
        assert list(differing(manifest, read, f"{manifest['kind']} {data['name']}")) == []
        assert applier.write(manifest, read) is None
    for workload, template in pod_templates(manifests):
        admit(chart, workload, copy.deepcopy(template["spec"]))


def test_the_operator_reads_no_password(chart: client.ApiClient) -> None:
    core: Any = client.CoreV1Api(as_user(chart, OPERATOR))
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_secret("index", "outside-archive")
    assert caught.value.status == 403
