"""Reading the authorities that people give for Vault."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def certificates(pem: str) -> bytes:
    """Return the certificates of a text, and nothing else of it: comments may be in any script.

    Parameters
    ----------
    pem
        What somebody pasted: PEM blocks, with or without words around them.

    Returns
    -------
    bytes
        PEM, ASCII.

    Raises
    ------
    ValueError
        No certificate is in it, or one that cannot be read.
    """
    return b"".join(found.public_bytes(Encoding.PEM) for found in x509.load_pem_x509_certificates(pem.encode("utf-8")))
