"""Older TLS for one device and for a time: the listener takes it, the gate asks whose it is."""

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pacs_operator.domain.peer import TlsTier
from pacs_operator.render.gate import _TIER_CIPHERS

from .device import PDU_AC, PDU_RJ, Answer, Device, ask, associate_rq, client_context, echo, ends, tls_connection
from .pki import Leaf
from .process import Gate, Site, peer, running_gate, wait_for

ACCEPTED = Answer(PDU_AC, None)
REFUSED = Answer(PDU_RJ, (1, 2, 1), clean_end=True)  # PS3.8 9.3.4: rejected permanent, no reason given
NO_HANDSHAKE = Answer(None, None)
LATER = 4_000_000_000  # far beyond any test
CBC = _TIER_CIPHERS[TlsTier.TLS12_ECDHE_CBC]
MODERN = "ECDHE-ECDSA-AES128-GCM-SHA256"


@dataclass(frozen=True)
class Contexts:
    """TLS of devices that know one suite each."""

    site: Site
    leaves: dict[str, Leaf]

    def of(self, name: str, cipher: str) -> ssl.SSLContext:
        return client_context(self.site.peers, self.leaves[name], version=ssl.TLSVersion.TLSv1_2, ciphers=cipher)


def request(gate: Gate, context: ssl.SSLContext, title: bytes) -> Answer:
    return ask(gate.port, context, associate_rq(calling=title))


@pytest.fixture(scope="module")
def gate(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """Return a gate whose archive allows the exception."""
    tiers = (TlsTier.TLS12_ECDHE_CBC,)
    with running_gate(site, tmp_path_factory.mktemp("tiers") / "run", tiers=tiers) as running:
        wait_for(running.archive_reachable, "archive up")
        yield running


@pytest.fixture
def contexts(gate: Gate, site: Site) -> Contexts:
    """Return how TLS is made for a cipher, of a peer with the exception and of one without."""
    gate.put(peer("old", "old.imaging.example", "OLD", exception=LATER), peer("new", "new.imaging.example", "NEW"))
    return Contexts(site, {name: site.peers.issue(f"{name}.imaging.example") for name in ("old", "new")})


@pytest.mark.parametrize("cipher", CBC)
def test_each_suite_of_the_tier_is_for_whom_the_exception_holds(gate: Gate, contexts: Contexts, cipher: str) -> None:
    assert request(gate, contexts.of("old", cipher), b"OLD") == ACCEPTED
    assert request(gate, contexts.of("new", cipher), b"NEW") == REFUSED
    assert request(gate, contexts.of("new", MODERN), b"NEW") == ACCEPTED
    assert request(gate, contexts.of("new", cipher), b"OLD") == REFUSED


def test_the_refusal_has_its_reason_and_is_the_peers(gate: Gate, contexts: Contexts) -> None:
    assert request(gate, contexts.of("new", CBC[0]), b"NEW") == REFUSED
    seen = wait_for(lambda: gate.activity("imaging/new").last_rejection_reason, "counted")
    assert seen == "TlsExceptionNeeded"
    record = [r for r in gate.records() if r["reason"] == "TlsExceptionNeeded"][-1]
    assert (record["tls"], record["cipher"], record["peer"]) == ("TLSv1.2", CBC[0], "imaging/new")


def test_the_gate_itself_knows_when_it_ends(gate: Gate, site: Site) -> None:
    """Nobody has to tell it: an operator that is away prolongs nothing."""
    context = Contexts(site, {"ending": site.peers.issue("ending.imaging.example")})
    gate.put(peer("ending", "ending.imaging.example", "ENDING", exception=int(time.time()) + 3))
    assert request(gate, context.of("ending", CBC[0]), b"ENDING") == ACCEPTED
    wait_for(lambda: request(gate, context.of("ending", CBC[0]), b"ENDING") == REFUSED, "ended")
    assert request(gate, context.of("ending", MODERN), b"ENDING") == ACCEPTED


def test_taking_it_back_ends_what_is_open_and_prolonging_does_not(gate: Gate, contexts: Contexts) -> None:
    device = Device(gate.port, contexts.of("old", CBC[0]), calling="OLD")
    open_one = device.associate()
    gate.put(peer("old", "old.imaging.example", "OLD", exception=LATER + 1))
    assert echo(open_one)
    gate.put(peer("old", "old.imaging.example", "OLD"))
    ends(open_one)
    assert request(gate, contexts.of("old", CBC[0]), b"OLD") == REFUSED


def test_who_knows_better_gets_better(gate: Gate, contexts: Contexts) -> None:
    """The gate's order counts, so an exception is no downgrade for a device that was updated meanwhile."""
    with tls_connection(gate.port, contexts.of("old", ":".join((*CBC, MODERN)))) as connection:
        assert (connection.cipher() or ("",))[0] == MODERN


@pytest.mark.parametrize(
    "cipher", ["AES128-SHA", "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]
)
def test_what_is_in_no_tier_stays_out(gate: Gate, contexts: Contexts, cipher: str) -> None:
    assert request(gate, contexts.of("old", cipher), b"OLD") == NO_HANDSHAKE
    assert request(gate, contexts.of("old", CBC[0]), b"OLD") == ACCEPTED


def test_without_the_archives_leave_there_is_no_handshake(site: Site, folder: Path) -> None:
    context = Contexts(site, {"old": site.peers.issue("old.imaging.example")})
    with running_gate(site, folder) as strict:
        wait_for(strict.archive_reachable, "archive up")
        strict.put(peer("old", "old.imaging.example", "OLD", exception=LATER))
        assert request(strict, context.of("old", CBC[0]), b"OLD") == NO_HANDSHAKE
        started = time.monotonic()
        assert request(strict, context.of("old", MODERN), b"OLD") == ACCEPTED
        assert time.monotonic() - started < 3, "no condition waits for the end of the inspection"
