"""DICOMweb in these tests: the HAProxy beside Orthanc, clients, and in place of Orthanc an HTTP server that tells."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pacs_operator.domain import gatemaps
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.peer import Right
from pacs_operator.render.gate import GateLayout, render_archive_web
from pacs_operator.render.web import WebLayout
from tests.machine import free_port

from .archive import ORTHANC_NAME
from .device import client_context
from .pki import Leaf
from .process import Gate, Site, listening, peer, running_gate, start_haproxy, stop_haproxy, wait_for

HEALTH = "/tools/now"
STUDIES = "/dicom-web/studies"
CHUNKED = {"Transfer-Encoding": "chunked"}
ALL = (Right.ECHO, Right.STORE, Right.FIND, Right.GET)
_numbers = itertools.count(1)
GATE_NAME = "gate.radiology-edge.svc"


@dataclass
class Seen:
    """One request as it arrived behind the gate."""

    method: str
    path: str
    headers: dict[str, str]
    received: int
    sha256: str
    trailers: list[str]
    connection: int  # the port that it came from


class Upstream(ThreadingHTTPServer):
    """Answers everything with 200 and tells what it was asked; holds its answers while `gate` is cleared."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.waiting = 0
        self.last = 0  # from which of its requests on a connection ends without an answer; 0: never
        self.ended = 0
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of requests that were ended on purpose."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def asked(self) -> list[tuple[str, str]]:
        """Return method and path of what reached it, the health check's own aside."""
        return [(one.method, one.path) for one in self.seen if one.path != HEALTH]


class _Handler(BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"
    used = 0

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        while left > 0 and (part := self.rfile.read(min(left, 2**20))):
            left -= len(part)
            yield part
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while line := self.rfile.readline().strip():
                self.trailers.append(line.decode())

    def _answer(self) -> None:
        self.used += 1
        if 0 < self.server.last <= self.used and self.path != HEALTH:
            self.server.ended += 1
            self.close_connection = True
            return
        received, digest = 0, hashlib.sha256()
        self.trailers: list[str] = []
        for part in self._body():
            received += len(part)
            digest.update(part)
        own = self.path == HEALTH
        self.server.waiting += not own
        assert own or self.server.gate.wait(60)
        self.server.waiting -= not own
        headers = {name.lower(): value for name, value in self.headers.items()}
        body_sha256, port = digest.hexdigest(), int(self.client_address[1])
        self.server.seen.append(Seen(self.command, self.path, headers, received, body_sha256, self.trailers, port))
        self.send_response(200)
        body = b"20261123T015953" if own else b"[]"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_TRACE = do_HEAD = _answer  # noqa: N815  # looked up

    def log_message(self, format: str, *args: Any) -> None:
        return


@dataclass(frozen=True)
class Reply:
    """What a client got; no status when it got no answer."""

    status: int | None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Client:
    """A DICOMweb client with its certificate."""

    port: int
    context: ssl.SSLContext
    source: str = "127.0.0.1"

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.context, timeout=60, source_address=(self.source, 0)
        )

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: Any = None,
        over: http.client.HTTPSConnection | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Make one request, over a connection of its own or over one that is open."""
        connection = over or self.connect()
        try:
            return exchange(connection, method, path, body, headers or {})
        except (OSError, http.client.HTTPException):
            return Reply(None)
        finally:
            if over is None:
                connection.close()


def exchange(
    connection: http.client.HTTPSConnection, method: str, path: str, body: Any, headers: dict[str, str]
) -> Reply:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it took all
        connection.request(method, path, body, headers, encode_chunked="Transfer-Encoding" in headers)
    response = connection.getresponse()
    content = response.read()
    return Reply(response.status, content, {name.lower(): value for name, value in response.getheaders()})


@dataclass
class WebStage:
    """A gate with DICOMweb, and what is behind it."""

    site: Site
    gate: Gate
    web: WebLayout
    folder: Path  # of the HAProxy beside Orthanc
    process: Any

    @property
    def port(self) -> int:
        return int(self.web.bind.rpartition(":")[2])

    def client(self, leaf: Leaf | None, **more: Any) -> Client:
        return Client(self.port, client_context(self.site.peers, leaf), **more)

    def up(self) -> bool:
        """Tell whether the gate sees Orthanc by way of the HAProxy beside it."""
        rows = self.gate.ask("show stat -1 2 -1").splitlines()
        return any(row.startswith(f"{gatemaps.WEB_BACKEND},BACKEND,") and ",UP," in row for row in rows)

    def reasons(self) -> list[str]:
        return [record["reason"] for record in self.gate.records() if record["event"] == "web"]


def web_layout(
    http_port: int, max_body_bytes: int = 2**20, requests_per_minute: int = 60_000, max_concurrent: int = 32
) -> WebLayout:
    port = free_port()
    return WebLayout(
        bind=f"127.0.0.1:{free_port()}",
        archive_bind=f"127.0.0.1:{port}",
        gate_name=GATE_NAME,
        max_body_bytes=max_body_bytes,
        requests_per_minute=requests_per_minute,
        max_concurrent=max_concurrent,
        orthanc_port=port,
        orthanc_http=f"127.0.0.1:{http_port}",
    )


@contextlib.contextmanager
def beside_orthanc(site: Site, folder: Path, layout: GateLayout) -> Iterator[Any]:
    """Run the HAProxy beside Orthanc until the block ends."""
    tls = folder / "tls"
    tls.mkdir(parents=True)
    site.internal.issue(ORTHANC_NAME, server=True, client=True).write(tls, "dicom-server")
    (tls / "ca-internal.pem").write_bytes(site.internal.root_pem())
    for name, content in render_archive_web(replace(layout, tls=str(tls), run=str(folder))).items():
        (folder / name).write_text(content)
    process = start_haproxy(folder, "web.cfg")
    assert layout.web
    port = layout.web.orthanc_port
    try:
        wait_for(lambda: process.poll() is not None or listening(port), "the HAProxy beside Orthanc listens")
        assert process.poll() is None, (folder / "out.log").read_text()
        yield process
    finally:
        stop_haproxy(process)


@contextlib.contextmanager
def running_web(
    site: Site, folder: Path, web: WebLayout, edit: Callable[[str], str] = str, **changes: Any
) -> Iterator[WebStage]:
    """Run gate and HAProxy beside Orthanc until the block ends."""
    with (
        running_gate(site, folder / "gate", edit, web=web, **changes) as gate,
        beside_orthanc(site, folder / "beside", gate.layout) as process,
    ):
        stage = WebStage(site, gate, web, folder / "beside", process)
        wait_for(stage.up, "the gate sees the archive's DICOMweb")
        yield stage


@contextlib.contextmanager
def running_upstream() -> Iterator[Upstream]:
    server = Upstream()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()


def admitted(stage: WebStage, name: str, **rights: object) -> tuple[Client, Leaf, LivePeer]:
    """Return a client that the gate knows, with all rights unless said otherwise."""
    dns = f"{name}-{next(_numbers)}.imaging.example"
    leaf = stage.site.peers.issue(dns)
    rights.setdefault("rights", ALL)
    live = peer(name, dns, name.upper(), **rights)  # type: ignore[arg-type]
    stage.gate.put(live)
    return stage.client(leaf), leaf, live


def said(stage: WebStage, *reasons: str) -> None:
    """Wait for the record of the last request; it is written behind the answer."""
    wait_for(lambda: stage.reasons()[-1:] and stage.reasons()[-1] in reasons, f"a record that says {reasons}")
