"""What stands behind the gate in these tests: a real DICOM server over mutual TLS, and a resolver that knows it."""

import contextlib
import hashlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from .pki import Authority, Leaf

ORTHANC_NAME = "orthanc.radiology-archive.svc"
ORTHANC_FQDN = f"{ORTHANC_NAME}.cluster.local"


class Archive:
    """A DICOM server that accepts every AE title: what is refused, the gate refused."""

    def __init__(self, folder: Path, leaf: Leaf, clients: Authority, port: int = 0) -> None:
        self.stored: dict[str, str] = {}  # SOP Instance UID -> SHA-256 of the pixels
        self.associations: Counter[str] = Counter()  # by calling AE title; the gate's own check has one too
        self.lock = threading.Lock()
        certificate = leaf.write(folder, "archive")
        root = folder / "archive-clients.pem"
        root.write_bytes(clients.root_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(root)
        context.verify_mode = ssl.CERT_REQUIRED
        ae = AE(ae_title="RADIOLOGY")
        ae.maximum_associations = 400
        ae.add_supported_context(Verification)
        ae.add_supported_context(CTImageStorage)
        handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, self._store), (evt.EVT_ACCEPTED, self._accepted)]
        server = ae.start_server(("127.0.0.1", port), block=False, ssl_context=context, evt_handlers=handlers)
        assert server is not None
        assert server.socket is not None
        self._server = server
        self.port: int = server.socket.getsockname()[1]

    def _accepted(self, event: evt.Event) -> None:
        with self.lock:
            self.associations[event.assoc.requestor.ae_title] += 1

    def _store(self, event: evt.Event) -> int:
        with self.lock:
            self.stored[str(event.dataset.SOPInstanceUID)] = hashlib.sha256(event.dataset.PixelData).hexdigest()
        return 0x0000

    def stop(self) -> None:
        self._server.shutdown()


class Resolver(threading.Thread):
    """A DNS server on loopback that answers A questions for the names it was told, NXDOMAIN for the rest."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.names: dict[str, str] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = self._socket.recvfrom(4096)
                if not query:  # how shutdown() shows
                    return
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035 4.1: header, the question again, and one A record by pointer to it."""
        labels, position = [], 12
        while length := query[position]:
            labels.append(query[position + 1 : position + 1 + length].decode("ascii").lower())
            position += 1 + length
        question = query[12 : position + 5]
        kind = int.from_bytes(question[-4:-2], "big")
        address = self.names.get(".".join(labels))
        known = address is not None
        answers = [address] if address and kind == 1 else []
        flags = 0x8180 if known else 0x8183
        header = query[:2] + b"".join(n.to_bytes(2, "big") for n in (flags, 1, len(answers), 0, 0))
        records = b"".join(
            b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + socket.inet_aton(answer) for answer in answers
        )
        return header + question + records

    def stop(self) -> None:
        # close() alone leaves the thread in recvfrom; shutting the socket down wakes it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextlib.contextmanager
def resolver() -> Iterator[Resolver]:
    server = Resolver()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.join(timeout=5)
