"""A break-glass reader at a real gate: let in, told apart in every record, counted, and out at its end."""

from datetime import UTC, datetime, timedelta

from pacs_operator.domain.breakglass import Box, BreakGlass
from pacs_operator.domain.gatepeers import LivePeers

from .device import Device, ask, associate_rq, client_context, echo, ends
from .process import Gate, Site, peer, wait_for


def test_let_in_recorded_and_out_at_its_end(gate: Gate, site: Site) -> None:
    now = datetime.now(UTC)
    said = {"holder": "dr-keller", "aeTitle": "EMERGENCY1", "sourceCIDRs": ["127.0.0.0/8"], "rights": ["Find"]}
    box = Box(BreakGlass.model_validate({**said, "hours": 1}), now, now + timedelta(hours=1), ("anna", "ben"))
    context = client_context(site.peers, site.peers.issue(box.what.dns_name))
    request = associate_rq(calling=b"EMERGENCY1")
    assert ask(gate.port, context, request).rejection == (1, 1, 3)
    gate.put(peer("ct1", "ct1.imaging.example", "CT1"), box.peer)
    reader = Device(gate.port, context, calling="EMERGENCY1")
    open_one = reader.associate()
    other = Device(gate.port, client_context(site.peers, site.peers.issue("ct1.imaging.example"))).associate()
    assert echo(open_one)
    wait_for(lambda: gate.activity("break.glass/dr-keller").associations == 1, "counted")
    assert [record["source"] for record in gate.records() if record.get("peer") == "break.glass/dr-keller"] == [
        "127.0.0.1"
    ]
    told = LivePeers(revision="r", peers=list(gate.live.values()))
    assert told.at(box.until - timedelta(seconds=1)) == told
    left = told.at(box.until)
    gate.apply({one.id: one for one in left.peers})
    ends(open_one)
    assert echo(other)
    assert ask(gate.port, context, request).rejection == (1, 1, 3)
