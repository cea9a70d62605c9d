"""Connections that hold a place and say little: what stops a listener that waits for each caller in turn."""

import contextlib
import socket
from dataclasses import dataclass

from pacs_operator.probes.wire import Answer, Caller, Endpoint, Waits, ask_association, associate_request, opened


def hold_idle(stack: contextlib.ExitStack, endpoint: Endpoint, caller: Caller, count: int, waits: Waits) -> int:
    """Open idle connections that live as long as ``stack``, and return how many there are.

    Parameters
    ----------
    count
        So many TCP connections that send no byte, then as many TLS sessions that send no PDU. After the first
        handshake that the server does not answer in time no more are tried: it hangs already.

    Returns
    -------
    int
        Connections open at the end, at most twice ``count``.
    """
    streams = _connections(stack, endpoint, caller.but(context=None), count, waits)
    return sum(map(_open, [*streams, *_connections(stack, endpoint, caller, count, waits)]))


def hold_slow(stack: contextlib.ExitStack, endpoint: Endpoint, caller: Caller, count: int, waits: Waits) -> int:
    """Open TLS sessions that have sent half of their A-ASSOCIATE-RQ, and return how many of them there are."""
    request = associate_request(caller.calling, caller.called)
    streams = _connections(stack, endpoint, caller, count, waits)
    for stream in streams:
        with contextlib.suppress(OSError):  # a server that has closed already is counted out below
            stream.sendall(request[: len(request) // 2])
    return sum(map(_open, streams))


@dataclass(frozen=True)
class Silence:
    """Associations that are open and say nothing.

    ``refusal`` is the answer to the first that did not come about; no more were tried after it.
    """

    held: int
    refusal: Answer | None = None


def hold_silent(stack: contextlib.ExitStack, endpoint: Endpoint, caller: Caller, count: int, waits: Waits) -> Silence:
    """Open associations, at most ``count``, that live as long as ``stack`` and say nothing once they are granted."""
    streams: list[socket.socket] = []
    for _ in range(count):
        stream = opened(endpoint, caller, waits)
        if isinstance(stream, Answer):
            return Silence(sum(map(_open, streams)), stream)
        stack.enter_context(contextlib.closing(stream))
        refusal = ask_association(stream, caller)
        if refusal is not None:
            return Silence(sum(map(_open, streams)), refusal)
        streams.append(stream)
    return Silence(sum(map(_open, streams)))


def _connections(
    stack: contextlib.ExitStack, endpoint: Endpoint, caller: Caller, count: int, waits: Waits
) -> list[socket.socket]:
    """Open connections until there are ``count``, or one does not come about."""
    streams: list[socket.socket] = []
    while len(streams) < count:
        stream = opened(endpoint, caller, Waits(waits.connect, waits.connect))
        if isinstance(stream, Answer):
            break
        streams.append(stack.enter_context(contextlib.closing(stream)))
    return streams


def _open(stream: socket.socket) -> bool:
    """Tell whether the server still holds the connection."""
    if stream.fileno() < 0:
        return False
    state = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == 1  # TCP_ESTABLISHED
