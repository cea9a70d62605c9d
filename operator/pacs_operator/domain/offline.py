"""``spec.offlineStart``: a key of the hospital's, to which each pod seals what its start needs while Vault is away."""

import base64
import hashlib
from datetime import timedelta
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pydantic import Field

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model

SECRET = "pacs-offline-start"  # noqa: S105  # a name: the Secret by which a person lets pods start
PRIVATE_FILE, NOT_AFTER_FILE = "private.pem", "notAfter"  # its keys
MAX_OPEN = timedelta(hours=72)  # how far ahead notAfter may lie: it is for one outage, and not for the next

_ANY_PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(32)))

Recipient = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]  # 32 bytes, standard base64


class OfflineStart(Model):
    """To whom pods seal, who keeps the private half, and why the archive has this at all."""

    recipient: Recipient
    holder: Annotated[str, Field(min_length=1, max_length=128)]
    reason: Annotated[str, Field(min_length=10, max_length=256)]


def check_recipient(text: str, field: str) -> None:
    """Refuse what is no key to which anything can be sealed.

    Parameters
    ----------
    text
        Standard base64.
    field
        Where it was written.

    Raises
    ------
    InvalidSpecError
        Not 32 bytes, or a point of low order: with one, anybody computes the shared secret (RFC 7748, 6.1).
    """
    try:
        _ANY_PRIVATE.exchange(public_key(text))
    except ValueError:
        raise InvalidSpecError(
            f"{field}: {text!r} is no X25519 public key of 32 bytes in base64, or a point of low order",
            action="make a pair as docs/offline-start.md says: openssl pkey -in offline.pem -pubout -outform DER "
            "| tail -c 32 | base64",
        ) from None


def public_key(text: str) -> X25519PublicKey:
    """Return the key of a recipient.

    Raises
    ------
    ValueError
        Not base64 of 32 bytes.
    """
    return X25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def fingerprint(text: str) -> str:
    """Return SHA-256 over a recipient's 32 bytes, lower-case hex: what people compare."""
    return fingerprint_of(public_key(text))


def fingerprint_of(key: X25519PublicKey) -> str:
    """Return the fingerprint of a key; see `fingerprint`."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()
