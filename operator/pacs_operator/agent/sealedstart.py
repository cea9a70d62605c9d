"""The sealed file: what one pod needs for a start, readable by the hospital's private half alone.

HPKE in base mode (RFC 9180): X25519, HKDF-SHA256, AES-256-GCM. Whose file it is and when it was sealed stand in clear
beside the ciphertext and are bound to it as HPKE's ``info``.
"""

import base64
from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import Field, ValidationError

from pacs_operator.agent.errors import AgentError
from pacs_operator.domain import offline
from pacs_operator.domain.agentconfig import Time, Word
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import Component

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_DOMAIN = b"pacs-operator offline start 1\n"


class OfflineStartError(AgentError):
    """No offline start of this pod; ``reason`` says why. It goes on asking Vault."""

    reason = "OfflineStartRefused"


class Pod(Model):
    """Whose file it is: another pod's, also of the same component, is not taken."""

    component: Component
    lineage_id: str
    uid: Annotated[str, Field(min_length=1, max_length=64)]


class _Header(Model):
    form: Literal[1] = 1
    pod: Pod
    recipient: Word
    sealed: Time


class _Sealed(_Header):
    ciphertext: str


class _Content(Model):
    files: dict[str, str]


def seal(pod: Pod, files: dict[str, bytes], recipient: str, now: str) -> bytes:
    """Return the sealed file.

    Parameters
    ----------
    pod
        Whose it is.
    files
        By a name that the same pod will ask for.
    recipient
        The hospital's public half, base64.
    now
        RFC 3339, UTC.
    """
    header = _Header(pod=pod, recipient=offline.fingerprint(recipient), sealed=now)
    content = _Content(files={name: base64.b64encode(data).decode() for name, data in sorted(files.items())})
    ciphertext = _SUITE.encrypt(content.model_dump_json().encode(), offline.public_key(recipient), info=_info(header))
    sealed = _Sealed(**dict(header), ciphertext=base64.b64encode(ciphertext).decode())
    return sealed.model_dump_json(by_alias=True).encode()


def unseal(data: bytes, pod: Pod, key: X25519PrivateKey) -> tuple[str, dict[str, bytes]]:
    """Return when a file was sealed, and what is in it.

    Raises
    ------
    OfflineStartError
        ``OfflineFileAltered``: not readable, or does not open. ``OfflineFileForeign``: sealed by another pod.
    """
    try:
        sealed = _Sealed.model_validate_json(data)
    except ValidationError:
        raise _altered("is not of the form that agents write") from None
    if sealed.pod != pod:
        raise OfflineStartError(
            f"the sealed file is of {sealed.pod.component.value} pod {sealed.pod.uid}, lineage "
            f"{sealed.pod.lineage_id}, and not of this one",
            action="put back what lay in this pod's own volume, or wait for Vault",
            reason="OfflineFileForeign",
        )
    header = _Header(pod=sealed.pod, recipient=sealed.recipient, sealed=sealed.sealed)
    try:
        plain = _SUITE.decrypt(base64.b64decode(sealed.ciphertext, validate=True), key, info=_info(header))
        content = _Content.model_validate_json(plain)
        return sealed.sealed, {name: base64.b64decode(text) for name, text in content.files.items()}
    except (InvalidTag, ValueError):
        raise _altered("does not open") from None


def _info(header: _Header) -> bytes:
    return _DOMAIN + header.model_dump_json(by_alias=True).encode()


def _altered(how: str) -> OfflineStartError:
    return OfflineStartError(
        f"the sealed file {how}: it was sealed to another key, or altered since",
        action="wait for Vault; see who had access to the node's disk",
        reason="OfflineFileAltered",
    )
