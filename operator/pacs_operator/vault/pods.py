"""What a pod asks of Vault: have its own keys' certificates signed, fetch authorities and CRLs. Used by the agent."""

import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from pacs_operator.domain.agentconfig import Leaf, VaultAccess
from pacs_operator.domain.names import CaName, pki_mount
from pacs_operator.vault.errors import VaultFailedError
from pacs_operator.vault.session import Login, VaultSession


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


def sign(session: VaultSession, leaf: Leaf, lineage_id: str, csr_pem: str) -> str:
    """Sign with any session; see `PodVault.sign`."""
    path = f"{pki_mount(lineage_id, leaf.ca)}/sign/{leaf.role}"
    answer = session.write(path, {"csr": csr_pem, "format": "pem", "ttl": f"{leaf.ttl_seconds}s"})
    certificate, issuer = str(answer.get("certificate", "")), str(answer.get("issuing_ca", ""))
    request_key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
    if not certificate or x509.load_pem_x509_certificate(certificate.encode()).public_key() != request_key:
        raise VaultFailedError(
            f"Vault's answer on {path} holds no certificate for the key that was sent",
            action="see Vault's log and audit log; something between us and Vault may alter answers",
        )
    return f"{certificate.strip()}\n{issuer.strip()}\n"
