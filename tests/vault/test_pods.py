"""A pod has its own leaves signed, exactly as the table says, and nobody else's."""

import datetime as dt
import ipaddress
import time
import uuid
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pacs_operator.domain.leaves import DAY, LeafSpec, archive_leaves
from pacs_operator.domain.names import CaName, Component, component_role, pki_mount
from pacs_operator.vault.errors import VaultForbiddenError, VaultMisconfiguredError
from pacs_operator.vault.layout import login_role
from tests.vault.world import AUDIENCE, World, leaf, request

ARCHIVE = "pods"
LINEAGE = uuid.uuid4().hex
GATE = f"gate.{ARCHIVE}-edge.svc"
SERVED = [GATE, f"{ARCHIVE}.pacs.internal"]


@pytest.fixture(scope="module")
def provisioned(world: World) -> Iterator[World]:
    world.client().ensure_archive(ARCHIVE, LINEAGE, AUDIENCE)
    world.client().ensure_importer(ARCHIVE, AUDIENCE)
    yield world


@pytest.mark.parametrize("spec", archive_leaves(ARCHIVE), ids=lambda spec: f"{spec.component}/{spec.name}")
def test_every_leaf_is_signed_as_the_table_says(provisioned: World, spec: LeafSpec) -> None:
    pod = provisioned.pod(ARCHIVE, spec.component)
    wanted = leaf(ARCHIVE, spec.component, spec.name)
    chain = pod.sign(wanted, LINEAGE, request(wanted.dns_names, key_type=spec.key_type))

    certificate, issuer = x509.load_pem_x509_certificates(chain.encode())
    certificate.verify_directly_issued_by(issuer)
    assert issuer == x509.load_pem_x509_certificate(pod.ca_pem(LINEAGE, spec.ca).encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(names.get_values_for_type(x509.DNSName)) == sorted(spec.dns_names)
    assert len(names) == len(spec.dns_names)
    usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == spec.server
    assert (ExtendedKeyUsageOID.CLIENT_AUTH in usages) == spec.client
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert abs(left.total_seconds() - spec.ttl_seconds) < 120
    assert not any(
        extension.value.ca for extension in certificate.extensions if isinstance(extension.value, x509.BasicConstraints)
    )


def test_longer_life_is_capped_and_shorter_is_given(provisioned: World) -> None:
    pod = provisioned.pod(ARCHIVE, Component.GATE)
    for asked, given in ((365 * DAY, 7 * DAY), (3600, 3600)):
        wanted = leaf(ARCHIVE, Component.GATE, "server-ec", ttl_seconds=asked)
        certificate = x509.load_pem_x509_certificate(pod.sign(wanted, LINEAGE, request(SERVED)).encode())
        left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
        assert abs(left.total_seconds() - given) < 120


@pytest.mark.parametrize("component", [c for c in Component if c is not Component.GATE])
def test_role_of_another_component_is_forbidden(provisioned: World, component: Component) -> None:
    """The very request that the gate's pod is then seen to succeed with."""
    wanted, asked = leaf(ARCHIVE, Component.GATE, "server-ec"), request(SERVED)
    with pytest.raises(VaultForbiddenError):
        provisioned.pod(ARCHIVE, component).sign(wanted, LINEAGE, asked)
    assert provisioned.pod(ARCHIVE, Component.GATE).sign(wanted, LINEAGE, asked)


def test_role_of_another_archive_is_forbidden(provisioned: World, archive: str, lineage: str) -> None:
    provisioned.client().ensure_archive(archive, lineage, AUDIENCE)
    theirs = leaf(archive, Component.GATE, "server-ec")
    asked = request(theirs.dns_names)
    with pytest.raises(VaultForbiddenError):
        provisioned.pod(ARCHIVE, Component.GATE).sign(theirs, lineage, asked)
    assert provisioned.pod(archive, Component.GATE).sign(theirs, lineage, asked)


def test_own_role_name_in_anothers_authority_signs_nothing(provisioned: World, archive: str, lineage: str) -> None:
    """Authorities hold no roles but their own archive's: the path is open, the role is not there."""
    provisioned.client().ensure_archive(archive, lineage, AUDIENCE)
    with pytest.raises(VaultMisconfiguredError, match="unknown role"):
        provisioned.pod(ARCHIVE, Component.GATE).sign(
            leaf(ARCHIVE, Component.GATE, "server-ec"), lineage, request(SERVED)
        )


def test_peers_role_is_forbidden_to_pods(provisioned: World) -> None:
    provisioned.client().ensure_peer_role(LINEAGE, "imaging", "ct1", "ct1.imaging.example")
    theirs = leaf(ARCHIVE, Component.GATE, "server-ec", role="peer.imaging.ct1")
    with pytest.raises(VaultForbiddenError):
        provisioned.pod(ARCHIVE, Component.GATE).sign(theirs, LINEAGE, request(["ct1.imaging.example"]))


@pytest.mark.parametrize(
    ("csr", "said"),
    [
        (request(["orthanc.pods-archive.svc"]), "orthanc.pods-archive.svc not allowed by this role"),
        (request([GATE, "orthanc.pods-archive.svc"]), "orthanc.pods-archive.svc not allowed by this role"),
        (request([f"a.{GATE}"]), "not allowed by this role"),
        (request([f"*.{ARCHIVE}.pacs.internal"]), "not allowed by this role"),
        (request(["localhost"]), "not allowed by this role"),
        (request([GATE], x509.IPAddress(ipaddress.ip_address("10.0.0.1"))), "IP Subject Alternative Names"),
        (request([GATE], x509.UniformResourceIdentifier("https://gate.example")), "URI Subject Alternative Names"),
        (request([GATE], x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x01x")), "other SAN OID"),
        (request([GATE], key_type="RSA"), "requires keys of type ec"),
    ],
    ids=[
        "other name",
        "further name",
        "subdomain",
        "wildcard",
        "localhost",
        "address",
        "URI",
        "other form",
        "key",
    ],
)
def test_request_that_differs_is_refused(provisioned: World, csr: str, said: str) -> None:
    pod, own = provisioned.pod(ARCHIVE, Component.GATE), leaf(ARCHIVE, Component.GATE, "server-ec")
    with pytest.raises(VaultMisconfiguredError, match=said):
        pod.sign(own, LINEAGE, csr)
    assert pod.sign(own, LINEAGE, request([GATE]))


@pytest.mark.parametrize(
    "extra",
    [
        {"not_after": "2090-01-01T00:00:00Z"},
        {"not_before": "2020-01-01T00:00:00Z"},
        {"alt_names": "a@gate.pods-edge.svc"},
        {"ip_sans": "10.0.0.1"},
        {"common_name": GATE},
        {"serial_number": "x"},
        {"exclude_cn_from_sans": True},
        {"format": "der"},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_parameter_beyond_key_and_life_is_forbidden_by_policy(provisioned: World, extra: dict[str, object]) -> None:
    path = f"{pki_mount(LINEAGE, CaName.PEERS)}/sign/{component_role(ARCHIVE, Component.GATE, 'server-ec')}"
    token = provisioned.component_token(ARCHIVE, Component.GATE)
    data = {"csr": request(SERVED), "format": "pem"}
    assert provisioned.bao.try_call("POST", path, data | extra, token).status_code == 403
    assert provisioned.bao.try_call("POST", path, data, token).ok


@pytest.mark.parametrize("field", ["not_after", "not_before"])
def test_free_end_of_life_is_refused_by_the_role_too(provisioned: World, field: str) -> None:
    """Even to an administrator: the second lock, in case a policy is widened one day."""
    path = f"{pki_mount(LINEAGE, CaName.PEERS)}/sign/{component_role(ARCHIVE, Component.GATE, 'server-ec')}"
    answer = provisioned.bao.try_call("POST", path, {"csr": request(SERVED), field: "2027-01-01T00:00:00Z"})
    assert (answer.status_code, "forbid" in answer.text) == (400, True)


def test_pod_of_the_same_name_in_another_namespace_cannot_log_in(provisioned: World) -> None:
    own, asked = leaf(ARCHIVE, Component.GATE, "server-ec"), request(SERVED)
    with pytest.raises(VaultForbiddenError, match="refuses the login"):
        provisioned.pod(ARCHIVE, Component.GATE, namespace="elsewhere").sign(own, LINEAGE, asked)
    assert provisioned.pod(ARCHIVE, Component.GATE).sign(own, LINEAGE, asked)


def test_pod_of_another_name_in_the_same_namespace_cannot_log_in(provisioned: World) -> None:
    stranger = provisioned.token_file(f"{ARCHIVE}-edge", "default")
    with pytest.raises(VaultForbiddenError, match="refuses the login"):
        provisioned.pod(ARCHIVE, Component.GATE, token_file=str(stranger)).sign(
            leaf(ARCHIVE, Component.GATE, "server-ec"), LINEAGE, request(SERVED)
        )


def test_token_for_another_audience_cannot_log_in(provisioned: World) -> None:
    with pytest.raises(VaultForbiddenError, match="refuses the login"):
        provisioned.pod(ARCHIVE, Component.GATE, audience="https://kubernetes.default.svc").sign(
            leaf(ARCHIVE, Component.GATE, "server-ec"), LINEAGE, request(SERVED)
        )


def test_own_token_opens_no_other_components_login(provisioned: World) -> None:
    with pytest.raises(VaultForbiddenError, match="refuses the login"):
        provisioned.pod(ARCHIVE, Component.GATE, role=login_role(ARCHIVE, Component.ORTHANC)).sign(
            leaf(ARCHIVE, Component.GATE, "server-ec"), LINEAGE, request(SERVED)
        )


def test_login_is_kept_and_renewed_at_two_thirds_of_its_life(provisioned: World) -> None:
    now = [time.time()]
    pod = provisioned.pod(ARCHIVE, Component.GATE, clock=lambda: now[0])
    own = leaf(ARCHIVE, Component.GATE, "server-ec")

    def logins_after_signing() -> int:
        pod.sign(own, LINEAGE, request(SERVED))
        return provisioned.bao.audited_logins()

    first = logins_after_signing()
    now[0] += 590
    assert logins_after_signing() == first
    now[0] += 20
    assert logins_after_signing() == first + 1


def test_revoked_login_is_replaced_without_an_error(provisioned: World) -> None:
    pod, own = provisioned.pod(ARCHIVE, Component.GATE), leaf(ARCHIVE, Component.GATE, "server-ec")
    pod.sign(own, LINEAGE, request(SERVED))
    before = provisioned.bao.audited_logins()
    provisioned.revoke_logins()
    assert pod.sign(own, LINEAGE, request(SERVED))
    assert provisioned.bao.audited_logins() == before + 1


def test_authorities_and_lists_need_no_login(provisioned: World, lineage: str) -> None:
    pod = provisioned.pod(ARCHIVE, Component.GATE, token_file="/nowhere/token")
    for ca in CaName:
        authority = x509.load_pem_x509_certificate(pod.ca_pem(LINEAGE, ca).encode())
        crl = x509.load_pem_x509_crl(pod.crl_pem(LINEAGE, ca).encode())
        assert crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
        assert crl.next_update_utc is not None
        assert crl.next_update_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=6, hours=23)
    with pytest.raises(VaultMisconfiguredError, match="publishes nothing"):
        pod.ca_pem(lineage, CaName.PEERS)
