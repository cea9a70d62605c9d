"""Who gets through the TLS handshake, and who does not. Each refusal stands beside a twin that differs in one thing."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from .device import PDU_AC, Device, ask, associate_rq, client_context, read_answer, tls_connection
from .pki import Authority, Leaf, key_pem
from .process import Gate, Site, peer, running_gate, wait_for

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
NAME = "ct1.imaging.example"

# Old versions are spoken on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")


@pytest.fixture
def leaf(gate: Gate, site: Site) -> Leaf:
    """Return the certificate of an accepted peer CT1."""
    gate.put(peer("ct1", NAME, "CT1"))
    return site.peers.issue(NAME)


@pytest.mark.parametrize("kind", ["EC", "RSA"])
@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_good_peers_of_both_key_types_and_versions(
    make_device: Callable[..., Device], gate: Gate, site: Site, kind: str, version: ssl.TLSVersion
) -> None:
    device = make_device("CT1", kind=kind)
    device.context.minimum_version = device.context.maximum_version = version
    assert device.echo()
    assert gate.activity("imaging/ct1").last_association is not None


@pytest.mark.parametrize("server_key", ["ECDSA", "RSA"])
@pytest.mark.parametrize("name", [None, "gate.radiology-edge.svc", "198-18-0-10.unknown.example"])
def test_devices_that_know_one_key_type_only(
    gate: Gate, site: Site, leaf: Leaf, server_key: str, name: str | None
) -> None:
    context = client_context(site.peers, leaf, server_key=server_key)
    with (
        socket.create_connection(("127.0.0.1", gate.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=name) as connection,
    ):
        served = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        connection.sendall(associate_rq())
        assert read_answer(connection).pdu == PDU_AC
    assert type(served.public_key()).__name__.startswith(server_key.removesuffix("DSA"))


SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": True,
    "ECDHE-ECDSA-AES256-GCM-SHA384": True,
    "ECDHE-RSA-AES128-GCM-SHA256": True,
    "ECDHE-RSA-AES256-GCM-SHA384": True,
    "ECDHE-RSA-CHACHA20-POLY1305": False,
    "ECDHE-RSA-AES128-SHA256": False,  # CBC
    "AES128-GCM-SHA256": False,  # no forward secrecy
    "AES128-SHA": False,
}


def served_by_weak_server(folder: Path, authority: Authority, ciphers: str, client: ssl.SSLContext) -> None:
    """Prove that a client can do what the gate must refuse: a server without the gate's policy serves it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("weak.example", kind="RSA", server=True).write(folder, "weak"))
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = client.maximum_version
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw, _ = listener.accept()
            with context.wrap_socket(raw, server_side=True) as connection:
                connection.sendall(b"!")

        server = threading.Thread(target=serve)
        server.start()
        with tls_connection(listener.getsockname()[1], client) as connection:
            assert connection.recv(1) == b"!"
        server.join(timeout=10)


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_suites_of_rfc_9325_and_no_others(gate: Gate, site: Site, leaf: Leaf, suite: str, tmp_path: Path) -> None:
    context = client_context(site.peers, leaf, version=TLS12, ciphers=f"{suite}:@SECLEVEL=0")
    if not SUITES[suite]:
        served_by_weak_server(tmp_path, site.peers, suite, context)
    answer = ask(gate.port, context, associate_rq())
    assert (answer.pdu == PDU_AC) is SUITES[suite]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(gate: Gate, site: Site, leaf: Leaf, version: ssl.TLSVersion, tmp_path: Path) -> None:
    ciphers = "ALL:@SECLEVEL=0"
    context = client_context(site.peers, leaf, version=version, ciphers=ciphers)
    served_by_weak_server(tmp_path, site.peers, "ALL", context)
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"), tls_connection(gate.port, context):
        pass
    twin = client_context(site.peers, leaf, version=TLS12, ciphers=ciphers)
    assert ask(gate.port, twin, associate_rq()).pdu == PDU_AC


def test_plaintext_is_closed(gate: Gate, site: Site, leaf: Leaf) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as connection:
        connection.sendall(associate_rq())
        answer = read_answer(connection)
    assert answer.pdu not in (PDU_AC, 3)
    assert ask(gate.port, client_context(site.peers, leaf), associate_rq()).pdu == PDU_AC


def served_without_alert(gate: Gate, context: ssl.SSLContext) -> str:
    """Return what a device sees: the PDU's number, or the name of the TLS alert."""
    try:
        with tls_connection(gate.port, context) as connection:
            connection.sendall(associate_rq())
            head = connection.recv(1)
            return str(head[0]) if head else "closed"
    except ssl.SSLError as error:
        return error.reason or "tls"


CERTIFICATES: dict[str, tuple[str, Callable[[Site], Leaf | None]]] = {
    "none": ("TLSV13_ALERT_CERTIFICATE_REQUIRED", lambda site: None),
    "foreign authority": ("TLSV1_ALERT_UNKNOWN_CA", lambda site: Authority("peers").issue(NAME)),
    "archive's inner authority": ("TLSV1_ALERT_UNKNOWN_CA", lambda site: site.internal.issue(NAME)),
    "expired": ("SSLV3_ALERT_CERTIFICATE_EXPIRED", lambda site: site.peers.issue(NAME, days=-0.01)),
    "for servers only": ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", lambda site: site.peers.issue(NAME, server=True)),
}


@pytest.mark.parametrize("case", sorted(CERTIFICATES))
def test_certificates_that_do_not_count(gate: Gate, site: Site, leaf: Leaf, case: str) -> None:
    alert, make = CERTIFICATES[case]
    assert served_without_alert(gate, client_context(site.peers, make(site))) == alert
    assert served_without_alert(gate, client_context(site.peers, leaf)) == str(PDU_AC)


def test_foreign_key_with_a_good_certificate_is_no_use(gate: Gate, site: Site, leaf: Leaf, tmp_path: Path) -> None:
    """A stolen certificate without its key cannot even be loaded by an honest TLS library, so nothing to send."""
    (tmp_path / "cert.pem").write_bytes(leaf.pem().split(b"-----END PRIVATE KEY-----\n")[1])
    (tmp_path / "key.pem").write_bytes(key_pem(site.peers.issue(NAME).key))
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")


def test_revoked_is_refused_while_others_are_served(gate: Gate, site: Site, leaf: Leaf) -> None:
    stolen = site.peers.issue(NAME)
    assert served_without_alert(gate, client_context(site.peers, stolen)) == str(PDU_AC)
    site.peers.revoke(stolen)
    gate.refresh_crl()
    assert served_without_alert(gate, client_context(site.peers, stolen)) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
    assert served_without_alert(gate, client_context(site.peers, leaf)) == str(PDU_AC)


def test_an_expired_revocation_list_serves_but_keeps_what_it_revokes(gate: Gate, site: Site, leaf: Leaf) -> None:
    stolen = site.peers.issue(NAME)
    site.peers.revoke(stolen)
    gate.refresh_crl(days=-1)
    try:
        assert served_without_alert(gate, client_context(site.peers, stolen)) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        assert served_without_alert(gate, client_context(site.peers, leaf)) == str(PDU_AC)
        assert (
            wait_for(lambda: [r for r in gate.records() if r.get("serial") == leaf.serial], "record")[-1]["crl"] == "12"
        )
    finally:
        gate.refresh_crl()


def test_expired_list_without_the_policy_would_stop_everyone(site: Site, folder: Path) -> None:
    """The policy is what serves above, not chance."""
    strict = " ca-ignore-err 12 crt-ignore-err 12"
    with running_gate(site, folder, edit=lambda text: text.replace(strict, "")) as gate:
        gate.put(peer("ct1", NAME, "CT1"))
        context = client_context(site.peers, site.peers.issue(NAME))
        wait_for(lambda: served_without_alert(gate, context) == str(PDU_AC), "served under a valid list")
        gate.refresh_crl(days=-1)
        assert served_without_alert(gate, context) != str(PDU_AC)


def resumed(gate_port: int, folder: Path, leaf: Leaf, site: Site, version: str) -> bool:
    """Tell whether a second connection resumes the first one's session, by OpenSSL's own client."""
    leaf.write(folder, "resume")
    session = folder / f"session-{version}"
    session.unlink(missing_ok=True)
    (folder / "root.pem").write_bytes(site.peers.root_pem())
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gate_port}", f"-{version}", "-cert"]
    command += [str(folder / "resume.pem"), "-CAfile", str(folder / "root.pem"), "-quiet", "-no_ign_eof"]
    request = associate_rq()

    def connect(*more: str) -> str:
        # -quiet hides the summary, so ask for the state messages; the PDU makes the gate answer, and TLS 1.3
        # tickets arrive before that answer.
        process = subprocess.Popen(
            [*command, "-state", *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(request)
        process.stdin.flush()
        assert process.stdout.read(1) == bytes([PDU_AC])
        process.stdin.close()
        process.stdout.close()
        text = process.stderr.read().decode()
        process.stderr.close()
        process.wait(timeout=10)
        return text

    connect("-sess_out", str(session))
    if not session.exists():
        return False
    # A full handshake shows the server's certificate, a resumed one does not.
    return "server certificate" not in connect("-sess_in", str(session))


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_no_session_is_resumed(gate: Gate, site: Site, leaf: Leaf, version: str, tmp_path: Path) -> None:
    """A resumed session would skip the revocation list."""
    assert not resumed(gate.port, tmp_path, leaf, site, version)


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
@pytest.mark.parametrize("missing", ["  tune.ssl.cachesize 0\n", " no-tls-tickets"])
def test_one_of_the_two_settings_alone_would_resume(
    site: Site, folder: Path, tmp_path: Path, version: str, missing: str
) -> None:
    with running_gate(site, folder, edit=lambda text: text.replace(missing, "\n")) as gate:
        gate.put(peer("ct1", NAME, "CT1"))
        wait_for(gate.archive_reachable, "archive up")
        assert resumed(gate.port, tmp_path, site.peers.issue(NAME), site, version)


def test_idle_sockets_delay_nobody_and_are_closed(make_device: Callable[..., Device], gate: Gate, site: Site) -> None:
    device = make_device("CT1")
    idle = [socket.create_connection(("127.0.0.1", gate.port), timeout=15) for _ in range(5)]
    silent = [socket.create_connection(("127.0.0.1", gate.port), timeout=15) for _ in range(5)]
    started = time.monotonic()
    handshaken = [device.context.wrap_socket(raw, suppress_ragged_eofs=True) for raw in silent]
    try:
        before = time.monotonic()
        assert device.echo()
        assert time.monotonic() - before < 2
        for connection in [*idle, *handshaken]:
            assert connection.recv(1) == b""
        assert 3 < time.monotonic() - started < 8
    finally:
        for connection in [*idle, *handshaken]:
            connection.close()
    reasons = wait_for(lambda: gate.activity("imaging/ct1").rejections >= 5 and gate.activity("imaging/ct1"), "counted")
    assert reasons.last_rejection_reason == "Timeout"
