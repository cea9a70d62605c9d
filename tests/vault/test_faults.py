"""Whatever is wrong with Vault has its own reason, a way out, and no secret in its words."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pacs_operator.domain.errors import VaultError
from pacs_operator.domain.facts import ClusterSettings, VaultSettings
from pacs_operator.domain.names import CaName, Component
from pacs_operator.vault import errors
from pacs_operator.vault.client import connect
from pacs_operator.vault.session import VaultSession
from tests.vault.certs import Authority
from tests.vault.world import AUDIENCE, AUTH_PATH, OPERATOR, World, leaf, request


@dataclass
class Actors:
    """The operator and one pod, both having worked before the fault."""

    world: World
    archive: str
    lineage: str

    def operator(self, **login: Any) -> Callable[[], object]:
        client = self.world.client(VaultSession(self.world.login(**login)))
        return lambda: client.ensure_archive(self.archive, self.lineage, AUDIENCE)

    def pod(self, **access: Any) -> Callable[[], object]:
        pod = self.world.pod(self.archive, Component.GATE, **access)
        own = leaf(self.archive, Component.GATE, "control")
        return lambda: pod.sign(own, self.lineage, request(own.dns_names))

    def publisher(self, **access: Any) -> Callable[[], object]:
        pod = self.world.pod(self.archive, Component.GATE, **access)
        return lambda: pod.crl_pem(self.lineage, CaName.PEERS)


@pytest.fixture
def actors(world: World, archive: str, lineage: str) -> Actors:
    world.client().ensure_archive(archive, lineage, AUDIENCE)
    return Actors(world, archive, lineage)


@contextmanager
def _sealed(world: World) -> Iterator[None]:
    world.bao.seal()
    try:
        yield
    finally:
        world.bao.stop()
        world.bao.start()


@contextmanager
def _stopped(world: World) -> Iterator[None]:
    world.bao.stop()
    try:
        yield
    finally:
        world.bao.start()


@contextmanager
def _frozen(world: World) -> Iterator[None]:
    world.bao.freeze()
    try:
        yield
    finally:
        world.bao.thaw()


FAULTS = {
    "VaultSealed": (_sealed, errors.VaultSealedError),
    "VaultUnreachable": (_stopped, errors.VaultUnreachableError),
    "VaultTimeout": (_frozen, errors.VaultTimeoutError),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_server_faults_have_their_reason_and_heal(actors: Actors, reason: str) -> None:
    """One object through before, during and after: nothing needs a restart."""
    fault, kind = FAULTS[reason]
    quick: dict[str, Any] = {"timeout_seconds": 1}
    acts = [actors.operator(**quick), actors.pod(**quick), actors.publisher(**quick)]
    for act in acts:
        act()
    with fault(actors.world):
        for act in acts:
            error = _raised(act)
            assert type(error) is kind
            assert error.reason == reason
    for act in acts:
        act()


def test_server_faults_before_the_first_login(actors: Actors) -> None:
    for reason, (fault, kind) in FAULTS.items():
        act = actors.operator(timeout_seconds=1)
        with fault(actors.world):
            error = _raised(act)
            assert (type(error), error.reason) == (kind, reason)
        act()


@contextmanager
def _balancer() -> Iterator[str]:
    """Yield the address of a balancer with no Vault behind it: it takes a connection and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_balancer_with_no_vault_behind_it_is_an_outage(actors: Actors) -> None:
    """Its twin, where a certificate was seen that is not trusted, is the next test."""
    with _balancer() as address:
        for act in (actors.operator(address=address), actors.pod(address=address), actors.publisher(address=address)):
            error = _raised(act)
            assert (type(error), error.reason) == (errors.VaultUnreachableError, "VaultUnreachable")


def test_vault_of_another_authority_is_untrusted(actors: Actors, tmp_path: Path) -> None:
    other = tmp_path / "other-ca.pem"
    other.write_text(Authority.make("some other authority").pem)
    for act in (actors.operator(ca_file=other), actors.pod(ca_file=str(other)), actors.publisher(ca_file=str(other))):
        error = _raised(act)
        assert (type(error), error.reason) == (errors.VaultUntrustedError, "VaultUntrusted")
    actors.operator()()


def test_authorities_of_the_environment_are_not_trusted(
    actors: Actors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a base image or a proxy set-up puts into the environment opens nothing."""
    other = tmp_path / "other-ca.pem"
    other.write_text(Authority.make("some other authority").pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(actors.world.bao.ca_file))
    monkeypatch.setenv("SSL_CERT_FILE", str(actors.world.bao.ca_file))
    assert _raised(actors.operator(ca_file=other)).reason == "VaultUntrusted"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("VAULT_TOKEN", "nonsense")
    actors.operator()()


def test_withdrawn_policy_is_forbidden_and_bootstrap_heals(actors: Actors) -> None:
    act = actors.operator()
    act()
    actors.world.bao.call("DELETE", "sys/policies/acl/pacs-operator")
    try:
        error = _raised(act)
        assert (type(error), error.reason) == (errors.VaultForbiddenError, "VaultForbidden")
        assert "deploy/vault/bootstrap" in error.action
    finally:
        assert actors.world.bootstrap().returncode == 0
    act()


def test_expired_kubernetes_token_has_its_own_reason(actors: Actors) -> None:
    """The twin differs in the token's end alone."""
    world = actors.world
    stale = world.token_file(OPERATOR.namespace, OPERATOR.service_account, life=-30)
    error = _raised(actors.operator(token_file=stale))
    assert (type(error), error.reason) == (errors.VaultTokenExpiredError, "VaultTokenExpired")
    assert "kubelet" in error.action
    error = _raised(actors.pod(life=-30))
    assert (type(error), error.reason) == (errors.VaultTokenExpiredError, "VaultTokenExpired")
    actors.operator(token_file=world.token_file(OPERATOR.namespace, OPERATOR.service_account, life=30))()
    actors.pod(life=30)()


def test_token_expires_while_the_login_lives_then_kubelet_renews(actors: Actors) -> None:
    """The file is read at each login: a renewed token heals without restart."""
    world = actors.world
    file = world.token_file(OPERATOR.namespace, OPERATOR.service_account)
    act = actors.operator(token_file=file)
    act()
    file.write_text(world.identity.token(OPERATOR.namespace, OPERATOR.service_account, AUDIENCE, life=-1))
    act()  # the login itself is still good
    world.revoke_logins()
    assert _raised(act).reason == "VaultTokenExpired"
    file.write_text(world.identity.token(OPERATOR.namespace, OPERATOR.service_account, AUDIENCE))
    act()


def test_unreachable_token_review_is_named_among_the_causes_and_heals(actors: Actors) -> None:
    """To whoever logs in, Vault says no more than "permission denied"."""
    world = actors.world
    dead = {"kubernetes_host": "https://127.0.0.1:1", "kubernetes_ca_cert": world.identity.authority.pem}
    act = actors.pod()
    world.bao.call("POST", f"auth/{AUTH_PATH}/config", dead)
    try:
        error = _raised(act)
        assert error.reason == "VaultForbidden"
        assert "TokenReview" in error.action
    finally:
        assert world.bootstrap().returncode == 0
    act()


def test_expired_vault_login_is_replaced_without_an_error(actors: Actors) -> None:
    act = actors.operator()
    act()
    actors.world.revoke_logins()
    before = actors.world.bao.audited_logins()
    act()
    assert actors.world.bao.audited_logins() == before + 1


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"auth_path": "nowhere"}, errors.VaultForbiddenError, "refuses the login"),
        ({"role": "nobody"}, errors.VaultMisconfiguredError, "invalid role name"),
        ({"token_file": Path("/nowhere/token")}, errors.VaultMisconfiguredError, "cannot be read"),
        ({"address": "https://127.0.0.1:1"}, errors.VaultUnreachableError, "cannot be reached"),
        ({"address": "https://no-such-host.invalid:8200"}, errors.VaultUnreachableError, "cannot be reached"),
    ],
    ids=["auth path", "role", "token file", "port", "host"],
)
def test_wrong_settings_are_named(actors: Actors, changed: dict[str, Any], kind: type[VaultError], said: str) -> None:
    error = _raised(actors.operator(**changed))
    assert type(error) is kind
    assert said in error.message


def test_empty_and_broken_token_files(actors: Actors, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("")
    assert "is empty" in _raised(actors.operator(token_file=file)).message
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read" in _raised(actors.operator(token_file=file)).message
    file.write_text("not.a.token")
    assert _raised(actors.operator(token_file=file)).reason == "VaultForbidden"


def test_removed_authority_is_named_to_a_pod(actors: Actors) -> None:
    act = actors.pod()
    act()
    world = actors.world
    world.bao.call("DELETE", f"sys/mounts/pacs/{actors.lineage}/control")
    error = _raised(act)
    assert type(error) is errors.VaultMisconfiguredError
    assert "has nothing at" in error.message


def test_operators_client_takes_its_ca_from_memory(world: World, archive: str, lineage: str) -> None:
    settings = VaultSettings(
        address=world.bao.address,
        ca_pem=world.bao.authority.pem,
        auth_path=AUTH_PATH,
        audience=AUDIENCE,
        cidrs=("127.0.0.1/32",),
        port=world.bao.port,
    )
    cluster = ClusterSettings(OPERATOR.namespace, OPERATOR.service_account, {})
    token_file = world.token_file(OPERATOR.namespace, OPERATOR.service_account)
    assert connect(settings, cluster, token_file).ensure_archive(archive, lineage, AUDIENCE).created


def test_clock_decides_nothing_but_the_wording(actors: Actors) -> None:
    """A node whose clock is fast does not take a good token for an expired one."""
    client = actors.world.client(VaultSession(actors.world.login(), lambda: time.time() + 86400))
    assert not client.ensure_archive(actors.archive, actors.lineage, AUDIENCE)


def _raised(act: Callable[[], object]) -> VaultError:
    with pytest.raises(VaultError) as caught:
        act()
    error = caught.value
    assert error.retry
    assert error.action
    for secret in ("eyJ", "s.", "PRIVATE"):
        assert not any(word.startswith(secret) for word in str(error).split()), str(error)
    return error
