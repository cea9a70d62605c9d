"""Authorities that HAProxy does not take, or not at once: whom that may keep in, and whom it may not touch."""

import pytest
from cryptography import x509

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.gate import GateNeighbour
from pacs_operator.agent.haproxy import RuntimeSocket
from pacs_operator.domain.gatepeers import LiveIssuer

from .device import PDU_RJ, Device, client_context, echo, ends
from .hospital import ACCEPTED, NAME, UNKNOWN, Hospital, answer, context, reason
from .pki import Authority
from .process import Gate, peer


@pytest.fixture(scope="module")
def gate(trusting_gate: Gate) -> Gate:
    return trusting_gate


def test_an_authority_that_haproxy_will_not_take_keeps_nobody_in(gate: Gate) -> None:
    """Its lists are longer than one command can be: who goes, goes all the same, and nobody else is touched."""
    names = {title: f"{title.lower()}.imaging.example" for title in ("GOES", "HELD", "STAYS")}
    leaves = {title: gate.site.peers.issue(name) for title, name in names.items()}
    peers = {title: peer(title.lower(), name, title) for title, name in names.items()}
    gate.put(*peers.values())
    goes, held, stays = (
        Device(gate.port, client_context(gate.site.peers, leaves[title]), calling=title).associate() for title in names
    )
    authorities = [Authority(f"Long {number}") for number in range(3)]
    for one in authorities:
        one.revoked = [x509.random_serial_number() for _ in range(1000)]
    gate.issuers = [
        LiveIssuer(name=f"long-{number}", ca_pem=one.chain_pem(), crl_pem=one.crl_pem().decode())
        for number, one in enumerate(authorities)
    ]
    contained = peers["HELD"].model_copy(update={"contained": True})
    late = peer("late", "late.imaging.example", "LATE")
    for _ in range(2):
        with pytest.raises(NeighbourError, match="did not take the new content"):
            gate.apply({one.id: one for one in (contained, peers["STAYS"], late)})
    ends(goes)
    ends(held)
    assert echo(stays)
    assert answer(gate, leaves["GOES"], title=b"GOES") == UNKNOWN
    assert (answer(gate, leaves["HELD"], title=b"HELD").pdu, reason(gate)) == (PDU_RJ, "Contained")
    assert answer(gate, leaves["STAYS"], title=b"STAYS") == ACCEPTED
    assert answer(gate, gate.site.peers.issue("late.imaging.example"), title=b"LATE") == UNKNOWN, "nobody new"
    assert gate.loop.run(gate.agent.ready())
    gate.trust(gate.issuers[0])
    gate.put(late)
    assert answer(gate, gate.site.peers.issue("late.imaging.example"), title=b"LATE") == ACCEPTED


def test_what_an_authority_vouched_for_ends_also_after_a_failure(
    gate: Gate, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"), peer("mr1", "mr1.imaging.example", "MR1"))
    own = gate.site.peers.issue("mr1.imaging.example")
    open_one = Device(gate.port, context(gate.site, hospital.imaging.issue(NAME))).associate()
    bystander = Device(gate.port, client_context(gate.site.peers, own), calling="MR1").associate()
    other = Authority("Other CA")
    new = LiveIssuer(name="hospital", ca_pem=other.chain_pem(), crl_pem=other.crl_pem().decode())

    async def fails(self: object, *_: object) -> None:
        raise NeighbourError("HAProxy is busy", action="try again")

    with monkeypatch.context() as patch, pytest.raises(NeighbourError, match="busy"):
        patch.setattr(GateNeighbour, "_end_sessions", fails)
        patch.setattr(RuntimeSocket, "replace_file", fails)
        gate.trust(new)
    assert echo(open_one), "neither way was there"
    gate.trust(new)
    ends(open_one)
    assert echo(bystander)
    assert answer(gate, other.issue(NAME)) == ACCEPTED
