"""Devices without TLS: who consents, what is opened, how it is said, and how it ends."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.legacy import StaffedHours
from pacs_operator.domain.staffed import check, closing_time
from pacs_operator.kube.port import Manifest
from pacs_operator.reconcile.peermetrics import PeerMetrics
from tests.engine.test_revocation import POLICY, STALLS, edit_spec
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest, peer_manifest

HOURS = {"schedule": "0 8-16 * * 1-5", "timeZone": "Europe/Zurich"}
DICOM = {"aeTitle": "RADIOLOGY", "legacyPorts": {"first": 11112, "last": 11114}, "staffedHours": HOURS}
PEERS = archive_manifest()["spec"]["peers"] | {"legacy": "Allowed"}
US7 = ("DicomPeer", "imaging", "us7")
SERVICE = ("Service", "radiology-edge", "gate")
EXPIRES = "2026-12-24T18:00:00Z"  # a Thursday evening; the next staffed hour is Friday, 08:00 in Zurich
CLOSES = "2026-12-25T07:00:00Z"


def legacy_manifest(name: str = "us7", port: int = 11112, **spec: Any) -> Manifest:
    exception = {"port": port, "reason": "maker offers no TLS", "expires": EXPIRES}
    made = peer_manifest(name, sourceCIDRs=["198.18.10.77/32"], rights=["Store"], legacy=exception)
    del made["spec"]["certificate"]
    made["spec"].update(spec)
    return made


@pytest.fixture
def world(world: World) -> World:
    """Let the archive consent, and bind one device."""
    edit_spec(dicom=DICOM, peers=PEERS)(world)
    world.api.put(legacy_manifest())
    world.settle(world.process)
    return world


def live(world: World, key: str = "imaging/us7", zone: str = "edge") -> LivePeer | None:
    return next((peer for peer in world.live_peers(zone).peers if peer.id == key), None)


def at(world: World, stamp: str) -> None:
    world.now = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    world.api.now = stamp
    world.agents.not_after = world.now + timedelta(days=7)


def legacy_condition(world: World, name: str = "us7") -> dict[str, Any]:
    conditions = world.api.objects["DicomPeer", "imaging", name]["status"]["conditions"]
    found: dict[str, Any] = next(item for item in conditions if item["type"] == "LegacyException")
    return found


def events(world: World) -> list[str]:
    return [item["reason"] for (kind, _, _), item in world.api.objects.items() if kind == "Event"]


def rules(world: World) -> list[tuple[str, int]]:
    return [
        (source["ipBlock"]["cidr"], port["port"])
        for rule in world.api.objects[POLICY]["spec"]["ingress"]
        for source in rule["from"]
        for port in rule["ports"]
        if "ipBlock" in source
    ]


def service_ports(world: World) -> list[int]:
    return [port["port"] for port in world.api.objects[SERVICE]["spec"]["ports"]]


def test_an_accepted_exception_is_opened_for_its_source_alone_and_shown_everywhere(world: World):
    for zone in ("edge", "archive"):
        found = live(world, zone=zone)
        assert found is not None
        assert found.dns_name is None
        assert found.legacy is not None
        assert (found.legacy.port, found.legacy.closes) == (11112, CLOSES)
    assert rules(world) == [("198.18.10.11/32", 2762), ("198.18.10.77/32", 11112)]
    assert service_ports(world) == [2762, 11112]
    assert not any("us7" in role for _, role in world.vault.peer_roles), "no certificate is ever signed for it"
    assert any("ct1" in role for _, role in world.vault.peer_roles)
    accepted = world.peer_condition("us7")
    assert accepted["status"] == "True"
    assert "STANDING EXCEPTION" in accepted["message"]
    assert legacy_condition(world)["reason"] == "StandingException"
    told = world.archive["status"]["legacy"]
    assert told["count"] == 1
    assert told["list"] == [
        {"id": "imaging/us7", "port": 11112, "expires": EXPIRES, "closes": CLOSES, "reason": "maker offers no TLS"}
    ]
    condition = world.condition("LegacyPeers")
    assert (condition["status"], condition["reason"]) == ("True", "StandingExceptions")
    assert world.condition("Ready")["status"] == "True"
    metrics = CollectorRegistry()
    metrics.register(PeerMetrics(world.process.peer_numbers))
    assert metrics.get_sample_value("pacs_operator_legacy_peers", {"archive": ARCHIVE}) == 1
    end = datetime(2026, 12, 24, 18, tzinfo=UTC).timestamp()
    labels = {"archive": ARCHIVE, "peer": "imaging/us7"}
    assert metrics.get_sample_value("pacs_operator_peer_legacy_expires_seconds", labels) == end
    writes = len(world.log.entries)
    world.operator().reconcile(ARCHIVE)
    assert world.log.entries[writes:] == []


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "archive does not consent": ({"peers": PEERS | {"legacy": "Forbidden"}}, {}, "LegacyNotAllowed"),
    "archive says nothing": ({"peers": archive_manifest()["spec"]["peers"]}, {}, "LegacyNotAllowed"),
    "archive has no ports": ({"dicom": {"aeTitle": "RADIOLOGY"}}, {}, "LegacyNotAllowed"),
    "port outside": ({}, {"legacy": {"port": 11115}}, "LegacyPortNotAllowed"),
    "port taken": ({}, {"legacy": {"port": 11113}}, "DuplicateLegacyPort"),
    "too far ahead": ({}, {"legacy": {"expires": "2028-01-01T00:00:00Z"}}, "LegacyTooLong"),
    "over already": ({}, {"legacy": {"expires": "2026-11-01T00:00:00Z"}}, "LegacyExpired"),
    "network as source": ({}, {"sourceCIDRs": ["198.18.10.0/24"]}, "InvalidSpec"),
    "many sources": ({}, {"sourceCIDRs": [f"198.18.10.{n}/32" for n in range(5)]}, "InvalidSpec"),
    "two titles": ({}, {"aeTitles": ["US8", "US9"]}, "InvalidSpec"),
    "certificate beside it": ({}, {"certificate": {"dnsName": "us8.imaging.example"}}, "InvalidSpec"),
    "not a time": ({}, {"legacy": {"expires": "tomorrow"}}, "InvalidSpec"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_and_why(world: World, case: str):
    archive, change, reason = REFUSALS[case]
    world.api.put(legacy_manifest("us6", 11113))
    base = legacy_manifest("us8", 11114)
    exception = base["spec"]["legacy"]
    world.api.put(base)
    world.settle(world.process)
    assert live(world, "imaging/us8") is not None, "the allowed twin"
    exception = exception | change.get("legacy", {})
    world.api.put(legacy_manifest("us8", **{**{k: v for k, v in change.items() if k != "legacy"}, "legacy": exception}))
    edit_spec(**archive)(world) if archive else None
    world.settle(world.process)
    condition = world.peer_condition("us8")
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert live(world, "imaging/us8") is None
    assert 11114 not in service_ports(world)
    assert 11114 not in [port for _, port in rules(world)]


def test_alarms_come_once_each_as_the_end_comes_near_and_it_closes_when_somebody_is_there(world: World):
    stages = {
        "2026-11-24T18:00:00Z": "ExceptionEndsWithin30Days",
        "2026-12-17T18:00:00Z": "ExceptionEndsWithin7Days",
        "2026-12-23T18:00:00Z": "ExceptionEndsWithin1Day",
        "2026-12-24T18:00:00Z": "ExceptionExpired",
    }
    for stamp, reason in stages.items():
        just_before = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) - timedelta(seconds=90)
        at(world, just_before.strftime("%Y-%m-%dT%H:%M:%SZ"))
        world.operator().reconcile(ARCHIVE)
        assert legacy_condition(world)["reason"] != reason
        at(world, stamp)
        world.operator().reconcile(ARCHIVE)
        assert legacy_condition(world)["reason"] == reason
        assert world.condition("LegacyPeers")["reason"] == reason
        assert events(world).count(reason) == 1
    at(world, "2026-12-25T06:59:00Z")
    world.operator().reconcile(ARCHIVE)
    assert live(world) is not None, "at night nobody could help"
    at(world, CLOSES)
    world.settle(world.operator())
    assert live(world) is None
    assert 11112 not in service_ports(world)
    assert 11112 not in [port for _, port in rules(world)]
    condition = world.peer_condition("us7")
    assert (condition["status"], condition["reason"]) == ("False", "LegacyExpired")
    condition = world.condition("LegacyPeers")
    assert (condition["status"], condition["reason"]) == ("False", "NoExceptions")
    assert "legacy" not in world.archive["status"]


def extend(world: World, expires: str, reason: str) -> None:
    change = {"expires": expires, "reason": reason}
    world.api.edit(US7, "kubectl", lambda item: item["spec"]["legacy"].update(change))


@pytest.mark.parametrize("late", [False, True])
def test_extended_by_one_edit_which_is_recorded(world: World, late: bool):
    at(world, CLOSES if late else "2026-12-20T00:00:00Z")
    world.settle(world.operator())
    assert (live(world) is None) is late
    extend(world, "2027-02-01T12:00:00Z", "replacement arrives in January")
    world.settle(world.operator())
    found = live(world)
    assert found is not None
    assert found.legacy is not None
    assert found.legacy.closes == "2027-02-01T12:00:00Z", "13:00 in Zurich, and staffed"
    status = world.api.objects[US7]["status"]["legacy"]
    assert status["earlier"] == [{"expires": EXPIRES, "reason": "maker offers no TLS"}]
    assert status["expires"] == "2027-02-01T12:00:00Z"
    assert "LegacyExtended" in events(world) or late
    world.settle(world.operator())
    assert len(world.api.objects[US7]["status"]["legacy"]["earlier"]) == 1


def test_removed_like_any_peer(world: World):
    world.api.remove(US7)
    world.settle(world.process)
    assert live(world) is None
    assert service_ports(world) == [2762]


@pytest.mark.parametrize("stall", STALLS)
def test_a_stalled_archive_neither_loses_nor_widens_an_exception(world: World, stall: str):
    STALLS[stall][0](world)
    if stall == "invalid title":
        edit_spec(dicom=DICOM | {"aeTitle": "FAR TOO LONG A TITLE"})(world)
    if stall == "bounds unreadable":
        edit_spec(peers=PEERS | {"allowedCIDRs": ["198.18.0.0/99"]})(world)
    if stall == "no selector":
        edit_spec(peers=PEERS | {"namespaceSelector": {}})(world)
    world.process.reconcile(ARCHIVE)
    found = live(world)
    assert found is not None
    assert found.legacy is not None
    assert found.legacy.closes == CLOSES
    extend(world, "2027-02-01T12:00:00Z", "replacement arrives in January")
    world.process.reconcile(ARCHIVE)
    found = live(world)
    assert found is not None
    assert found.legacy is not None
    assert found.legacy.closes == CLOSES, "what opens waits"
    world.api.remove(US7)
    world.process.reconcile(ARCHIVE)
    assert live(world) is None
    assert 11112 not in [port for _, port in rules(world)]


def test_contained_unless_spared(world: World):
    world.api.put(legacy_manifest("us8", 11113, sourceCIDRs=["198.18.10.78/32"]))
    world.settle(world.process)
    spared = [{"namespace": "imaging", "name": "us8"}]
    edit_spec(containment={"mode": "Isolated", "reason": "ransomware", "spareEmergencyPeers": spared})(world)
    world.settle(world.process)
    first, second = live(world), live(world, "imaging/us8")
    assert first is not None
    assert second is not None
    assert (first.contained, second.contained) == (True, None)
    assert rules(world) == [("198.18.10.78/32", 11113)]


@pytest.mark.parametrize(
    ("hours", "word"),
    [
        ({"schedule": "never"}, "schedule"),
        ({"schedule": "0 0 31 2 *"}, "schedule"),
        ({"schedule": "0 8 * * 1-5 *"}, "schedule"),
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
    ],
)
def test_hours_that_name_no_time_are_refused_and_lose_nobody(world: World, hours: dict[str, str], word: str):
    edit_spec(dicom=DICOM | {"staffedHours": HOURS | hours})(world)
    world.process.reconcile(ARCHIVE)
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "InvalidSpec"
    assert f"spec.dicom.staffedHours.{word}" in stalled["message"]
    assert live(world) is not None


def test_a_range_without_hours_is_refused(world: World):
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda item: item["spec"]["dicom"].pop("staffedHours"))
    world.process.reconcile(ARCHIVE)
    assert "spec.dicom.staffedHours" in world.condition("Stalled")["message"]


def test_the_hour_that_summer_time_leaves_out_closes_all_the_same():
    hours = StaffedHours(schedule="30 2 * * *", time_zone="Europe/Zurich")
    check(hours)
    end = datetime(2027, 3, 28, 0, 30, tzinfo=UTC)  # 01:30; at 02:00 the clocks go to 03:00
    closed = closing_time(hours, end)
    assert end <= closed <= end + timedelta(days=1, hours=1)


def test_on_the_hour_is_in_time():
    hours = StaffedHours(schedule="0 8 * * *", time_zone="Etc/UTC")
    end = datetime(2026, 12, 24, 8, tzinfo=UTC)
    assert closing_time(hours, end) == end
    assert closing_time(hours, end + timedelta(seconds=1)) == end + timedelta(days=1)
    with pytest.raises(InvalidSpecError):
        check(StaffedHours(schedule="h 8 * * *", time_zone="Etc/UTC"))
