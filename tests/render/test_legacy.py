"""What devices without TLS are rendered to: listeners by the archive's range, doors by its peers."""

from typing import Any

import pytest

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.gatepeers import LegacyDoor, LivePeer, LivePeers
from pacs_operator.domain.legacy import LegacyPorts
from pacs_operator.render import config_hash, render_archive
from tests.render.archives import SPEC, config_data, desired, live_peer

PORTS = {"first": 11112, "last": 11115, "firstNodePort": 31112}
DICOM = {
    "aeTitle": "RADIOLOGY",
    "legacyPorts": PORTS,
    "staffedHours": {"schedule": "0 8-16 * * 1-5", "timeZone": "Etc/UTC"},
}


def old_device(key: str, port: int, cidr: str) -> LivePeer:
    door = LegacyDoor(port=port, closes="2027-01-01T08:00:00Z")
    known = live_peer(key, [cidr]).model_dump() | {"dns_name": None, "legacy": door.model_dump()}
    return LivePeer.model_validate(known)


def rendered(dicom: dict[str, Any], *peers: LivePeer, **spec: Any) -> list[dict[str, Any]]:
    return render_archive(desired({"dicom": dicom, **spec}, peers=LivePeers(revision="r", peers=list(peers))))


def gate_service(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (found,) = [m for m in manifests if m["kind"] == "Service" and m["metadata"]["name"] == "gate"]
    ports: list[dict[str, Any]] = found["spec"]["ports"]
    return ports


def ingress(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (found,) = [m for m in manifests if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "gate-ingress"]
    rules: list[dict[str, Any]] = found["spec"]["ingress"]
    return rules


def test_each_device_reaches_its_own_port_and_no_other() -> None:
    peers = [
        old_device("imaging/us7", 11113, "198.18.10.77/32"),
        old_device("imaging/us9", 11115, "198.18.10.79/32"),
        live_peer("imaging/ct1", ["198.18.1.0/24"]),
    ]
    manifests = rendered(DICOM, *peers)
    assert {
        "from": [{"ipBlock": {"cidr": "198.18.10.77/32"}}],
        "ports": [{"protocol": "TCP", "port": 11113}],
    } in ingress(manifests)
    tls = next(rule for rule in ingress(manifests) if {"ipBlock": {"cidr": "198.18.1.0/24"}} in rule["from"])
    assert tls["from"] == [{"ipBlock": {"cidr": "198.18.1.0/24"}}], "no way to the TLS port for those without TLS"
    assert [(port["name"], port["port"], port.get("nodePort")) for port in gate_service(manifests)] == [
        ("dicom-tls", 2762, 30762),
        ("legacy-11113", 11113, 31113),
        ("legacy-11115", 11115, 31115),
    ]


def test_a_device_that_comes_or_goes_restarts_nothing() -> None:
    nobody = desired({"dicom": DICOM})
    somebody = desired(
        {"dicom": DICOM}, peers=LivePeers(revision="r", peers=[old_device("a/a", 11112, "198.18.10.77/32")])
    )
    assert config_hash(nobody) == config_hash(somebody)
    assert config_hash(nobody) != config_hash(desired({"dicom": {"aeTitle": "RADIOLOGY"}})), "a new range does"


def test_the_listeners_are_those_of_the_range() -> None:
    config = config_data(rendered(DICOM), "gate")["haproxy.cfg"]
    assert "bind 0.0.0.0:11112-11115 name plaintext" in config
    six = rendered(DICOM, peers={**SPEC["peers"], "allowedCIDRs": ["2001:db8::/48"]})
    assert "bind :::11112-11115 v4v6 name plaintext" in config_data(six, "gate")["haproxy.cfg"]
    assert "plaintext" not in config_data(render_archive(desired()), "gate")["haproxy.cfg"]


@pytest.mark.parametrize(
    ("first", "last"), [(11112, 11111), (11112, 11128), (2760, 2770), (4240, 4250), (8080, 8080), (8440, 8445)]
)
def test_a_range_that_is_none_or_ours_is_refused(first: int, last: int) -> None:
    LegacyPorts(first=11112, last=11127)
    with pytest.raises(InvalidSpecError, match=r"spec\.dicom\.legacyPorts"):
        LegacyPorts(first=first, last=last)
