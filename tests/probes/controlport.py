"""The control port of the archive's agent as far as probes meet it, with switches that break it."""

import contextlib
import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pacs_operator.domain.names import PROBE_PATIENT_PREFIX
from pacs_operator.probes.tls import Credentials
from tests.probes.archive import Archive

CLEANUP_PATH = "/probe-objects/"


@dataclass
class Laxities:
    """What this control port does wrong."""

    trusts_peers_ca_pem: str | None = None
    serves_status: bool = False


@dataclass
class ControlPort:
    """Mutual TLS; removes the objects of a run for ``cleanup_name`` only, and tells it nothing else."""

    archive: Archive
    server: Credentials
    ca_pem: str
    cleanup_name: str
    lax: Laxities = field(default_factory=Laxities)

    def __post_init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.certificate, self.server.key)
        context.load_verify_locations(cadata=self.ca_pem)
        if self.lax.trusts_peers_ca_pem:
            context.load_verify_locations(cadata=self.lax.trusts_peers_ca_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def allowed(self, names: list[str], path: str) -> bool:
        if self.lax.trusts_peers_ca_pem and path.startswith(CLEANUP_PATH):
            return True
        if path.startswith(CLEANUP_PATH):
            return names == [self.cleanup_name]
        return self.lax.serves_status


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Refused handshakes are what some tests want; nothing to print."""


def _handler(port: ControlPort) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, document: dict[str, object]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def _serve(self) -> None:
            certificate = self.connection.getpeercert() or {}
            names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
            if not port.allowed(names, self.path):
                self._answer(403, {})
            elif self.path.startswith(CLEANUP_PATH):
                run = self.path.removeprefix(CLEANUP_PATH)
                self._answer(200, {"removed": port.archive.remove_patient(PROBE_PATIENT_PREFIX + run)})
            else:
                self._answer(200, {"component": "orthanc"})

        do_GET = do_DELETE = _serve  # noqa: N815  # names that http.server asks for

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    return Handler
