"""Asking an agent over real mutual TLS: right name, right authority, or no answer."""

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pacs_operator.control import AgentUnreachableError
from pacs_operator.control.client import AgentClient
from pacs_operator.vault.port import ClientCredentials

NAME = "gate.radiology-edge.svc"
NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "control")])
        self.certificate = self._build(self.name, self.key.public_key(), ca=True)

    def _build(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool, dns: str | None = None):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(hours=1))
            .not_valid_after(NOW + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if dns:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def leaf(self, dns: str) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns)])
        certificate = self._build(subject, key.public_key(), ca=False, dns=dns)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return certificate.public_bytes(pem).decode(), private.decode()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def credentials(self, trust: "Authority | None" = None) -> ClientCredentials:
        chain, key = self.leaf("status.pacs-operator.svc")
        return ClientCredentials(chain, key, (trust or self).pem, NOW + datetime.timedelta(hours=1))


LONGEST = 2.0  # seconds that an answer may take
STATUS = b'{"component":"gate","version":"1","ready":true,"leaves":[],"peersRevision":"abc"}'


class Agent:
    def __init__(
        self, authority: Authority, folder: Path, body: bytes = STATUS, code: int = 200, trickle: float = 0
    ) -> None:
        pause = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code if self.path == "/status" else 404)
                spaces = int(trickle * 20)
                self.send_header("Content-Length", str(spaces + len(body)))
                self.end_headers()
                for _ in range(spaces):
                    pause.wait(0.05)
                    self.wfile.write(b" ")
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        chain, key = authority.leaf(NAME)
        (folder / "server.pem").write_text(key + chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        context.load_verify_locations(cadata=authority.pem)
        context.verify_mode = ssl.CERT_REQUIRED
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def agent(authority: Authority, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(authority, tmp_path)
    yield agent
    agent.stop()


def test_status_over_mutual_tls(authority: Authority, agent: Agent):
    status = AgentClient(agent.port).status("127.0.0.1", NAME, authority.credentials())
    assert status.peers_revision == "abc"


def test_an_agent_of_another_name_is_not_believed(authority: Authority, agent: Agent):
    with pytest.raises(AgentUnreachableError, match=r"orthanc\.radiology-archive\.svc"):
        AgentClient(agent.port).status("127.0.0.1", "orthanc.radiology-archive.svc", authority.credentials())


def test_an_agent_of_another_authority_is_not_believed(authority: Authority, agent: Agent):
    with pytest.raises(AgentUnreachableError):
        AgentClient(agent.port).status("127.0.0.1", NAME, authority.credentials(trust=Authority()))


def test_a_client_of_another_authority_gets_no_answer(authority: Authority, agent: Agent):
    with pytest.raises(AgentUnreachableError):
        AgentClient(agent.port).status("127.0.0.1", NAME, Authority().credentials(trust=authority))


@pytest.mark.parametrize(("body", "code"), [(b"{}", 200), (b"x" * 2_000_000, 200), (STATUS, 403)])
def test_what_is_no_status_is_refused(authority: Authority, tmp_path: Path, body: bytes, code: int):
    agent = Agent(authority, tmp_path, body, code)
    try:
        with pytest.raises(AgentUnreachableError) as caught:
            AgentClient(agent.port).status("127.0.0.1", NAME, authority.credentials())
        assert "xxx" not in str(caught.value)
    finally:
        agent.stop()


def test_nobody_there_is_told_within_the_time(authority: Authority):
    with pytest.raises(AgentUnreachableError, match=r"ConnectionRefusedError|TimeoutError"):
        AgentClient(1, timeout=0.5).status(str(ipaddress.ip_address("127.0.0.1")), NAME, authority.credentials())


@pytest.mark.parametrize(("trickle", "within"), [(LONGEST / 10, True), (LONGEST * 4, False)])
def test_an_agent_that_trickles_keeps_no_pass_waiting(
    authority: Authority, tmp_path: Path, trickle: float, within: bool
):
    """Each byte comes well within the socket's own time-out, and the answer is a good one in the end."""
    agent = Agent(authority, tmp_path, trickle=trickle)
    asked = AgentClient(agent.port, within=LONGEST)
    try:
        if within:
            assert asked.status("127.0.0.1", NAME, authority.credentials()).peers_revision == "abc"
        else:
            with pytest.raises(AgentUnreachableError):
                asked.status("127.0.0.1", NAME, authority.credentials())
    finally:
        agent.stop()
