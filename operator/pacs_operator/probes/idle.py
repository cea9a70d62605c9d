"""Connections that say nothing: what stops a listener that waits for each caller in turn."""

import contextlib
import socket

from pacs_operator.probes.wire import Answer, Caller, Endpoint, Waits, handshake


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
    held = [_connect(stack, endpoint, waits) for _ in range(2 * count)]
    streams: list[socket.socket] = [stream for stream in held if stream is not None]
    for position, stream in enumerate(streams[count:], start=count):
        if caller.context is None:
            continue
        stream.settimeout(waits.connect)
        secured = handshake(stream, caller.context, caller.server_name)
        if isinstance(secured, Answer):
            break
        streams[position] = stack.enter_context(contextlib.closing(secured))
    return sum(_open(stream) for stream in streams)


def _connect(stack: contextlib.ExitStack, endpoint: Endpoint, waits: Waits) -> socket.socket | None:
    try:
        stream = socket.create_connection((endpoint.address, endpoint.port), timeout=waits.connect)
    except OSError:
        return None
    return stack.enter_context(contextlib.closing(stream))


def _open(stream: socket.socket) -> bool:
    """Tell whether the server still holds the connection."""
    if stream.fileno() < 0:
        return False
    state = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == 1  # TCP_ESTABLISHED
