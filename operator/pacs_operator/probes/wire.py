"""One association attempt on the wire, PDU by PDU, so that a refusal can be named by the layer that refused."""

import contextlib
import errno
import socket
import ssl
import struct
import time
from dataclasses import dataclass, replace
from io import BytesIO

from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, build_context
from pynetdicom.dimse_messages import C_ECHO_RQ, C_ECHO_RSP
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.pdu import A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.tls import alert_code, plaintext_alert_code

APPLICATION_CONTEXT = UID("1.2.840.10008.3.1.1.1")
VERIFICATION = "1.2.840.10008.1.1"
MAX_PDU = 16382
_AC, _RJ, _DATA, _ABORT = 0x02, 0x03, 0x04, 0x07
# What routers and policy engines say by ICMP instead of dropping.
PROHIBITED = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENETDOWN)


@dataclass(frozen=True)
class Endpoint:
    """An address to attack: never a name, so that each replica is met for certain."""

    address: str
    port: int


@dataclass(frozen=True)
class Caller:
    """How an association is asked for; attack and twin are two of these that differ in one field."""

    calling: str
    called: str
    context: ssl.SSLContext | None
    server_name: str

    def but(self, **changes: object) -> "Caller":
        """Return the same caller with one property changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Waits:
    """How long to wait, in seconds."""

    connect: float
    answer: float


@dataclass(frozen=True)
class Answer:
    """What came of an attempt.

    ``accepted`` means that an A-ASSOCIATE-AC arrived; ``served`` that C-ECHO on it succeeded, too.
    """

    accepted: bool
    served: bool
    layer: Layer
    code: str
    millis: int = 0
    tls_version: str | None = None

    @property
    def refused(self) -> bool:
        """Tell whether somebody at the far end refused; a dead path or a client's own fault is no refusal."""
        return not self.accepted and self.layer in (Layer.TLS, Layer.GATE)


def attempt(endpoint: Endpoint, caller: Caller, waits: Waits) -> Answer:
    """Connect, ask for an association and, where it is granted, for an echo; then go in peace."""
    begun = time.monotonic()
    answer = _attempt(endpoint, caller, waits)
    return replace(answer, millis=round((time.monotonic() - begun) * 1000))


def _attempt(endpoint: Endpoint, caller: Caller, waits: Waits) -> Answer:
    stream = opened(endpoint, caller, waits)
    if isinstance(stream, Answer):
        return stream
    with contextlib.closing(stream):
        version = stream.version() if isinstance(stream, ssl.SSLSocket) else None
        return replace(converse(stream, caller), tls_version=version)


def opened(
    endpoint: Endpoint, caller: Caller, waits: Waits, session: ssl.SSLSession | None = None
) -> socket.socket | Answer:
    """Return a connection on which the caller can ask for an association, or the answer that says why there is none.

    ``session`` is a TLS session from before that the client would like to resume.
    """
    try:
        plain = socket.create_connection((endpoint.address, endpoint.port), timeout=waits.connect)
    except OSError as error:
        return _nothing(Layer.NETWORK, connect_code(error))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.settimeout(waits.answer)
    if caller.context is None:
        return plain
    try:
        return caller.context.wrap_socket(plain, server_hostname=caller.server_name, session=session)
    except OSError as error:
        plain.close()
        return _nothing(*handshake_code(error))


def connect_code(error: OSError) -> str:
    """Return the code of a failed TCP handshake."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionError):
        return "reset"
    return "prohibited" if error.errno in PROHIBITED else "timeout" if error.errno == errno.ETIMEDOUT else "error"


def handshake_code(error: OSError) -> tuple[Layer, str]:
    """Return layer and code of a failed TLS handshake; the probe's own refusals are not the server's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Layer.PROBE, "server-not-verified"
    if isinstance(error, ssl.SSLEOFError):
        return Layer.TLS, "closed"
    if isinstance(error, ssl.SSLError):
        own = error.reason in ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE")
        return (Layer.PROBE, "client-cannot") if own else (Layer.TLS, alert_code(error))
    return Layer.TLS, "timeout" if isinstance(error, TimeoutError) else "reset"


def converse(stream: socket.socket, caller: Caller, *, release: bool = True) -> Answer:
    """Ask for an association and, where it is granted, for an echo; then release it, unless it is to stay open."""
    refusal = ask_association(stream, caller)
    return _echo(stream, release=release) if refusal is None else refusal


def ask_association(stream: socket.socket, caller: Caller) -> Answer | None:
    """Ask for an association; None when it is granted, else the answer that says why not."""
    # A server that refused our certificate may have closed before we write (TLS 1.3 tells a client only after its
    # own handshake is done): what it said is still there to be read, so a failed write decides nothing.
    with contextlib.suppress(OSError):
        stream.sendall(associate_request(caller.calling, caller.called))
    pdu = _answer_to_request(stream, plaintext=caller.context is None)
    if isinstance(pdu, Answer):
        return pdu
    if pdu[0] == _RJ:
        rejection = A_ASSOCIATE_RJ()
        rejection.decode(pdu)
        triple = f"{rejection.result}-{rejection.source}-{rejection.reason_diagnostic}"
        return _nothing(Layer.GATE, f"rj-{triple}")
    if pdu[0] == _ABORT:
        return _nothing(Layer.GATE, "abort")
    return None if pdu[0] == _AC else _nothing(Layer.GATE, "closed")


def _answer_to_request(stream: socket.socket, *, plaintext: bool) -> bytes | Answer:
    layer = Layer.TLS if plaintext else Layer.GATE
    try:
        pdu = read_pdu(stream)
    except TimeoutError:
        return _nothing(layer, "timeout")
    except ssl.SSLEOFError:
        return _nothing(layer, "closed")
    except ssl.SSLError as error:
        return _nothing(Layer.TLS, alert_code(error))
    except OSError:
        return _nothing(layer, "reset")
    if pdu is None:
        return _nothing(layer, "closed")
    alert = plaintext_alert_code(pdu) if plaintext else None
    return _nothing(Layer.TLS, alert) if alert else pdu


def _echo(stream: socket.socket, *, release: bool) -> Answer:
    """Ask for C-ECHO on presentation context 1, and release the association."""
    try:
        for fragment in _echo_request():
            stream.sendall(fragment)
        pdu = read_pdu(stream)
        if pdu is None or pdu[0] != _DATA:
            return Answer(True, False, Layer.DICOM, "closed-after-request")
        status = _echo_status(pdu)
        if release:
            request = A_RELEASE_RQ()
            request.from_primitive(A_RELEASE())
            stream.sendall(request.encode())
            read_pdu(stream)
    except TimeoutError:
        return Answer(True, False, Layer.DICOM, "timeout")
    except OSError:
        return Answer(True, False, Layer.DICOM, "closed-after-request")
    return Answer(True, status == 0, Layer.DICOM, f"status-{status:04x}")


def associate_request(calling: str, called: str) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes Verification."""
    maximum, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    maximum.maximum_length_received = MAX_PDU
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    context = build_context(VERIFICATION, ImplicitVRLittleEndian)
    context.context_id = 1
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title = calling
    primitive.called_ae_title = called
    primitive.user_information = [maximum, implementation]
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def _echo_request() -> list[bytes]:
    primitive = C_ECHO()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = UID(VERIFICATION)
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)
    fragments = []
    for data in message.encode_msg(1, MAX_PDU):
        pdu = P_DATA_TF()
        pdu.from_primitive(data)
        fragments.append(pdu.encode())
    return fragments


def _echo_status(pdu: bytes) -> int:
    data = P_DATA_TF()
    data.decode(pdu)
    message = C_ECHO_RSP()
    message.decode_msg(data.to_primitive())
    return int(message.command_set.Status)


def read_pdu(stream: socket.socket) -> bytes | None:
    """Return the next PDU with its header; None when the peer closed first.

    What is no PDU (an alert record of TLS, say) comes back as the bytes that were read.
    """
    header = _read(stream, 6)
    if len(header) < 6:
        return header or None
    if not 0x01 <= header[0] <= 0x07:
        return header + stream.recv(64)
    (length,) = struct.unpack(">L", header[2:])
    return header + _read(stream, min(length, 1 << 20))


def _read(stream: socket.socket, length: int) -> bytes:
    data = BytesIO()
    while data.tell() < length:
        chunk = stream.recv(length - data.tell())
        if not chunk:
            break
        data.write(chunk)
    return data.getvalue()


def _nothing(layer: Layer, code: str) -> Answer:
    return Answer(accepted=False, served=False, layer=layer, code=code)
