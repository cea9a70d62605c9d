"""The administrator's shred on a real server: one lineage's key goes, nothing decrypts, everybody else's does."""

import subprocess
import uuid
from dataclasses import dataclass

import pytest

from pacs_operator.domain.errors import VaultError
from pacs_operator.domain.names import Component, data_key, data_mount
from pacs_operator.vault.errors import VaultMisconfiguredError
from tests.vault.world import AUDIENCE, DEPLOY, World, run

SHRED = DEPLOY / "shred"


@dataclass
class Sealed:
    """An archive with a data key that its pod wrapped."""

    world: World
    archive: str
    lineage: str
    wrapped: str = ""

    def __post_init__(self) -> None:
        self.world.client().ensure_archive(self.archive, self.lineage, AUDIENCE)
        pod = self.world.pod(self.archive, Component.ORTHANC)
        self.wrapped = pod.make_data_key(self.lineage, data_key(self.archive), "1").wrapped

    def opens(self) -> bool:
        """Tell whether the pod's wrapped data key still opens."""
        pod = self.world.pod(self.archive, Component.ORTHANC)
        try:
            return len(pod.unwrap_data_key(self.lineage, data_key(self.archive), "1", self.wrapped)) == 32
        except VaultError:
            return False

    def gone(self) -> bool:
        """Ask as the operator, with its own token."""
        return self.world.client().data_key_gone(self.archive, self.lineage)

    def shred(self, **changed: str) -> subprocess.CompletedProcess[str]:
        options = {"archive": self.archive, "lineage": self.lineage, "confirm": self.archive} | changed
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        return run(SHRED, *arguments, environment=self.world.bao.environment())


@pytest.fixture
def sealed(world: World) -> Sealed:
    return Sealed(world, "shredme", uuid.uuid4().hex)


@pytest.fixture
def twin(world: World) -> Sealed:
    """The same archive's name under another lineage."""
    return Sealed(world, "shredme", uuid.uuid4().hex)


def left_over(world: World) -> list[str]:
    policies = world.bao.call("GET", "sys/policies/acl?list=true")["data"]["keys"]
    return [name for name in policies if name.startswith("pacs-shredder")]


def test_one_lineage_is_shredded_and_the_twin_is_not(sealed: Sealed, twin: Sealed) -> None:
    assert sealed.opens() and twin.opens()
    assert not sealed.gone()
    done = sealed.shred()
    assert done.returncode == 0, done.stderr
    assert "proven: what the key encrypted decrypts no more (encryption key not found)" in done.stdout
    assert not sealed.opens()
    assert sealed.gone()
    assert twin.opens()
    assert not twin.gone()
    assert left_over(sealed.world) == []
    keys = sealed.world.bao.try_call("GET", f"{data_mount(sealed.lineage)}/keys?list=true")
    assert keys.status_code == 404, "the proof's own key went as well"


def test_a_second_run_proves_it_again(sealed: Sealed) -> None:
    assert sealed.shred().returncode == 0
    again = sealed.shred()
    assert again.returncode == 0, again.stderr
    assert "the key is gone already" in again.stdout
    assert "proven" in again.stdout


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"confirm": "another"}, "--confirm 'another' is not the archive's name"),
        ({"lineage": "0" * 31}, "is no lineage"),
        ({"lineage": "0" * 32}, "this server has no mount"),
        ({"lineage": "+"}, "is no lineage"),
        ({"archive": "Shred me"}, "is no archive's name"),
        ({"archive": "*", "confirm": "*"}, "is no archive's name"),
        ({"force": "yes"}, "unknown option --force"),
    ],
)
def test_bad_input_destroys_nothing(sealed: Sealed, changed: dict[str, str], words: str) -> None:
    done = sealed.shred(**changed)
    assert done.returncode == 2
    assert words in done.stderr
    assert sealed.opens()


def test_a_login_without_the_right_destroys_nothing(sealed: Sealed) -> None:
    arguments = ["--archive", sealed.archive, "--lineage", sealed.lineage, "--confirm", sealed.archive]
    token = sealed.world.operator_token()
    done = run(SHRED, *arguments, environment=sealed.world.bao.environment(token))
    assert done.returncode != 0
    assert sealed.opens()


def test_the_shredders_token_touches_no_other_lineage(sealed: Sealed, twin: Sealed) -> None:
    bao = sealed.world.bao
    text = (DEPLOY / "policies" / "pacs-shredder.hcl").read_text()
    text = text.replace("@LINEAGE@", sealed.lineage).replace("@KEY@", data_key(sealed.archive))
    name = f"pacs-shredder-{sealed.lineage}"
    bao.call("PUT", f"sys/policies/acl/{name}", {"policy": text})
    try:
        data = {"policies": [name], "no_default_policy": True, "ttl": "5m"}
        token = bao.call("POST", "auth/token/create", data)["auth"]["client_token"]
        allow = {"deletion_allowed": True}
        theirs, ours = (f"{data_mount(one.lineage)}/keys/{data_key(one.archive)}" for one in (twin, sealed))
        assert bao.try_call("POST", f"{theirs}/config", allow, token).status_code == 403
        assert bao.try_call("DELETE", theirs, None, token).status_code == 403
        assert bao.try_call("POST", f"{ours}/config", {"exportable": True}, token).status_code == 403
        assert bao.try_call("POST", f"{ours}/config", allow, token).status_code in (200, 204)
        assert bao.try_call("DELETE", ours, None, token).status_code == 204
    finally:
        bao.call("DELETE", f"sys/policies/acl/{name}")


def test_another_vault_is_no_proof(world: World) -> None:
    with pytest.raises(VaultMisconfiguredError, match="cannot tell whether the key was destroyed"):
        world.client().data_key_gone("shredme", uuid.uuid4().hex)
