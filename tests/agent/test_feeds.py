"""Peers and certificates on their way to the server beside the agent."""

import asyncio
import contextlib
import io
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from pacs_operator.agent import observer
from pacs_operator.agent.agent import Agent
from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import InvalidPeersError
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.peersfile import NOBODY, parse_peers
from pacs_operator.agent.x509tools import Served
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.names import CaName
from tests.agent.conftest import MountedConfigMap
from tests.agent.support import LocalVault, RecordingNeighbour, eventually, gate_config, peer, peers


def now() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=30)


@asynccontextmanager
async def running(surroundings: Surroundings, neighbour: RecordingNeighbour) -> AsyncIterator[Agent]:
    agent = Agent(Context(gate_config(), surroundings, LocalVault(now), SystemClock()), neighbour)
    task = asyncio.create_task(agent.run())
    try:
        await eventually(agent.started, "the agent started")
        yield agent
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def revision(agent: Agent) -> str | None:
    return (await agent.status()).peers_revision


def has_revision(agent: Agent, wanted: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return await revision(agent) == wanted

    return look


async def test_an_end_that_comes_together_with_an_answer_is_not_lost() -> None:
    """An agent that misses its SIGTERM is killed after its grace, two and a half minutes later."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    look = asyncio.create_task(observer._answer(answer, otherwise=False))
    await asyncio.sleep(0)
    answer.set_result(True)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look


async def test_a_swapped_configmap_takes_effect_within_a_second(
    surroundings: Surroundings, mounted_peers: MountedConfigMap
) -> None:
    neighbour = RecordingNeighbour()
    mounted_peers.put_peers(peers("r1", peer(1)))
    async with running(surroundings, neighbour) as agent:
        assert neighbour.prepared == [peers("r1", peer(1))]
        await eventually(has_revision(agent, "r1"), "the first list is live")
        seconds = []
        for number in range(2, 7):
            begun = time.monotonic()
            mounted_peers.put_peers(peers(f"r{number}", peer(1), peer(number)))
            await eventually(has_revision(agent, f"r{number}"), "the new list is live")
            seconds.append(time.monotonic() - begun)
            assert neighbour.peers[-1] == peers(f"r{number}", peer(1), peer(number))
        assert statistics.median(seconds) < 1


async def test_an_invalid_list_changes_nothing_and_is_reported(
    surroundings: Surroundings, mounted_peers: MountedConfigMap
) -> None:
    neighbour = RecordingNeighbour()
    mounted_peers.put_peers(peers("r1", peer(1)))
    async with running(surroundings, neighbour) as agent:
        await eventually(has_revision(agent, "r1"), "the first list is live")
        mounted_peers.put(b'{"revision": "r2", "peers": [{"id": "x"}]}')

        async def refused() -> bool:
            return "InvalidPeers" in (await agent.status()).problems.values()

        await eventually(refused, "the bad list is reported")
        report = await agent.status()
        assert report.peers_revision == "r1" and not report.config_applied
        assert {applied.revision for applied in neighbour.peers} == {"r1"}
        mounted_peers.put_peers(peers("r3"))
        await eventually(has_revision(agent, "r3"), "the good list is live")
        assert (await agent.status()).problems == {}


async def test_a_restart_beside_a_bad_list_keeps_the_peers_that_were_in(
    surroundings: Surroundings, mounted_peers: MountedConfigMap
) -> None:
    mounted_peers.put_peers(peers("r1", peer(1)))
    async with running(surroundings, RecordingNeighbour()) as agent:
        await eventually(has_revision(agent, "r1"), "the first list is live")
    mounted_peers.put(b"{")
    again = RecordingNeighbour()
    async with running(surroundings, again) as agent:
        assert again.prepared == [peers("r1", peer(1))]
        await eventually(has_revision(agent, "r1"), "the old list is live again")


async def test_a_first_start_without_a_usable_list_lets_nobody_in_and_is_not_ready(
    surroundings: Surroundings, mounted_peers: MountedConfigMap
) -> None:
    neighbour = RecordingNeighbour()
    async with running(surroundings, neighbour) as agent:
        assert neighbour.prepared == [NOBODY]

        async def seen() -> bool:
            return (await agent.status()).problems == {"peers": "InvalidPeers"}

        await eventually(seen, "the absent list is reported")
        assert not agent.ready() and neighbour.peers == []
        mounted_peers.put_peers(peers("r1", peer(1)))
        await eventually(agent.ready, "ready with the list")


async def test_a_neighbour_that_comes_late_gets_everything(
    surroundings: Surroundings, mounted_peers: MountedConfigMap
) -> None:
    neighbour = RecordingNeighbour()
    neighbour.down = True
    mounted_peers.put_peers(peers("r1", peer(1)))
    async with running(surroundings, neighbour) as agent:

        async def waiting() -> bool:
            return (await agent.status()).problems == {
                "certificates": "NeighbourUnavailable",
                "peers-live": "NeighbourUnavailable",
            }

        await eventually(waiting, "the agent says what it waits for")
        assert not (await agent.status()).config_applied
        neighbour.down = False
        await eventually(has_revision(agent, "r1"), "the list is live")
        await eventually(lambda: bool(neighbour.applied), "the certificates are")
        assert neighbour.applied[0].leaves == {"server-ec", "orthanc-client", "control"}
        await eventually(agent.ready, "ready")


async def test_a_change_while_the_one_before_is_applied_is_not_lost(
    surroundings: Surroundings, mounted_peers: MountedConfigMap
) -> None:
    class Slow(RecordingNeighbour):
        def __init__(self) -> None:
            super().__init__()
            self.may_end = asyncio.Event()

        async def apply_certificates(self, changed: Changes) -> None:
            await self.may_end.wait()
            await super().apply_certificates(changed)

    neighbour = Slow()
    mounted_peers.put_peers(peers("r1"))
    async with running(surroundings, neighbour) as agent:
        await asyncio.sleep(0)
        changes = await asyncio.to_thread(agent.keeper.leaves["server-ec"].renew)
        agent._files_changed(changes)
        neighbour.may_end.set()
        await eventually(lambda: any(one == changes for one in neighbour.applied), "the second change arrives")


async def test_a_device_without_tls_is_out_when_its_time_is_over_whatever_the_list_says(
    surroundings: Surroundings, mounted_peers: MountedConfigMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment comes while nobody writes a new list: the operator may be away."""
    monkeypatch.setattr("pacs_operator.agent.feeds.REPEAT_SECONDS", 0.1)
    closes = datetime.now(UTC) + timedelta(seconds=3)
    door = {"port": 11112, "closes": closes.strftime("%Y-%m-%dT%H:%M:%SZ")}
    old = LivePeer.model_validate(peer(7).model_dump() | {"dns_name": None, "legacy": door})
    neighbour = RecordingNeighbour()
    mounted_peers.put_peers(peers("r1", old, peer(8)))
    async with running(surroundings, neighbour) as agent:

        def has(*ids: str) -> Callable[[], bool]:
            return lambda: bool(neighbour.peers) and {one.id for one in neighbour.peers[-1].peers} == set(ids)

        await eventually(has(old.id, peer(8).id), "both are let in")
        await eventually(has(peer(8).id), "its time is over, and the other stays")
        assert await revision(agent) == "r1"


async def test_an_old_served_certificate_shows_as_restart_pending(
    surroundings: Surroundings, mounted_peers: MountedConfigMap
) -> None:
    neighbour = RecordingNeighbour()
    neighbour.presents = {"server-ec": Served("0abc", "2026-12-01T00:00:00Z")}
    mounted_peers.put_peers(peers("r1"))
    async with running(surroundings, neighbour) as agent:

        async def pending() -> bool:
            return (await agent.status()).problems == {"served/server-ec": "RestartPending"}

        await eventually(pending, "the difference shows")
        report = await agent.status()
        served = {one.name: (one.served_serial, one.served_not_after) for one in report.leaves}
        old, unseen = ("0abc", "2026-12-01T00:00:00Z"), (None, None)
        assert served == {"server-ec": old, "orthanc-client": unseen, "control": unseen}
        assert report.config_applied
        own = next(one.serial for one in report.leaves if one.name == "server-ec")
        neighbour.presents = {"server-ec": Served(own)}
        agent._files_changed(Changes(crls=frozenset({CaName.PEERS})))

        async def gone() -> bool:
            return (await agent.status()).problems == {}

        await eventually(gone, "it is gone after the restart")


async def test_a_restart_is_noticed_without_a_look_every_few_minutes(
    surroundings: Surroundings, mounted_peers: MountedConfigMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look costs Orthanc a file descriptor for good."""
    monkeypatch.setattr(observer, "OBSERVE_SECONDS", 0.02)
    neighbour = RecordingNeighbour()
    neighbour.presents = {"server-ec": Served("0abc")}
    mounted_peers.put_peers(peers("r1"))
    async with running(surroundings, neighbour) as agent:

        async def pending() -> bool:
            return (await agent.status()).problems == {"served/server-ec": "RestartPending"}

        await eventually(pending, "the difference shows")
        looks = neighbour.looks
        own = next(one.serial for one in (await agent.status()).leaves if one.name == "server-ec")
        neighbour.presents = {"server-ec": Served(own)}
        await asyncio.sleep(0.2)
        assert neighbour.looks == looks
        neighbour.is_ready = False
        await eventually(lambda: not agent.ready(), "it restarts")
        neighbour.is_ready = True

        async def gone() -> bool:
            return (await agent.status()).problems == {}

        await eventually(gone, "the restart is noticed")


def document(*entries: LivePeer, **changes: object) -> bytes:
    return json.dumps(json.loads(peers("r1", *entries).model_dump_json(by_alias=True)) | changes).encode()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "peers.json: : json_invalid"),
        (b"[]", "peers.json: : model_type"),
        (document(revision=""), "revision is empty"),
        (document(more=1), "peers.json: more: extra_forbidden"),
        (document(peer(1), peer(1)), "id 'imaging/ct1' occurs twice"),
        (document(peer(1, "A"), peer(2, "A")), "AE title 'A' occurs twice"),
        (document(peer(1, "A\\B")), "contains a backslash"),
        (document(peer(1, " A")), "begins or ends with a space"),
        (document(peer(1).model_copy(update={"dns_name": "*.example"})), "wildcard"),
        (document(peer(1).model_copy(update={"source_cidrs": ["0.0.0.0/0"]})), "every address on earth"),
        (document(peer(1).model_copy(update={"source_cidrs": ["10.0.0.1/8"]})), "not a network"),
        (b" " * (1024 * 1024 + 1), "1048576 are allowed"),
    ],
)
def test_lists_that_cannot_be_enforced_are_refused_whole(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidPeersError) as refused:
        parse_peers(raw)
    assert message in refused.value.message
    assert parse_peers(document(peer(1), peer(2))) == peers("r1", peer(1), peer(2))


async def test_the_first_problem_is_logged_once_not_at_every_poll(
    surroundings: Surroundings, mounted_peers: MountedConfigMap, log: io.StringIO
) -> None:
    neighbour = RecordingNeighbour()
    neighbour.down = True
    mounted_peers.put_peers(peers("r1"))
    async with running(surroundings, neighbour) as agent:
        await asyncio.sleep(0)
        await eventually(lambda: "peers-live" in log.getvalue(), "the problem is logged")
        before = log.getvalue().count('"subject": "peers-live"')
        mounted_peers.put_peers(peers("r2"))
        await eventually(lambda: agent._peers is not None and agent._peers.current == peers("r2"), "r2 was tried")
        assert log.getvalue().count('"subject": "peers-live"') == before == 1
