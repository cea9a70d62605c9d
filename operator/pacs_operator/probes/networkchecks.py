"""Ports that this zone has no business with: a dropped packet counts only beside an open port of the same host."""

import contextlib
import socket
from dataclasses import dataclass
from enum import StrEnum

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.verdict import Verdict, judge, not_run
from pacs_operator.probes.wire import Waits, connect_code


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
