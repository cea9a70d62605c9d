"""What comes from something that is not Vault, or not as it should be: a typed error, and nothing of the answer."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pacs_operator.domain.agentconfig import Leaf
from pacs_operator.domain.errors import VaultError
from pacs_operator.domain.facts import ClusterSettings, VaultSettings
from pacs_operator.domain.names import CaName
from pacs_operator.vault import errors
from pacs_operator.vault.client import connect
from pacs_operator.vault.pods import sign
from pacs_operator.vault.session import Login, VaultSession, memory_file
from tests.vault.certs import Authority

HIDDEN = "never-to-be-shown"


def logged_in(life: object) -> bytes:
    return json.dumps({"auth": {"client_token": HIDDEN, "lease_duration": life}}).encode()


class Stub(http.server.ThreadingHTTPServer):
    """Answers logins with one body and everything else with another, always 200."""

    login = logged_in(900)
    rest = b"{}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(self.server.login if self.path.endswith("/login") else self.server.rest)

    def do_GET(self) -> None:
        self._say(self.server.rest)

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def authority() -> Authority:
    return Authority.make("stub")


@pytest.fixture
def stub(tmp_path: Path, authority: Authority) -> Iterator[Stub]:
    server = Stub(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.serve_loopback(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def session(stub: Stub, tmp_path: Path, authority: Authority) -> VaultSession:
    token = tmp_path / "token"
    token.write_text("a.b.c")
    ca = memory_file(f"# Zertifizierungsstelle für Zürich — 認証局\n{authority.pem}# Ende ✓\n")
    return VaultSession(Login(f"https://127.0.0.1:{stub.server_port}", ca, "kubernetes", "operator", token))


def refused(error: VaultError) -> None:
    assert (type(error), error.reason, error.retry) == (errors.VaultFailedError, "VaultFailed", True)
    assert HIDDEN not in str(error)
    assert "proxy" in error.action


@pytest.mark.parametrize(
    "body",
    [
        b"<html>log in here</html>",
        b"",
        b"[]",
        b"{}",
        b'{"auth": null}',
        b'{"auth": {}}',
        b'{"auth": "%s"}' % HIDDEN.encode(),
        logged_in("soon"),
        logged_in(None),
    ],
)
def test_a_login_that_is_not_understood(stub: Stub, session: VaultSession, body: bytes) -> None:
    stub.login = body
    with pytest.raises(VaultError) as caught:
        session.read("pacs/x")
    refused(caught.value)


@pytest.mark.parametrize("body", [b"<html>log in here</html>", b"[1]", b'"%s"' % HIDDEN.encode()])
def test_an_answer_that_is_not_understood(stub: Stub, session: VaultSession, body: bytes) -> None:
    stub.rest = body
    for act in (lambda: session.read("pacs/x"), lambda: session.write("pacs/x", {})):
        with pytest.raises(VaultError) as caught:
            act()
        refused(caught.value)
    stub.rest = b'{"data": {"keys": ["a"]}}'
    assert session.read("pacs/x") == {"keys": ["a"]}, "the twin: authorities with comments in any script are read"


BROKEN = f"-----BEGIN CERTIFICATE-----\n{HIDDEN.encode().hex()}\n-----END CERTIFICATE-----\n"
LEAF = Leaf(name="status", ca=CaName.CONTROL, role="status", dns_names=["status.pacs.svc"], ttl_seconds=3600)


def certificate_of(authority: Authority, key: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "status.pacs.svc")])
    ends = authority.certificate.not_valid_after_utc
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(authority.certificate.subject)
    builder = builder.public_key(key.public_key()).serial_number(7).not_valid_after(ends)
    signed = builder.not_valid_before(ends - timedelta(minutes=1)).sign(authority.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("answer", ["", HIDDEN, BROKEN, "another key's", "its own"])
def test_a_certificate_that_is_none_is_vaults_trouble(
    stub: Stub, session: VaultSession, authority: Authority, answer: str
) -> None:
    """Read as a certificate it ended the operator's pass, and the agent, as an error of their own."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    words = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = words.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    made = {"another key's": certificate_of(authority, other), "its own": certificate_of(authority, key)}
    told = {"certificate": made.get(answer, answer), "issuing_ca": authority.pem}
    stub.rest = json.dumps({"data": told}).encode()
    if answer == "its own":
        assert sign(session, LEAF, "0" * 32, request).startswith(told["certificate"].strip())
        return
    with pytest.raises(VaultError) as caught:
        sign(session, LEAF, "0" * 32, request)
    assert (type(caught.value), caught.value.retry) == (errors.VaultFailedError, True)
    assert HIDDEN not in str(caught.value)
    assert "holds no certificate for the key that was sent" in str(caught.value)


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "CA für alles",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
    ],
)
def test_authorities_without_a_certificate_are_refused_with_the_field(pem: str, tmp_path: Path) -> None:
    settings = VaultSettings("https://vault.example:8200", pem, "kubernetes", "vault", ("192.0.2.1/32",), 8200)
    with pytest.raises(errors.VaultUntrustedError, match="no readable certificate") as caught:
        connect(settings, ClusterSettings("operator", "operator", {}), tmp_path)
    assert "spec.vault.caPem" in caught.value.action


def test_only_certificates_are_kept_of_what_is_given(authority: Authority) -> None:
    other = Authority.make("second")
    kind = "PRIVATE KEY"
    key = f"-----BEGIN {kind}-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END {kind}-----\n"
    path = memory_file(f"né à Zürich\n{authority.pem}{key}{other.pem}")
    assert path.read_text(encoding="ascii") == authority.pem + other.pem


@pytest.mark.parametrize(("length", "accepted"), [(53, True), (54, False), (63, False)])
def test_a_namespace_too_long_for_the_certificate_is_said(
    stub: Stub, session: VaultSession, authority: Authority, tmp_path: Path, length: int, accepted: bool
) -> None:
    settings = VaultSettings(
        f"https://127.0.0.1:{stub.server_port}", authority.pem, "kubernetes", "vault", ("127.0.0.1/32",), 8200
    )
    (tmp_path / "token").write_text("a.b.c")
    client = connect(settings, ClusterSettings("n" * length, "operator", {}), tmp_path / "token")
    with pytest.raises(VaultError) as caught:
        client.status_client_credentials("0" * 32)
    if accepted:  # as far as this stub goes, which signs nothing
        assert "holds no certificate" in caught.value.message
    else:
        assert caught.value.reason == "VaultMisconfigured"
        assert "at most 53 characters" in caught.value.action
