"""What a pod asks of Vault: have its own keys' certificates signed, fetch authorities and CRLs. Used by the agent."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pacs_operator.domain.agentconfig import Leaf, VaultAccess
from pacs_operator.domain.names import CaName, data_mount, pki_mount
from pacs_operator.vault.errors import VaultFailedError
from pacs_operator.vault.session import Login, VaultSession

DATA_KEY_BYTES = 32


class PodVault:
    """Vault as a pod sees it: it may sign under its own roles and nothing else.

    Parameters
    ----------
    access
        Address, role and token file from ``agent.json``.
    clock
        Seconds since the epoch; the login is renewed at two thirds of its life by it.

    Notes
    -----
    Logs in at the first `sign`, again when the login nears its end, and once more when Vault says Forbidden. Calls
    block; errors are `pacs_operator.domain.errors.VaultError`.
    """

    def __init__(self, access: VaultAccess, clock: Callable[[], float] = time.time) -> None:
        login = Login(
            address=access.address,
            ca_file=Path(access.ca_file),
            auth_path=access.auth_path,
            role=access.role,
            token_file=Path(access.token_file),
            timeout_seconds=access.timeout_seconds,
        )
        self._session = VaultSession(login, clock)

    def sign(self, leaf: Leaf, lineage_id: str, csr_pem: str) -> str:
        """Have a certificate request signed.

        Parameters
        ----------
        leaf
            Names role, authority and life.
        lineage_id
            The archive's lineage.
        csr_pem
            PKCS #10 with the leaf's names; Vault refuses any other name.

        Returns
        -------
        str
            PEM: leaf first, then its issuer.

        Raises
        ------
        VaultError
            With a reason of `pacs_operator.vault.errors`.
        """
        return sign(self._session, leaf, lineage_id, csr_pem)

    def ca_pem(self, lineage_id: str, ca: CaName) -> str:
        """Return an authority's certificate; needs no login.

        Raises
        ------
        VaultError
            With a reason of `pacs_operator.vault.errors`.
        """
        return self._session.fetch_pem(f"{pki_mount(lineage_id, ca)}/ca/pem")

    def crl_pem(self, lineage_id: str, ca: CaName) -> str:
        """Return an authority's current revocation list; needs no login.

        Raises
        ------
        VaultError
            With a reason of `pacs_operator.vault.errors`.
        """
        return self._session.fetch_pem(f"{pki_mount(lineage_id, ca)}/crl/pem")

    def make_data_key(self, lineage_id: str, key: str, context: str) -> "DataKey":
        """Have a data key made; see the function of that name."""
        return make_data_key(self._session, lineage_id, key, context)

    def unwrap_data_key(self, lineage_id: str, key: str, context: str, wrapped: str) -> bytes:
        """Have a data key unwrapped; see the function of that name."""
        return unwrap_data_key(self._session, lineage_id, key, context, wrapped)

    def rewrap_data_key(self, lineage_id: str, key: str, context: str, wrapped: str) -> str:
        """Have a data key wrapped anew; see the function of that name."""
        return rewrap_data_key(self._session, lineage_id, key, context, wrapped)


@dataclass(frozen=True)
class DataKey:
    """A fresh data key.

    Parameters
    ----------
    plain
        32 bytes, for memory only.
    wrapped
        What Vault unwraps again for the same context.
    """

    plain: bytes = field(repr=False)
    wrapped: str


def make_data_key(session: VaultSession, lineage_id: str, key: str, context: str) -> DataKey:
    """Have Vault make a data key and wrap it.

    Parameters
    ----------
    session
        Of the pod whose ServiceAccount bears the key's name.
    lineage_id, key
        The archive's lineage and its Transit key.
    context
        What the wrapping is bound to; another context does not unwrap it.

    Raises
    ------
    VaultError
        With a reason of `pacs_operator.vault.errors`.
    """
    path = f"{data_mount(lineage_id)}/datakey/plaintext/{key}"
    answer = session.write(path, {"context": _base64(context), "bits": "256"})
    return DataKey(_key_of(answer, path), str(answer.get("ciphertext", "")))


def unwrap_data_key(session: VaultSession, lineage_id: str, key: str, context: str, wrapped: str) -> bytes:
    """Have Vault unwrap a data key; 32 bytes, for memory only.

    Raises
    ------
    VaultError
        With a reason of `pacs_operator.vault.errors`.
    """
    path = f"{data_mount(lineage_id)}/decrypt/{key}"
    return _key_of(session.write(path, {"context": _base64(context), "ciphertext": wrapped}), path)


def rewrap_data_key(session: VaultSession, lineage_id: str, key: str, context: str, wrapped: str) -> str:
    """Have a data key wrapped by the newest version of the Transit key; it does not leave Vault for that.

    Raises
    ------
    VaultError
        With a reason of `pacs_operator.vault.errors`.
    """
    path = f"{data_mount(lineage_id)}/rewrap/{key}"
    answer = session.write(path, {"context": _base64(context), "ciphertext": wrapped})
    return str(answer.get("ciphertext", ""))


def _key_of(answer: dict[str, Any], path: str) -> bytes:
    try:
        key = base64.b64decode(str(answer.get("plaintext", "")), validate=True)
    except ValueError:
        key = b""
    if len(key) != DATA_KEY_BYTES:
        raise VaultFailedError(
            f"Vault's answer on {path} holds no key of {DATA_KEY_BYTES} bytes",
            action="see Vault's log and audit log; something between us and Vault may alter answers",
        )
    return key


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _is_for(certificate: str, csr_pem: str) -> bool:
    """Tell whether a certificate, of whatever came as one, is for the key of a request."""
    wanted = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
    try:
        return x509.load_pem_x509_certificate(certificate.encode()).public_key() == wanted
    except (ValueError, UnsupportedAlgorithm):
        return False


def sign(session: VaultSession, leaf: Leaf, lineage_id: str, csr_pem: str) -> str:
    """Sign with any session; see `PodVault.sign`."""
    path = f"{pki_mount(lineage_id, leaf.ca)}/sign/{leaf.role}"
    answer = session.write(path, {"csr": csr_pem, "format": "pem", "ttl": f"{leaf.ttl_seconds}s"})
    certificate, issuer = str(answer.get("certificate", "")), str(answer.get("issuing_ca", ""))
    if not _is_for(certificate, csr_pem):
        raise VaultFailedError(
            f"Vault's answer on {path} holds no certificate for the key that was sent",
            action="see Vault's log and audit log; something between us and Vault may alter answers",
        )
    return f"{certificate.strip()}\n{issuer.strip()}\n"
