"""The agent beside Orthanc: no start without data keys, and no word of a test that did not happen."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pacs_operator.agent import storagekeys
from pacs_operator.agent.agent import Agent
from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.storagefeed import KEEP_AGAIN, KEYS, ROOM, StorageFeed
from pacs_operator.domain.agentconfig import AgentConfig, StorageKeyring
from pacs_operator.domain.names import CaName, Component
from tests.agent.support import LINEAGE, FakeClock, LocalVault, RecordingNeighbour, eventually, gate_config, leaf
from tests.agent.test_storagekeys import MemoryVault

NAME = "orthanc.rad-archive.svc"
WANTED = StorageKeyring(transit_key="rad-archive.orthanc", max_age_days=90)


def config() -> AgentConfig:
    return gate_config(
        component=Component.ORTHANC,
        leaves=[leaf("control", CaName.CONTROL, NAME)],
        trust=[CaName.CONTROL],
        storage=WANTED,
    )


@pytest.fixture
def place(surroundings: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    monkeypatch.setattr(storagekeys, "require_memory", lambda folder: None)
    images = tmp_path / "images"
    images.mkdir()
    surroundings.run.mkdir(parents=True, exist_ok=True)
    return Surroundings(
        tls=surroundings.tls, run=surroundings.run, config=surroundings.config, peers=surroundings.peers,
        images=images, health_port=0, control_port=0,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def running(place: Surroundings, vault: MemoryVault) -> AsyncIterator[Agent]:
    signer = LocalVault(lambda: datetime.now(UTC) - timedelta(seconds=30))
    agent = Agent(Context(config(), place, signer, SystemClock(), data_keys=vault), RecordingNeighbour())
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_keys_are_there_before_the_neighbour_starts(place: Surroundings) -> None:
    vault = MemoryVault()
    async with running(place, vault) as agent:
        await eventually(agent.started, "the agent started")
        assert place.ring.read_text().startswith(f"pacs-keys 1\nlineage {LINEAGE}\nactive 1\n")
        assert json.loads((place.storage_keys / "1.json").read_text())["transitKey"] == "rad-archive.orthanc"
        told = (await agent.status()).storage
        assert told is not None and (told.active_key, told.keys) == (1, 1)
        assert told.verified is None, "nobody has tested it yet"


async def test_without_vault_it_waits_says_so_and_starts_when_vault_is_back(place: Surroundings) -> None:
    vault = MemoryVault()
    vault.down = True
    async with running(place, vault) as agent:
        standing = agent._context.problems.standing
        await eventually(lambda: standing().get(KEYS) == "VaultUnreachable", "it says what is in the way")
        assert not agent.started() and not place.ring.exists()
        vault.down = False
        await eventually(agent.started, "the agent started")
        assert KEYS not in standing()


async def test_lost_keys_keep_it_from_starting(place: Surroundings) -> None:
    (place.sealed / "id" / "ab").mkdir(parents=True)
    (place.sealed / "id" / "ab" / "object").write_bytes(b"PACE")
    vault = MemoryVault()
    async with running(place, vault) as agent:
        standing = agent._context.problems.standing
        await eventually(lambda: standing().get(KEYS) == "StorageKeysLost", "it says what is in the way")
        assert not agent.started() and vault.made == []


@pytest.mark.parametrize("fault", ["lost", "damaged", "unread"])
async def test_an_agent_that_restarts_alone_takes_no_image_away_for_what_is_wrong_on_the_volume(
    place: Surroundings, fault: str
) -> None:
    """The list that Orthanc has is whole; its twin without one is `test_lost_keys_keep_it_from_starting`."""
    vault = MemoryVault()
    async with running(place, vault) as agent:
        await eventually(agent.started, "the agent started")
    before = place.ring.read_bytes()
    (place.sealed / "id" / "ab").mkdir(parents=True)
    (place.sealed / "id" / "ab" / "object").write_bytes(b"PACE")
    first = place.storage_keys / "1.json"
    if fault == "unread":  # made by an agent that ended before it could hand it over; and Vault is away
        (place.storage_keys / "2.json").write_text(
            first.read_text().replace('"id": 1', '"id": 2').replace(f"{LINEAGE}/1", f"{LINEAGE}/2")
        )
        vault.down = True
    else:
        content = first.read_bytes()
        first.unlink() if fault == "lost" else first.write_bytes(b"{}")
    reason = {"lost": "StorageKeysLost", "damaged": "StorageKeysInvalid", "unread": "VaultUnreachable"}[fault]
    async with running(place, vault) as agent:
        await eventually(agent.started, "the agent started")
        assert agent._context.problems.standing()[KEYS] == reason
        assert place.ring.read_bytes() == before and len(vault.made) == 1
        told = (await agent.status()).storage
        assert told is not None and told.active_key == 1
        if fault != "unread":
            first.write_bytes(content)
            assert agent._storage is not None and await agent._storage._keep()
            assert KEYS not in agent._context.problems.standing()


async def test_a_key_of_age_is_followed_by_the_next_while_it_runs(place: Surroundings) -> None:
    vault, clock = MemoryVault(), FakeClock()
    signer = LocalVault(clock.now)
    context = Context(config(), place, signer, clock, data_keys=vault)
    keeper = Keeper(context, lambda _: None)
    clock.busy = lambda: keeper.renewing > 0
    feed = StorageFeed(context, WANTED.model_copy(update={"max_age_days": 1}), keeper)
    await feed.obtain()
    task = asyncio.create_task(feed.run())
    await clock.advance(timedelta(days=1).total_seconds() - 1)
    assert len(vault.made) == 1
    await clock.advance(KEEP_AGAIN.total_seconds() + 1)
    task.cancel()
    assert feed.told is not None and (feed.told.active_key, feed.told.keys) == (2, 2)
    assert "active 2" in place.ring.read_text()


async def test_a_key_that_sealed_enough_is_followed_by_the_next_once(place: Surroundings) -> None:
    vault, clock = MemoryVault(), FakeClock()
    context = Context(config(), place, LocalVault(clock.now), clock, data_keys=vault)
    keeper = Keeper(context, lambda _: None)
    clock.busy = lambda: keeper.renewing > 0
    sealed: list[tuple[int, int] | None] = [None]
    wanted = WANTED.model_copy(update={"max_chunks": 2**21})
    feed = StorageFeed(context, wanted, keeper, lambda: sealed[0])
    await feed.obtain()
    task = asyncio.create_task(feed.run())
    sealed[0] = (1, 2**21 - 1)
    await clock.advance(KEEP_AGAIN.total_seconds() + 1)
    assert len(vault.made) == 1
    sealed[0] = (1, 2**21)
    await clock.advance(KEEP_AGAIN.total_seconds() + 1)
    await clock.advance(KEEP_AGAIN.total_seconds() + 1)
    task.cancel()
    assert feed.told is not None and (feed.told.active_key, feed.told.keys) == (2, 2)
    assert len(vault.made) == 2, "though what is told of the first stays the same"


async def test_a_list_that_is_full_is_told_and_keeps_nobody_from_starting(
    place: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, clock = MemoryVault(), FakeClock()
    context = Context(config(), place, LocalVault(clock.now), clock, data_keys=vault)
    keeper = Keeper(context, lambda _: None)
    clock.busy = lambda: keeper.renewing > 0
    chunks: list[tuple[int, int]] = [(1, 0)]
    feed = StorageFeed(context, WANTED.model_copy(update={"max_chunks": 2**21}), keeper, lambda: chunks[0])
    await feed.obtain()
    monkeypatch.setattr(storagekeys, "MAX_RING", 200)
    assert context.problems.standing() == {}
    chunks[0] = (1, 2**21)
    await feed.obtain()
    assert context.problems.standing() == {ROOM: "StorageKeysFull"}
    assert feed.told is not None and (feed.told.active_key, feed.told.keys) == (1, 1)
    monkeypatch.setattr(storagekeys, "MAX_RING", 2**20)
    await feed.obtain()
    assert context.problems.standing() == {} and feed.told.active_key == 2


def test_an_agent_without_a_vault_for_keys_is_a_mistake_of_ours(place: Surroundings) -> None:
    context = Context(config(), place, LocalVault(lambda: datetime.now(UTC)), SystemClock())
    with pytest.raises(AgentConfigError):
        StorageFeed(context, WANTED, Keeper(context, lambda _: None))
