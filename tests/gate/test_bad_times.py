"""A clock that is wrong by an hour, a revocation list that is absent, and a gate that starts again under load."""

import contextlib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .device import PDU_AC, Answer, ask, associate_rq, client_context, read_answer, tls_connection
from .pki import Leaf
from .process import Gate, Site, peer, running_gate, start_haproxy, stop_haproxy, wait_for

EACH = 100  # of two devices
HOUR = 1 / 24  # of days
NAME = "ct1.imaging.example"
NAMES = {"CT1": NAME, "MR1": "mr1.imaging.example"}


def refusal(gate: Gate, site: Site, leaf: Leaf) -> str | None:
    """Return the alert with which TLS refuses a device; None when it is served."""
    try:
        with tls_connection(gate.port, client_context(site.peers, leaf)) as connection:
            connection.sendall(associate_rq())
            return None if read_answer(connection).pdu == PDU_AC else alert(connection)
    except ssl.SSLError as error:
        return error.reason


def alert(connection: ssl.SSLSocket) -> str | None:
    try:
        connection.recv(1)
    except ssl.SSLError as error:
        return error.reason
    return "closed"


@pytest.mark.parametrize("hours", [1, -1], ids=["an-hour-behind", "an-hour-ahead"])
def test_a_gate_whose_clock_is_wrong_by_an_hour(gate: Gate, site: Site, hours: int) -> None:
    """Seen from a gate that is behind, a new certificate begins in an hour; from one ahead, its last hour is over.

    An hour in the other direction costs nothing: that is the twin.
    """
    gate.put(peer("ct1", NAME, "CT1"))
    begins, ends = (0.98, 7.0) if hours > 0 else (-3.0, -0.02 * HOUR)
    unseen = site.peers.issue(NAME, begins_in=begins, days=ends)
    assert refusal(gate, site, unseen) is not None
    begins, ends = (-0.02, 7.0) if hours > 0 else (-3.0, 0.98 * HOUR)
    assert refusal(gate, site, site.peers.issue(NAME, begins_in=begins, days=ends)) is None


@pytest.mark.parametrize("refuse", [False, True], ids=["ServeAndViolate", "Refuse"])
def test_without_a_revocation_list_the_gate_does_not_start(site: Site, folder: Path, refuse: bool) -> None:
    """Nobody would be refused who was revoked: nobody is let in."""

    def lose(text: str) -> str:
        (folder / "tls" / "crl-peers.pem").unlink()
        return text

    lost = running_gate(site, folder, lose, refuse_expired_lists=refuse)
    with pytest.raises(AssertionError, match=r"crl-peers\.pem"), lost:
        pass
    with running_gate(site, folder.with_name("twin"), refuse_expired_lists=refuse) as gate:
        gate.put(peer("ct1", NAME, "CT1"))
        assert refusal(gate, site, site.peers.issue(NAME)) is None


@contextlib.contextmanager
def held(gate: Gate, site: Site) -> Iterator[list[ssl.SSLSocket]]:
    """Hold associations of both devices open until the block ends."""
    contexts = {title: client_context(site.peers, site.peers.issue(name)) for title, name in NAMES.items()}
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(4) as threads:

        def try_once(title: str) -> ssl.SSLSocket | None:
            connection = stack.enter_context(tls_connection(gate.port, contexts[title]))
            connection.sendall(associate_rq(calling=title.encode()))
            return connection if read_answer(connection).pdu == PDU_AC else None

        def one(title: str) -> ssl.SSLSocket:  # on a busy machine one may be told to come again
            opened = wait_for(lambda: try_once(title), f"{title} is let in", 30)
            assert opened
            return opened

        yield list(threads.map(one, EACH * list(NAMES)))


def open_now(gate: Gate) -> int:
    return sum(entry.open_associations for entry in gate.loop.run(gate.agent.activity()))


def over(connection: ssl.SSLSocket) -> bool:
    """Tell whether an association has ended: closed or reset, not merely silent."""
    connection.settimeout(5)
    try:
        return connection.recv(1) in (b"", b"\x07")  # an end, or A-ABORT
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_gate_that_starts_again_under_two_hundred_associations(site: Site, folder: Path) -> None:
    """Each device hears that it is over, and all are served again; the archive is left with none of the old ones."""
    with running_gate(site, folder, max_associations=3 * EACH) as gate:
        gate.put(*(peer(title.lower(), name, title, limit=EACH) for title, name in NAMES.items()))
        wait_for(gate.archive_reachable, "the gate sees the archive")
        with held(gate, site) as connections:
            assert open_now(gate) == 2 * EACH
            gate.process.kill()
            gate.process.wait(timeout=10)
            assert all(map(over, connections))
        gate.process = start_haproxy(folder)
        try:
            wait_for(gate.archive_reachable, "it is back and sees the archive")
            context = client_context(site.peers, site.peers.issue(NAME))
            assert ask(gate.port, context, associate_rq()) == Answer(3, (1, 1, 3), clean_end=True)
            gate.apply(gate.live)
            with held(gate, site):
                assert open_now(gate) == 2 * EACH
        finally:
            stop_haproxy(gate.process)
