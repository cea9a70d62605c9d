"""A dropped packet counts only beside an open port; an answer of any kind from the attacked port is a failure."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from pacs_operator.domain.checks import Layer
from pacs_operator.domain.conformanceconfig import LegacyDevice
from pacs_operator.probes import networkchecks
from pacs_operator.probes.networkchecks import Doors, Forbidden, legacy_closed, unreachable
from pacs_operator.probes.verdict import Verdict
from pacs_operator.probes.weak import WeakServer
from pacs_operator.probes.wire import Caller, Waits
from tests.probes.conftest import Blackhole

WAITS = Waits(connect=0.6, answer=1)


@pytest.fixture
def blackhole() -> Iterator[Blackhole]:
    hole = Blackhole()
    yield hole
    hole.close()


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def verdict(port: int, twin: int) -> Verdict:
    return unreachable(Forbidden("127.0.0.1", port, twin), WAITS)


def test_a_drop_beside_an_open_port_passes(blackhole: Blackhole, open_port: int) -> None:
    assert verdict(blackhole.port, open_port) == Verdict("Passed", Layer.NETWORK, "timeout", "Served")


def test_a_port_that_answers_fails(open_port: int) -> None:
    assert verdict(open_port, open_port) == Verdict("Failed", Layer.NETWORK, "connected", "Served")


def test_a_reset_fails_because_the_packet_arrived(open_port: int) -> None:
    assert verdict(closed_port(), open_port) == Verdict("Failed", Layer.NETWORK, "reset", "Served")


def test_a_drop_beside_a_dead_twin_proves_nothing(blackhole: Blackhole) -> None:
    assert verdict(blackhole.port, closed_port()) == Verdict("NotRun", Layer.NETWORK, "timeout", "NotServed")


def test_a_twin_that_dies_during_the_attack_proves_nothing(blackhole: Blackhole) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve_once() -> None:
        with listener, contextlib.closing(listener.accept()[0]):
            pass

    server = threading.Thread(target=serve_once)
    server.start()
    found = verdict(blackhole.port, port)
    server.join()
    assert found == Verdict("NotRun", Layer.NETWORK, "timeout", "NotServed")


def test_one_reachable_address_of_several_fails(
    blackhole: Blackhole, open_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reach(address: str, port: int, waits: Waits) -> networkchecks.Reach:
        return (
            networkchecks.Reach.CONNECTED
            if (address, port) != ("127.0.0.1", blackhole.port)
            else real(address, port, waits)
        )

    real = networkchecks.reach
    monkeypatch.setattr(networkchecks, "resolve", lambda _host, _port: ["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr(networkchecks, "reach", reach)
    assert verdict(blackhole.port, open_port).outcome == "Failed"


def test_a_name_without_address_is_not_run() -> None:
    found = unreachable(Forbidden("nowhere.invalid", 1, 2), WAITS)
    assert (found.outcome, found.code) == ("NotRun", "unresolved")


CALLER = Caller("PACSPROBE", "RADIOLOGY", None, "")


def doors(port: int, twin: int) -> Verdict:
    device = LegacyDevice(port=port, ae_title="OLDSCAN")
    return legacy_closed(Doors(("127.0.0.1",), (device,), twin, CALLER), WAITS)


def answering(words: bytes) -> Iterator[int]:
    """A plaintext port that reads once, answers and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError), listener, listener.accept()[0] as stream:
            stream.recv(65536)
            stream.sendall(words)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    yield listener.getsockname()[1]
    listener.close()
    server.join(2)


def test_a_plaintext_port_that_is_dropped_or_closes_at_once_passes(blackhole: Blackhole, open_port: int) -> None:
    assert doors(blackhole.port, open_port) == Verdict("Passed", Layer.NETWORK, "timeout", "Served")
    for port in answering(b""):
        assert doors(port, open_port) == Verdict("Passed", Layer.GATE, "closed", "Served")


def test_a_plaintext_port_that_lets_strangers_in_fails(open_port: int) -> None:
    with WeakServer([]) as weak:
        assert doors(weak.plaintext.port, open_port) == Verdict("Failed", Layer.GATE, "accepted", "Served")


def test_a_plaintext_port_that_listens_to_strangers_fails_though_it_rejects_them(open_port: int) -> None:
    for port in answering(bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 3))):
        assert doors(port, open_port) == Verdict("Failed", Layer.GATE, "rj-1-1-3", "Served")


def test_plaintext_ports_beside_a_dead_twin_prove_nothing(blackhole: Blackhole) -> None:
    assert doors(blackhole.port, closed_port()) == Verdict("NotRun", Layer.NETWORK, "timeout", "NotServed")


def test_without_plaintext_ports_the_code_says_so(open_port: int) -> None:
    found = legacy_closed(Doors(("127.0.0.1",), (), open_port, CALLER), WAITS)
    assert found == Verdict("Passed", Layer.NETWORK, "ports-0", "Served")
