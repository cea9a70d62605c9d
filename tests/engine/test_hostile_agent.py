"""Pods that were taken over: their agents and probes tell what they like, and the archive's status stays its own."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pacs_operator.domain.agentconfig import AgentStatus, LeafStatus, PeerActivity
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import Component
from pacs_operator.reconcile.peermetrics import PeerMetrics
from pacs_operator.vault.port import ClientCredentials
from tests.engine.world import ARCHIVE, World

WORD = "doe-jane"
FUTURE = "2150-01-01T00:00:00Z"
Twist = Callable[[AgentStatus], AgentStatus]


def twist(world: World, change: Twist) -> None:
    """Let every agent tell something else; what it tells has passed the control port's own validation."""
    honest = world.agents.status

    def status(address: str, server_name: str, credentials: ClientCredentials) -> AgentStatus:
        told = change(honest(address, server_name, credentials))
        return AgentStatus.model_validate(told.model_dump(by_alias=True))

    world.agents.status = status


def passes(world: World) -> None:
    world.advance(60)
    world.process.reconcile(ARCHIVE)


def scrape(world: World) -> str:
    registry = CollectorRegistry()
    registry.register(PeerMetrics(world.process.peer_numbers))
    return generate_latest(registry).decode()


def more_leaves(told: AgentStatus) -> AgentStatus:
    one = told.leaves[0]
    named = [one.model_copy(update={"name": f"{WORD}-{number}"}) for number in range(8)]
    return told.model_copy(update={"leaves": [*told.leaves, *named]})


def another_authoritys_leaf(told: AgentStatus) -> AgentStatus:
    """Name a leaf that another component has, which ended long ago."""
    other = Component.POSTGRES if told.component is Component.GATE else Component.GATE
    name = leaves_of(other, ARCHIVE)[0].name
    past = {"name": name, "not_after": "2020-01-01T00:00:00Z", "serial": "ff"}
    return told.model_copy(update={"leaves": [*told.leaves, told.leaves[0].model_copy(update=past)]})


def foreign_peers(told: AgentStatus) -> AgentStatus:
    return told.model_copy(update={"peers": [PeerActivity(id=f"{WORD}/{number}", stores=1) for number in range(200)]})


@pytest.mark.parametrize("change", [more_leaves, another_authoritys_leaf, foreign_peers])
def test_names_that_nobody_gave_an_agent_reach_neither_status_nor_metrics(world: World, change: Twist):
    before = world.archive["status"]["certificates"]
    twist(world, change)
    passes(world)
    assert WORD not in repr(world.archive["status"])
    assert world.archive["status"]["certificates"] == before
    assert world.condition("CertificatesCurrent")["status"] == "True"
    assert WORD not in scrape(world)


def test_a_peer_told_twice_is_one_series(world: World):
    twice = [PeerActivity(id="imaging/ct1", stores=number) for number in (1, 2)]
    twist(world, lambda told: told.model_copy(update={"peers": twice}))
    passes(world)
    lines = [line.rsplit(" ", 1)[0] for line in scrape(world).splitlines() if not line.startswith("#")]
    assert "pacs_operator_peer_stores_total" in repr(lines)
    assert len(lines) == len(set(lines))


def test_what_is_yet_to_happen_does_not_stand_in_the_way_of_what_happens(world: World):
    future = PeerActivity(id="imaging/ct1", last_store=FUTURE, last_rejection=FUTURE, last_association=FUTURE)
    honest = world.agents.status
    twist(world, lambda told: told.model_copy(update={"peers": [future]}))
    passes(world)
    assert FUTURE not in repr(world.archive["status"])
    assert FUTURE[:4] not in repr(world.process.peer_numbers())
    world.agents.status = honest
    stored = (world.now + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    world.agents.activity = [PeerActivity(id="imaging/ct1", last_store=stored)]
    passes(world)
    assert world.archive["status"]["peers"]["list"][0]["lastStore"] == stored


def test_a_name_that_stood_in_an_earlier_status_goes(world: World):
    def plant(live: dict) -> None:
        entry = {"component": "gate", "name": WORD, "serial": "0a", "notAfter": "2026-12-01T00:00:00Z"}
        live["status"]["certificates"].append(entry)

    world.api.edit(("PacsArchive", "", ARCHIVE), "earlier", plant)
    world.agents.silent = True
    passes(world)
    assert WORD not in repr(world.archive["status"])
    assert len(world.archive["status"]["certificates"]) > 4


def test_the_longest_answer_that_counts_fits_into_the_status(world: World):
    def longest(told: AgentStatus) -> AgentStatus:
        def leaf(one: LeafStatus) -> LeafStatus:
            return one.model_copy(update={"serial": "a" * 64, "served_serial": "b" * 64})

        return told.model_copy(update={"leaves": [leaf(one) for one in told.leaves]})

    twist(world, longest)
    passes(world)
    for entry in world.archive["status"]["certificates"]:
        assert len(entry["serial"]) <= 64
        assert len(entry["servedSerial"]) <= 64
        assert len(entry["name"]) <= 32


def test_what_agents_say_is_wrong_stands_where_people_look(world: World):
    problems = {"leaf/server-ec": "VaultSealed", "age/crl/peers": "CrlPastHalfLife", "peers": "InvalidPeers"}
    honest = world.agents.status
    twist(world, lambda told: told.model_copy(update={"problems": problems}))
    passes(world)
    certificates, peers = world.condition("CertificatesCurrent"), world.condition("PeersAccepted")
    assert (certificates["status"], peers["status"]) == ("True", "True")
    agents = ("gate", "orthanc", "postgres")
    said = ", ".join(f"{one} {reason}" for one in agents for reason in ("CrlPastHalfLife", "VaultSealed"))
    assert certificates["message"].endswith(f"; agents report: {said}")
    assert peers["message"].endswith(f"; agents report: {', '.join(f'{one} InvalidPeers' for one in agents)}")
    writes = len(world.log.entries)
    passes(world)
    assert world.log.entries[writes:] == [], "said once"
    world.agents.status = honest
    passes(world)
    assert "agents report" not in repr(world.archive["status"])


def test_reasons_without_number_do_not_swell_a_message(world: World):
    many = {f"leaf/{number}": "R" * 60 + f"{number:02}" for number in range(64)}
    twist(world, lambda told: told.model_copy(update={"problems": many}))
    passes(world)
    assert len(world.condition("CertificatesCurrent")["message"]) < 600
