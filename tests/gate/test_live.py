"""Peers, certificates and revocations change under open associations; agents and HAProxy start again."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from pacs_operator.agent.errors import InvalidPeersError, NeighbourError, SessionsRemainError, SlotsExhaustedError
from pacs_operator.domain import gatemaps
from pacs_operator.domain.gatepeers import LivePeer, LivePeers

from .device import PDU_AC, Device, ask, associate_rq, client_context, echo, ends
from .device import rejection as rejection_of
from .process import Gate, Site, peer, running_gate, start_haproxy, stop_haproxy, wait_for

MakeDevice = Callable[..., Device]


def slots(gate: Gate) -> dict[str, str]:
    """Return slot by identity, as HAProxy has it."""
    return {line.split()[1]: line.split()[2] for line in gate.ask(f"show map {gatemaps.IDENTITY}").splitlines() if line}


def test_a_removed_peers_associations_end_and_others_stay(make_device: MakeDevice, gate: Gate) -> None:
    leaving, staying = make_device("LEAVING"), make_device("STAYING")
    gone, kept = [leaving.associate(), leaving.associate()], staying.associate()
    assert all(map(echo, [*gone, kept]))
    gate.remove("imaging/leaving")
    for association in gone:
        ends(association)
    assert echo(kept)
    assert rejection_of(leaving) == (1, 1, 3)
    assert [entry.id for entry in gate.loop.run(gate.agent.activity())] == ["imaging/staying"]


def test_a_new_peer_is_served_and_nobody_notices(make_device: MakeDevice, gate: Gate, site: Site) -> None:
    first = make_device("FIRST")
    kept = first.associate()
    name = "second.imaging.example"
    second = Device(gate.port, client_context(site.peers, site.peers.issue(name)), calling="SECOND")
    assert rejection_of(second) == (1, 1, 3)
    gate.put(peer("second", name, "SECOND"))
    assert second.echo()
    assert echo(kept)


def change(gate: Gate, identity: str, **update: object) -> None:
    gate.put(gate.live[identity].model_copy(update=update))


NARROWING = [("ae_titles", ["OTHER"]), ("source_cidrs", ["10.0.0.0/8"]), ("source_cidrs", ["127.0.0.0/9"])]
WIDENING = [
    ("ae_titles", ["CT1", "OTHER"]),
    ("source_cidrs", ["127.0.0.0/8", "10.0.0.0/8"]),
    ("source_cidrs", []),
    ("max_associations", 1),
    ("max_associations", 9),
    ("associations_per_minute", 1),
    ("tls_exception_until", 2_000_000_000),
]


@pytest.mark.parametrize(("field", "value"), NARROWING)
def test_narrowing_ends_the_peers_associations(make_device: MakeDevice, gate: Gate, field: str, value: object) -> None:
    device, other = make_device("CT1"), make_device("STAYING")
    open_one, kept = device.associate(), other.associate()
    change(gate, "imaging/ct1", **{field: value})
    ends(open_one)
    assert echo(kept)


@pytest.mark.parametrize(("field", "value"), WIDENING)
def test_widening_and_limits_end_nothing(make_device: MakeDevice, gate: Gate, field: str, value: object) -> None:
    device = make_device("CT1")
    open_one = device.associate()
    change(gate, "imaging/ct1", **{field: value})
    assert echo(open_one)


def test_changes_take_effect(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1")
    change(gate, "imaging/ct1", ae_titles=["CT9"])
    assert rejection_of(device) == (1, 1, 3)
    device.calling = "CT9"
    assert device.echo()
    change(gate, "imaging/ct1", source_cidrs=["10.0.0.0/8"])
    assert not device.echo()
    change(gate, "imaging/ct1", source_cidrs=["127.0.0.1/32"])
    assert device.echo()
    change(gate, "imaging/ct1", max_associations=1)
    first = device.associate()
    assert rejection_of(device) == (2, 3, 1)
    change(gate, "imaging/ct1", max_associations=2)
    assert device.echo()
    assert echo(first)


def test_another_owner_of_the_same_certificate_starts_afresh(make_device: MakeDevice, gate: Gate) -> None:
    """The resource was deleted and made again under another name: what the old one had open ends."""
    device = make_device("CT1")
    open_one = device.associate()
    entry = gate.live["imaging/ct1"]
    gate.apply({"imaging/new": entry.model_copy(update={"id": "imaging/new"})})
    ends(open_one)
    assert device.echo()
    # HAProxy counts an association until the archive's side of it has ended, too.
    wait_for(lambda: gate.activity("imaging/new").open_associations == 0, "the echo's association is counted no more")


def test_an_agent_that_starts_again_leaves_slots_and_associations(make_device: MakeDevice, gate: Gate) -> None:
    devices = [make_device(title) for title in ("CT1", "MR1", "US1")]
    gate.remove("imaging/ct1")  # so that slots are not simply in the list's order
    associations = [device.associate() for device in devices[1:]]
    before = slots(gate)
    gate.new_agent()
    assert not gate.loop.run(gate.agent.ready())
    gate.apply(gate.live)
    assert gate.loop.run(gate.agent.ready())
    assert slots(gate) == before
    assert all(map(echo, associations))
    assert [entry.open_associations for entry in gate.loop.run(gate.agent.activity())] == [1, 1]
    gate.remove("imaging/mr1")
    ends(associations[0])
    assert echo(associations[1])
    gate.put(peer("xa1", "xa1.imaging.example", "XA1"))
    assert slots(gate)["xa1.imaging.example"] == "000"


def test_records_after_the_agent_started_again(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1")
    gate.new_agent()
    gate.apply(gate.live)
    assert device.echo()
    assert wait_for(lambda: gate.activity("imaging/ct1").last_association, "a record reached the new agent")


def test_nothing_is_written_when_nothing_differs(
    make_device: MakeDevice, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("CT1")
    make_device("MR1")
    commands: list[str] = []
    real = gate.agent._socket.ask

    async def noted(command: str, payload: str | None = None) -> str:
        commands.append(command)
        return await real(command, payload)

    monkeypatch.setattr(gate.agent._socket, "ask", noted)
    gate.apply(gate.live)
    assert commands
    assert all(command.startswith("show ") for command in commands)


def test_a_slot_is_not_given_away_while_its_last_peer_is_in(
    make_device: MakeDevice, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device("CT1")
    open_one = device.associate()
    slot = slots(gate)[gate.live["imaging/ct1"].identity]

    async def powerless(_slot: str) -> None:
        """Stand for a HAProxy that does not end sessions."""

    monkeypatch.setattr("pacs_operator.agent.gate._END_SECONDS", 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(gate.agent._socket, "end_sessions", powerless)
        newcomer = peer("mr1", "mr1.imaging.example", "MR1")
        with pytest.raises(SessionsRemainError):
            gate.apply({"imaging/mr1": newcomer})
        assert rejection_of(device) == (1, 1, 3)
        assert slot not in slots(gate).values()
        assert slots(gate) == {"mr1.imaging.example": "001"}  # the newcomer does not wait
    gate.apply({"imaging/mr1": newcomer})
    ends(open_one)
    assert slot == "000"
    gate.put(peer("us1", "us1.imaging.example", "US1"))
    assert slots(gate)["us1.imaging.example"] == slot


def test_interrupted_removal_is_finished_by_the_next_agent(make_device: MakeDevice, gate: Gate) -> None:
    """The agent died after the first step; the list it finds next time does not even name the peer."""
    device = make_device("CT1")
    open_one = device.associate()
    entry = gate.live["imaging/ct1"]
    gate.ask(f"del map {gatemaps.IDENTITY} {entry.dns_name}")
    gate.new_agent()
    gate.apply({})
    ends(open_one)
    for name in MAPS[1:]:
        assert gate.ask(f"show map {name}").strip() == ""


@pytest.mark.parametrize(
    "tamper",
    [
        "add map {map} intruder.imaging.example {slot}",
        "add map virt@titles {slot}/494E5452554445 1",
        "set map virt@sources {slot} any",
        "add map virt@limits {slot} 99",
        "set map virt@rates {slot} 9999",
        "set map virt@exceptions {slot} 9999999999",
        "add map virt@ids 009 imaging/ghost",
        "clear map virt@sources",
    ],
)
def test_what_somebody_else_wrote_is_put_right(make_device: MakeDevice, gate: Gate, tamper: str) -> None:
    device = make_device("CT1", sources=("127.0.0.1/32",))
    slot = slots(gate)[gate.live["imaging/ct1"].identity]
    before = maps_without_slots(gate)
    gate.ask(tamper.format(map=gatemaps.IDENTITY, slot=slot))
    assert maps_without_slots(gate) != before
    gate.apply(gate.live)
    assert maps_without_slots(gate) == before
    assert device.echo()


def maps_without_slots(gate: Gate) -> dict[str, list[str]]:
    """Return all entries, with a star for each slot: what was ambiguous may move to another one."""
    return {
        name: sorted(
            re.sub(r"\b0\d\d\b", "*", line.split(" ", 1)[1])
            for line in gate.ask(f"show map {name}").splitlines()
            if line
        )
        for name in MAPS
    }


MAPS = (
    gatemaps.IDENTITY,
    gatemaps.IDS,
    gatemaps.TITLES,
    gatemaps.SOURCES,
    gatemaps.LIMITS,
    gatemaps.RATES,
    gatemaps.EXCEPTIONS,
    gatemaps.CONTAINED,
)


def test_two_peers_with_one_certificate_are_refused_and_nothing_changes(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1")
    entry = gate.live["imaging/ct1"]
    twice = LivePeers(revision="x", peers=[entry, entry.model_copy(update={"id": "imaging/twin"})])
    with pytest.raises(InvalidPeersError, match="imaging/ct1 and imaging/twin"):
        gate.loop.run(gate.agent.apply_peers(twice))
    assert device.echo()


def test_more_peers_than_slots(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1")
    crowd = {f"imaging/p{n}": peer(f"p{n}", f"p{n}.imaging.example", f"P{n}") for n in range(16)}
    with pytest.raises(SlotsExhaustedError, match="1 of 17 peers find none"):
        gate.apply({**gate.live, **crowd})
    assert device.echo()
    gate.apply(crowd)
    assert len(slots(gate)) == 16
    assert rejection_of(device) == (1, 1, 3)


def test_a_gate_that_starts_again_lets_nobody_in_until_it_is_told(site: Site, folder: Path) -> None:
    with running_gate(site, folder) as gate:
        gate.put(peer("ct1", "ct1.imaging.example", "CT1"))
        context = client_context(site.peers, site.peers.issue("ct1.imaging.example"))
        wait_for(lambda: ask(gate.port, context, associate_rq()).pdu == PDU_AC, "served")
        assert gate.loop.run(gate.agent.ready())
        stop_haproxy(gate.process)
        assert not gate.loop.run(gate.agent.ready())
        assert gate.loop.run(gate.agent.alive())
        with pytest.raises(NeighbourError):
            gate.apply(gate.live)
        assert gate.loop.run(gate.agent.activity()) == []
        assert gate.loop.run(gate.agent.served()) == {}
        gate.process = start_haproxy(folder)
        try:
            wait_for(lambda: (folder / "haproxy.sock").exists() and "Uptime" in try_ask(gate), "HAProxy is back")
            assert not gate.loop.run(gate.agent.ready())
            assert ask(gate.port, context, associate_rq()).rejection == (1, 1, 3)
            gate.apply(gate.live)
            assert gate.loop.run(gate.agent.ready())
            wait_for(lambda: ask(gate.port, context, associate_rq()).pdu == PDU_AC, "served again")
        finally:
            stop_haproxy(gate.process)


def try_ask(gate: Gate) -> str:
    try:
        return gate.ask("show info")
    except OSError:
        return ""


def test_activity_names_each_reason_and_the_presented_end(make_device: MakeDevice, gate: Gate, site: Site) -> None:
    device = make_device("CT1")
    end = site.peers.issue("other.imaging.example").certificate.not_valid_after_utc
    assert device.echo()
    stranger = client_context(site.peers, site.peers.issue("stranger.imaging.example"))
    assert ask(gate.port, stranger, associate_rq()).rejection == (1, 1, 3)
    ask(gate.port, device.context, associate_rq(called=b"OTHER"))
    seen = wait_for(lambda: gate.activity("imaging/ct1").rejections and gate.activity("imaging/ct1"), "counted")
    assert seen.last_rejection_reason == "WrongCalledAETitle"
    assert seen.rejections == 1
    assert abs((seen_time(seen.presented_not_after) - end).total_seconds()) < 5


def seen_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_live_peer_has_no_field_the_gate_ignores() -> None:
    """A field added to the contract must be looked at here: enforced at the gate, or known to be Orthanc's."""
    limits = {"max_associations", "associations_per_minute"}
    identity = {"id", "dns_name", "issuer", "spki", "legacy"}
    enforced = identity | limits | {"ae_titles", "source_cidrs", "contained", "tls_exception_until", "ends"}
    assert set(LivePeer.model_fields) == enforced | {"outbound", "rights", "move_destinations"}
