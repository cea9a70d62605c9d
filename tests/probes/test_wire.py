"""Attempts on the wire: every kind of answer gets its layer and its code, and no silence passes for an answer."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from pacs_operator.domain.checks import Check, Layer
from pacs_operator.probes import gatechecks
from pacs_operator.probes.gatechecks import ATTACKS
from pacs_operator.probes.tls import Forge, Trust, client_context
from pacs_operator.probes.wire import Caller, Endpoint, Waits, attempt, read_pdu
from tests.probes.conftest import World, setting_of

WAITS = Waits(connect=1, answer=0.5)
PLAIN = Caller("CT1", "ARCHIVE", None, "")
ABORT = bytes.fromhex("070000000004 00000200".replace(" ", ""))
ALERT = bytes.fromhex("15030300020228")  # fatal, handshake_failure
REJECT = bytes.fromhex("030000000004 00010103".replace(" ", ""))


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """Answer one connection after its first PDU."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError), contextlib.closing(listener.accept()[0]) as stream:
            read_pdu(stream)
            answer(stream)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield Endpoint("127.0.0.1", listener.getsockname()[1])
    listener.close()
    thread.join(3)


@pytest.mark.parametrize(
    ("data", "layer", "code"),
    [
        (REJECT, Layer.GATE, "rj-1-1-3"),
        (ABORT, Layer.GATE, "abort"),
        (ALERT, Layer.TLS, "alert-handshake-failure"),
        (b"", Layer.TLS, "closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Layer.GATE, "closed"),
    ],
)
def test_what_a_plaintext_client_is_told(data: bytes, layer: Layer, code: str) -> None:
    with server(lambda stream: stream.sendall(data)) as endpoint:
        answer = attempt(endpoint, PLAIN, WAITS)
    assert (answer.accepted, answer.layer, answer.code) == (False, layer, code)
    assert answer.refused


def test_silence_is_a_timeout() -> None:
    release = threading.Event()

    def say_nothing(_stream: socket.socket) -> None:
        release.wait(5)

    with server(say_nothing) as endpoint:
        answer = attempt(endpoint, PLAIN, WAITS)
        release.set()
    assert (answer.layer, answer.code) == (Layer.TLS, "timeout")


def test_a_dead_path_is_no_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = attempt(Endpoint("127.0.0.1", port), PLAIN, WAITS)
    assert (answer.layer, answer.code, answer.refused) == (Layer.NETWORK, "reset", False)


def test_a_server_with_another_name_is_refused_by_the_probe_and_that_is_no_refusal_by_the_server(world: World) -> None:
    with setting_of(world.start()) as (setting, replica):
        trust = Trust(setting.gate_trust.ca_pem, "other.example")
        caller = setting.good_caller().but(context=client_context(trust, setting.peer), server_name=trust.server_name)
        answer = attempt(replica, caller, setting.waits)
    assert (answer.layer, answer.code, answer.refused) == (Layer.PROBE, "server-not-verified", False)


def test_an_impostor_gate_makes_every_attack_not_run(world: World) -> None:
    """A gate that the archive's authority did not sign: nothing it refuses proves anything."""
    config = world.start()
    impostor = Forge("impostor")
    (world.folder / "ca-peers.pem").write_text(impostor.ca_pem)
    with setting_of(config) as (setting, replica):
        verdicts = {check: gatechecks.refused(setting, check, replica) for check in ATTACKS}
    impostor.close()
    assert all(verdict.outcome == "NotRun" for verdict in verdicts.values()), verdicts


@pytest.mark.parametrize("check", ATTACKS)
def test_every_attack_client_can_do_what_it_tries(world: World, check: Check) -> None:
    attack = ATTACKS[check]
    with setting_of(world.start()) as (setting, _):
        assert attack.able(setting, attack)
        if check is Check.OLD_TLS_REFUSED:
            answer = attempt(setting.weak.secured, attack.caller(setting, setting.weak_trust), setting.waits)
            assert answer.tls_version == "TLSv1.1"


# What no server takes from a client is tried the other way round, without the weak server.
@pytest.mark.parametrize("check", sorted(ATTACKS.keys() - {Check.SERVER_CERTIFICATE_REFUSED}))
def test_a_client_that_cannot_attack_says_so(world: World, check: Check) -> None:
    with setting_of(world.start()) as (setting, replica):
        setting.weak.close()
        verdict = gatechecks.refused(setting, check, replica)
    assert (verdict.outcome, verdict.code) == ("NotRun", "client-cannot")


def test_a_refusal_during_an_outage_proves_nothing(world: World) -> None:
    """The gate refuses everybody, the good peer too."""
    config = world.start()
    for gate in world.gates:
        gate._rules.titles.clear()
    with setting_of(config) as (setting, replica):
        verdict = gatechecks.refused(setting, Check.BORROWED_AE_TITLE_REFUSED, replica)
    assert (verdict.outcome, verdict.code, verdict.twin) == ("NotRun", "rj-1-1-3", "NotServed")
