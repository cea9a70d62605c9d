"""The operator's side of Vault: brings one archive's authorities and roles to what `layout` describes."""

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pacs_operator.domain.agentconfig import TOKEN_FILE, Leaf
from pacs_operator.domain.facts import ClusterSettings, VaultSettings
from pacs_operator.domain.names import CaName, Component, data_key, data_mount, pki_mount
from pacs_operator.vault.errors import VaultMisconfiguredError
from pacs_operator.vault.layout import (
    OPERATOR_ROLE,
    ROOT_LIFE_HOURS,
    STATUS_LIFE_SECONDS,
    Authority,
    DataKeys,
    Entry,
    Operator,
    Site,
    archive_layout,
    break_glass_entry,
    importer_login,
    login_path,
    peer_entry,
)
from pacs_operator.vault.pods import sign
from pacs_operator.vault.port import Changes, ClientCredentials
from pacs_operator.vault.session import Login, VaultSession, memory_file

RENEW_AT = 2 / 3
MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name-length
NO_MOUNT = "No secret engine mount at"


def connect(settings: VaultSettings, cluster: ClusterSettings, token_file: Path = Path(TOKEN_FILE)) -> "VaultClient":
    """Return the operator's client for one Vault; nothing is sent before its first call.

    Parameters
    ----------
    settings
        Where Vault is.
    cluster
        Names the operator's own namespace and ServiceAccount.
    token_file
        The operator's projected token with Vault's audience.
    """
    login = Login(settings.address, memory_file(settings.ca_pem), settings.auth_path, OPERATOR_ROLE, token_file)
    operator = Operator(cluster.operator_namespace, cluster.operator_service_account)
    return VaultClient(VaultSession(login), Site(settings.address, settings.auth_path, operator))


class VaultClient:
    """`port.VaultPort` on a real Vault or OpenBao.

    Every call reads first and writes only what differs, each write leaving a state from which the next pass goes
    on: a pass may die anywhere. Safe for use from several threads.

    Parameters
    ----------
    session
        A session that logs in as the operator.
    site
        Which Vault, and as whom the operator works there.
    clock
        Seconds since the epoch.
    """

    def __init__(self, session: VaultSession, site: Site, clock: Callable[[], float] = time.time) -> None:
        self._session = session
        self._site = site
        self._clock = clock
        self._credentials: dict[str, tuple[ClientCredentials, float]] = {}
        self._lock = threading.Lock()

    def ensure_archive(self, archive_name: str, lineage_id: str, audience: str) -> Changes:
        """Bring mounts, roots, CRL settings, PKI roles and login roles of one archive to what they should be.

        Parameters
        ----------
        archive_name, lineage_id
            The archive.
        audience
            Audience of its pods' tokens.

        Returns
        -------
        Changes
            What had to be written; false in the steady state.

        Raises
        ------
        VaultError
            With a reason of `pacs_operator.vault.errors`.
        """
        layout = archive_layout(archive_name, lineage_id, audience, self._site)
        changes = Changes()
        for authority in layout.authorities:
            changes += self._ensure_authority(authority)
        changes += self._ensure_data_keys(layout.data_keys)
        for login in layout.logins:
            changes += self._ensure(login)
        return changes

    def ensure_importer(self, archive_name: str, audience: str) -> Changes:
        """Have the login role of an archive's import; the rest was ensured with the archive.

        Raises
        ------
        VaultError
            With a reason of `pacs_operator.vault.errors`; forbidden while the policies are those of a release that
            knew no imports.
        """
        return self._ensure(importer_login(archive_name, audience, self._site))

    def ensure_peer_role(self, lineage_id: str, namespace: str, name: str, dns_name: str) -> Changes:
        """Have a role that signs exactly one DicomPeer's identity.

        Raises
        ------
        InvalidSpecError
            The name is reserved for archives.
        VaultError
            With a reason of `pacs_operator.vault.errors`.
        """
        return self._ensure(peer_entry(lineage_id, namespace, name, dns_name))

    def ensure_break_glass_role(self, lineage_id: str, role: str, dns_name: str, hours: int) -> Changes:
        """Have a role that signs exactly one break-glass reader's identity, for some hours at most.

        Raises
        ------
        VaultError
            With a reason of `pacs_operator.vault.errors`.
        """
        return self._ensure(break_glass_entry(lineage_id, role, dns_name, hours))

    def delete_peer_roles_except(self, lineage_id: str, keep: set[str]) -> Changes:
        """Remove the roles of peers that are gone; certificates already signed are the gate's matter."""
        mount = pki_mount(lineage_id, CaName.PEERS)
        gone = [role for role in self._session.list(f"{mount}/roles") if _is_peer(role) and role not in keep]
        return self._delete(f"{mount}/roles/{role}" for role in gone)

    def delete_archive_roles(self, archive_name: str, lineage_id: str) -> Changes:
        """Remove login roles and PKI roles; mounts and keys stay, since the operator cannot remove them."""
        present = set(self._session.list(f"auth/{self._site.auth_path}/role"))
        logins = [login_path(self._site.auth_path, archive_name, component) for component in Component]
        paths = [path for path in logins if path.rpartition("/")[2] in present]
        for ca in CaName:
            mount = pki_mount(lineage_id, ca)
            paths += [f"{mount}/roles/{role}" for role in self._session.list(f"{mount}/roles")]
        with self._lock:
            self._credentials.pop(lineage_id, None)
        return self._delete(paths)

    def data_key_gone(self, archive_name: str, lineage_id: str) -> bool:
        """Tell whether the key above an archive's data keys was destroyed, from metadata alone.

        Raises
        ------
        VaultMisconfiguredError
            There is no such mount: perhaps this is another Vault, so nothing is proven.
        VaultError
            With a reason of `pacs_operator.vault.errors`.
        """
        mount = data_mount(lineage_id)
        live = self._session.read(f"sys/mounts/{mount}", absent=NO_MOUNT)
        if live is None or live.get("type") != "transit":
            raise VaultMisconfiguredError(
                f"Vault has no transit mount {mount}, so it cannot tell whether the key was destroyed",
                action="correct spec.vault if this is another Vault; if somebody removed the mount with its key, have "
                "Vault's administrator enable an empty transit mount there",
            )
        return self._session.read(f"{mount}/keys/{data_key(archive_name)}") is None

    def status_client_credentials(self, lineage_id: str) -> ClientCredentials:
        """Return the credentials for the agents' status port, renewed at two thirds of their life.

        The key is made here, stays in this process's memory and is never written anywhere.
        """
        with self._lock:
            known = self._credentials.get(lineage_id)
            if known is None or self._clock() >= known[1]:
                fresh = self._sign_status(lineage_id)
                renew_at = self._clock() + (fresh.not_after.timestamp() - self._clock()) * RENEW_AT
                known = self._credentials[lineage_id] = (fresh, renew_at)
            return known[0]

    def ca_pem(self, lineage_id: str, ca: CaName) -> str:
        """Return an authority's certificate."""
        return self._session.fetch_pem(f"{pki_mount(lineage_id, ca)}/ca/pem")

    def _ensure_authority(self, authority: Authority) -> Changes:
        changes = self._ensure_mount(authority)
        for entry in authority.settings:  # before the root, whose first CRL is made with these
            changes += self._ensure(entry)
        changes += self._ensure_root(authority)
        present = set(self._session.list(f"{authority.path}/roles"))
        for entry in authority.roles:
            changes += self._ensure(entry, absent=entry.path.rpartition("/")[2] not in present)
        wanted = {entry.path.rpartition("/")[2] for entry in authority.roles}
        stray = sorted(role for role in present - wanted if not _is_peer(role))
        return changes + self._delete(f"{authority.path}/roles/{role}" for role in stray)

    def _ensure_data_keys(self, wanted: DataKeys) -> Changes:
        """Make the Transit key once. What differs is told, never put back: nobody but an administrator may."""
        changes = Changes()
        path = f"sys/mounts/{wanted.path}"
        mount = self._session.read(path, absent=NO_MOUNT)
        if mount is None:
            self._session.write(path, wanted.mount)
            changes += Changes(created=(path,))
        elif mount.get("type") != wanted.mount["type"]:
            raise VaultMisconfiguredError(
                f"Vault's mount {wanted.path} is of type {mount.get('type')!r}, not 'transit'",
                action="have Vault's administrator move it away; archives own everything below pacs/<lineage>/",
            )
        live = self._session.read(wanted.key.path)
        if live is None:
            self._session.write(wanted.key.path, wanted.key.written)
            return changes + Changes(created=(wanted.key.path,))
        if drift := wanted.key.drift(live):
            raise VaultMisconfiguredError(
                f"Vault's key {wanted.key.path} was altered: {', '.join(drift)}",
                action="have Vault's administrator put it back, and find out who altered it: it opens every image",
            )
        return changes

    def _ensure_mount(self, authority: Authority) -> Changes:
        path = f"sys/mounts/{authority.path}"
        live = self._session.read(path, absent=NO_MOUNT)
        if live is None:
            self._session.write(path, authority.mount)
            return Changes(created=(path,))
        if live.get("type") != authority.mount["type"]:
            raise VaultMisconfiguredError(
                f"Vault's mount {authority.path} is of type {live.get('type')!r}, not 'pki'",
                action="have Vault's administrator move it away; archives own everything below pacs/<lineage>/",
            )
        configured = int((live.get("config") or {}).get("max_lease_ttl", 0))
        if configured < ROOT_LIFE_HOURS * 3600:
            raise VaultMisconfiguredError(
                f"Vault's mount {authority.path} allows lives of {configured} s, less than its root's",
                action=f"have Vault's administrator tune it: max_lease_ttl={ROOT_LIFE_HOURS}h; the operator may not",
            )
        return Changes()

    def _ensure_root(self, authority: Authority) -> Changes:
        """Generate the root once: Vault makes a further one at each call, so look first, and name it."""
        if self._session.list(f"{authority.path}/issuers"):
            return Changes()
        path = f"{authority.path}/root/generate/internal"
        try:
            self._session.write(path, authority.root)
        except VaultMisconfiguredError:
            # Another operator may have been faster: Vault takes the issuer's name only once.
            if self._session.list(f"{authority.path}/issuers"):
                return Changes()
            raise
        return Changes(created=(path,))

    def _ensure(self, entry: Entry, *, absent: bool = False) -> Changes:
        live = None if absent else self._session.read(entry.path)
        if live is None:
            self._session.write(entry.path, entry.written)
            return Changes(created=(entry.path,))
        drift = entry.drift(live)
        if not drift:
            return Changes()
        if not entry.overwrites and entry.drift_beyond_write(live):
            self._session.delete(entry.path)
        self._session.write(entry.path, entry.written)
        if entry.never_written(live):
            return Changes(created=(entry.path,))
        return Changes(repaired=(f"{entry.path} ({', '.join(drift)})",))

    def _delete(self, paths: Iterable[str]) -> Changes:
        deleted = []
        for path in paths:
            self._session.delete(path)
            deleted.append(path)
        return Changes(deleted=tuple(deleted))

    def _sign_status(self, lineage_id: str) -> ClientCredentials:
        dns_name = self._site.operator.status_dns
        if len(dns_name) > MAX_COMMON_NAME:
            longest = MAX_COMMON_NAME - len(dns_name) + len(self._site.operator.namespace)
            raise VaultMisconfiguredError(
                f"{dns_name} has {len(dns_name)} characters; a certificate's common name takes {MAX_COMMON_NAME}",
                action=f"install the operator in a namespace whose name has at most {longest} characters",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = Leaf(
            name="status",
            ca=CaName.CONTROL,
            role=self._site.operator.status_role,
            dns_names=[dns_name],
            ttl_seconds=STATUS_LIFE_SECONDS,
        )
        chain = sign(self._session, leaf, lineage_id, _request(key, dns_name))
        return ClientCredentials(
            chain_pem=chain,
            key_pem=_pem(key),
            ca_pem=self.ca_pem(lineage_id, CaName.CONTROL),
            not_after=x509.load_pem_x509_certificate(chain.encode()).not_valid_after_utc.astimezone(UTC),
        )


def _is_peer(role: str) -> bool:
    return role.startswith("peer.")


def _request(key: ec.EllipticCurvePrivateKey, dns_name: str) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name)])
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
