"""The zone's quota lets the gate's Service have each port of the nodes that the spec can need, and no more."""

from typing import Any

import pytest

from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.render import render_archive

from .archives import desired, live_peer

LEGACY: dict[str, Any] = {
    "aeTitle": "RADIOLOGY",
    "legacyPorts": {"first": 11112, "last": 11114},
    "staffedHours": {"schedule": "0 8 * * *", "timeZone": "Etc/UTC"},
}


def everybody(dicom: dict[str, Any]) -> LivePeers:
    """Return a device without TLS at each port that there is for one."""
    ports = dicom.get("legacyPorts")
    numbers = range(ports["first"], ports["last"] + 1) if ports else range(0)
    peers = [
        LivePeer.model_validate(
            live_peer(f"imaging/us{number}", ["198.18.40.7/32"]).model_dump()
            | {"dns_name": None, "legacy": {"port": number}}
        )
        for number in numbers
    ]
    return LivePeers(revision="r", peers=peers)


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
@pytest.mark.parametrize("web", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_quota_has_room_for_each_port(kind: str, web: bool, legacy: bool) -> None:
    dicom = LEGACY if legacy else {"aeTitle": "RADIOLOGY"}
    spec: dict[str, Any] = {"gate": {"service": {"type": kind}}, "dicom": dicom, **({"dicomweb": {}} if web else {})}
    manifests = render_archive(desired(spec, peers=everybody(dicom)))
    (service,) = (m for m in manifests if m["kind"] == "Service" and m["metadata"]["name"] == "gate")
    (quota,) = (m for m in manifests if m["kind"] == "ResourceQuota" and m["metadata"]["namespace"] == "radiology-edge")
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert int(quota["spec"]["hard"]["services.nodeports"]) == len(service["spec"]["ports"])
    assert quota["spec"]["hard"]["services.loadbalancers"] == ("1" if kind == "LoadBalancer" else "0")
