"""What Orthanc sends leaves for the listed device alone: its address, its certificate, nobody else's request."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from pacs_operator.agent.neighbour import Changes
from pacs_operator.domain import gatemaps
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.outbound import Outbound
from tests.machine import free_port

from .archive import ORTHANC_NAME, Archive
from .device import Device, ask, associate_rq, client_context, echo, ends, rejection
from .pki import Authority, Leaf
from .process import Gate, Site, peer, running_gate

WS1 = "ws1.imaging.example"
_numbers = itertools.count(1)


@dataclass
class Receivers:
    """Makes devices that listen; each counts the associations that reach it."""

    site: Site
    folder: Path
    stack: contextlib.ExitStack

    def tls(self, leaf: Leaf, clients: Authority | None = None, port: int = 0) -> Archive:
        folder = self.folder / f"receiver{next(_numbers)}"
        folder.mkdir()
        receiver = Archive(folder, leaf, clients or self.site.peers, port)
        self.stack.callback(receiver.stop)
        return receiver

    def good(self, name: str = WS1) -> Archive:
        return self.tls(self.site.peers.issue(name, server=True))


@pytest.fixture
def receivers(site: Site, tmp_path: Path) -> Iterator[Receivers]:
    with contextlib.ExitStack() as stack:
        yield Receivers(site, tmp_path, stack)


@pytest.fixture
def revocable(gate: Gate, site: Site) -> Iterator[Site]:
    """Take revocations back, for the tests that share the authority."""
    yield site
    site.peers.revoked.clear()
    gate.refresh_crl()


def receiving(name: str, dns_name: str, *titles: str, port: int, address: str = "127.0.0.1") -> LivePeer:
    entry = peer(name, dns_name, *titles)
    return entry.model_copy(update={"outbound": Outbound(address=address, port=port)})


def orthanc(gate: Gate, called: str = "WS1", leaf: Leaf | None = None) -> Device:
    """Return Orthanc as the gate's outbound side sees it."""
    leaf = leaf or gate.site.internal.issue(ORTHANC_NAME)
    return Device(gate.outbound_port, client_context(gate.site.internal, leaf), calling="RADIOLOGY", called=called)


def test_the_listed_device_is_reached_as_the_gate(gate: Gate, receivers: Receivers) -> None:
    receiver = receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
    assert orthanc(gate).echo()
    assert receiver.associations == {"RADIOLOGY": 1}
    (record,) = (entry for entry in gate.records() if entry.get("reason") == "OutboundOpened")
    assert (record["called"], record["name"], record["tls"]) == ("WS1", WS1, "TLSv1.3")


def test_each_title_reaches_its_own_device(gate: Gate, receivers: Receivers) -> None:
    first, second = receivers.good(WS1), receivers.good("ws2.imaging.example")
    gate.put(
        receiving("ws1", WS1, "WS1", "WS1_ALT", port=first.port),
        receiving("ws2", "ws2.imaging.example", "WS2", port=second.port),
    )
    assert [orthanc(gate, title).echo() for title in ("WS1", "WS1_ALT", "WS2")] == [True] * 3
    assert (first.associations.total(), second.associations.total()) == (2, 1)


@pytest.mark.parametrize(
    "bad",
    [
        lambda site: site.peers.issue("ws2.imaging.example", server=True),
        lambda site: site.peers.issue(f"other.{WS1}", server=True),
        lambda site: Authority("another hospital").issue(WS1, server=True),
        lambda site: site.internal.issue(WS1, server=True),
        lambda site: site.peers.issue(WS1, server=True, days=-1),
        lambda site: site.peers.issue(WS1),
    ],
    ids=["other-name", "longer-name", "other-authority", "inner-authority", "expired", "client-only"],
)
def test_a_device_that_does_not_prove_its_name_gets_nothing(
    gate: Gate, receivers: Receivers, bad: Callable[[Site], Leaf]
) -> None:
    good = receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=good.port))
    assert orthanc(gate).echo()
    impostor = receivers.tls(bad(gate.site))
    gate.put(receiving("ws1", WS1, "WS1", port=impostor.port))
    assert not orthanc(gate).associate().is_established
    assert not impostor.associations
    gate.put(receiving("ws1", WS1, "WS1", port=good.port))
    assert orthanc(gate).echo()


def test_a_revoked_device_gets_nothing(gate: Gate, receivers: Receivers, revocable: Site) -> None:
    leaf = revocable.peers.issue(WS1, server=True)
    receiver = receivers.tls(leaf)
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
    assert orthanc(gate).echo()
    revocable.peers.revoke(leaf)
    gate.refresh_crl()
    assert not orthanc(gate).associate().is_established
    assert receiver.associations.total() == 1


def test_a_device_without_tls_gets_nothing(gate: Gate, receivers: Receivers) -> None:
    requested: list[str] = []
    ae = AE(ae_title="WS1")
    ae.add_supported_context(Verification)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_REQUESTED, lambda event: requested.append("seen"))]
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    receivers.stack.callback(server.shutdown)
    client = AE(ae_title="X")
    client.add_requested_context(Verification)
    client.associate("127.0.0.1", port).release()  # it would serve
    assert requested == ["seen"]
    gate.put(receiving("ws1", WS1, "WS1", port=port))
    assert not orthanc(gate).associate().is_established
    assert requested == ["seen"]


def test_a_device_that_trusts_another_gate_is_not_spoken_to(gate: Gate, receivers: Receivers) -> None:
    """The gate shows a certificate of the peers' authority: whoever trusts that one only sees that it does."""
    receiver = receivers.tls(gate.site.peers.issue(WS1, server=True), clients=Authority("another gate's"))
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
    assert not orthanc(gate).associate().is_established
    assert not receiver.associations


@pytest.mark.parametrize(
    "leaf",
    [
        lambda site: site.internal.issue("gate.radiology-edge.svc"),
        lambda site: site.internal.issue("postgres.radiology-data.svc"),
        lambda site: site.internal.issue(ORTHANC_NAME, "postgres.radiology-data.svc"),
        lambda site: site.peers.issue(ORTHANC_NAME),
        lambda site: site.internal.issue(ORTHANC_NAME, days=-1),
        None,
    ],
    ids=["gate", "postgres", "two-names", "peers-authority", "expired", "no-certificate"],
)
def test_nobody_but_orthanc_may_send(gate: Gate, receivers: Receivers, leaf: Callable[[Site], Leaf] | None) -> None:
    receiver = receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
    assert orthanc(gate).echo()
    context = client_context(gate.site.internal, leaf(gate.site) if leaf else None)
    answer = ask(gate.outbound_port, context, associate_rq(called=b"WS1", calling=b"RADIOLOGY"))
    assert (answer.pdu, answer.rejection) == (None, None)
    assert receiver.associations.total() == 1


def test_plaintext_is_not_answered(gate: Gate, receivers: Receivers) -> None:
    receiver = receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
    client = AE(ae_title="RADIOLOGY")
    client.add_requested_context(Verification)
    client.acse_timeout = 10
    assert not client.associate("127.0.0.1", gate.outbound_port, ae_title="WS1").is_established
    assert not receiver.associations


def test_an_unlisted_title_is_told_that_nobody_has_it(gate: Gate, receivers: Receivers) -> None:
    receiver = receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port), peer("ct1", "ct1.imaging.example", "CT1"))
    for title in ("NOBODY", "CT1", "ws1"):
        assert rejection(orthanc(gate, title)) == (1, 1, 7)
    assert not receiver.associations


def test_a_removed_destination_stops_at_once(gate: Gate, receivers: Receivers) -> None:
    first, second = receivers.good(WS1), receivers.good("ws2.imaging.example")
    entries = [
        receiving("ws1", WS1, "WS1", port=first.port),
        receiving("ws2", "ws2.imaging.example", "WS2", port=second.port),
    ]
    gate.put(*entries)
    leaving, staying = orthanc(gate, "WS1").associate(), orthanc(gate, "WS2").associate()
    assert echo(leaving) and echo(staying)
    gate.put(entries[0].model_copy(update={"outbound": None}))
    ends(leaving)
    assert rejection(orthanc(gate, "WS1")) == (1, 1, 7)
    assert echo(staying)
    gate.put(entries[0])
    assert orthanc(gate, "WS1").echo()


def test_a_contained_destination_is_sent_nothing(gate: Gate, receivers: Receivers) -> None:
    receiver = receivers.good()
    entry = receiving("ws1", WS1, "WS1", port=receiver.port)
    gate.put(entry)
    open_one = orthanc(gate).associate()
    gate.put(entry.model_copy(update={"contained": True}))
    ends(open_one)
    assert rejection(orthanc(gate)) == (1, 1, 7)
    gate.put(entry)
    assert orthanc(gate).echo()


def test_a_moved_destination_is_left_at_once(gate: Gate, receivers: Receivers) -> None:
    before, after = receivers.good(), receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=before.port))
    open_one = orthanc(gate).associate()
    assert echo(open_one)
    gate.put(receiving("ws1", WS1, "WS1", port=after.port))
    ends(open_one)
    assert orthanc(gate).echo()
    assert (before.associations.total(), after.associations.total()) == (1, 1)


def test_a_new_agent_leaves_open_connections_alone(gate: Gate, receivers: Receivers) -> None:
    receiver = receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
    open_one = orthanc(gate).associate()
    gate.new_agent()
    gate.put()
    assert echo(open_one)


def test_a_route_that_somebody_else_wrote_is_taken_away(gate: Gate, receivers: Receivers) -> None:
    foreign = receivers.good("foreign.imaging.example")
    title = gatemaps.title_hex("FOREIGN")
    route = f"003/127.0.0.1/{foreign.port}/foreign.imaging.example"
    assert gate.ask(f"add map {gatemaps.ROUTES} {title} {route}").strip() == ""
    open_one = orthanc(gate, "FOREIGN").associate()
    assert echo(open_one)
    gate.put()
    ends(open_one)
    assert rejection(orthanc(gate, "FOREIGN")) == (1, 1, 7)


@pytest.mark.parametrize("route", ["003//104/ws1.imaging.example", "003/not-an-address/104/ws1", "x", "999/a/b/c"])
def test_a_route_that_makes_no_sense_leads_nowhere(gate: Gate, receivers: Receivers, route: str) -> None:
    gate.ask(f"add map {gatemaps.ROUTES} {gatemaps.title_hex('WS1')} {route}")
    assert not orthanc(gate).associate().is_established


def test_the_outbound_leaves_are_swapped_live(gate: Gate, receivers: Receivers) -> None:
    receiver = receivers.good()
    gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
    changed = Changes(leaves=frozenset({"outbound-client"}))
    foreign = Authority("foreign")
    for authority, served in ((foreign, False), (gate.site.peers, True)):
        authority.issue("gate.radiology-edge.svc").write(gate.tls, "outbound-client")
        gate.loop.run(gate.agent.apply_certificates(changed))
        assert orthanc(gate).associate().is_established is served


def without_name(text: str) -> str:
    """Take out what binds the connection to one device's name."""
    edited = text.replace(" sni var(txn.name) verifyhost none.invalid", "")
    assert edited != text
    return edited


def test_without_the_name_any_device_of_the_authority_would_receive(
    site: Site, folder: Path, receivers: Receivers
) -> None:
    with running_gate(site, folder, without_name) as gate:
        receiver = receivers.good("ws2.imaging.example")
        gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
        assert orthanc(gate).echo()


def without_caller(text: str) -> str:
    edited = text.replace("str(OutboundNotOrthanc) unless {", "str(OutboundNotOrthanc) if FALSE {")
    assert edited != text
    return edited


def test_without_the_caller_rule_any_pod_of_the_archive_could_send(
    site: Site, folder: Path, receivers: Receivers
) -> None:
    with running_gate(site, folder, without_caller) as gate:
        receiver = receivers.good()
        gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
        assert orthanc(gate, leaf=site.internal.issue("postgres.radiology-data.svc")).echo()
