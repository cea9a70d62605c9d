"""A served peer's own alarms: the end of its certificate, its silence, its limits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.domain.peerhealth import Traffic, certificate_finding, silence_finding
from tests.engine.test_peermetrics import TellingGates, gates, scrape
from tests.engine.world import ARCHIVE, World, archive_manifest, peer_manifest

__all__ = ["gates"]  # a fixture

PEER = "imaging/ct1"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def status(world: World) -> dict[str, Any]:
    return dict(world.api.objects["DicomPeer", "imaging", "ct1"]["status"])


def condition(world: World, kind: str) -> tuple[str, str] | None:
    found = {entry["type"]: entry for entry in status(world)["conditions"]}
    return (found[kind]["status"], found[kind]["reason"]) if kind in found else None


def events(world: World, reason: str) -> list[dict[str, Any]]:
    return [item for (kind, _, _), item in world.api.objects.items() if kind == "Event" and item["reason"] == reason]


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def passes(world: World, *, hours: float = 1 / 60) -> None:
    world.advance(int(hours * 3600))
    world.process.reconcile(ARCHIVE)


def expect(world: World, hours: int | None = 24) -> None:
    more: dict[str, Any] = {"expectTraffic": {"maxSilenceHours": hours}} if hours else {}
    world.api.put(peer_manifest("ct1", **more))
    world.settle(world.process)


DAYS = [
    (None, "Unknown", "NotPresented"),
    (90.0, "False", "NotEnding"),
    (60.01, "False", "NotEnding"),
    (60.0, "True", "EndsWithin60Days"),
    (30.01, "True", "EndsWithin60Days"),
    (30.0, "True", "EndsWithin30Days"),
    (7.01, "True", "EndsWithin30Days"),
    (7.0, "True", "EndsWithin7Days"),
    (0.01, "True", "EndsWithin7Days"),
    (0.0, "True", "CertificateEnded"),
    (-5.0, "True", "CertificateEnded"),
]


@pytest.mark.parametrize(("days", "expected", "reason"), DAYS)
def test_how_near_a_certificates_end_is(days: float | None, expected: str, reason: str):
    end = None if days is None else NOW + timedelta(days=days)
    finding = certificate_finding(end, NOW)
    assert (finding.status, finding.reason) == (expected, reason)
    assert end is None or stamp(end) in finding.message
    assert ("Renewing" in finding.message) is (expected == "True")


@pytest.mark.parametrize(
    ("last", "since", "heard", "expected"),
    [
        (23.0, 100.0, True, ("False", "TrafficSeen")),
        (25.0, 100.0, True, ("True", "NoTraffic")),
        (25.0, 100.0, False, ("Unknown", "GatesNotHeard")),
        (23.0, 100.0, False, ("False", "TrafficSeen")),
        (None, 23.0, True, ("Unknown", "NoTrafficYet")),
        (None, 25.0, True, ("True", "NoTraffic")),
        (None, 25.0, False, ("Unknown", "GatesNotHeard")),
        (100.0, 23.0, True, ("False", "TrafficSeen")),  # expected only since then
    ],
)
def test_silence(last: float | None, since: float, heard: bool, expected: tuple[str, str]):
    times = [None if hours is None else NOW - timedelta(hours=hours) for hours in (last, since)]
    finding = silence_finding(Traffic(times[0], times[1] or NOW, heard), timedelta(hours=24), NOW)
    assert (finding.status, finding.reason) == expected


def test_the_end_of_a_certificate_is_told_once_for_each_step(world: World, gates: TellingGates):
    end = world.now + timedelta(days=61)
    gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now), presented_not_after=stamp(end))]
    passes(world)
    assert condition(world, "CertificateEnding") == ("False", "NotEnding")
    assert status(world)["certificateNotAfter"] == stamp(end)
    for days, reason in ((2, "EndsWithin60Days"), (30, "EndsWithin30Days"), (23, "EndsWithin7Days")):
        world.advance(days * 86400)
        world.settle(world.process)
        assert condition(world, "CertificateEnding") == ("True", reason)
        assert len(events(world, reason)) == 1
        writes = len(world.log.entries)
        passes(world)
        assert not [entry for entry in world.log.entries[writes:] if "DicomPeer" in repr(entry)]
        assert len(events(world, reason)) == 1
    gates.told = [
        PeerActivity(
            id=PEER, last_association=stamp(world.now), presented_not_after=stamp(world.now + timedelta(days=365))
        )
    ]
    passes(world, hours=1)
    assert condition(world, "CertificateEnding") == ("False", "NotEnding")
    assert len(events(world, "NotEnding")) == 1
    assert condition(world, "Accepted") == ("True", "Accepted")


def test_the_end_outlives_the_pods_that_saw_it(world: World, gates: TellingGates):
    end = world.now + timedelta(days=20)
    gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now), presented_not_after=stamp(end))]
    passes(world)
    gates.told = []
    world.process = world.operator()
    passes(world)
    assert condition(world, "CertificateEnding") == ("True", "EndsWithin30Days")


def test_nobody_is_silent_of_whom_nothing_is_expected(world: World):
    passes(world, hours=1000)
    assert condition(world, "Silent") is None
    assert "lastTraffic" not in status(world)


def test_silence_is_told_once_and_ends_with_the_first_association(world: World, gates: TellingGates):
    expect(world)
    assert condition(world, "Silent") == ("Unknown", "NoTrafficYet")
    came = world.now
    gates.told = [PeerActivity(id=PEER, last_association=stamp(came))]
    passes(world)
    assert condition(world, "Silent") == ("False", "TrafficSeen")
    passes(world, hours=23.9)
    assert condition(world, "Silent") == ("False", "TrafficSeen")
    assert scrape(world)[f'silent{{archive="{ARCHIVE}",peer="{PEER}"}}'] == 0
    passes(world, hours=0.2)
    assert condition(world, "Silent") == ("True", "NoTraffic")
    assert scrape(world)[f'silent{{archive="{ARCHIVE}",peer="{PEER}"}}'] == 1
    passes(world)
    assert len(events(world, "NoTraffic")) == 1
    assert events(world, "NoTraffic")[0]["involvedObject"]["name"] == "ct1"
    gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now))]
    passes(world)
    assert condition(world, "Silent") == ("False", "TrafficSeen")
    assert len(events(world, "TrafficSeen")) == 1


@pytest.mark.parametrize("gate", [0, 1])
def test_a_peer_that_comes_by_dicomweb_alone_is_not_silent(world: World, gates: TellingGates, gate: int):
    expect(world)
    came, others = world.now, [PeerActivity(id=PEER), PeerActivity(id=PEER)]
    others[gate] = PeerActivity(id=PEER, requests=1, last_request=stamp(came))
    gates.told = others
    passes(world)
    assert condition(world, "Silent") == ("False", "TrafficSeen")
    assert status(world)["lastTraffic"] == stamp(came)
    assert scrape(world)[f'last_request_seconds{{archive="{ARCHIVE}",peer="{PEER}"}}'] == came.timestamp()
    passes(world, hours=25)
    assert condition(world, "Silent") == ("True", "NoTraffic")


def test_a_request_of_the_future_is_no_traffic(world: World, gates: TellingGates):
    expect(world)
    gates.told = [PeerActivity(id=PEER, requests=1, last_request=stamp(world.now + timedelta(days=300)))]
    passes(world)
    assert condition(world, "Silent") == ("Unknown", "NoTrafficYet")
    gates.told = [PeerActivity(id=PEER, requests=1, last_request=stamp(world.now))]
    passes(world)
    assert condition(world, "Silent") == ("False", "TrafficSeen")


def test_silence_is_unknown_while_a_gate_says_nothing(world: World, gates: TellingGates):
    expect(world)
    gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now))]
    passes(world)
    world.agents.silent = True
    passes(world, hours=25)
    assert condition(world, "Silent") == ("Unknown", "GatesNotHeard")
    assert not [name for name in scrape(world) if name.startswith("silent")]
    assert events(world, "NoTraffic") == []
    world.agents.silent = False
    passes(world, hours=1)
    assert condition(world, "Silent") == ("True", "NoTraffic")


def test_a_busy_peers_traffic_is_no_status_write(world: World, gates: TellingGates):
    expect(world)
    gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now))]
    passes(world)
    writes = len(world.log.entries)
    for _ in range(10):
        gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now))]
        passes(world)
    assert world.log.entries[writes:] == []
    passes(world, hours=0.2)
    gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now))]
    passes(world)
    assert status(world)["lastTraffic"] == gates.told[0].last_association


def test_an_expectation_that_is_taken_back_leaves_nothing(world: World, gates: TellingGates):
    expect(world)
    world.api.edit(("DicomPeer", "imaging", "ct1"), "kubectl", lambda live: live["spec"].pop("expectTraffic"))
    passes(world)
    assert condition(world, "Silent") is None
    assert not {"lastTraffic", "trafficExpectedSince"} & status(world).keys()


def test_limits_are_told_once_an_hour_and_only_to_the_peer(world: World, gates: TellingGates):
    def limited() -> None:
        gates.told = [PeerActivity(id=PEER, limited=1, last_limited=stamp(world.now))]
        passes(world)

    gates.told = [PeerActivity(id=PEER, rejections=1, last_rejection=stamp(world.now))]
    passes(world)
    assert events(world, "PeerAtItsLimits") == []
    for _ in range(5):
        limited()
    found = events(world, "PeerAtItsLimits")
    assert len(found) == 1
    assert found[0]["metadata"]["namespace"] == "imaging"
    assert "8 open at one gate" in found[0]["message"]
    world.advance(3600)
    limited()
    assert len(events(world, "PeerAtItsLimits")) == 2
    passes(world, hours=2)
    assert len(events(world, "PeerAtItsLimits")) == 2, "it is over"


def test_what_is_in_force_is_shown(world: World):
    assert status(world)["effective"] == {"maxAssociations": 8}
    world.api.put(peer_manifest("ct1", limits={"maxAssociations": 128, "associationsPerMinute": 60}))
    passes(world)
    assert status(world)["effective"] == {"maxAssociations": 48, "associationsPerMinute": 60}
    assert {p.id: p.associations_per_minute for p in world.live_peers().peers}[PEER] == 60
    world.api.put(archive_manifest(gate={"service": {"type": "NodePort", "nodePort": 30762}, "maxAssociations": 8}))
    world.settle(world.process)
    assert status(world)["effective"]["maxAssociations"] == 6


def test_a_refused_peer_has_no_alarms(world: World, gates: TellingGates):
    expect(world)
    gates.told = [PeerActivity(id=PEER, last_association=stamp(world.now), presented_not_after=stamp(world.now))]
    passes(world)
    world.api.edit(("Namespace", "", "imaging"), "x", lambda live: live["metadata"].update(labels={}))
    passes(world)
    assert [entry["type"] for entry in status(world)["conditions"]] == ["Accepted"]
    assert "effective" not in status(world)


def test_a_list_without_rates_is_what_older_agents_know(world: World):
    """An agent of an earlier release refuses a list with a field that it does not know."""
    assert "associationsPerMinute" not in repr(world.live_peers().document())


def test_an_exception_stands_in_both_statuses_until_it_ends(world: World):
    bounds = {**archive_manifest()["spec"]["peers"], "tlsExceptions": ["Tls12EcdheCbc"]}
    world.api.put(archive_manifest(peers=bounds))
    end = world.now + timedelta(days=40)
    exception = {"tier": "Tls12EcdheCbc", "reason": "no newer software exists", "expires": stamp(end)}
    world.api.put(peer_manifest("ct1", tls={"exception": exception}))
    world.settle(world.process)
    assert condition(world, "TlsException") == ("True", "TlsExceptionStands")
    found = {entry["type"]: entry for entry in status(world)["conditions"]}["TlsException"]
    assert found["message"] == f"The device may use Tls12EcdheCbc until {stamp(end)}: no newer software exists"
    peers = world.archive["status"]["peers"]
    assert (peers["tlsExceptions"], peers["list"][0]["tlsExceptionUntil"]) == (1, stamp(end))
    assert {p.id: p.tls_exception_until for p in world.live_peers().peers}[PEER] == int(end.timestamp())
    for days, expected in ((11, ("True", "TlsExceptionEndsSoon")), (30, ("False", "TlsExceptionEnded"))):
        world.advance(days * 86400)
        world.settle(world.process)
        assert condition(world, "TlsException") == expected
        assert [event["type"] for event in events(world, expected[1])] == ["Warning"]
    peers = world.archive["status"]["peers"]
    assert peers["tlsExceptions"] == 0
    assert "tlsExceptionUntil" not in peers["list"][0]
    assert condition(world, "Accepted") == ("True", "Accepted"), "with modern TLS it is served on"


def test_an_exception_is_gone_with_the_archives_leave(world: World):
    bounds = {**archive_manifest()["spec"]["peers"], "tlsExceptions": ["Tls12EcdheCbc"]}
    world.api.put(archive_manifest(peers=bounds))
    exception = {"tier": "Tls12EcdheCbc", "reason": "no newer software exists", "expires": "2027-03-31T00:00:00+01:00"}
    world.api.put(peer_manifest("ct1", tls={"exception": exception}))
    world.settle(world.process)
    assert world.archive["status"]["peers"]["list"][0]["tlsExceptionUntil"] == "2027-03-30T23:00:00Z"
    world.api.put(archive_manifest(peers={**bounds, "tlsExceptions": []}))
    world.settle(world.process)
    assert condition(world, "Accepted") == ("False", "TlsExceptionNotAllowed")
    assert PEER not in {peer.id for peer in world.live_peers().peers}
