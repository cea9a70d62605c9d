"""What one archive needs in Vault, as a pure description: names in, mounts and roles out.

The parameters written here are pinned once more in ``deploy/vault/policies/pacs-operator.hcl``: what is not exactly
this, Vault refuses even to the operator. Numbers are written as text because Vault compares pinned parameters as
text or booleans only.
"""

from dataclasses import dataclass
from typing import Any

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.leaves import DAY, HOUR, KeyType, LeafSpec, archive_leaves, is_reserved_dns_name
from pacs_operator.domain.names import (
    ZONE_OF,
    CaName,
    Component,
    component_role,
    data_key,
    data_mount,
    namespace_of,
    peer_role,
    pki_mount,
)

ROOT_LIFE_HOURS = 10 * 365 * 24
ROOT_ISSUER = "root"  # Vault refuses a second issuer of this name, so a root is never generated twice
PEER_LIFE_SECONDS = 365 * DAY
STATUS_LIFE_SECONDS = HOUR
COMPONENT_POLICY = "pacs-component"
OPERATOR_ROLE = "pacs-operator"
LOGIN_LIFE = "900s"


@dataclass(frozen=True)
class Operator:
    """The operator's own ServiceAccount."""

    namespace: str
    service_account: str

    @property
    def status_role(self) -> str:
        """The one PKI role (in each ``control`` mount) under which the operator itself may have a leaf signed."""
        return f"{self.namespace}.{self.service_account}.status"

    @property
    def status_dns(self) -> str:
        """Name in the operator's client certificate; the agents answer it on ``/status`` and nothing else."""
        return f"status.{self.namespace}.svc"


@dataclass(frozen=True)
class Site:
    """Which Vault, and as whom the operator works there.

    Parameters
    ----------
    address
        As clients know it; it stands in certificates as the place of CRL and issuer.
    auth_path
        Mount of the kubernetes auth method, without ``auth/``.
    operator
        The operator's ServiceAccount.
    """

    address: str
    auth_path: str
    operator: Operator


@dataclass(frozen=True)
class Entry:
    """One path of Vault's API as it should read.

    Parameters
    ----------
    path
        Path below ``/v1/``.
    written
        What is sent; absence or another value in the live state is drift.
    untouched
        What is never sent and must read as Vault's default; another value is drift as well.
    overwrites
        True when a write resets every field that it does not name; otherwise the path is removed first if a field
        of ``untouched`` was altered.
    initial
        For a path that is there from the start: what it reads before anybody wrote it.
    """

    path: str
    written: dict[str, Any]
    untouched: dict[str, Any]
    overwrites: bool
    initial: dict[str, Any] | None = None

    def never_written(self, live: dict[str, Any]) -> bool:
        """Tell whether the path still reads as Vault made it, so that writing it repairs nobody's change."""
        return self.initial is not None and all(same(value, live.get(name)) for name, value in self.initial.items())

    def drift(self, live: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the fields that differ, sorted."""
        altered = {name for name, value in self.written.items() if name in live and not same(value, live[name])}
        absent = {name for name in self.written if name not in live and name not in _KNOWN_TO_OPENBAO_ONLY}
        return tuple(sorted(altered | absent | set(self.drift_beyond_write(live))))

    def drift_beyond_write(self, live: dict[str, Any]) -> tuple[str, ...]:
        """Return the altered fields that a write does not name."""
        return tuple(sorted(n for n, value in self.untouched.items() if n in live and not same(value, live[n])))


@dataclass(frozen=True)
class Authority:
    """One of an archive's certificate authorities: a PKI mount with one self-signed root."""

    path: str
    mount: dict[str, Any]
    root: dict[str, Any]
    settings: tuple[Entry, ...]
    roles: tuple[Entry, ...]


@dataclass(frozen=True)
class DataKeys:
    """Where data keys of images are wrapped: a Transit mount with one key, made once and never changed."""

    path: str
    mount: dict[str, Any]
    key: Entry


@dataclass(frozen=True)
class ArchiveLayout:
    """All of one archive."""

    authorities: tuple[Authority, ...]
    data_keys: DataKeys
    logins: tuple[Entry, ...]


def archive_layout(archive: str, lineage_id: str, audience: str, site: Site) -> ArchiveLayout:
    """Describe what an archive needs.

    Parameters
    ----------
    archive, lineage_id
        The archive's name and lineage.
    audience
        Audience of the pods' projected tokens.
    site
        Which Vault, and as whom the operator works there.

    Returns
    -------
    ArchiveLayout
        Three authorities with their roles, one login role for each component.
    """
    authorities = tuple(_authority(archive, lineage_id, ca, site) for ca in CaName)
    always = (component for component in Component if component is not Component.IMPORTER)
    logins = tuple(_login(archive, component, audience, site.auth_path) for component in always)
    return ArchiveLayout(authorities, _data_keys(archive, lineage_id), logins)


def importer_login(archive: str, audience: str, site: Site) -> Entry:
    """Describe the login role of an archive's import.

    Apart, because the policy of an earlier release does not let the operator write it: archives without an import
    must not stall on that. The role of its certificate signs nothing for anybody who cannot log in.
    """
    return _login(archive, Component.IMPORTER, audience, site.auth_path)


def _data_keys(archive: str, lineage_id: str) -> DataKeys:
    path = data_mount(lineage_id)
    written = {"type": "aes256-gcm96", "derived": True, "exportable": False, "allow_plaintext_backup": False}
    # Whoever may delete it destroys every image; an administrator's shred run alone switches that on.
    untouched = {"deletion_allowed": False, "imported_key": False, "soft_deleted": False}
    return DataKeys(
        path=path,
        mount={"type": "transit", "description": f"pacs-operator: data keys of lineage {lineage_id}"},
        key=Entry(f"{path}/keys/{data_key(archive)}", written, untouched, overwrites=False),
    )


def login_role(archive: str, component: Component) -> str:
    """Return the role of the kubernetes auth method with which a component's pods log in."""
    return f"{namespace_of(archive, ZONE_OF[component])}.{component.value}"


def login_path(auth_path: str, archive: str, component: Component) -> str:
    """Return the path of a component's login role."""
    return f"auth/{auth_path}/role/{login_role(archive, component)}"


def peer_entry(lineage_id: str, namespace: str, name: str, dns_name: str) -> Entry:
    """Describe the role that signs one DicomPeer's identity, and no other.

    Its certificates serve both directions, because a modality has one certificate and is called back for
    storage commitment and C-MOVE (IHE ATNA).

    Raises
    ------
    InvalidSpecError
        The name belongs to the archives themselves.
    """
    if is_reserved_dns_name(dns_name):
        raise InvalidSpecError(
            f"DicomPeer {namespace}/{name}: spec.certificate.dnsName {dns_name!r} is reserved for archives",
            action="use a name of the modality's own, outside .svc, .svc.cluster.local and .pacs.internal",
        )
    path = f"{pki_mount(lineage_id, CaName.PEERS)}/roles/{peer_role(namespace, name)}"
    return _role(path, (dns_name,), _Profile(None, PEER_LIFE_SECONDS, server=True, client=True))


def break_glass_entry(lineage_id: str, role: str, dns_name: str, hours: int) -> Entry:
    """Return the role that signs one break-glass reader's identity: for a client, no longer than the reader is let in.

    Parameters
    ----------
    lineage_id
        Whose data.
    role, dns_name
        Names of the role and of what it signs.
    hours
        Life of what it signs, at most.
    """
    path = f"{pki_mount(lineage_id, CaName.PEERS)}/roles/{role}"
    return _role(path, (dns_name,), _Profile(None, hours * HOUR, client=True))


def same(wanted: Any, live: Any) -> bool:
    """Compare what we write with how Vault reads it back (durations as seconds, comma lists as lists)."""
    if isinstance(live, list):
        parts = wanted if isinstance(wanted, list) else [part for part in str(wanted).split(",") if part]
        return sorted(map(str, parts)) == sorted(map(str, live))
    if isinstance(wanted, bool) or isinstance(live, bool):
        return wanted is live
    if isinstance(live, int):
        return str(wanted).removesuffix("s") == str(live)
    return str(wanted) == str(live)


def _authority(archive: str, lineage_id: str, ca: CaName, site: Site) -> Authority:
    path = pki_mount(lineage_id, ca)
    roles = [_component_role(path, archive, leaf) for leaf in archive_leaves(archive) if leaf.ca is ca]
    if ca is CaName.CONTROL:
        status = f"{path}/roles/{site.operator.status_role}"
        roles.append(_role(status, (site.operator.status_dns,), _Profile("EC", STATUS_LIFE_SECONDS, client=True)))
    return Authority(
        path=path,
        mount={
            "type": "pki",
            "description": f"pacs-operator: {ca.value} authority of lineage {lineage_id}",
            "config": {"max_lease_ttl": f"{ROOT_LIFE_HOURS}h"},
        },
        root={
            "common_name": f"pacs {lineage_id} {ca.value}",
            "issuer_name": ROOT_ISSUER,
            "key_type": "ec",
            "key_bits": "256",
            "ttl": f"{ROOT_LIFE_HOURS}h",
            "max_path_length": "0",  # signs leaves only
        },
        settings=(_crl(path), _urls(path, site.address)),
        roles=tuple(roles),
    )


def _crl(path: str) -> Entry:
    """Describe the CRL: valid a week, rebuilt as soon as an hour of it has passed.

    Without ``auto_rebuild`` a CRL is made only when something is revoked, and so would expire in quiet times.
    """
    written = {
        "expiry": "168h",
        "auto_rebuild": True,
        "auto_rebuild_grace_period": "167h",
        "disable": False,
        "enable_delta": False,
    }
    return Entry(f"{path}/config/crl", written, {}, overwrites=False, initial={"auto_rebuild": False, "expiry": "72h"})


def _urls(path: str, address: str) -> Entry:
    base = f"{address.rstrip('/')}/v1/{path}"
    written = {
        "issuing_certificates": f"{base}/ca",
        "crl_distribution_points": f"{base}/crl",
        "enable_templating": False,
    }
    initial: dict[str, Any] = {"issuing_certificates": [], "crl_distribution_points": []}
    return Entry(f"{path}/config/urls", written, {}, overwrites=False, initial=initial)


def _component_role(path: str, archive: str, leaf: LeafSpec) -> Entry:
    name = component_role(archive, leaf.component, leaf.name)
    profile = _Profile(leaf.key_type, leaf.ttl_seconds, server=leaf.server, client=leaf.client)
    return _role(f"{path}/roles/{name}", leaf.dns_names, profile)


# Vault's "key_bits" for a role that signs requests is a minimum; 0 lets the built-in floor (RSA 2048) stand.
_KEYS: dict[KeyType | None, tuple[str, str, str]] = {
    "EC": ("ec", "256", "DigitalSignature"),
    "RSA": ("rsa", "3072", "DigitalSignature,KeyEncipherment"),
    None: ("any", "0", "DigitalSignature,KeyEncipherment"),  # modalities bring what they have
}

# A caller could otherwise ask for a certificate that outlives the role's ttl (OpenBao's default is "permit").
_KNOWN_TO_OPENBAO_ONLY = {"not_after_bound", "not_before_bound"}

_ROLE_DEFAULTS: dict[str, Any] = {
    "allow_any_name": False,
    "allow_glob_domains": False,
    "allow_globs_in_identity_templates": False,
    "allow_subdomains": False,
    "allow_token_displayname": False,
    "allowed_domains_template": False,
    "allowed_ip_sans_cidr": [],
    "allowed_other_sans": [],
    "allowed_serial_numbers": [],
    "allowed_uri_sans": [],
    "allowed_uri_sans_template": False,
    "allowed_user_ids": [],
    "basic_constraints_valid_for_non_ca": False,
    "code_signing_flag": False,
    "email_protection_flag": False,
    "enforce_hostnames": True,
    "ext_key_usage": [],
    "ext_key_usage_oids": [],
    "generate_lease": False,
    "issuer_ref": "default",
    "no_store": False,  # a certificate that is not stored cannot be revoked by its serial
    "not_after": "",
    "not_before": "",
    "policy_identifiers": [],
    "require_cn": True,
    "use_csr_common_name": True,
    "use_csr_sans": True,
}


@dataclass(frozen=True)
class _Profile:
    key: KeyType | None  # None: whatever a modality brings
    life_seconds: int
    server: bool = False
    client: bool = False


def _role(path: str, dns_names: tuple[str, ...], profile: _Profile) -> Entry:
    key_type, key_bits, key_usage = _KEYS[profile.key]
    life = f"{profile.life_seconds}s"
    written: dict[str, Any] = {
        "allowed_domains": list(dns_names),
        "allow_bare_domains": True,
        "allow_ip_sans": False,
        "allow_localhost": False,
        "allow_wildcard_certificates": False,
        "client_flag": profile.client,
        "server_flag": profile.server,
        "cn_validations": "hostname",
        "key_type": key_type,
        "key_bits": key_bits,
        "key_usage": key_usage,
        "max_ttl": life,
        "ttl": life,
        "not_after_bound": "forbid",
        "not_before_bound": "forbid",
    }
    return Entry(path, written, _ROLE_DEFAULTS, overwrites=True)


_LOGIN_DEFAULTS: dict[str, Any] = {
    "alias_name_source": "serviceaccount_uid",
    "bound_service_account_namespace_selector": "",
    "token_bound_cidrs": [],
    "token_explicit_max_ttl": 0,
    "token_num_uses": 0,
    "token_period": 0,
    "token_strictly_bind_ip": False,
    "token_type": "default",
}


def _login(archive: str, component: Component, audience: str, auth_path: str) -> Entry:
    written: dict[str, Any] = {
        "bound_service_account_names": component.value,
        "bound_service_account_namespaces": namespace_of(archive, ZONE_OF[component]),
        "audience": audience,
        "token_policies": COMPONENT_POLICY,
        "token_no_default_policy": True,
        "token_ttl": LOGIN_LIFE,
        "token_max_ttl": LOGIN_LIFE,
    }
    return Entry(login_path(auth_path, archive, component), written, _LOGIN_DEFAULTS, overwrites=False)
