"""Certificates of the hospital's own authorities, and pinned keys: who issued it counts, not the name alone."""

import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pacs_operator.agent.errors import InvalidPeersError
from pacs_operator.domain.gatepeers import LiveIssuer

from .device import (
    Device,
    associate_rq,
    client_context,
    echo,
    ends,
    read_answer,
    tls_connection,
)
from .hospital import ACCEPTED, NAME, NO_HANDSHAKE, UNKNOWN, Hospital, answer, context, reason
from .pki import Authority, Leaf, make_key
from .process import Gate, Site, peer, running_gate, wait_for


@pytest.fixture(scope="module")
def gate(trusting_gate: Gate) -> Gate:
    return trusting_gate


def spki(leaf: Leaf) -> str:
    key = leaf.key.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_issuer_and_name_together_let_a_peer_in(gate: Gate, hospital: Hospital, kind: str) -> None:
    """The same name from four issuers: each is let in where the peer names that issuer, and nowhere else."""
    gate.trust(hospital.issuer())
    theirs, ours = hospital.imaging.issue(NAME, kind=kind), gate.site.peers.issue(NAME, kind=kind)
    sibling, stranger = hospital.office.issue(NAME, kind=kind), Authority("stranger").issue(NAME, kind=kind)
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    assert answer(gate, theirs) == ACCEPTED
    assert answer(gate, theirs, hospital.imaging.chain_pem()) == ACCEPTED
    assert (answer(gate, ours), reason(gate)) == (UNKNOWN, "UnknownCertificate")
    assert answer(gate, sibling) == NO_HANDSHAKE, "nobody has its issuer's certificate"
    assert (answer(gate, sibling, hospital.office.chain_pem()), reason(gate)) == (UNKNOWN, "IssuerNotTrusted")
    assert answer(gate, stranger) == NO_HANDSHAKE
    gate.put(peer("ct1", NAME, "CT1"))
    assert (answer(gate, theirs), reason(gate)) == (UNKNOWN, "UnknownCertificate")
    assert answer(gate, ours) == ACCEPTED
    assert (answer(gate, sibling, hospital.office.chain_pem()), reason(gate)) == (UNKNOWN, "IssuerNotTrusted")


def test_both_may_have_the_same_name(gate: Gate, hospital: Hospital) -> None:
    gate.trust(hospital.issuer())
    gate.put(peer("ours", NAME, "OURS"), peer("theirs", NAME, "THEIRS", issuer="hospital"))
    theirs, ours = hospital.imaging.issue(NAME), gate.site.peers.issue(NAME)
    assert answer(gate, ours, title=b"OURS") == ACCEPTED
    assert answer(gate, theirs, title=b"THEIRS") == ACCEPTED
    assert (answer(gate, ours, title=b"THEIRS"), reason(gate)) == (UNKNOWN, "WrongCallingAETitle")
    assert (answer(gate, theirs, title=b"OURS"), reason(gate)) == (UNKNOWN, "WrongCallingAETitle")


def test_a_sibling_of_the_same_subject_is_nobody(gate: Gate, hospital: Hospital) -> None:
    """Its subject, the issuer in its certificates, is the named authority's to the letter; its key is another.

    Without lists: with them the handshake fails already, since the named authority's list is not signed by that key.
    """
    gate.trust(hospital.issuer(lists=False))
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    twin = Authority("Hospital imaging CA", parent=hospital.root)
    leaf = twin.issue(NAME)
    assert leaf.certificate.issuer == hospital.imaging.certificate.subject
    assert (answer(gate, leaf, twin.chain_pem()), reason(gate)) == (UNKNOWN, "IssuerNotTrusted")
    assert answer(gate, hospital.imaging.issue(NAME), hospital.imaging.chain_pem()) == ACCEPTED


def test_expired_and_revoked(gate: Gate, hospital: Hospital) -> None:
    good, old, stolen = (hospital.imaging.issue(NAME, days=days) for days in (7, -1, 7))
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    assert answer(gate, old) == NO_HANDSHAKE
    device, other = (Device(gate.port, context(gate.site, leaf)) for leaf in (stolen, good))
    gate.put(peer("ct2", "ct2.imaging.example", "CT2", issuer="hospital"))
    other = Device(gate.port, context(gate.site, hospital.imaging.issue("ct2.imaging.example")), calling="CT2")
    open_one, open_other = device.associate(), other.associate()
    wait_for(lambda: gate.activity("imaging/ct1").last_association, "its record arrived")
    hospital.imaging.revoke(stolen)
    gate.trust(hospital.issuer())
    ends(open_one)
    assert echo(open_other)
    assert answer(gate, stolen) == NO_HANDSHAKE
    assert answer(gate, good) == ACCEPTED


def test_an_expired_list_goes_on_refusing_what_it_lists(gate: Gate, hospital: Hospital) -> None:
    good, stolen = hospital.imaging.issue(NAME), hospital.imaging.issue(NAME)
    hospital.imaging.revoke(stolen)
    lists = (hospital.imaging.crl_pem(days=-1) + hospital.root.crl_pem(days=-1)).decode()
    gate.trust(LiveIssuer(name="hospital", ca_pem=hospital.imaging.chain_pem(), crl_pem=lists))
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    assert answer(gate, stolen) == NO_HANDSHAKE
    assert answer(gate, good) == ACCEPTED


def test_without_a_list_only_by_consent(gate: Gate, hospital: Hospital) -> None:
    leaf = hospital.imaging.issue(NAME)
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    gate.trust(hospital.issuer(lists=False))
    assert answer(gate, leaf) == ACCEPTED
    gate.ask("clear map virt@unchecked")  # as if the list had been lost by mistake
    assert (answer(gate, leaf), reason(gate)) == (UNKNOWN, "RevocationUnknown")
    gate.trust(hospital.issuer(lists=False))
    assert answer(gate, leaf) == ACCEPTED


def test_an_issuer_comes_and_goes_live(gate: Gate, hospital: Hospital) -> None:
    """Nothing is reloaded: another peer's association is open all the while; the issuer's own ends with it."""
    gate.put(peer("mr1", "mr1.imaging.example", "MR1"), peer("ct1", NAME, "CT1", issuer="hospital"))
    leaf = hospital.imaging.issue(NAME)
    bystander = Device(
        gate.port, client_context(gate.site.peers, gate.site.peers.issue("mr1.imaging.example")), calling="MR1"
    )
    watching = bystander.associate()
    assert answer(gate, leaf) == NO_HANDSHAKE
    gate.trust(hospital.issuer())
    theirs = Device(gate.port, context(gate.site, leaf)).associate()
    assert echo(theirs)
    gate.trust()
    ends(theirs)
    assert answer(gate, leaf) == NO_HANDSHAKE
    assert echo(watching)


def test_another_authority_under_the_same_name_ends_what_the_first_vouched_for(gate: Gate, hospital: Hospital) -> None:
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    open_one = Device(gate.port, context(gate.site, hospital.imaging.issue(NAME))).associate()
    gate.trust(hospital.issuer())
    assert echo(open_one)
    other = Authority("Other CA")
    gate.trust(LiveIssuer(name="hospital", ca_pem=other.chain_pem(), crl_pem=other.crl_pem().decode()))
    ends(open_one)
    assert answer(gate, hospital.imaging.issue(NAME)) == NO_HANDSHAKE
    assert answer(gate, other.issue(NAME)) == ACCEPTED


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_a_pinned_key(gate: Gate, hospital: Hospital, kind: str) -> None:
    key = make_key(kind)
    first, renewed = (gate.site.peers.self_signed("device", key=key) for _ in range(2))
    gate.put(peer("ct1", "", "CT1", spki=spki(first)))
    assert answer(gate, first) == ACCEPTED
    assert answer(gate, renewed) == ACCEPTED, "another certificate of the same key"
    other = gate.site.peers.self_signed("device", key=make_key(kind))
    assert (answer(gate, other), reason(gate)) == (UNKNOWN, "UnknownCertificate")
    assert answer(gate, gate.site.peers.self_signed("device", key=key, days=-1)) == NO_HANDSHAKE
    assert answer(gate, gate.site.peers.issue(NAME, key=key)) == ACCEPTED, "of the archive's own authority"
    assert answer(gate, hospital.imaging.issue(NAME, key=key)) == NO_HANDSHAKE, "of one that nobody named"
    gate.trust(hospital.issuer())
    assert answer(gate, hospital.imaging.issue(NAME, key=key)) == ACCEPTED
    sibling = hospital.office.issue(NAME, key=key)
    assert (answer(gate, sibling, hospital.office.chain_pem()), reason(gate)) == (UNKNOWN, "IssuerNotTrusted")


def test_a_name_that_a_device_gives_itself_is_nobodys(gate: Gate, hospital: Hospital) -> None:
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1"), peer("ct2", NAME, "CT2", issuer="hospital"))
    for title in (b"CT1", b"CT2"):
        assert (answer(gate, gate.site.peers.self_signed(NAME), title=title), reason(gate)) == (
            UNKNOWN,
            "UnknownCertificate",
        )
    assert answer(gate, gate.site.peers.issue(NAME)) == ACCEPTED


def test_an_unpinned_key_is_out_and_its_association_ends(gate: Gate) -> None:
    leaf = gate.site.peers.self_signed("device")
    gate.put(peer("ct1", "", "CT1", spki=spki(leaf)))
    open_one = Device(gate.port, context(gate.site, leaf)).associate()
    gate.remove("imaging/ct1")
    ends(open_one)
    assert answer(gate, leaf) == UNKNOWN


def test_issuers_that_cannot_be_told_apart_are_refused_and_the_list_before_stays(
    gate: Gate, hospital: Hospital
) -> None:
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    twin = Authority("hospital  imaging ca")
    second = LiveIssuer(name="second", ca_pem=twin.chain_pem(), crl_pem=twin.crl_pem().decode())
    with pytest.raises(InvalidPeersError, match=r"hospital.*second"):
        gate.trust(hospital.issuer(), second)
    assert answer(gate, hospital.imaging.issue(NAME)) == ACCEPTED
    assert answer(gate, twin.issue(NAME)) == NO_HANDSHAKE


def test_without_the_archives_leave_there_is_no_handshake(site: Site, folder: Path, hospital: Hospital) -> None:
    leaf = site.peers.self_signed("device")
    with running_gate(site, folder) as strict:
        wait_for(strict.archive_reachable, "archive up")
        strict.issuers = [hospital.issuer()]
        strict.put(peer("ct1", NAME, "CT1", issuer="hospital"), peer("ct2", "", "CT2", spki=spki(leaf)))
        strict.put(peer("mr1", "mr1.imaging.example", "MR1"))
        assert answer(strict, hospital.imaging.issue(NAME), hospital.imaging.chain_pem()) == NO_HANDSHAKE
        assert answer(strict, leaf, title=b"CT2") == NO_HANDSHAKE
        assert answer(strict, site.peers.issue("mr1.imaging.example"), title=b"MR1") == ACCEPTED


def test_a_new_agent_finds_what_is_in_force(gate: Gate, hospital: Hospital) -> None:
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    open_one = Device(gate.port, context(gate.site, hospital.imaging.issue(NAME))).associate()
    gate.new_agent()
    gate.apply(gate.live)
    assert echo(open_one)
    hospital.imaging.revoke(hospital.imaging.issue("any.imaging.example"))
    gate.trust(hospital.issuer())
    ends(open_one)


def test_what_was_revoked_while_no_agent_ran_is_refused_by_the_next_one(gate: Gate, hospital: Hospital) -> None:
    stolen, good = hospital.imaging.issue(NAME), hospital.imaging.issue(NAME)
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    open_one = Device(gate.port, context(gate.site, stolen)).associate()
    hospital.imaging.revoke(stolen)
    gate.issuers = [hospital.issuer()]
    gate.new_agent()
    gate.apply(gate.live)
    ends(open_one)
    assert answer(gate, stolen) == NO_HANDSHAKE
    assert answer(gate, good) == ACCEPTED


def test_the_archives_own_list_holds_as_ever(gate: Gate, hospital: Hospital) -> None:
    stolen, good = gate.site.peers.issue(NAME), gate.site.peers.issue(NAME)
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1"))
    open_one = Device(gate.port, context(gate.site, stolen)).associate()
    wait_for(lambda: gate.activity("imaging/ct1").last_association, "its record arrived")
    gate.site.peers.revoke(stolen)
    gate.refresh_crl()
    ends(open_one)
    assert answer(gate, stolen) == NO_HANDSHAKE
    assert answer(gate, good) == ACCEPTED


def beside(known: list[x509.Certificate], size: int) -> str | None:
    """Return certificates of this many bytes (DER) together, any of these as often as need be; None: there are none."""
    ways: dict[int, list[x509.Certificate]] = {0: []}
    lengths = {len(one.public_bytes(serialization.Encoding.DER)): one for one in known}
    for reached in range(size):
        for length, one in lengths.items() if reached in ways else ():
            ways.setdefault(reached + length, [*ways[reached], one])
        ways.pop(reached, None)
    chain = ways.get(size)
    return None if chain is None else "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain)


@pytest.mark.parametrize("size", [65_536, 98_304])
def test_a_sibling_behind_a_long_chain_is_nobody(gate: Gate, size: int) -> None:
    """Every certificate that came is looked at, up to the 100 KiB that OpenSSL takes: half a buffer in hex and more."""
    padding = None
    while padding is None:  # lengths of signatures vary by a byte or two
        root = Authority("Hospital root")
        named = Hospital(root, Authority("Hospital imaging CA", parent=root), Authority("Office", parent=root))
        padding = beside([named.imaging.certificate, root.certificate, gate.site.peers.certificate], size)
    gate.trust(named.issuer(lists=False))
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    twin = Authority("Hospital imaging CA", parent=root)
    stranger = twin.certificate.public_bytes(serialization.Encoding.PEM).decode()
    assert (answer(gate, twin.issue(NAME), padding + stranger), reason(gate)) == (UNKNOWN, "IssuerNotTrusted")
    assert answer(gate, named.imaging.issue(NAME), padding) == ACCEPTED


def test_who_was_taken_at_the_handshake_is_judged_again_at_the_first_pdu(gate: Gate, hospital: Hospital) -> None:
    gate.trust(hospital.issuer())
    gate.put(peer("ct1", NAME, "CT1", issuer="hospital"))
    leaf = hospital.imaging.issue(NAME)
    tls = context(gate.site, leaf)
    with tls_connection(gate.port, tls) as stays, tls_connection(gate.port, tls) as goes:
        for half in (stays, goes):
            half.sendall(associate_rq(calling=b"CT1")[:4])
        stays.sendall(associate_rq(calling=b"CT1")[4:])
        assert read_answer(stays) == ACCEPTED
        other = Authority("Other CA")
        gate.trust(LiveIssuer(name="hospital", ca_pem=other.chain_pem(), crl_pem=other.crl_pem().decode()))
        goes.sendall(associate_rq(calling=b"CT1")[4:])
        assert (read_answer(goes), reason(gate)) == (UNKNOWN, "IssuerNotTrusted")
