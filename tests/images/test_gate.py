"""The gate image: HAProxy with a mounted configuration, and its soft stop."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from tests.machine import free_port

from .conftest import Image, wait_for


def test_the_stop_signal_lets_an_open_connection_finish(image: Callable[[str], Image], tmp_path: Path) -> None:
    gate = image("gate")
    front, etc = free_port(), tmp_path / "etc"
    etc.mkdir()
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as backend:
        (etc / "haproxy.cfg").write_text(
            # Short: a look at the closing listener leaves a connection that the backend never takes.
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"
            f"listen gate\n  bind 127.0.0.1:{front}\n  server one 127.0.0.1:{backend.getsockname()[1]}\n"
        )
        process = gate.start(*gate.command, log=tmp_path / "log", mounts={etc: "/etc/haproxy"})
        try:
            client = wait_for(lambda: connect(front), "HAProxy listens")
            server, _ = backend.accept()
            exchange(client, server, b"before")
            wait_for(lambda: supervises(process.pid), "the master hears signals")
            process.send_signal(getattr(signal, gate.configuration["StopSignal"]))
            wait_for(lambda: connect(front) is None, "the listener is closed")
            exchange(client, server, b"after")
            assert process.poll() is None
            client.close()
            server.close()
            process.wait(timeout=30)
        finally:
            process.kill()
            process.wait()


def supervises(master: int) -> bool:
    """Tell whether the master catches SIGUSR1, which it does once its worker has told that it serves."""
    caught = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{master}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) & 1 << signal.SIGUSR1 - 1)


def connect(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=5)
    except ConnectionRefusedError:
        return None


def exchange(client: socket.socket, server: socket.socket, message: bytes) -> None:
    client.sendall(message)
    assert server.recv(100) == message


def test_lua_and_the_runtime_socket_are_there(image: Callable[[str], Image]) -> None:
    said = image("gate").run("/usr/sbin/haproxy", "-vv").stdout
    assert "Built with Lua version" in said
    assert "Built with SSL library version : OpenSSL" in said
