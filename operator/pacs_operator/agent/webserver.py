"""A small HTTP server for a handful of known callers: bounded in threads, time and bytes, plain or mutual TLS."""

import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pacs_operator.agent.log import Event, emit

MAX_CONNECTIONS = 32
READ_SECONDS = 5.0  # for the handshake, and again for the whole head of a request: slow writers are cut off
ANSWER_SECONDS = 60.0  # for writing an answer


@dataclass(frozen=True)
class Caller:
    """Who asks: the DNS names and the serial of a verified client certificate; empty on the plain port."""

    dns_names: tuple[str, ...] = ()
    serial: int | None = None


@dataclass(frozen=True)
class Answer:
    """What is sent back: a JSON document, or nothing but the status."""

    status: HTTPStatus
    document: dict[str, object] | None = None


Router = Callable[[str, str, Caller], Answer]


class WebServer(ThreadingHTTPServer):
    """Serves one router on one port until closed.

    Parameters
    ----------
    port
        TCP port on all addresses of the pod, IPv4 and IPv6; 0 takes any free one.
    router
        Answers ``(method, path, caller)``; called in a thread of its own for each connection.
    context
        Returns the TLS context for the next connection, so that renewed certificates are served at once; None: plain.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, router: Router, context: Callable[[], ssl.SSLContext] | None = None) -> None:
        self.router = router
        self.context = context
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(("", port), _Handler, bind_and_activate=False)
        self.socket.close()
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self.socket = socket.create_server(
            ("", port), family=family, backlog=self.request_queue_size, dualstack_ipv6=both
        )
        self.server_address = self.socket.getsockname()

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.1,), name=f"web-{self.port}", daemon=True).start()

    def stop(self) -> None:
        """Stop listening; answers under way are not waited for."""
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread, or close it when all are busy: the kubelet's next try comes soon."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who connects and does not speak our language learns and costs nothing."""


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    server: WebServer
    protocol_version = "HTTP/1.1"
    server_version = "pacs-agent"
    sys_version = ""

    def setup(self) -> None:
        self.caller = Caller()
        self._plain: socket.socket = self.request
        self._plain.settimeout(READ_SECONDS)
        self._deadline = threading.Timer(2 * READ_SECONDS, self._cut_off)
        self._deadline.daemon = True
        self._deadline.start()
        try:
            if self.server.context is not None:
                self.request = _handshake(self._plain, self.server.context())
                self.caller = _caller_of(self.request)
            super().setup()
        except BaseException:
            self._deadline.cancel()
            raise

    def finish(self) -> None:
        self._deadline.cancel()
        try:
            super().finish()
        finally:
            if self.server.context is not None:
                self.request.close()

    def _cut_off(self) -> None:
        """End a connection that dribbles its request: the per-read time-out alone would let it live for ever."""
        try:
            self.request.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _answer(self) -> None:
        self._deadline.cancel()
        self.connection.settimeout(ANSWER_SECONDS)
        self.close_connection = True
        answer = self.server.router(self.command, self.path, self.caller)
        body = b"" if answer.document is None else json.dumps(answer.document).encode()
        self.send_response(answer.status)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = _answer  # noqa: N815  # names the base class looks up

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests hold text that a stranger chose."""


def _handshake(plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return the connection after a verified handshake; a refused client gets its TLS alert, not a reset."""
    wrapped = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    try:
        wrapped.do_handshake()
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        emit(Event.REQUEST_REFUSED, layer="tls", reason=str(reason))
        _linger(wrapped)
        raise
    return wrapped


def _linger(wrapped: ssl.SSLSocket) -> None:
    """Close so that what we sent arrives: unread input at closing time would turn into a reset."""
    with socket.socket(fileno=wrapped.detach()) as raw:
        raw.settimeout(1.0)
        try:
            raw.shutdown(socket.SHUT_WR)
            for _ in range(16):
                if not raw.recv(4096):
                    return
        except OSError:
            return


def _caller_of(wrapped: ssl.SSLSocket) -> Caller:
    certificate = wrapped.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    serial = str(certificate.get("serialNumber", ""))
    return Caller(
        dns_names=tuple(str(name[1]) for name in names if name[0] == "DNS"),
        serial=int(serial, 16) if serial else None,
    )
