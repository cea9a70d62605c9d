"""A small DICOM gate with switches: strict by default, weak in exactly the ways a test asks for."""

import contextlib
import select
import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field

from pynetdicom.pdu import A_ASSOCIATE_RJ

from pacs_operator.probes.tls import Credentials
from pacs_operator.probes.wire import Endpoint, read_pdu


@dataclass
class Weaknesses:
    """What this gate does wrong; all false is a gate as it should be."""

    plaintext: bool = False
    old_tls: bool = False
    no_certificate: bool = False
    foreign_ca_pem: str | None = None
    any_title: bool = False
    any_called: bool = False
    one_at_a_time: bool = False
    contained: bool = False  # whoever would be served is told to try again later
    static_rsa: bool = False
    cbc: bool = False
    imitated_ca_pem: str | None = None
    expired: bool = False
    any_certificate: bool = False  # asks for none, looks at none
    any_case: bool = False
    resumes: bool = False
    places: int = 64  # associations at once; whoever comes then waits
    no_limit: bool = False
    still_starting: int = 0  # so many associations are answered "try again later"


@dataclass
class Rules:
    """Who may come in."""

    called: str
    titles: dict[str, set[str]]  # certificate name -> AE titles
    server: Credentials
    ca_pem: str
    server_rsa: Credentials | None = None
    limits: dict[str, int] = field(default_factory=dict)  # associations at once, by AE title
    weak: Weaknesses = field(default_factory=Weaknesses)


class Gate:
    """Finishes TLS, reads the first PDU, decides, and only then connects to the archive behind it."""

    def __init__(self, rules: Rules, archive: Endpoint, address: str = "127.0.0.1", port: int = 0) -> None:
        self._rules = rules
        self._archive = archive
        self._listener = socket.create_server((address, port), backlog=64)
        self.endpoint = Endpoint(address, self._listener.getsockname()[1])
        self.connections = 0
        self._shared = self._context()
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._places = threading.Semaphore(rules.weak.places)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _context(self) -> ssl.SSLContext:
        weak = self._rules.weak
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        suites = "ECDHE+AESGCM" + ":ECDHE+AES" * weak.cbc + ":kRSA+AES:@SECLEVEL=0" * weak.static_rsa
        context.set_ciphers("ALL:@SECLEVEL=0" if weak.old_tls else suites)
        if not weak.resumes:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        if weak.expired:
            context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED if weak.old_tls else ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._rules.server.certificate, self._rules.server.key)
        if self._rules.server_rsa:
            context.load_cert_chain(self._rules.server_rsa.certificate, self._rules.server_rsa.key)
        context.load_verify_locations(cadata=self._rules.ca_pem)
        for pem in filter(None, (weak.foreign_ca_pem, weak.imitated_ca_pem)):
            context.load_verify_locations(cadata=pem)
        context.verify_mode = ssl.CERT_OPTIONAL if weak.no_certificate else ssl.CERT_REQUIRED
        if weak.any_certificate:
            context.verify_mode = ssl.CERT_NONE
        return context

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._listener.accept()
                self.connections += 1
                if self._rules.weak.one_at_a_time:
                    self._serve(stream)
                else:
                    threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        stream.settimeout(5)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), contextlib.closing(stream):
            if self._rules.weak.plaintext and stream.recv(1, socket.MSG_PEEK) == b"\x01":
                self._associate(stream, {})
                return
            context = self._shared if self._rules.weak.resumes else self._context()
            secured = context.wrap_socket(stream, server_side=True)
            with contextlib.closing(secured):
                self._associate(secured, dict(secured.getpeercert() or {}))

    def _associate(self, stream: socket.socket, certificate: dict[str, object]) -> None:
        request = read_pdu(stream)
        if request is None or request[0] != 0x01:
            return
        rejection = self._judge(request, certificate)
        if rejection is None:
            self._take_a_place(stream, request)
        else:
            answer = A_ASSOCIATE_RJ()
            answer.result, answer.source, answer.reason_diagnostic = rejection
            stream.sendall(answer.encode())
            stream.recv(1)  # the client closes first, so that it can read this

    def _judge(self, request: bytes, certificate: dict[str, object]) -> tuple[int, int, int] | None:
        if self._rules.weak.still_starting > 0:
            self._rules.weak.still_starting -= 1
            return 2, 3, 1
        called, calling = (request[start : start + 16].decode().strip() for start in (10, 26))
        weak = self._rules.weak
        names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]  # type: ignore[attr-defined]
        titles = set().union(*(self._rules.titles.get(name, set()) for name in names))
        open_to_all = weak.plaintext or weak.no_certificate or weak.any_certificate
        known = weak.any_title or (not names and open_to_all)
        if calling not in titles and not known:
            return 1, 1, 3
        wanted = called.upper() if weak.any_case else called
        if wanted != self._rules.called and not weak.any_called:
            return 1, 1, 7
        if weak.contained:
            return 2, 3, 1
        with self._lock:
            full = self._open[calling] >= self._rules.limits.get(calling, 64)
            if full and not weak.no_limit:
                return 2, 3, 1
            self._open[calling] += 1
        return None

    def _take_a_place(self, stream: socket.socket, request: bytes) -> None:
        try:
            with self._places:
                self._relay(stream, request)
        finally:
            with self._lock:
                self._open[request[26:42].decode().strip()] -= 1

    def _relay(self, stream: socket.socket, request: bytes) -> None:
        with socket.create_connection((self._archive.address, self._archive.port)) as behind:
            behind.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            behind.sendall(request)
            _pass_on(stream, behind)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes both ways until an end closes; by one thread, for two in one TLS session crash the interpreter."""
    ends = {one: other, other: one}
    with contextlib.suppress(OSError):
        while True:
            ready = [end for end in ends if isinstance(end, ssl.SSLSocket) and end.pending()]
            for end in ready or select.select(list(ends), [], [])[0]:
                end.settimeout(0)
                try:
                    data = end.recv(65536)
                except ssl.SSLWantReadError:  # part of a record, or a message of TLS's own
                    continue
                if not data:
                    return
                ends[end].settimeout(30)
                ends[end].sendall(data)
