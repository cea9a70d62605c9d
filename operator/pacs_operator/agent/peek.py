"""Looks at the certificate that a server in this pod presents, as a client would see it."""

import socket
import ssl
import struct
from pathlib import Path

from cryptography import x509

SECONDS = 3.0
# PostgreSQL frontend/backend protocol, SSLRequest: length 8, code 80877103; the server says S before TLS begins.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


def peek_certificate(port: int, *, client: Path | None = None, postgres: bool = False) -> x509.Certificate | None:
    """Return the certificate that a server on loopback presents; None when that could not be seen.

    It is compared with the one on the volume, not trusted: an expired or foreign one has to be seen too.

    Parameters
    ----------
    port
        TCP port on 127.0.0.1.
    client
        Key and chain to present in turn.
    postgres
        Ask for TLS first, as PostgreSQL wants it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if client is not None:
        context.load_cert_chain(client)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as plain:
            if postgres:
                plain.sendall(_SSL_REQUEST)
                if plain.recv(1) != b"S":
                    return None
            with context.wrap_socket(plain) as wrapped:
                der = wrapped.getpeercert(binary_form=True)
    except OSError:
        return None
    return None if der is None else x509.load_der_x509_certificate(der)
