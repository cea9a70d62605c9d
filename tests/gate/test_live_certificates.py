"""Certificates, roots and revocation lists change under open associations."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacs_operator.agent.errors import NeighbourError, ReadBackError
from pacs_operator.agent.neighbour import Changes
from pacs_operator.domain.names import CaName

from .device import PDU_AC, Device, associate_rq, client_context, echo, ends, read_answer, served_leaf, tls_connection
from .pki import Authority, Leaf
from .process import Gate, Site, peer, running_gate, wait_for

MakeDevice = Callable[..., Device]


@pytest.mark.parametrize(("leaf", "kind"), [("server-ec", "EC"), ("server-rsa", "RSA")])
def test_a_server_leaf_is_swapped_under_an_open_association(
    make_device: MakeDevice, gate: Gate, site: Site, leaf: str, kind: str
) -> None:
    device = make_device("CT1")
    context = client_context(site.peers, site.peers.issue("x.example"), server_key={"EC": "ECDSA"}.get(kind, kind))
    open_one = device.associate()
    before = served_leaf(gate.port, context)
    fresh = site.peers.issue("gate.radiology-edge.svc", kind=kind, server=True)
    fresh.write(gate.tls, leaf)
    gate.loop.run(gate.agent.apply_certificates(Changes(leaves=frozenset({leaf}))))
    assert served_leaf(gate.port, context) == fresh.certificate != before
    assert gate.loop.run(gate.agent.served())[leaf].serial == fresh.serial
    assert echo(open_one)
    assert device.echo()


def test_the_inner_client_leaf_is_swapped(site: Site, folder: Path) -> None:
    """Seen by its end: one from a foreign authority is refused by the archive, a good one works again."""
    with running_gate(site, folder) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(peer("ct1", "ct1.imaging.example", "CT1"))
        device = Device(gate.port, client_context(site.peers, site.peers.issue("ct1.imaging.example")))
        open_one = device.associate()
        changed = Changes(leaves=frozenset({"orthanc-client"}))
        for authority, served in ((site.peers, False), (site.internal, True)):
            authority.issue("gate.radiology-edge.svc").write(gate.tls, "orthanc-client")
            gate.loop.run(gate.agent.apply_certificates(changed))
            wait_for(lambda served=served: device.echo() is served, "the new leaf is in use")  # type: ignore[misc]
            assert echo(open_one)


def test_a_root_is_swapped(site: Site, folder: Path) -> None:
    """Both roots in one file while a lineage moves; the certificate of the added one is then served."""
    with running_gate(site, folder) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(peer("ct1", "ct1.imaging.example", "CT1"))
        coming = Authority("peers of tomorrow")
        today = Device(gate.port, client_context(site.peers, site.peers.issue("ct1.imaging.example")))
        tomorrow = Device(gate.port, client_context(site.peers, coming.issue("ct1.imaging.example")))
        open_one = today.associate()
        assert not tomorrow.echo()
        (gate.tls / "ca-peers.pem").write_bytes(site.peers.root_pem() + b"\n\n" + coming.root_pem())
        (gate.tls / "crl-peers.pem").write_bytes(site.peers.crl_pem() + b"\n" + coming.crl_pem())
        changed = Changes(roots=frozenset({CaName.PEERS}), crls=frozenset({CaName.PEERS}))
        gate.loop.run(gate.agent.apply_certificates(changed))
        assert tomorrow.echo()
        assert today.echo()
        assert echo(open_one)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_unusable_file_is_refused_and_the_old_one_stays(make_device: MakeDevice, gate: Gate, content: bytes) -> None:
    device = make_device("CT1")
    path = gate.tls / "server-ec.pem"
    good = path.read_bytes()
    try:
        path.write_bytes(content)
        with pytest.raises(NeighbourError):
            gate.loop.run(gate.agent.apply_certificates(Changes(leaves=frozenset({"server-ec"}))))
        assert device.echo()
    finally:
        path.write_bytes(good)
    gate.loop.run(gate.agent.apply_certificates(Changes(leaves=frozenset({"server-ec"}))))
    assert device.echo()


@pytest.fixture
def two_certificates(gate: Gate, site: Site) -> Iterator[tuple[Leaf, Device, Device]]:
    """Return a peer's certificate that will be revoked, the device that has it, and a device of another peer."""
    stolen = site.peers.issue("ct1.imaging.example")
    gate.put(peer("ct1", "ct1.imaging.example", "CT1"), peer("mr1", "mr1.imaging.example", "MR1"))
    bad = Device(gate.port, client_context(site.peers, stolen))
    good = Device(gate.port, client_context(site.peers, site.peers.issue("mr1.imaging.example")), calling="MR1")
    yield stolen, bad, good
    bad.close()
    good.close()


def test_revocation_ends_open_associations(
    gate: Gate, site: Site, two_certificates: tuple[Leaf, Device, Device]
) -> None:
    stolen, bad, good = two_certificates
    open_bad, open_good = bad.associate(), good.associate()
    wait_for(lambda: gate.activity("imaging/ct1").last_association, "the record of the association arrived")
    site.peers.revoke(stolen)
    gate.refresh_crl()
    ends(open_bad)
    assert echo(open_good)
    assert not bad.echo()
    bad.context = client_context(site.peers, site.peers.issue("ct1.imaging.example"))
    assert bad.echo()


def test_revocation_ends_what_began_before_the_agent(
    gate: Gate, site: Site, two_certificates: tuple[Leaf, Device, Device]
) -> None:
    """Whose certificate opened it, a new agent cannot know: when the list grows, what is in doubt ends; else not."""
    stolen, bad, _ = two_certificates
    open_bad = bad.associate()
    gate.new_agent()
    gate.apply(gate.live)
    gate.refresh_crl()
    assert echo(open_bad)
    site.peers.revoke(stolen)
    gate.refresh_crl()
    ends(open_bad)


def test_a_handshake_just_before_the_revocation_lets_nobody_stay(
    gate: Gate, site: Site, two_certificates: tuple[Leaf, Device, Device]
) -> None:
    """The list is looked at in the handshake only; who was through it is found by the agent's next round."""
    stolen, bad, good = two_certificates
    open_good = good.associate()
    with tls_connection(gate.port, bad.context) as connection:
        connection.sendall(associate_rq()[:10])  # handshake over, request not
        site.peers.revoke(stolen)
        gate.refresh_crl()
        connection.sendall(associate_rq()[10:])
        assert read_answer(connection).pdu == PDU_AC
        wait_for(lambda: gate.activity("imaging/ct1").last_association, "the record of the association arrived")
        gate.apply(gate.live)
        assert connection.recv(1) == b""
    assert echo(open_good)
    gate.apply(gate.live)
    assert echo(open_good)


def test_another_certificate_in_use_than_committed_is_noticed(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def another(_path: Path) -> str:
        return "00"

    monkeypatch.setattr(gate.agent._socket, "serial_of", another)
    with pytest.raises(ReadBackError, match=r"another certificate than the one in server-ec\.pem"):
        gate.loop.run(gate.agent.apply_certificates(Changes(leaves=frozenset({"server-ec"}))))


@pytest.mark.parametrize("leaf", ["server-ec", "server-rsa", "orthanc-client"])
def test_leaves_lists_and_roots_in_turn(site: Site, folder: Path, leaf: str) -> None:
    """A pod's weeks: lists every hour, a leaf every few days.

    Debian's HAProxy 3.0.11 loses the leaf, then crashes (fixed upstream in October 2025): instances made for a new
    list are unknown to their certificate, so the next leaf is confirmed but not served, and the list after it uses
    freed memory.
    """
    kind = "RSA" if leaf == "server-rsa" else "EC"
    key_type = "RSA" if leaf == "server-rsa" else "ECDSA"
    with running_gate(site, folder) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(peer("ct1", "ct1.imaging.example", "CT1"))
        device = Device(gate.port, client_context(site.peers, site.peers.issue("ct1.imaging.example")))
        stranger = client_context(site.peers, site.peers.issue("x.example"), server_key=key_type)
        open_one = device.associate()
        authority = site.internal if leaf == "orthanc-client" else site.peers
        trust = Changes(roots=frozenset({CaName.PEERS, CaName.INTERNAL}), crls=frozenset({CaName.PEERS}))
        for _ in range(4):
            gate.refresh_crl()
            fresh = authority.issue("gate.radiology-edge.svc", kind=kind, server=leaf != "orthanc-client")
            fresh.write(gate.tls, leaf)
            gate.loop.run(gate.agent.apply_certificates(Changes(leaves=frozenset({leaf}))))
            if leaf != "orthanc-client":
                assert served_leaf(gate.port, stranger) == fresh.certificate
            gate.loop.run(gate.agent.apply_certificates(trust))
            assert device.echo()
            assert echo(open_one)
        assert gate.process.poll() is None
