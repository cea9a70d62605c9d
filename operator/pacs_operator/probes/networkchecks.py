"""Ports that this zone has no business with: a dropped packet counts only beside an open port of the same host."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from pacs_operator.domain.checks import Layer
from pacs_operator.domain.conformanceconfig import LegacyDevice
from pacs_operator.probes.verdict import Verdict, judge, not_run
from pacs_operator.probes.wire import Answer, Caller, Endpoint, Waits, attempt, connect_code

_AT_ONCE = 16


class Reach(StrEnum):
    """What a TCP handshake came to."""

    CONNECTED = "connected"
    RESET = "reset"
    TIMEOUT = "timeout"
    PROHIBITED = "prohibited"
    ERROR = "error"


@dataclass(frozen=True)
class Forbidden:
    """A port that must be closed to this pod, and its twin on the same host that must be open."""

    host: str
    port: int
    open_port: int


def unreachable(target: Forbidden, waits: Waits) -> Verdict:
    """Try the forbidden port of every address of a host, with the open port of the same address before and after.

    A reset is no refusal by the network: the packet reached the host, so another listener there would be reached.
    """
    addresses = resolve(target.host, target.port)
    if not addresses:
        return not_run("unresolved")
    verdicts = [_one(address, target, waits) for address in addresses]
    return min(verdicts, key=lambda verdict: ("Failed", "NotRun", "Passed").index(verdict.outcome))


@dataclass(frozen=True)
class Doors:
    """Plaintext ports on the gate's replicas, and the port of the same replicas that must be open."""

    replicas: tuple[str, ...]
    devices: tuple[LegacyDevice, ...]
    open_port: int
    caller: Caller
    """In clear; at each port it bears the title of the device whose port it is."""


def legacy_closed(doors: Doors, waits: Waits) -> Verdict:
    """Ask for an association in clear at every plaintext port of every replica.

    From an address that is not the device's not even a rejection is an answer: who gets one has been listened to.
    """
    if not doors.replicas:
        return not_run("unresolved")
    twin = all(reach(address, doors.open_port, waits) is Reach.CONNECTED for address in doors.replicas)
    if not doors.devices:
        return judge(attack_succeeded=False, layer=Layer.NETWORK, code="ports-0", twin_served=twin)
    targets = [(address, device) for address in doors.replicas for device in doors.devices]

    def knock(target: tuple[str, LegacyDevice]) -> Answer:
        address, device = target
        return attempt(Endpoint(address, device.port), doors.caller.but(calling=device.ae_title), waits)

    with ThreadPoolExecutor(_AT_ONCE) as threads:  # each waits for a packet that is dropped
        answers = list(threads.map(knock, targets))
    twin = twin and all(reach(address, doors.open_port, waits) is Reach.CONNECTED for address in doors.replicas)
    worst = max(answers, key=lambda answer: (answer.accepted, _heard(answer), answer.layer is not Layer.NETWORK))
    code = "accepted" if worst.accepted else worst.code
    layer = Layer.NETWORK if worst.layer is Layer.NETWORK else Layer.GATE
    return judge(attack_succeeded=_heard(worst), layer=layer, code=code, twin_served=twin)


def _heard(answer: Answer) -> bool:
    return answer.accepted or answer.code.startswith("rj-")


def _one(address: str, target: Forbidden, waits: Waits) -> Verdict:
    before = reach(address, target.open_port, waits)
    attack = reach(address, target.port, waits)
    # Again afterwards: an outage that began in between must not pass for a drop.
    after = reach(address, target.open_port, waits)
    twin = before is Reach.CONNECTED and after is Reach.CONNECTED
    if attack is Reach.ERROR:
        return not_run("error")
    succeeded = attack in (Reach.CONNECTED, Reach.RESET)
    return judge(attack_succeeded=succeeded, layer=Layer.NETWORK, code=attack.value, twin_served=twin)


def reach(address: str, port: int, waits: Waits) -> Reach:
    """Try a TCP handshake and close again without a byte."""
    try:
        stream = socket.create_connection((address, port), timeout=waits.connect)
    except OSError as error:
        return Reach(connect_code(error))
    with contextlib.closing(stream):
        return Reach.CONNECTED


def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a name in a stable order; none when it does not resolve."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found})
