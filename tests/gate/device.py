"""DICOM devices: a well-behaved one by pynetdicom, and one that says byte by byte what it is told."""

import contextlib
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import CTImageStorage, Verification

from .pki import Authority, Leaf
from .process import wait_for

PDU_AC, PDU_RJ = 2, 3


def client_context(
    trusted: Authority,
    leaf: Leaf | None,
    *,
    version: ssl.TLSVersion | None = None,
    server_key: str | None = None,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """Return a client's TLS; ``server_key`` (ECDSA or RSA) makes it understand servers of one kind only (TLS 1.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trusted.root_pem().decode())
    if server_key:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"ECDHE-{server_key}-AES128-GCM-SHA256")
    if ciphers:
        context.set_ciphers(ciphers)
    if version:
        context.minimum_version = context.maximum_version = version
    if leaf:
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(leaf.write(Path(folder), "client"))
    return context


def associate_rq(called: bytes = b"RADIOLOGY", calling: bytes = b"CT1", *, version: int = 1, padding: int = 0) -> bytes:
    """Return an A-ASSOCIATE-RQ for Verification (PS3.8 table 9-11); ``padding`` adds that many bytes of user data."""

    def item(kind: int, content: bytes) -> bytes:
        return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content

    context = item(0x20, b"\x01\x00\x00\x00" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"2.25.1")
    while padding > 0:  # PS3.7 D.3.3.4: SCP/SCU role selection of made-up classes, as many as it takes
        name = b"2.25." + str(padding).encode()
        entry = item(0x54, len(name).to_bytes(2, "big") + name + b"\x01\x00")
        user, padding = user + entry, padding - len(entry)
    items = item(0x10, b"1.2.840.10008.3.1.1.1") + context + item(0x50, user)
    body = version.to_bytes(2, "big") + b"\x00\x00" + called.ljust(16) + calling.ljust(16) + bytes(32) + items
    return b"\x01\x00" + len(body).to_bytes(4, "big") + body


@dataclass(frozen=True)
class Answer:
    """What came back: the PDU type, for a rejection its triple, and how the connection ended."""

    pdu: int | None
    rejection: tuple[int, int, int] | None
    clean_end: bool = False


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := connection.recv(count - len(data))):
        data += part
    return data


def read_answer(connection: socket.socket) -> Answer:
    """Return the first PDU; of a rejection also whether TLS then ended with close_notify, as an orderly end does."""
    try:
        head = receive(connection, 6)
        if len(head) < 6:
            return Answer(None, None, clean_end=not head)
        body = receive(connection, int.from_bytes(head[2:6], "big"))
        if head[0] != PDU_RJ:
            return Answer(head[0], None)
        try:
            clean = connection.recv(1) == b""
        except OSError:
            clean = False
        return Answer(PDU_RJ, (body[1], body[2], body[3]), clean)
    except (ssl.SSLError, ConnectionError):
        return Answer(None, None)


@contextlib.contextmanager
def tls_connection(port: int, context: ssl.SSLContext, source: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=15, source_address=(source, 0)) as raw,
        context.wrap_socket(raw, server_hostname=None, suppress_ragged_eofs=False) as connection,
    ):
        yield connection


def ask(port: int, context: ssl.SSLContext, request: bytes, source: str = "127.0.0.1") -> Answer:
    """Connect, send, return the answer; a handshake that fails is no answer."""
    try:
        with tls_connection(port, context, source) as connection:
            connection.sendall(request)
            return read_answer(connection)
    except (ssl.SSLError, ConnectionError):
        return Answer(None, None)


@dataclass
class Device:
    """A modality."""

    port: int
    context: ssl.SSLContext
    calling: str = "CT1"
    called: str = "RADIOLOGY"
    source: str = "127.0.0.1"
    _open: list[Association] = field(default_factory=list)

    def associate(self) -> Association:
        ae = AE(ae_title=self.calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 15
        association = ae.associate(
            "127.0.0.1",
            self.port,
            contexts=_contexts(),
            ae_title=self.called,
            tls_args=(self.context, None),  # type: ignore[arg-type]  # no SNI, as most devices; it is passed on as it is
            bind_address=(self.source, 0),
        )
        self._open.append(association)
        return association

    def echo(self) -> bool:
        """Tell whether an association and a C-ECHO over it succeed."""
        association = self.associate()
        if not association.is_established:
            return False
        served = echo(association)
        association.release()
        return served

    def close(self) -> None:
        for association in self._open:
            if association.is_established:
                association.abort()


def _contexts() -> list[PresentationContext]:
    ae = AE()
    ae.add_requested_context(Verification)
    ae.add_requested_context(CTImageStorage)
    return list(ae.requested_contexts)


def echo(association: Association) -> bool:
    """Tell whether an open association still serves."""
    if not association.is_established:
        return False
    status = association.send_c_echo()
    return bool(status) and status.Status == 0x0000


def rejection(device: Device) -> tuple[int, int, int] | None:
    """Return the triple with which a device's association is rejected, or None when it is not.

    pynetdicom 3.0 aborts about one in fifty rejected associations by itself before it looks at the answer; that
    is told by its own flags and tried again. Other pages read rejections byte by byte.
    """
    for _ in range(5):
        association = device.associate()
        primitive = association.acceptor.primitive
        if association.is_rejected and primitive is not None:
            return (primitive.result or 0, primitive.result_source or 0, primitive.diagnostic or 0)
        if not (association.is_aborted and primitive is None):
            break
    return None


def served_leaf(port: int, context: ssl.SSLContext) -> x509.Certificate:
    """Return the certificate that the gate shows."""
    with tls_connection(port, context) as connection:
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")


def ends(association: Association) -> None:
    """Wait until an association is over."""
    wait_for(lambda: not association.is_established, "the association ends")
