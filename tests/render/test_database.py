"""An external index as it is rendered: one way out, one reader of the password, nothing in the zone of the index."""

import json
from typing import Any

import pytest

from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.conformanceconfig import ConformanceConfig
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import Component
from pacs_operator.domain.validation import parse
from pacs_operator.render import config_hash, render_archive

from .archives import SPEC, certificate_pem, config_data, desired, pod_templates

CERTIFICATE = {"mode": "ClientCertificate"}
PASSWORD = {"mode": "Password", "passwordSecret": "index"}


def spec(**changes: Any) -> dict[str, Any]:
    external = {
        "host": "db.hospital.example", "port": 6432, "name": "index", "user": "orthanc", "caPem": certificate_pem(),
        "cidrs": ["198.18.0.20/32", "2001:db8::20/128"], "authentication": PASSWORD, **changes,
    }  # fmt: skip
    return {"database": {"mode": "External", "external": external}}


def egress_of_orthanc(manifests: list[dict[str, Any]]) -> dict[int, set[str]]:
    (policy,) = (m for m in manifests if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "orthanc-egress")
    found: dict[int, set[str]] = {}
    for rule in policy["spec"]["egress"]:
        for port in rule["ports"]:
            blocks = {peer["ipBlock"]["cidr"] if "ipBlock" in peer else "pods" for peer in rule["to"]}
            found.setdefault(port["port"], set()).update(blocks)
    return found


def test_orthanc_may_go_to_the_database_and_nobody_else_may() -> None:
    outside, own = render_archive(desired(spec())), render_archive(desired())
    assert egress_of_orthanc(outside)[6432] == {"198.18.0.20/32", "2001:db8::20/128"}
    assert 5432 not in egress_of_orthanc(outside)
    assert egress_of_orthanc(own)[5432] == {"pods"}
    others = [m for m in outside if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] != "orthanc-egress"]
    assert "198.18.0.20" not in json.dumps(others)


def test_nothing_of_postgresql_is_made() -> None:
    manifests = render_archive(desired(spec(), run="r1"))
    there = [m for m in manifests if m["metadata"].get("labels", {}).get("pacs-operator.io/component") == "postgres"]
    assert there == []
    held = {m["kind"] for m in manifests if m["metadata"].get("namespace") == "radiology-data"}
    assert held == {"LimitRange", "NetworkPolicy", "ResourceQuota"}
    (quota,) = (m for m in manifests if m["kind"] == "ResourceQuota" and m["metadata"]["namespace"] == "radiology-data")
    assert (quota["spec"]["hard"]["pods"], quota["spec"]["hard"]["persistentvolumeclaims"]) == ("0", "0")
    run = next(m for m in manifests if m["metadata"]["name"] == "conformance-r1" and m["kind"] == "ConfigMap")
    text = run["data"]["conformance.json"]
    assert "postgresHost" not in json.loads(text)
    assert ConformanceConfig.model_validate_json(text).postgres_host is None, "the probe reads what it is given"


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["name"]: mount for mount in container["volumeMounts"]}


@pytest.mark.parametrize("authentication", [PASSWORD, CERTIFICATE], ids=lambda one: one["mode"])
def test_the_agent_alone_reads_the_password(authentication: dict[str, str]) -> None:
    manifests = render_archive(desired(spec(authentication=authentication)))
    holding = [
        (template["spec"]["serviceAccountName"], container["name"])
        for _, template in pod_templates(manifests)
        for container in (*template["spec"]["initContainers"], *template["spec"]["containers"])
        if "database" in mounts(container)
    ]
    password = authentication is PASSWORD
    assert holding == ([("orthanc", "agent")] if password else [])
    (orthanc,) = (t["spec"] for w, t in pod_templates(manifests) if w["metadata"]["name"] == "orthanc")
    secrets = [volume["secret"] for volume in orthanc["volumes"] if "secret" in volume]
    assert [secret["secretName"] for secret in secrets] == (["index"] if password else [])
    uri = json.loads(config_data(manifests, "orthanc")["orthanc.json"])["PostgreSQL"]["ConnectionUri"]
    assert ("passfile=" in uri) is password
    assert ("require_auth=scram-sha-256" in uri) is password
    assert ("sslcert=/tls/postgres-client.crt" in uri) is not password
    assert "sslmode=verify-full" in uri


def test_an_address_is_reached_by_number_and_verified_by_name() -> None:
    def uri(**changes: Any) -> str:
        data = config_data(render_archive(desired(spec(**changes))), "orthanc")
        return str(json.loads(data["orthanc.json"])["PostgreSQL"]["ConnectionUri"])

    numbered = uri(host="2001:db8::20", sslServerName="db.hospital.example")
    assert "host=db.hospital.example&hostaddr=2001:db8::20&port=6432" in numbered
    assert "hostaddr" not in uri()
    assert "host=198.18.0.20&port" in uri(host="198.18.0.20")


def test_every_field_restarts_orthanc_but_the_open_addresses() -> None:
    before = config_hash(desired(spec()))
    changes: dict[str, Any] = {
        "host": "other.example", "port": 5433, "name": "other", "user": "other", "caPem": certificate_pem() * 2,
        "authentication": CERTIFICATE,
    }  # fmt: skip
    assert all(config_hash(desired(spec(**{key: value}))) != before for key, value in changes.items())
    assert config_hash(desired(spec(cidrs=["198.18.0.0/24"]))) == before


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ({"mode": "Managed"}, "needs sizeGi and storageClassName"),
        ({"mode": "Managed", **SPEC["database"], "external": spec()["database"]["external"]}, "has no external"),
        ({"mode": "External"}, "needs external"),
        ({**spec()["database"], "sizeGi": 5}, "neither sizeGi"),
        (spec(sslServerName="x.example")["database"], "sslServerName: given while host is a name"),
        (spec(host="192.0.2.1")["database"], "192.0.2.1 is in none of them"),
        (spec(authentication={"mode": "Password"})["database"], "passwordSecret: missing"),
        (spec(authentication={**PASSWORD, **CERTIFICATE})["database"], "passwordSecret: given"),
        (spec(name="a?sslmode=disable")["database"], "name"),
        (spec(user="a@b")["database"], "user"),
        (spec(host="/run/sockets")["database"], "host"),
        (spec(host="a.example,b.example")["database"], "host"),
    ],
)
def test_what_contradicts_itself_is_refused(database: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSpecError, match=words):
        parse(ArchiveSpec, {**SPEC, "database": database}, "spec")


@pytest.mark.parametrize(("mode", "refused"), [("StorageClass", True), ("None", False)])
def test_no_storage_class_is_declared_for_what_is_elsewhere(mode: str, refused: bool) -> None:
    index = {"mode": mode} if mode == "StorageClass" else {"mode": mode, "reason": "the hospital's own database"}
    body = {**SPEC, **spec(), "encryption": {"mode": "Transit", "index": index}}
    if refused:
        with pytest.raises(InvalidSpecError, match=r"spec\.encryption\.index\.mode"):
            parse(ArchiveSpec, body, "spec")
    else:
        assert Component.POSTGRES not in parse(ArchiveSpec, body, "spec").components
