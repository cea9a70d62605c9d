"""Certificates in ``/tls`` over months of moved time."""

import asyncio
import contextlib
import io
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError, KeysNotInMemoryError
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import Leaf
from pacs_operator.domain.names import CaName
from pacs_operator.vault.errors import VaultSealedError, VaultUnreachableError
from tests.agent.support import DAY, WEEK, FakeClock, LocalVault, gate_config, leaf

LEAVES = ["server-ec", "orthanc-client", "control"]
HOUR = 3600
SEALED = VaultSealedError("Vault is sealed", action="unseal it")


class Pod:
    """One agent's keeper and what it told its neighbour."""

    def __init__(self, surroundings: Surroundings, clock: FakeClock, vault: LocalVault, **config: object) -> None:
        self.context = Context(gate_config(**config), surroundings, vault, clock)
        self.changes: list[Changes] = []
        self.keeper = Keeper(self.context, self.changes.append)
        clock.busy = lambda: self.keeper.renewing > 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.keeper.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.keeper.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def vault(clock: FakeClock) -> LocalVault:
    return LocalVault(clock.now)


@pytest.fixture
def pod(surroundings: Surroundings, clock: FakeClock, vault: LocalVault) -> Pod:
    return Pod(surroundings, clock, vault)


def short_lived(seconds: int) -> list[Leaf]:
    """Return the usual leaves with another life."""
    return [one.model_copy(update={"ttl_seconds": seconds}) for one in gate_config().leaves]


def serials(surroundings: Surroundings) -> dict[str, int]:
    return {
        name: x509.load_pem_x509_certificate(surroundings.chain(name).read_bytes()).serial_number for name in LEAVES
    }


async def test_all_files_with_their_modes(pod: Pod, surroundings: Surroundings) -> None:
    await pod.keeper.obtain_all()
    expected = {f"{name}.{end}" for name in LEAVES for end in ("crt", "key", "pem")}
    expected |= {f"{kind}-{ca.value}.pem" for kind in ("ca", "crl") for ca in CaName}
    assert {path.name for path in surroundings.tls.iterdir()} == expected
    for name in LEAVES:
        for path in (surroundings.key(name), surroundings.bundle(name)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = serialization.load_pem_private_key(surroundings.key(name).read_bytes(), None)
        chain = x509.load_pem_x509_certificates(surroundings.chain(name).read_bytes())
        assert chain[0].public_key() == key.public_key()
        assert surroundings.bundle(name).read_bytes() == (
            surroundings.key(name).read_bytes() + surroundings.chain(name).read_bytes()
        )


async def test_key_types(surroundings: Surroundings, clock: FakeClock, vault: LocalVault) -> None:
    leaves = [leaf("one", CaName.PEERS, "a.example"), leaf("two", CaName.PEERS, "a.example", key_type="RSA")]
    pod = Pod(surroundings, clock, vault, leaves=leaves, control_leaf=None)
    await pod.keeper.obtain_all()
    one, two = (pod.keeper.leaves[name].credential for name in ("one", "two"))
    assert one and two
    assert isinstance(one.key, ec.EllipticCurvePrivateKey) and one.key.curve.name == "secp256r1"
    assert isinstance(two.key, rsa.RSAPrivateKey) and two.key.key_size == 3072


async def test_a_folder_on_disk_is_refused_before_any_key_is_made(
    pod: Pod, tmp_path: Path, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    on_disk = tmp_path / "disk"
    on_disk.mkdir()
    bad = Pod(Surroundings(tls=on_disk, run=surroundings.run), clock, vault)
    with pytest.raises(KeysNotInMemoryError) as refused:
        await bad.keeper.obtain_all()
    assert refused.value.reason == "KeysNotInMemory" and "medium Memory" in refused.value.action
    assert list(on_disk.iterdir()) == [] and vault.attempts == 0
    await pod.keeper.obtain_all()  # the twin: the same on tmpfs


async def test_renewed_at_two_thirds_with_a_new_key_and_only_then(
    pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    before, key_before = serials(surroundings), surroundings.key("server-ec").read_bytes()
    async with pod.running():
        await clock.advance(WEEK * 2 / 3 - 120)
        assert serials(surroundings) == before
        await clock.advance(240)
        after = serials(surroundings)
    assert all(after[name] != before[name] for name in LEAVES)
    assert surroundings.key("server-ec").read_bytes() != key_before
    assert len(vault.signed) == 2 * len(LEAVES)
    assert {name for change in pod.changes for name in change.leaves} == set(LEAVES)


async def test_a_quarter_of_a_year_costs_no_more_certificates_than_it_must(
    pod: Pod, clock: FakeClock, vault: LocalVault, surroundings: Surroundings
) -> None:
    await pod.keeper.obtain_all()
    async with pod.running():
        await clock.advance(28 * DAY)
    renewals = 28 * DAY // (WEEK * 2 / 3)
    assert renewals * len(LEAVES) <= len(vault.signed) <= (renewals + 2) * len(LEAVES)


async def test_vault_sealed_for_longer_than_a_life_keeps_files_reports_and_recovers(
    surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    for authority in vault.authorities.values():
        authority.crl_life = timedelta(hours=6)
    pod = Pod(surroundings, clock, vault, leaves=short_lived(6 * HOUR))
    await pod.keeper.obtain_all()
    before = serials(surroundings)
    async with pod.running():
        vault.failing = SEALED
        await clock.advance(5 * HOUR)
        pod.keeper.look_at_ages()
        standing = pod.context.problems.standing()
        assert standing["leaf/server-ec"] == "VaultSealed" and standing["trust/peers"] == "VaultSealed"
        assert standing["age/crl/peers"] == "CrlPastHalfLife" and "age/leaf/server-ec" not in standing
        assert serials(surroundings) == before
        await clock.advance(2 * HOUR)
        pod.keeper.look_at_ages()
        assert pod.context.problems.standing()["age/leaf/server-ec"] == "LeafExpired"
        assert pod.context.problems.standing()["age/crl/peers"] == "CrlExpired"
        assert serials(surroundings) == before  # still there to be served
        vault.failing = None
        await clock.advance(61)  # no wait between two tries is longer than a minute
        pod.keeper.look_at_ages()
        assert pod.context.problems.standing() == {}
        assert all(serials(surroundings)[name] != before[name] for name in LEAVES)


async def test_retries_back_off(pod: Pod, clock: FakeClock, vault: LocalVault) -> None:
    await pod.keeper.obtain_all()
    async with pod.running():
        vault.failing = VaultUnreachableError("nobody there", action="start it")
        await clock.advance(DAY)
        attempts = vault.attempts
        await clock.advance(DAY)
    per_item = (vault.attempts - attempts) / 3  # three authorities retry; no leaf is due yet
    assert DAY / 60 <= per_item <= DAY / 30 + 1


async def test_a_restarted_agent_issues_no_second_certificate(
    pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    before, signed = serials(surroundings), len(vault.signed)
    vault.failing = SEALED  # and needs no Vault to come back
    again = Pod(surroundings, clock, vault)
    await again.keeper.obtain_all()
    assert serials(surroundings) == before and len(vault.signed) == signed


async def test_a_writer_killed_between_two_files_is_repaired(
    pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    bundle = surroundings.bundle("server-ec").read_bytes()
    old_key = surroundings.key("control").read_bytes()
    surroundings.key("server-ec").write_bytes(old_key)
    (surroundings.tls / ".server-ec.key.deadbeef").write_bytes(b"half")
    signed = len(vault.signed)
    await Pod(surroundings, clock, vault).keeper.obtain_all()
    assert surroundings.key("server-ec").read_bytes() + surroundings.chain("server-ec").read_bytes() == bundle
    assert len(vault.signed) == signed
    assert not (surroundings.tls / ".server-ec.key.deadbeef").exists()


@pytest.mark.parametrize("spoil", ["names", "root", "garbage", "key-type"])
async def test_what_lies_there_is_not_used_when_it_is_not_right(
    spoil: str, pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    before = serials(surroundings)["orthanc-client"]
    config: dict[str, object] = {}
    if spoil == "names":
        changed = leaf("orthanc-client", CaName.INTERNAL, "gate.other-edge.svc")
        config["leaves"] = [changed, *(one for one in gate_config().leaves if one.name != "orthanc-client")]
    elif spoil == "key-type":
        changed = leaf("orthanc-client", CaName.INTERNAL, "gate.rad-edge.svc", key_type="RSA")
        config["leaves"] = [changed, *(one for one in gate_config().leaves if one.name != "orthanc-client")]
    elif spoil == "root":
        vault.authorities[CaName.INTERNAL] = LocalVault(clock.now).authorities[CaName.INTERNAL]
        surroundings.root(CaName.INTERNAL).unlink()
    else:
        surroundings.bundle("orthanc-client").write_bytes(b"-----BEGIN NOTHING-----\n")
    await Pod(surroundings, clock, vault, **config).keeper.obtain_all()
    assert serials(surroundings)["orthanc-client"] != before


async def test_a_restart_with_expired_leaves_does_not_wait_for_a_sealed_vault(
    pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    before = serials(surroundings)
    vault.failing = SEALED
    await clock.advance(WEEK + 1)
    again = Pod(surroundings, clock, vault)
    await again.keeper.obtain_all()
    again.keeper.look_at_ages()
    assert again.context.problems.standing()["age/leaf/server-ec"] == "LeafExpired"
    async with again.running():
        vault.failing = None
        await clock.advance(1)
        assert all(serials(surroundings)[name] != before[name] for name in LEAVES)


NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("answer", ["", "garbage", NO_CERTIFICATE, "ü"])
async def test_senseless_answers_do_not_end_the_agent(
    answer: str, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    pod = Pod(surroundings, clock, vault, leaves=short_lived(HOUR))
    await pod.keeper.obtain_all()
    before = {path.name: path.read_bytes() for path in surroundings.tls.iterdir()}
    async with pod.running():
        vault.sign = lambda leaf, lineage_id, csr_pem: answer
        vault.ca_pem = lambda lineage_id, ca: answer
        await clock.advance(HOUR + 60)
        standing = pod.context.problems.standing()
        assert set(standing.values()) == {"CertificateMismatch"}
        assert {"leaf/server-ec", "trust/peers"} <= set(standing)
        assert {path.name: path.read_bytes() for path in surroundings.tls.iterdir()} == before


async def test_vaults_answer_for_other_names_is_not_used(
    pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    before = serials(surroundings)
    async with pod.running():
        vault.names = ["gate.rad-edge.svc", "evil.example"]
        await clock.advance(WEEK * 2 / 3 + 600)
        assert pod.context.problems.standing()["leaf/server-ec"] == "CertificateMismatch"
        assert serials(surroundings) == before
        vault.names = None
        await clock.advance(61)
        assert serials(surroundings)["server-ec"] != before["server-ec"]


async def test_a_life_that_vault_cut_short_is_followed(pod: Pod, clock: FakeClock, vault: LocalVault) -> None:
    vault.life = timedelta(hours=1)
    await pod.keeper.obtain_all()
    async with pod.running():
        await clock.advance(2400 + 60)
    assert vault.signed.count("control") == 2


async def test_revocations_arrive_within_the_hour_and_older_lists_are_not_taken(
    pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    stale = vault.authorities[CaName.PEERS].crl()
    async with pod.running():
        vault.authorities[CaName.PEERS].revoked.append(4711)
        await clock.advance(3600)
        crl = x509.load_pem_x509_crl(surroundings.crl(CaName.PEERS).read_bytes())
        assert crl.get_revoked_certificate_by_serial_number(4711) is not None
        assert any(CaName.PEERS in change.crls for change in pod.changes)
        vault.authorities[CaName.PEERS].crl = lambda: stale
        await clock.advance(3600)
        assert pod.context.problems.standing()["trust/peers"] == "CertificateMismatch"
        crl = x509.load_pem_x509_crl(surroundings.crl(CaName.PEERS).read_bytes())
        assert crl.get_revoked_certificate_by_serial_number(4711) is not None


async def test_a_list_signed_by_somebody_else_is_not_taken(
    pod: Pod, surroundings: Surroundings, clock: FakeClock, vault: LocalVault
) -> None:
    await pod.keeper.obtain_all()
    good = surroundings.crl(CaName.PEERS).read_bytes()
    async with pod.running():
        vault.authorities[CaName.PEERS].crl = vault.authorities[CaName.CONTROL].crl
        await clock.advance(3700)
        assert pod.context.problems.standing() == {"trust/peers": "CertificateMismatch"}
    assert surroundings.crl(CaName.PEERS).read_bytes() == good


async def test_a_full_volume_is_a_problem_with_a_name(
    surroundings: Surroundings, clock: FakeClock, vault: LocalVault, memory: Path
) -> None:
    pod = Pod(surroundings, clock, vault, leaves=short_lived(HOUR))
    await pod.keeper.obtain_all()
    before = serials(surroundings)
    filler = memory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)
    async with pod.running():
        await clock.advance(HOUR * 2 / 3 + 60)
        assert pod.context.problems.standing()["leaf/server-ec"] == "TlsNotWritable"
        assert serials(surroundings) == before
        filler.unlink()
        await clock.advance(61)
        assert serials(surroundings)["server-ec"] != before["server-ec"]


def test_a_leaf_whose_authority_is_not_trusted_is_refused(surroundings: Surroundings, vault: LocalVault) -> None:
    with pytest.raises(AgentConfigError, match="server-ec is signed by peers, which is not in trust"):
        Pod(surroundings, FakeClock(), vault, trust=[CaName.INTERNAL, CaName.CONTROL])


async def test_no_key_in_the_log(pod: Pod, surroundings: Surroundings, clock: FakeClock, log: io.StringIO) -> None:
    await pod.keeper.obtain_all()
    async with pod.running():
        await clock.advance(2 * WEEK)
    text = log.getvalue()
    assert "CertificateObtained" in text
    for name in LEAVES:
        for line in surroundings.bundle(name).read_text().splitlines():
            assert line not in text
