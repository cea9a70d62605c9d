"""What the operator asks of a secrets backend; the reconcile knows nothing beyond this."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pacs_operator.domain.names import CaName


@dataclass(frozen=True)
class Changes:
    """What a call altered in Vault, for events and logs; false when nothing had to be written.

    Parameters
    ----------
    created
        Paths that were absent, and now are there.
    repaired
        Paths that somebody had altered, with the names of the fields that were put back.
    deleted
        Paths that are gone.
    """

    created: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.created or self.repaired or self.deleted)

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(self.created + other.created, self.repaired + other.repaired, self.deleted + other.deleted)


@dataclass(frozen=True)
class ClientCredentials:
    """A client certificate and its key, in memory only.

    Parameters
    ----------
    chain_pem
        Leaf, then issuer.
    key_pem
        PKCS #8, unencrypted; never written to a disk.
    ca_pem
        The authority that also signed the servers to be asked.
    not_after
        End of the certificate's life, UTC.
    """

    chain_pem: str
    key_pem: str = field(repr=False)
    ca_pem: str
    not_after: datetime


class VaultPort(Protocol):
    """Provisioning of one archive's authorities and roles.

    Every call reads first and writes only what differs. Calls block; run them in an executor. All raise
    `pacs_operator.domain.errors.VaultError` (reasons: `pacs_operator.vault.errors`).
    """

    def ensure_archive(self, archive_name: str, lineage_id: str, audience: str) -> Changes:
        """Bring mounts, roots, CRL settings, PKI roles and login roles of one archive to what they should be."""
        ...

    def ensure_importer(self, archive_name: str, audience: str) -> Changes:
        """Have the login role of an archive's import."""
        ...

    def ensure_peer_role(self, lineage_id: str, namespace: str, name: str, dns_name: str) -> Changes:
        """Have a role that signs exactly one DicomPeer's identity."""
        ...

    def ensure_break_glass_role(self, lineage_id: str, role: str, dns_name: str, hours: int) -> Changes:
        """Have a role that signs exactly one break-glass reader's identity, for some hours at most."""
        ...

    def delete_peer_roles_except(self, lineage_id: str, keep: set[str]) -> Changes:
        """Remove the roles of peers that are gone; ``keep`` holds names as `names.peer_role` makes them."""
        ...

    def delete_archive_roles(self, archive_name: str, lineage_id: str) -> Changes:
        """Remove login roles and PKI roles; mounts and keys stay, since the operator cannot remove them."""
        ...

    def data_key_gone(self, archive_name: str, lineage_id: str) -> bool:
        """Tell whether the key above an archive's data keys was destroyed, from metadata alone.

        A Vault without the lineage's mount is no proof, it may be another Vault: that is an error.
        """
        ...

    def status_client_credentials(self, lineage_id: str) -> ClientCredentials:
        """Return the credentials for the agents' status port, renewed at two thirds of their life."""
        ...

    def ca_pem(self, lineage_id: str, ca: CaName) -> str:
        """Return an authority's certificate."""
        ...
