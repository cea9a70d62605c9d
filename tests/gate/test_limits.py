"""One peer at its limits: what it is told, and that nobody else pays for it."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from pacs_operator.domain import gatemaps
from pacs_operator.domain.gatepeers import largest_share

from .device import PDU_AC, PDU_RJ, Answer, Device, ask, associate_rq, client_context, echo, read_answer, tls_connection
from .process import Gate, Site, peer, running_gate, wait_for

MakeDevice = Callable[..., Device]
ACCEPTED = Answer(PDU_AC, None)
CONGESTION = Answer(PDU_RJ, (2, 3, 1), clean_end=True)  # PS3.8 9.3.4: temporary congestion
LOCAL_LIMIT = Answer(PDU_RJ, (2, 3, 2), clean_end=True)  # PS3.8 9.3.4: local limit exceeded


def request(device: Device) -> Answer:
    return ask(device.port, device.context, associate_rq(calling=device.calling.encode()))


def change(gate: Gate, identity: str, **update: object) -> None:
    gate.put(gate.live[identity].model_copy(update=update))


def test_a_rate_is_kept_and_answered_as_a_local_limit(make_device: MakeDevice, gate: Gate) -> None:
    hasty, other = make_device("HASTY", rate=3), make_device("OTHER", rate=3)
    assert [request(hasty) for _ in range(5)] == [ACCEPTED] * 3 + [LOCAL_LIMIT] * 2
    assert [request(other) for _ in range(3)] == [ACCEPTED] * 3
    seen = wait_for(lambda: (a := gate.activity("imaging/hasty")).limited == 2 and a, "counted")
    assert seen.last_rejection_reason == "TooManyPerMinute"
    assert seen.last_limited == seen.last_rejection
    assert gate.activity("imaging/other").limited == 0


def test_a_rate_changes_live(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1", rate=1)
    assert [request(device), request(device)] == [ACCEPTED, LOCAL_LIMIT]
    change(gate, "imaging/ct1", associations_per_minute=2)
    assert [request(device), request(device)] == [ACCEPTED, LOCAL_LIMIT]
    change(gate, "imaging/ct1", associations_per_minute=None)
    assert [request(device) for _ in range(10)] == [ACCEPTED] * 10


def test_refused_attempts_do_not_lengthen_the_wait(site: Site, folder: Path) -> None:
    """With a minute of a second: who goes on asking is served as soon as who waits."""
    with running_gate(site, folder, edit=lambda text: text.replace("gpc0_rate(60s)", "gpc0_rate(1s)")) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(peer("ct1", "ct1.imaging.example", "CT1", rate=2))
        context = client_context(site.peers, site.peers.issue("ct1.imaging.example"))
        device = Device(gate.port, context)
        wait_for(lambda: request(device) == LOCAL_LIMIT, "at its limit")
        wait_for(lambda: request(device) == ACCEPTED, "served again while it goes on asking")


def test_a_new_peer_does_not_inherit_its_slots_minute(make_device: MakeDevice, gate: Gate) -> None:
    first = make_device("FIRST", rate=1)
    assert [request(first), request(first)] == [ACCEPTED, LOCAL_LIMIT]
    slot = gate.ask(f"show map {gatemaps.IDENTITY}").split()[2]
    gate.apply({})
    second = make_device("SECOND", rate=1)
    assert gate.ask(f"show map {gatemaps.IDENTITY}").split()[2] == slot
    assert [request(second), request(second)] == [ACCEPTED, LOCAL_LIMIT]


def test_sixteen_silent_associations_of_one_peer_cost_another_nothing(make_device: MakeDevice, gate: Gate) -> None:
    """Half of them are let in and say nothing, the rest is told why; the other stores on."""
    silent, other = make_device("SILENT"), make_device("OTHER")
    kept = other.associate()
    with contextlib.ExitStack() as held:
        answers = []
        for _ in range(16):
            connection = held.enter_context(tls_connection(gate.port, silent.context))
            connection.sendall(associate_rq(calling=b"SILENT"))
            answers.append(read_answer(connection))
        assert answers == [ACCEPTED] * 8 + [CONGESTION] * 8
        assert echo(kept)
        assert other.echo()
    wait_for(lambda: gate.activity("imaging/silent").open_associations == 0, "all ended")
    assert request(silent) == ACCEPTED


@pytest.mark.parametrize("said", [b"", associate_rq()[:40]], ids=["nothing", "half a request"])
def test_connections_that_never_ask_cost_another_nothing(make_device: MakeDevice, gate: Gate, said: bytes) -> None:
    silent, other = make_device("SILENT"), make_device("OTHER")
    with contextlib.ExitStack() as held:
        for _ in range(16):
            held.enter_context(tls_connection(gate.port, silent.context)).sendall(said)
        assert other.echo()


def test_one_peer_never_has_all_of_the_gate(site: Site, folder: Path) -> None:
    """A limit above the archive's own: the last quarter is other peers'."""
    with running_gate(site, folder, max_associations=8) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(
            peer("greedy", "greedy.imaging.example", "GREEDY", limit=128),
            peer("other", "other.imaging.example", "OTHER"),
        )
        contexts = {
            name: client_context(site.peers, site.peers.issue(f"{name}.imaging.example"))
            for name in ("greedy", "other")
        }
        with contextlib.ExitStack() as held:
            answers = [opened(held, gate, contexts["greedy"], b"GREEDY") for _ in range(9)]
            assert answers == [ACCEPTED] * 6 + [CONGESTION] * 3  # these stay open at their end, and count for nothing
            assert [opened(held, gate, contexts["other"], b"OTHER") for _ in range(3)] == [ACCEPTED] * 2 + [CONGESTION]
        assert wait_for(lambda: gate.activity("imaging/other").last_rejection_reason, "counted") == "GateFull"
        assert gate.activity("imaging/other").limited == 0
        assert gate.activity("imaging/greedy").limited == 3


def without_the_first_question(text: str) -> str:
    lines = text.splitlines(keepends=True)
    asked = [line for line in lines if "table_conn_cur" in line]
    assert len(asked) == 2
    return "".join(line for line in lines if line not in asked)


def test_the_second_question_holds_when_all_pass_the_first_at_one_moment(site: Site, folder: Path) -> None:
    with running_gate(site, folder, edit=without_the_first_question, max_associations=8) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(*(peer(name, f"{name}.imaging.example", name.upper(), limit=5) for name in ("ct1", "mr1")))
        first, second = (
            client_context(site.peers, site.peers.issue(f"{name}.imaging.example")) for name in ("ct1", "mr1")
        )
        with contextlib.ExitStack() as held:
            assert [opened(held, gate, first, b"CT1") for _ in range(5)] == [ACCEPTED] * 5
            assert opened(held, gate, first, b"CT1") == CONGESTION
            answers = [opened(held, gate, second, b"MR1") for _ in range(4)]
            assert answers == [ACCEPTED] * 2 + [CONGESTION] * 2, "one of the eight is taken by who was refused"


def opened(held: contextlib.ExitStack, gate: Gate, context: ssl.SSLContext, title: bytes) -> Answer:
    connection: socket.socket = held.enter_context(tls_connection(gate.port, context))
    connection.sendall(associate_rq(calling=title))
    return read_answer(connection)


@pytest.mark.parametrize(("total", "share"), [(1, 1), (2, 1), (3, 2), (4, 3), (64, 48), (512, 384)])
def test_the_largest_share(total: int, share: int) -> None:
    assert largest_share(total) == share
