"""A deliberately weak DICOM server on loopback: what no attack client gets from it, it could get from nobody.

Every attack client first succeeds here, so that a later refusal is the gate's and not the client's inability.
"""

import contextlib
import socket
import ssl
import threading
from types import TracebackType

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context

from pacs_operator.probes.tls import Forge, ForgedLeaf
from pacs_operator.probes.wire import VERIFICATION, Endpoint, read_pdu

SERVER_NAME = "localhost"
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which Python's ssl has no name for


class WeakServer:
    """Accepts any association: plaintext on one port; on the other any TLS from 1.1, with any certificate or none.

    Parameters
    ----------
    client_ca_pem
        Root under which presented client certificates verify (OpenSSL has no "any"); none need be presented.
    """

    def __init__(self, client_ca_pem: list[str]) -> None:
        self._forge = Forge("weak server")
        self.ca_pem = self._forge.ca_pem
        self._context = self._weak_context(client_ca_pem)
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.plaintext = self._endpoint(self._listeners[0])
        self.secured = self._endpoint(self._listeners[1])
        for listener, context in zip(self._listeners, (None, self._context), strict=True):
            threading.Thread(target=self._serve, args=(listener, context), daemon=True).start()

    def _weak_context(self, client_ca_pem: list[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        for name, leaf in (("server-ec", ForgedLeaf()), ("server-rsa", ForgedLeaf(rsa=True))):
            credentials = self._forge.issue(name, [SERVER_NAME], leaf)
            context.load_cert_chain(credentials.certificate, credentials.key)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= _NO_CHECK_TIME  # any certificate, also an expired one
        for pem in client_ca_pem:
            context.load_verify_locations(cadata=pem)
        return context

    @staticmethod
    def _endpoint(listener: socket.socket) -> Endpoint:
        address, port = listener.getsockname()[:2]
        return Endpoint(address, port)

    def _serve(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError):  # close() ends the wait in accept()
            while True:
                stream, _ = listener.accept()
                stream.settimeout(5)
                threading.Thread(target=self._answer, args=(stream, context), daemon=True).start()

    @staticmethod
    def _answer(stream: socket.socket, context: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError), contextlib.closing(stream):
            secured = context.wrap_socket(stream, server_side=True) if context else stream
            with contextlib.closing(secured):
                request = read_pdu(secured)
                if request is not None and request[0] == 0x01:
                    secured.sendall(_accept(request))
                    read_pdu(secured)
                if isinstance(secured, ssl.SSLSocket):
                    secured.unwrap()  # an end without close_notify has OpenSSL 3.5 forget the session

    def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._forge.close()

    def __enter__(self) -> "WeakServer":
        """Return the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self.close()


def _accept(request: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC to whatever was asked, with Verification on context 1."""
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(request)
    primitive = pdu.to_primitive()
    context = build_context(VERIFICATION, ImplicitVRLittleEndian)
    context.context_id = 1
    context.result = 0
    answer = A_ASSOCIATE()
    answer.application_context_name = primitive.application_context_name
    answer.calling_ae_title = primitive.calling_ae_title
    answer.called_ae_title = primitive.called_ae_title
    answer.user_information = primitive.user_information
    answer.presentation_context_definition_results_list = [context]
    answer.result = 0
    answer.result_source = 1
    accept = A_ASSOCIATE_AC()
    accept.from_primitive(answer)
    return accept.encode()


def handshakes(server: ssl.SSLContext, client: ssl.SSLContext, server_name: str) -> bool:
    """Tell whether client and server agree on TLS with each other, over a pair of sockets in this process."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(5)

    def serve() -> None:
        with contextlib.suppress(OSError), server.wrap_socket(theirs, server_side=True) as secured:
            secured.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=server_name):
            return True
    except OSError:
        return False
    finally:
        ours.close()
        thread.join(5)
        theirs.close()
