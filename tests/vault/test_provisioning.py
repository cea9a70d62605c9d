"""An archive's authorities and roles come about once, quietly, and from wherever an earlier pass died."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pacs_operator.domain.errors import InvalidSpecError, VaultError
from pacs_operator.domain.leaves import archive_leaves
from pacs_operator.domain.names import CaName, Component, component_role, peer_role, pki_mount
from pacs_operator.vault.errors import VaultMisconfiguredError
from pacs_operator.vault.layout import login_path
from pacs_operator.vault.session import VaultSession
from tests.vault.world import AUDIENCE, AUTH_PATH, OPERATOR, World


def test_an_import_has_a_login_more_and_it_goes_with_the_archive(world: World, archive: str, lineage: str) -> None:
    client, logins = world.client(), f"auth/{AUTH_PATH}/role"
    client.ensure_archive(archive, lineage, AUDIENCE)
    before = set(world.keys(logins))
    assert client.ensure_importer(archive, AUDIENCE).created
    assert set(world.keys(logins)) - before == {f"{archive}-ops.importer"}
    assert not client.ensure_importer(archive, AUDIENCE)
    assert not client.ensure_archive(archive, lineage, AUDIENCE)
    client.delete_archive_roles(archive, lineage)
    assert not [name for name in world.keys(logins) if name.startswith(f"{archive}-")]


def test_first_pass_creates_and_second_writes_nothing(world: World, archive: str, lineage: str) -> None:
    client = world.client()
    changes = client.ensure_archive(archive, lineage, AUDIENCE)
    assert changes.created
    assert not changes.repaired
    assert not changes.deleted

    before = world.bao.audited_writes()
    assert not client.ensure_archive(archive, lineage, AUDIENCE)
    assert world.bao.audited_writes() == before


def test_another_operator_process_writes_nothing_either(world: World, archive: str, lineage: str) -> None:
    world.client().ensure_archive(archive, lineage, AUDIENCE)
    world.client().ensure_peer_role(lineage, "imaging", "ct1", "ct1.imaging.example")
    before = world.bao.audited_writes()
    assert not world.client().ensure_archive(archive, lineage, AUDIENCE)
    assert not world.client().ensure_peer_role(lineage, "imaging", "ct1", "ct1.imaging.example")
    assert world.bao.audited_writes() == before


def test_every_certificate_of_the_table_has_its_role_and_no_other(world: World, archive: str, lineage: str) -> None:
    world.client().ensure_archive(archive, lineage, AUDIENCE)
    for ca in CaName:
        wanted = {
            component_role(archive, leaf.component, leaf.name) for leaf in archive_leaves(archive) if leaf.ca is ca
        }
        wanted |= {OPERATOR.status_role} if ca is CaName.CONTROL else set()
        assert set(world.keys(f"{pki_mount(lineage, ca)}/roles")) == wanted


def test_roots_are_p256_for_ten_years_and_sign_leaves_only(world: World, archive: str, lineage: str) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    serials = set()
    for ca in CaName:
        root = x509.load_pem_x509_certificate(client.ca_pem(lineage, ca).encode())
        root.verify_directly_issued_by(root)
        key = root.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert (root.not_valid_after_utc - root.not_valid_before_utc).days == 3650
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (constraints.ca, constraints.path_length) == (True, 0)
        serials.add(root.serial_number)
    assert len(serials) == len(CaName)


def test_revocation_list_lives_a_week_and_is_rebuilt_hourly(world: World, archive: str, lineage: str) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    for ca in CaName:
        crl = world.bao.call("GET", f"{pki_mount(lineage, ca)}/config/crl")["data"]
        assert (crl["expiry"], crl["auto_rebuild"], crl["auto_rebuild_grace_period"]) == ("168h", True, "167h")
        assert not crl["disable"]


class Killed(BaseException):
    """The operator's process ends here; nothing catches this."""


class MortalSession(VaultSession):
    """A session whose process dies before or after its n-th write."""

    def __init__(self, world: World, dies_at: int, *, after: bool) -> None:
        super().__init__(world.login())
        self.attempts = 0
        self._dies_at = dies_at
        self._after = after

    def write(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
        return dict(self._mortal(lambda: VaultSession.write(self, path, data)))

    def delete(self, path: str) -> None:
        self._mortal(lambda: VaultSession.delete(self, path))

    def _mortal(self, act: Callable[[], Any]) -> Any:
        self.attempts += 1
        if self.attempts == self._dies_at and not self._after:
            raise Killed
        result = act()
        if self.attempts == self._dies_at:
            raise Killed
        return result


Act = Callable[[World, VaultSession, str, str], object]


def _create(world: World, session: VaultSession, archive: str, lineage: str) -> None:
    client = world.client(session)
    client.ensure_archive(archive, lineage, AUDIENCE)
    client.ensure_peer_role(lineage, "imaging", "ct1", "ct1.imaging.example")


def _repair(world: World, session: VaultSession, archive: str, lineage: str) -> None:
    world.client(session).ensure_archive(archive, lineage, AUDIENCE)


def _damage(world: World, archive: str, lineage: str) -> None:
    """Alter a login role beyond what a write resets, so that it is removed and made again."""
    path = login_path(AUTH_PATH, archive, Component.GATE)
    world.bao.call("POST", path, {"token_period": "72h"})
    world.bao.call("POST", f"{pki_mount(lineage, CaName.PEERS)}/roles/stray", {"allow_any_name": True})


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_write_of_a_creation(world: World, after: bool) -> None:
    names = _names()
    whole = MortalSession(world, 0, after=False)
    _create(world, whole, *names)
    wanted, writes = world.state(*names), whole.attempts
    assert writes == whole.writes > 20
    for point in range(1, writes + 1):
        names = _names()
        with pytest.raises(Killed):
            _create(world, MortalSession(world, point, after=after), *names)
        _create(world, VaultSession(world.login()), *names)
        assert world.state(*names) == wanted, f"killed {'after' if after else 'before'} write {point}"
        again = VaultSession(world.login())
        _create(world, again, *names)
        assert again.writes == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_write_of_a_repair(world: World, archive: str, lineage: str, after: bool) -> None:
    _create(world, VaultSession(world.login()), archive, lineage)
    wanted = world.state(archive, lineage)
    _damage(world, archive, lineage)
    whole = MortalSession(world, 0, after=False)
    _repair(world, whole, archive, lineage)
    assert whole.attempts == 3  # remove and make the login role, remove the stray role
    for point in range(1, whole.attempts + 1):
        _damage(world, archive, lineage)
        with pytest.raises(Killed):
            _repair(world, MortalSession(world, point, after=after), archive, lineage)
        _repair(world, VaultSession(world.login()), archive, lineage)
        assert world.state(archive, lineage) == wanted


def test_two_operators_at_once_make_one_root(world: World, archive: str, lineage: str) -> None:
    """Both look, see no root, and generate: Vault takes the issuer's name only once."""
    gate = threading.Barrier(2, timeout=30)

    class Hesitant(VaultSession):
        def write(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
            if path.endswith("/peers/root/generate/internal"):
                gate.wait()
            return super().write(path, data)

    first = world.client()
    mount = pki_mount(lineage, CaName.PEERS)
    world.bao.call("POST", f"sys/mounts/{mount}", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
    failures: list[BaseException] = []

    def provision() -> None:
        try:
            world.client(Hesitant(world.login())).ensure_archive(archive, lineage, AUDIENCE)
        except VaultError as error:  # the slower one at a mount or a commit; its next pass goes on from there
            if not any(said in error.message for said in ("already in use", "transaction commit failed")):
                failures.append(error)

    threads = [threading.Thread(target=provision) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first.ensure_archive(archive, lineage, AUDIENCE)
    assert not failures
    for ca in CaName:
        assert len(world.keys(f"{pki_mount(lineage, ca)}/issuers")) == 1
        assert len(world.keys(f"{pki_mount(lineage, ca)}/keys")) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allow_any_name", True),
        ("allow_subdomains", True),
        ("allow_ip_sans", True),
        ("allowed_uri_sans", ["*"]),
        ("allowed_domains", ["*.example"]),
        ("not_after_bound", "permit"),
        ("max_ttl", "87600h"),
        ("client_flag", True),
        ("no_store", True),
        ("use_csr_sans", False),
    ],
)
def test_role_altered_by_hand_is_put_back_and_named(
    world: World, archive: str, lineage: str, field: str, value: object
) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    wanted = world.state(archive, lineage)
    path = f"{pki_mount(lineage, CaName.PEERS)}/roles/{component_role(archive, Component.GATE, 'server-ec')}"
    world.bao.call("PATCH", path, {field: value})
    assert world.state(archive, lineage) != wanted

    changes = client.ensure_archive(archive, lineage, AUDIENCE)
    assert changes.repaired == (f"{path} ({field})",)
    assert world.state(archive, lineage) == wanted


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bound_service_account_namespaces", "*"),
        ("bound_service_account_names", "default"),
        ("audience", "https://kubernetes.default.svc"),
        ("token_policies", "default"),
        ("token_period", "72h"),
        ("token_ttl", "24h"),
        ("alias_name_source", "serviceaccount_name"),
    ],
)
def test_login_role_altered_by_hand_is_put_back(
    world: World, archive: str, lineage: str, field: str, value: str
) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    wanted = world.state(archive, lineage)
    path = login_path(AUTH_PATH, archive, Component.ORTHANC)
    extra = {"token_max_ttl": "24h"} if field == "token_ttl" else {}
    world.bao.call("POST", path, {field: value} | extra)

    changes = client.ensure_archive(archive, lineage, AUDIENCE)
    assert len(changes.repaired) == 1
    assert changes.repaired[0].startswith(f"{path} (")
    assert field in changes.repaired[0]
    assert world.state(archive, lineage) == wanted


def test_role_removed_by_hand_comes_back_and_a_stray_one_goes(world: World, archive: str, lineage: str) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    roles = f"{pki_mount(lineage, CaName.INTERNAL)}/roles"
    ours = f"{roles}/{component_role(archive, Component.POSTGRES, 'postgres-server')}"
    world.bao.call("DELETE", ours)
    world.bao.call("POST", f"{roles}/{archive}-edge.gate.evil", {"allow_any_name": True})
    changes = client.ensure_archive(archive, lineage, AUDIENCE)
    assert changes.created == (ours,)
    assert changes.deleted == (f"{roles}/{archive}-edge.gate.evil",)


def test_revocation_list_switched_off_by_hand_is_switched_on(world: World, archive: str, lineage: str) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    path = f"{pki_mount(lineage, CaName.PEERS)}/config/crl"
    world.bao.call("POST", path, {"disable": True, "expiry": "1h", "auto_rebuild_grace_period": "30m"})
    changes = client.ensure_archive(archive, lineage, AUDIENCE)
    assert changes.repaired == (f"{path} (auto_rebuild_grace_period, disable, expiry)",)


def test_mount_of_another_type_is_refused_with_the_way_out(world: World, archive: str, lineage: str) -> None:
    mount = pki_mount(lineage, CaName.PEERS)
    world.bao.call("POST", f"sys/mounts/{mount}", {"type": "kv"})
    with pytest.raises(VaultMisconfiguredError, match="is of type 'kv', not 'pki'"):
        world.client().ensure_archive(archive, lineage, AUDIENCE)


def test_mount_tuned_below_its_root_is_reported_since_the_operator_may_not_tune(
    world: World, archive: str, lineage: str
) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    tune = f"sys/mounts/{pki_mount(lineage, CaName.PEERS)}/tune"
    world.bao.call("POST", tune, {"max_lease_ttl": "24h"})
    with pytest.raises(VaultMisconfiguredError, match="allows lives of 86400 s") as caught:
        client.ensure_archive(archive, lineage, AUDIENCE)
    assert "max_lease_ttl=87600h" in caught.value.action
    world.bao.call("POST", tune, {"max_lease_ttl": "87600h"})
    assert not client.ensure_archive(archive, lineage, AUDIENCE)


def test_peer_roles_come_change_and_go(world: World, archive: str, lineage: str) -> None:
    client = world.client()
    client.ensure_archive(archive, lineage, AUDIENCE)
    components = set(world.keys(f"{pki_mount(lineage, CaName.PEERS)}/roles"))
    path = f"{pki_mount(lineage, CaName.PEERS)}/roles/{peer_role('imaging', 'ct1')}"
    assert client.ensure_peer_role(lineage, "imaging", "ct1", "ct1.imaging.example").created == (path,)
    assert not client.ensure_peer_role(lineage, "imaging", "ct1", "ct1.imaging.example")
    changed = client.ensure_peer_role(lineage, "imaging", "ct1", "ct1-new.imaging.example")
    assert changed.repaired == (f"{path} (allowed_domains)",)

    client.ensure_peer_role(lineage, "imaging", "mr1", "mr1.imaging.example")
    assert not client.ensure_archive(archive, lineage, AUDIENCE), "a pass over the archive leaves peers alone"
    gone = client.delete_peer_roles_except(lineage, {peer_role("imaging", "mr1")})
    assert gone.deleted == (path,)
    assert not client.delete_peer_roles_except(lineage, {peer_role("imaging", "mr1")})
    left = set(world.keys(f"{pki_mount(lineage, CaName.PEERS)}/roles"))
    assert left == components | {peer_role("imaging", "mr1")}


@pytest.mark.parametrize("name", ["gate.x-edge.svc", "PROBE.x-ops.SVC", "x.pacs.internal", "a.b.svc.cluster.local"])
def test_peer_may_not_take_an_archives_own_name(world: World, lineage: str, name: str) -> None:
    with pytest.raises(InvalidSpecError, match="is reserved for archives"):
        world.client().ensure_peer_role(lineage, "imaging", "ct1", name)


def test_deletion_removes_roles_of_this_archive_alone_and_keeps_keys(world: World) -> None:
    (mine, lineage), (other, other_lineage) = _names(), _names()
    client = world.client()
    for one, its_lineage in ((mine, lineage), (other, other_lineage)):
        _create(world, VaultSession(world.login()), one, its_lineage)
    roots = {ca: client.ca_pem(lineage, ca) for ca in CaName}
    before = world.state(other, other_lineage)

    assert (
        len(client.delete_archive_roles(mine, lineage).deleted)
        == len(archive_leaves(mine)) + 1 + 1 + len(Component) - 1
    )
    assert not client.delete_archive_roles(mine, lineage)
    assert all(not world.keys(f"{pki_mount(lineage, ca)}/roles") for ca in CaName)
    logins = world.keys(f"auth/{AUTH_PATH}/role")
    assert not [role for role in logins if role.startswith(f"{mine}-")]
    assert world.state(other, other_lineage) == before

    client.ensure_archive(mine, lineage, AUDIENCE)
    assert {ca: client.ca_pem(lineage, ca) for ca in CaName} == roots, "adopted again under the same authorities"


def test_deletion_of_what_never_was_is_fine(world: World, archive: str, lineage: str) -> None:
    assert not world.client().delete_archive_roles(archive, lineage)


class FakeClock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def test_status_credentials_are_signed_once_and_renewed_at_two_thirds(world: World, archive: str, lineage: str) -> None:
    clock = FakeClock()
    client = world.client(clock=clock)
    client.ensure_archive(archive, lineage, AUDIENCE)
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(client.status_client_credentials(lineage))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first = client.status_client_credentials(lineage)
    assert results == [first] * 8

    certificate = x509.load_pem_x509_certificate(first.chain_pem.encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(first.ca_pem.encode()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(OPERATOR.status_dns)]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert first.key_pem not in repr(first)

    life = first.not_after.timestamp() - clock.now
    clock.now += life * 2 / 3 - 5
    assert client.status_client_credentials(lineage) is first
    clock.now += 10
    assert client.status_client_credentials(lineage).chain_pem != first.chain_pem


def _names() -> tuple[str, str]:
    return f"a{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
