"""A node reboots while Vault is away: what each pod sealed on its disk, and who can start it by that."""

import asyncio
import base64
import contextlib
import io
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pacs_operator.agent.agent import Agent
from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError
from pacs_operator.agent.files import write_atomic
from pacs_operator.agent.offline import FILE, MARK
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import AgentConfig, OfflineRecipient, OfflineTold, StorageKeyring
from pacs_operator.domain.errors import VaultError
from pacs_operator.domain.names import Component, data_key
from pacs_operator.vault.errors import VaultFailedError, VaultForbiddenError, VaultMisconfiguredError, VaultSealedError
from pacs_operator.vault.pods import PodVault
from tests.agent.support import LINEAGE, LocalVault, RecordingNeighbour, eventually, gate_config
from tests.agent.test_with_vault import Pod, Provisioned, _make_sure_it_runs, provisioned  # noqa: F401  # fixture

UID = "0b5b1d0c-3c0a-4b8e-9a55-3f7d2f6f4f10"
RIGHT, WRONG = X25519PrivateKey.generate(), X25519PrivateKey.generate()


def public(key: X25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


class Node:
    """A pod's folders: memory that a reboot empties, a disk that it does not, and the Secret of a person's."""

    def __init__(self, surroundings: Surroundings, folder: Path) -> None:
        self.place = replace(
            surroundings, offline=folder / "disk", offline_key=folder / "secret", images=folder / "images"
        )
        for one in (self.place.offline, self.place.images):
            one.mkdir()
        self.file = self.place.offline / FILE

    def reboot(self) -> None:
        for one in (self.place.tls, self.place.run):
            shutil.rmtree(one)
            one.mkdir()

    def memory(self) -> dict[str, bytes]:
        """Return certificates, keys, lists and data keys; what is made from them is left out."""
        found = {path.name: path.read_bytes() for path in self.place.tls.iterdir() if path.is_file()}
        return found | ({"ring": self.place.ring.read_bytes()} if self.place.ring.exists() else {})

    def bring(self, key: X25519PrivateKey = RIGHT, hours: float = 2, instead: dict[str, str] | None = None) -> None:
        """Do what the kubelet does with a person's Secret."""
        self.take_away()
        self.place.offline_key.mkdir()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        end = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, text in ({"notAfter": end, "private.pem": pem} | (instead or {})).items():
            (self.place.offline_key / name).write_text(text)

    def take_away(self) -> None:
        shutil.rmtree(self.place.offline_key, ignore_errors=True)


@pytest.fixture
def node(surroundings: Surroundings, tmp_path: Path) -> Node:
    return Node(surroundings, tmp_path)


class LaterClock(SystemClock):
    """The machine's, so much ahead; waits are short, since there is nothing to spare here."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        super().__init__()
        self._ahead = ahead

    def now(self) -> datetime:
        return super().now() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.1))


@contextlib.asynccontextmanager
async def running(
    node: Node, config: AgentConfig, vault: Any, uid: str = UID, ahead: timedelta = timedelta()
) -> AsyncIterator[Agent]:
    context = Context(config, node.place, vault, LaterClock(ahead), data_keys=vault, pod_uid=uid)
    agent = Agent(context, RecordingNeighbour())
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def told(agent: Agent) -> OfflineTold:
    found = (await agent.status()).offline
    assert found is not None
    return found


def says(agent: Agent, subject: str, reason: str) -> Callable[[], bool]:
    return lambda: agent._context.problems.standing().get(subject) == reason


def sealing(config: AgentConfig, archive: str) -> AgentConfig:
    keys = StorageKeyring(transit_key=data_key(archive), max_age_days=90)
    update: dict[str, Any] = {"offline": OfflineRecipient(recipient=public(RIGHT))}
    return config.model_copy(update=update | ({"storage": keys} if config.component is Component.ORTHANC else {}))


@pytest.mark.parametrize("component", [Component.GATE, Component.ORTHANC, Component.POSTGRES])
async def test_a_pod_of_each_zone_waits_without_the_secret_starts_with_it_and_goes_back_to_vault(
    component: Component,
    provisioned: Provisioned,  # noqa: F811
    node: Node,
) -> None:
    config = sealing(Pod(provisioned, component).config, provisioned.archive)
    try:
        async with running(node, config, PodVault(config.vault)) as agent:
            await eventually(node.file.exists, "what a start needs is sealed", seconds=120)
            before = node.memory()
            assert (await told(agent)).started is None
        assert len([name for name in before if name.endswith(".key")]) == len(config.leaves)
        assert ("ring" in before) is (component is Component.ORTHANC)
        assert _readable_on(node.place.offline, before) == []
        node.reboot()
        await asyncio.to_thread(provisioned.bao.stop)
        async with running(node, config, PodVault(config.vault)) as agent:
            first = f"trust/{config.trust[0].value}"
            await eventually(says(agent, first, "VaultUnreachable"), "it says that Vault is away", seconds=60)
            assert node.memory() == {} and not agent.started()
            node.bring()
            await eventually(agent.started, "a person let it start", seconds=60)
            assert node.memory() == before
            assert (await told(agent)).started is not None
            sealed = node.file.read_bytes()
            await asyncio.to_thread(provisioned.bao.start)
            await eventually(lambda: node.file.read_bytes() != sealed, "Vault renewed, that is sealed", seconds=120)
            after = node.memory()
            assert (await told(agent)).started is None
            left = agent._context.problems.standing().keys()  # no peers are mounted; wrapping waits for its next turn
            assert left <= {"peers", "storage/wrapping"}
            assert all(after[f"{one.name}.pem"] != before[f"{one.name}.pem"] for one in config.leaves)
            assert after.get("ring") == before.get("ring")
    finally:
        await asyncio.to_thread(_make_sure_it_runs, provisioned.bao)


def _readable_on(disk: Path, memory: dict[str, bytes]) -> list[bytes]:
    """Return the parts of private keys and data keys that can be read on the disk, plain or in base64."""
    secrets = [line for data in memory.values() if b"PRIVATE" in data for line in data.splitlines() if len(line) > 40]
    secrets += [line.split()[-1] for line in memory.get("ring", b"").splitlines() if line.startswith(b"key ")]
    assert secrets
    found = b"".join(path.read_bytes() for path in disk.rglob("*") if path.is_file())
    decoded = base64.b64decode(json.loads(found)["ciphertext"])
    return [secret for secret in secrets if secret in found or secret in decoded]


async def test_a_vault_that_says_no_is_no_outage(provisioned: Provisioned, node: Node) -> None:  # noqa: F811
    """The operator may have taken the pod's role away; a person with the key does not overrule that."""
    pod = Pod(provisioned, Component.POSTGRES)
    config = sealing(pod.config, provisioned.archive)
    async with running(node, config, PodVault(config.vault)):
        await eventually(node.file.exists, "what a start needs is sealed", seconds=60)
    node.reboot()
    node.bring()
    pod.token_file.write_text(provisioned.world.identity.token("elsewhere", "thief"))
    try:
        async with running(node, config, PodVault(config.vault)) as agent:
            await eventually(says(agent, "offline", "OfflineVaultAnswers"), "a no stays a no", seconds=60)
            assert agent._context.problems.standing()["leaf/postgres-server"] == "VaultForbidden"
            assert not agent.started() and not any(name.endswith(".key") for name in node.memory())
            await asyncio.to_thread(provisioned.bao.seal)
            await eventually(agent.started, "the twin: sealed is an outage", seconds=60)
    finally:
        await asyncio.to_thread(_make_sure_it_runs, provisioned.bao)


# The rest needs no real Vault: what is asked is who may open what, and when.

CONFIG = gate_config(offline=OfflineRecipient(recipient=public(RIGHT)))


def away() -> VaultError:
    return VaultSealedError("sealed", action="unseal")


def _vault(failing: VaultError | None = None) -> LocalVault:
    vault = LocalVault(lambda: datetime.now(UTC) - timedelta(seconds=30))
    vault.failing = failing
    return vault


async def _sealed(node: Node, vault: LocalVault) -> Node:
    async with running(node, CONFIG, vault):
        await eventually(node.file.exists, "what a start needs is sealed")
    node.reboot()
    return node


@pytest.fixture
async def rebooted(node: Node) -> Node:
    """Return a node whose pod sealed its file, and which came up again."""
    return await _sealed(node, _vault())


def _tampered(node: Node) -> None:
    node.bring()
    document = json.loads(node.file.read_text())
    text = document["ciphertext"]
    document["ciphertext"] = text[:100] + ("A" if text[100] != "A" else "B") + text[101:]
    node.file.write_text(json.dumps(document))


def _later(node: Node) -> None:
    node.bring()
    document = json.loads(node.file.read_text())
    node.file.write_text(json.dumps(document | {"sealed": "2030-01-01T00:00:00Z"}))


def _not_ours(node: Node) -> None:
    node.bring()
    node.file.write_text("{}")


def _no_file(node: Node) -> None:
    node.bring()
    node.file.unlink()


REFUSALS: dict[str, tuple[str, Callable[[Node], None]]] = {
    "wrong private half": ("OfflineKeyWrong", lambda node: node.bring(WRONG)),
    "time over": ("OfflineKeyExpired", lambda node: node.bring(hours=-0.01)),
    "73 hours": ("OfflineKeyTooLong", lambda node: node.bring(hours=73)),
    "no time": ("OfflineKeyInvalid", lambda node: node.bring(instead={"notAfter": "tomorrow"})),
    "no such day": ("OfflineKeyInvalid", lambda node: node.bring(instead={"notAfter": "2026-02-31T00:00:00Z"})),
    "no key": ("OfflineKeyInvalid", lambda node: node.bring(instead={"private.pem": "none"})),
    "no file": ("OfflineFileMissing", _no_file),
    "altered": ("OfflineFileAltered", _tampered),
    "another time": ("OfflineFileAltered", _later),
    "not ours": ("OfflineFileAltered", _not_ours),
}


@pytest.mark.parametrize(("reason", "spoil"), REFUSALS.values(), ids=list(REFUSALS))
async def test_it_goes_on_waiting_and_says_why(
    reason: str, spoil: Callable[[Node], None], rebooted: Node, log: io.StringIO
) -> None:
    good = rebooted.file.read_bytes()
    spoil(rebooted)
    async with running(rebooted, CONFIG, _vault(away())) as agent:
        await eventually(says(agent, "offline", reason), f"it says {reason}")
        assert not agent.started() and rebooted.memory() == {}
        rebooted.file.write_bytes(good)  # the twin: nothing else differs
        rebooted.bring()
        await eventually(agent.started, "with what is right it starts")
        assert (await told(agent)).started is not None
    assert '"StartedOffline"' in log.getvalue() and "PRIVATE" not in log.getvalue()


@pytest.mark.parametrize("rewritten", [False, True])
async def test_another_pods_file(rewritten: bool, rebooted: Node) -> None:
    if rewritten:  # somebody wrote this pod's uid over the other one's
        document = json.loads(rebooted.file.read_text())
        document["pod"]["uid"] = "another"
        rebooted.file.write_text(json.dumps(document))
    rebooted.bring()
    async with running(rebooted, CONFIG, _vault(away()), uid="another") as agent:
        reason = "OfflineFileAltered" if rewritten else "OfflineFileForeign"
        await eventually(says(agent, "offline", reason), f"it says {reason}")
        assert not agent.started() and rebooted.memory() == {}


@pytest.mark.parametrize(("days", "starts"), [(8, False), (6, True)])
async def test_what_ended_meanwhile_starts_nothing(days: int, starts: bool, rebooted: Node) -> None:
    rebooted.bring(hours=days * 24 + 2)
    async with running(rebooted, CONFIG, _vault(away()), ahead=timedelta(days=days)) as agent:
        if starts:
            await eventually(agent.started, "certificates of seven days have a day left")
            return
        await eventually(says(agent, "offline", "OfflineLeafExpired"), "certificates have ended")
        assert not agent.started() and rebooted.memory() == {}


@pytest.mark.parametrize(
    ("failing", "starts"),
    [
        (VaultFailedError("no active node", action="look"), True),
        (VaultForbiddenError("no", action="ask"), False),
        (VaultMisconfiguredError("no such role", action="ask"), False),
    ],
)
async def test_only_silence_is_an_outage(failing: VaultError, starts: bool, rebooted: Node) -> None:
    rebooted.bring()
    async with running(rebooted, CONFIG, _vault(failing)) as agent:
        if starts:
            await eventually(agent.started, "it starts")
            return
        await eventually(says(agent, "offline", "OfflineVaultAnswers"), "it does not")
        assert not agent.started() and rebooted.memory() == {}


async def test_what_vault_gave_in_this_start_is_not_replaced_by_older(node: Node) -> None:
    """Vault goes away in the middle: the newer revocation list that it gave stays."""
    ca, vault = CONFIG.trust[0], _vault()
    await _sealed(node, vault)
    node.bring()
    node.place.root(ca).write_text(vault.ca_pem(LINEAGE, ca))
    node.place.crl(ca).write_text(newer := vault.crl_pem(LINEAGE, ca))
    vault.failing = away()
    async with running(node, CONFIG, vault) as agent:
        await eventually(agent.started, "it starts")
        assert node.place.crl(ca).read_text() == newer


async def test_a_container_that_restarts_in_the_same_outage_remembers(rebooted: Node) -> None:
    """Without the mark it would be taken for one that lives on what Vault gave."""
    vault, sealed = _vault(away()), rebooted.file.read_bytes()
    rebooted.bring()
    async with running(rebooted, CONFIG, vault) as agent:
        await eventually(agent.started, "it starts")
        first = await told(agent)
    rebooted.take_away()
    before = rebooted.memory()
    async with running(rebooted, CONFIG, vault) as agent:
        await eventually(agent.started, "all is in memory")
        attempts = vault.attempts
        await eventually(lambda: vault.attempts > attempts + 4, "it goes on asking Vault")
        assert await told(agent) == first and first.started is not None
        assert rebooted.file.read_bytes() == sealed, "what is old is not sealed as if it were new"
        vault.failing = None
        await eventually(lambda: rebooted.file.read_bytes() != sealed, "Vault renewed, that is sealed")
        assert (await told(agent)).started is None and not (rebooted.place.run / MARK).exists()
        after = rebooted.memory()
        assert all(after[f"{one.name}.pem"] != before[f"{one.name}.pem"] for one in CONFIG.leaves)
    signed = len(vault.signed)
    async with running(rebooted, CONFIG, vault) as agent:  # the twin: a start that Vault is behind is none to remember
        await eventually(agent.started, "all is in memory")
        await eventually(lambda: "offline" not in agent._context.problems.standing(), "it sealed")
        assert (await told(agent)).started is None and len(vault.signed) == signed


@pytest.mark.parametrize("at", ["the mark", "the first file", "the last file"])
async def test_ended_in_the_middle_of_restoring_it_remembers(
    at: str, rebooted: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [MARK, f"ca-{CONFIG.trust[0].value}.pem", f"{CONFIG.leaves[-1].name}.pem"]
    last = names[["the mark", "the first file", "the last file"].index(at)]

    def killed(path: Path, data: bytes, mode: int) -> None:
        write_atomic(path, data, mode)
        if path.name == last:
            raise KeyboardInterrupt

    vault = _vault(away())
    rebooted.bring()
    context = Context(CONFIG, rebooted.place, vault, LaterClock(), pod_uid=UID)
    killing = Agent(context, RecordingNeighbour())
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("pacs_operator.agent.offline.write_atomic", killed)
        killing._rescue(away())
    vault.failing = None  # and Vault is back before the next try
    async with running(rebooted, CONFIG, vault) as agent:
        await eventually(agent.started, "it starts")
        await eventually(lambda: not (rebooted.place.run / MARK).exists(), "all is renewed")
        assert sorted(vault.signed) == sorted(one.name for one in CONFIG.leaves)


async def test_a_pod_whose_uid_is_not_known_does_not_run(node: Node) -> None:
    with pytest.raises(AgentConfigError, match="uid is not in the environment"):
        Agent(Context(CONFIG, node.place, _vault(), LaterClock()), RecordingNeighbour())


async def test_a_disk_that_takes_nothing_is_reported_and_stops_nothing(node: Node) -> None:
    shutil.rmtree(node.place.offline)
    async with running(node, CONFIG, _vault()) as agent:
        await eventually(says(agent, "offline", "OfflineNotSealed"), "it says so")
        assert agent.started() and (await told(agent)).sealed is None
        node.place.offline.mkdir()
        await eventually(node.file.exists, "and writes it when it can")
        await eventually(lambda: "offline" not in agent._context.problems.standing(), "nothing is wrong any more")
