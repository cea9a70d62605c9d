"""What the static policies keep the operator's and the enrolling people's tokens from; each beside its allowed twin.

A negative sends the very request that an administrator's token is then seen to succeed with: one property differs,
the token.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from pacs_operator.domain.names import CaName, Component, component_role, peer_role, pki_mount
from pacs_operator.vault.layout import OPERATOR_ROLE, Site, archive_layout, login_path, login_role
from tests.vault.world import AUDIENCE, AUTH_PATH, OPERATOR, World, request

ARCHIVE = "policies"
LINEAGE = "0123456789abcdef0123456789abcdef"
PEERS, INTERNAL, CONTROL = (pki_mount(LINEAGE, ca) for ca in (CaName.PEERS, CaName.INTERNAL, CaName.CONTROL))
GATE_ROLE = component_role(ARCHIVE, Component.GATE, "server-ec")
GATE_NAMES = ["gate.policies-edge.svc", "policies.pacs.internal"]


@pytest.fixture(scope="module")
def provisioned(world: World) -> Iterator[World]:
    client = world.client()
    client.ensure_archive(ARCHIVE, LINEAGE, AUDIENCE)
    client.ensure_peer_role(LINEAGE, "imaging", "ct1", "ct1.imaging.example")
    world.bao.call("POST", "sys/mounts/hospital", {"type": "kv"})
    world.bao.call("POST", "hospital/secret", {"value": "of somebody else"})
    yield world
    world.bao.call("DELETE", "sys/mounts/hospital")


def _role(**changed: Any) -> dict[str, Any]:
    """Return a PKI role as the operator writes it, with single parameters changed."""
    layout = archive_layout(ARCHIVE, LINEAGE, AUDIENCE, _site())
    entry = next(r for a in layout.authorities for r in a.roles if r.path == f"{PEERS}/roles/{GATE_ROLE}")
    return entry.written | changed


def _login(**changed: Any) -> dict[str, Any]:
    """Return a login role as the operator writes it, with single parameters changed."""
    layout = archive_layout(ARCHIVE, LINEAGE, AUDIENCE, _site())
    return layout.logins[0].written | changed


def _site() -> Site:
    return Site("https://vault.example:8200", AUTH_PATH, OPERATOR)


SIGNING = {
    "sign in peers": (f"{PEERS}/sign/{GATE_ROLE}", {"csr": request(GATE_NAMES)}),
    "sign a peer": (f"{PEERS}/sign/{peer_role('imaging', 'ct1')}", {"csr": request(["ct1.imaging.example"])}),
    "sign in internal": (
        f"{INTERNAL}/sign/{component_role(ARCHIVE, Component.POSTGRES, 'postgres-server')}",
        {"csr": request(["postgres.policies-data.svc"])},
    ),
    "sign another's control leaf": (
        f"{CONTROL}/sign/{component_role(ARCHIVE, Component.CONFORMANCE, 'cleanup')}",
        {"csr": request(["conformance.policies-ops.svc"])},
    ),
    "issue in peers": (f"{PEERS}/issue/{GATE_ROLE}", {"common_name": GATE_NAMES[0]}),
    "issue its own status leaf with a key": (
        f"{CONTROL}/issue/{OPERATOR.status_role}",
        {"common_name": OPERATOR.status_dns},
    ),
    "sign anything verbatim": (f"{INTERNAL}/sign-verbatim", {"csr": request(["anything.example"])}),
}


@pytest.mark.parametrize("what", SIGNING)
def test_operator_signs_nothing_of_others(provisioned: World, what: str) -> None:
    path, data = SIGNING[what]
    _only_administrator(provisioned, "POST", path, data)


def test_operator_signs_its_own_status_leaf(provisioned: World) -> None:
    data = {"csr": request([OPERATOR.status_dns]), "format": "pem"}
    answer = provisioned.bao.try_call(
        "POST", f"{CONTROL}/sign/{OPERATOR.status_role}", data, provisioned.operator_token()
    )
    assert answer.status_code == 200


READING = [
    "hospital/secret",
    "sys/policies/acl/pacs-operator",
    "sys/mounts",
    "sys/auth",
    f"auth/{AUTH_PATH}/config",
    f"auth/{AUTH_PATH}/role/{OPERATOR_ROLE}",
    "identity/entity/id?list=true",
]


@pytest.mark.parametrize("path", READING)
def test_operator_reads_nothing_beyond_its_own(provisioned: World, path: str) -> None:
    _only_administrator(provisioned, "GET", path)


WRITING: dict[str, tuple[str, dict[str, Any]]] = {
    "another's secret": ("hospital/secret", {"value": "changed"}),
    "a policy": ("sys/policies/acl/pacs-test", {"policy": 'path "x" { capabilities = ["read"] }'}),
    "its own policy": ("sys/policies/acl/pacs-extra", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
    "its own login role": (f"auth/{AUTH_PATH}/role/{OPERATOR_ROLE}", {"token_ttl": "900s"}),
    "a tuned mount": (f"sys/mounts/{PEERS}/tune", {"max_lease_ttl": "87600h"}),
    "a mount elsewhere": ("sys/mounts/elsewhere", {"type": "pki"}),
    "an auth method": ("sys/auth/extra", {"type": "userpass"}),
    "the token reviewer": (
        f"auth/{AUTH_PATH}/config",
        {"kubernetes_host": "https://127.0.0.1:1"},
    ),
    "a token": ("auth/token/create", {"policies": ["default"]}),
    "a root with its key": (f"{PEERS}/root/generate/exported", {"common_name": "x", "key_type": "ec"}),
    "a key that leaves Vault": (f"{PEERS}/keys/generate/exported", {"key_type": "ec"}),
    "an intermediate's key": (f"{PEERS}/intermediate/generate/exported", {"common_name": "x", "key_type": "ec"}),
    "the default issuer": (f"{PEERS}/config/issuers", {"default": "root"}),
    "the issuer itself": (f"{PEERS}/issuer/root", {"issuer_name": "root", "usage": "read-only"}),
}


@pytest.mark.parametrize("what", WRITING)
def test_operator_writes_nothing_beyond_its_own(provisioned: World, what: str) -> None:
    path, data = WRITING[what]
    if path.endswith("/config") and path.startswith("auth/"):
        data = data | {"kubernetes_ca_cert": provisioned.identity.authority.pem}
    token = provisioned.operator_token()
    assert provisioned.bao.try_call("POST", path, data, token).status_code == 403
    try:
        assert provisioned.bao.try_call("POST", path, data).ok
    finally:
        _restore(provisioned)


ROLE_CHANGES: dict[str, dict[str, Any]] = {
    "any name": {"allow_any_name": True},
    "subdomains": {"allow_subdomains": True},
    "globs": {"allow_glob_domains": True},
    "wildcards": {"allow_wildcard_certificates": True},
    "addresses": {"allow_ip_sans": True},
    "localhost": {"allow_localhost": True},
    "URIs": {"allowed_uri_sans": ["*"]},
    "other names": {"allowed_other_sans": ["*"]},
    "names not from the request": {"use_csr_sans": False},
    "code signing": {"code_signing_flag": True},
    "a free end of life": {"not_after_bound": "permit"},
    "a life of ten years": {"max_ttl": "87600h"},
    "certificates that cannot be revoked": {"no_store": True},
    "short keys": {"key_bits": "2048", "key_type": "rsa"},
}


def assert_only_narrow(world: World, path: str, wide: dict[str, Any], narrow: dict[str, Any]) -> None:
    """The operator is refused the wide one; the same without the change is its job, and so is its removal."""
    token = world.operator_token()
    answer = world.bao.try_call("POST", path, wide, token)
    assert answer.status_code == 403, answer.text
    assert world.bao.try_call("POST", path, narrow, token).ok
    assert world.bao.try_call("DELETE", path, token=token).ok


@pytest.mark.parametrize("what", ROLE_CHANGES)
def test_operator_makes_no_wide_role(provisioned: World, what: str) -> None:
    path = f"{PEERS}/roles/policies-edge.gate.trial"
    assert_only_narrow(provisioned, path, wide=_role(**ROLE_CHANGES[what]), narrow=_role())


LOGIN_CHANGES: dict[str, dict[str, Any]] = {
    "its own policy": {"token_policies": "pacs-operator"},
    "a further policy": {"token_policies": "pacs-component,pacs-operator"},
    "a list of policies": {"token_policies": ["pacs-component", "pacs-operator"]},
    "the old field for policies": {"policies": "pacs-operator"},
    "its own namespace": {"bound_service_account_namespaces": OPERATOR.namespace},
    "its own namespace behind a zone's": {"bound_service_account_namespaces": f"{OPERATOR.namespace},x-edge"},
    "a list of namespaces": {"bound_service_account_namespaces": [OPERATOR.namespace, "x-edge"]},
    "every namespace": {"bound_service_account_namespaces": "*"},
    "namespaces by selector": {"bound_service_account_namespace_selector": '{"matchLabels": {}}'},
    "every ServiceAccount": {"bound_service_account_names": "*"},
    "its own ServiceAccount": {"bound_service_account_names": OPERATOR.service_account},
    "a token that never ends": {"token_period": "72h"},
    "a token of a day": {"token_ttl": "24h"},
    "the default policy": {"token_no_default_policy": False},
    "aliases by name": {"alias_name_source": "serviceaccount_name"},
}


@pytest.mark.parametrize("what", LOGIN_CHANGES)
def test_operator_makes_no_wide_login(provisioned: World, what: str) -> None:
    path = f"auth/{AUTH_PATH}/role/policies-edge.trial"
    assert_only_narrow(provisioned, path, wide=_login(**LOGIN_CHANGES[what]), narrow=_login())


@pytest.mark.parametrize(
    "change",
    [
        {"allowed_domains": ["conformance.policies-ops.svc"]},
        {"allowed_domains": [OPERATOR.status_dns, "gate.policies-edge.svc"]},
        {"server_flag": True},
        {"max_ttl": "604800s"},
    ],
    ids=["another name", "a further name", "a server", "a week"],
)
def test_operator_cannot_widen_what_it_signs_itself(provisioned: World, change: dict[str, Any]) -> None:
    path = f"{CONTROL}/roles/{OPERATOR.status_role}"
    layout = archive_layout(ARCHIVE, LINEAGE, AUDIENCE, provisioned.site)
    written = next(r.written for a in layout.authorities for r in a.roles if r.path == path)
    token = provisioned.operator_token()
    assert provisioned.bao.try_call("POST", path, written | change, token).status_code == 403
    assert provisioned.bao.try_call("POST", path, written, token).ok


def test_operator_makes_no_second_root(provisioned: World) -> None:
    layout = archive_layout(ARCHIVE, LINEAGE, AUDIENCE, provisioned.site)
    path, root = f"{PEERS}/root/generate/internal", layout.authorities[0].root
    token = provisioned.operator_token()
    unnamed = {name: value for name, value in root.items() if name != "issuer_name"}
    assert provisioned.bao.try_call("POST", path, unnamed, token).status_code == 403
    assert provisioned.bao.try_call("POST", path, root | {"issuer_name": "other"}, token).status_code == 403
    taken = provisioned.bao.try_call("POST", path, root, token)
    assert (taken.status_code, "issuer name already in use" in taken.text) == (400, True)
    assert len(provisioned.keys(f"{PEERS}/issuers")) == len(provisioned.keys(f"{PEERS}/keys")) == 1


def test_operator_removes_no_authority(world: World, archive: str, lineage: str) -> None:
    """Mount, issuer and key stay whatever the operator tries; an administrator can remove each."""
    world.client().ensure_archive(archive, lineage, AUDIENCE)
    mount = pki_mount(lineage, CaName.PEERS)
    key = world.keys(f"{mount}/keys")[0]
    token = world.operator_token()
    move = {"from": mount, "to": "pacs/moved/peers"}
    attempts = [
        ("POST", "sys/remount", move),
        ("DELETE", f"{mount}/issuer/root", None),
        ("DELETE", f"{mount}/key/{key}", None),
        ("DELETE", f"{mount}/root", None),
        ("DELETE", f"sys/mounts/{mount}", None),
    ]
    for method, path, data in attempts:
        assert world.bao.try_call(method, path, data, token).status_code == 403, path
    for method, path, data in attempts[1:]:
        assert world.bao.try_call(method, path, data).ok, path


def test_operator_revokes_nothing(provisioned: World) -> None:
    signed = provisioned.bao.call(
        "POST", f"{PEERS}/sign/{peer_role('imaging', 'ct1')}", {"csr": request(["ct1.imaging.example"])}
    )
    _only_administrator(provisioned, "POST", f"{PEERS}/revoke", {"serial_number": signed["data"]["serial_number"]})


def test_enroller_signs_peers_alone(provisioned: World) -> None:
    bao = provisioned.bao
    token = _token_with(provisioned, "pacs-enroller")
    peer = f"{PEERS}/sign/{peer_role('imaging', 'ct1')}"
    assert bao.try_call("POST", peer, {"csr": request(["ct1.imaging.example"]), "format": "pem"}, token).ok
    gate = {"csr": request(GATE_NAMES), "format": "pem"}
    assert bao.try_call("POST", f"{PEERS}/sign/{GATE_ROLE}", gate, token).status_code == 403
    late = (dt.datetime.now(dt.UTC) + dt.timedelta(days=3000)).strftime("%Y-%m-%dT%H:%M:%SZ")
    wide = {"csr": request(["ct1.imaging.example"]), "not_after": late}
    assert bao.try_call("POST", peer, wide, token).status_code == 403
    assert bao.try_call("GET", f"{PEERS}/roles/{peer_role('imaging', 'ct1')}", token=token).ok
    assert bao.try_call("POST", f"{PEERS}/roles/{peer_role('imaging', 'ct1')}", _role(), token).status_code == 403


def test_pods_revoke_list_and_read_nothing(provisioned: World) -> None:
    token = provisioned.component_token(ARCHIVE, Component.GATE)
    own = {"csr": request(GATE_NAMES), "format": "pem"}
    signed = provisioned.bao.try_call("POST", f"{PEERS}/sign/{GATE_ROLE}", own, token)
    assert signed.ok
    serial = {"serial_number": signed.json()["data"]["serial_number"]}
    for method, path, data in [
        ("POST", f"{PEERS}/revoke", serial),
        ("LIST", f"{PEERS}/roles", None),
        ("GET", f"{PEERS}/roles/{GATE_ROLE}", None),
        ("POST", f"{PEERS}/roles/{GATE_ROLE}", _role()),
        ("GET", login_path(AUTH_PATH, ARCHIVE, Component.GATE), None),
        ("GET", "auth/token/lookup-self", None),
        ("GET", "hospital/secret", None),
    ]:
        assert provisioned.bao.try_call(method, path, data, token).status_code == 403, path
        assert provisioned.bao.try_call(method, path, data).ok, path


def test_login_roles_have_no_policy_but_the_components(provisioned: World) -> None:
    token = provisioned.component_token(ARCHIVE, Component.CONFORMANCE)
    seen = provisioned.bao.call("POST", "auth/token/lookup", {"token": token})["data"]
    assert seen["policies"] == ["pacs-component"]
    assert seen["ttl"] <= 900
    assert login_role(ARCHIVE, Component.CONFORMANCE) == seen["meta"]["role"]


def _only_administrator(world: World, method: str, path: str, data: Any = None) -> None:
    refused = world.bao.try_call(method, path, data, world.operator_token())
    assert refused.status_code == 403, refused.text
    allowed = world.bao.try_call(method, path, data)
    assert allowed.ok, allowed.text


def _token_with(world: World, policy: str) -> str:
    data = {"policies": [policy], "no_default_policy": True, "ttl": "10m"}
    return str(world.bao.call("POST", "auth/token/create", data)["auth"]["client_token"])


def _restore(world: World) -> None:
    """Take back what the administrator's twin of a refused write left behind."""
    world.bao.try_call("DELETE", "sys/mounts/elsewhere")
    world.bao.try_call("DELETE", "sys/auth/extra")
    for policy in ("pacs-test", "pacs-extra"):
        world.bao.try_call("DELETE", f"sys/policies/acl/{policy}")
    for issuer in world.keys(f"{PEERS}/issuers"):
        described = world.bao.call("GET", f"{PEERS}/issuer/{issuer}")["data"]
        if described["issuer_name"] != "root":
            world.bao.call("DELETE", f"{PEERS}/issuer/{issuer}")
    kept = world.bao.call("GET", f"{PEERS}/issuer/root")["data"]["key_id"]
    for key in world.keys(f"{PEERS}/keys"):
        if key != kept:
            world.bao.call("DELETE", f"{PEERS}/key/{key}")
    assert world.bootstrap().returncode == 0  # token reviewer, policies and the operator's login role
    usage = "read-only,issuing-certificates,crl-signing,ocsp-signing"
    world.bao.call("POST", f"{PEERS}/issuer/root", {"issuer_name": "root", "usage": usage})
