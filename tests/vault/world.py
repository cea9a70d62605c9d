"""The server with its identity provider, and clients that act as the operator, a pod or an administrator."""

import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from pacs_operator.domain.agentconfig import Leaf, VaultAccess
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import ZONE_OF, CaName, Component, component_role, namespace_of, pki_mount
from pacs_operator.vault.client import VaultClient
from pacs_operator.vault.layout import OPERATOR_ROLE, Operator, Site, login_role
from pacs_operator.vault.pods import PodVault
from pacs_operator.vault.session import Login, VaultSession
from tests.vault.identity import TestIdentityProvider
from tests.vault.openbao import OpenBao

DEPLOY = Path(__file__).parents[2] / "deploy" / "vault"
BOOTSTRAP = DEPLOY / "bootstrap"
AUTH_PATH = "pacs-kubernetes"
AUDIENCE = "vault"
OPERATOR = Operator("pacs-operator-system", "pacs-operator")
Clock = Callable[[], float]


@dataclass
class World:
    """Everything a test needs to act as anybody."""

    bao: OpenBao
    identity: TestIdentityProvider
    folder: Path

    @property
    def site(self) -> Site:
        return Site(self.bao.address, AUTH_PATH, OPERATOR)

    def bootstrap(self, *extra: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the administrator's script as the root token."""
        ca, reviewer = self.folder / "kubernetes-ca.pem", self.folder / "reviewer"
        ca.write_text(self.identity.authority.pem)
        reviewer.write_text(self.identity.reviewer_token)
        arguments = ["--kubernetes-host", self.identity.url, "--kubernetes-ca", str(ca)]
        arguments += ["--reviewer-token", str(reviewer), *extra]
        return run(BOOTSTRAP, *arguments, environment=self.bao.environment() | environment)

    def token_file(self, namespace: str, name: str, audience: str = AUDIENCE, *, life: float = 600) -> Path:
        """Write a fresh projected token and return its path."""
        path = self.folder / f"{uuid.uuid4().hex}.jwt"
        path.write_text(self.identity.token(namespace, name, audience, life=life))
        return path

    def login(self, **changed: Any) -> Login:
        """Describe the operator's login, with single properties changed."""
        wanted: dict[str, Any] = {
            "address": self.bao.address,
            "ca_file": self.bao.ca_file,
            "auth_path": AUTH_PATH,
            "role": OPERATOR_ROLE,
            "timeout_seconds": 10,
        } | changed
        wanted.setdefault("token_file", self.token_file(OPERATOR.namespace, OPERATOR.service_account))
        return Login(**wanted)

    def client(self, session: VaultSession | None = None, clock: Clock = time.time) -> VaultClient:
        return VaultClient(session or VaultSession(self.login(), clock), self.site, clock)

    def pod(self, archive: str, component: Component, *, namespace: str | None = None, **changed: Any) -> PodVault:
        """Act as a component's pod; ``namespace`` puts a pod of the same name elsewhere."""
        where = namespace or namespace_of(archive, ZONE_OF[component])
        clock: Clock = changed.pop("clock", time.time)
        life = changed.pop("life", 600)
        audience = changed.pop("audience", AUDIENCE)
        access = {
            "address": self.bao.address,
            "ca_file": str(self.bao.ca_file),
            "auth_path": AUTH_PATH,
            "role": login_role(archive, component),
            "token_file": str(self.token_file(where, component.value, audience, life=life)),
        } | changed
        return PodVault(VaultAccess(**access), clock)

    def operator_token(self) -> str:
        """Log in as the operator and return the Vault token, to try what the client never does."""
        return self.token(OPERATOR_ROLE, OPERATOR.namespace, OPERATOR.service_account)

    def component_token(self, archive: str, component: Component) -> str:
        namespace = namespace_of(archive, ZONE_OF[component])
        return self.token(login_role(archive, component), namespace, component.value)

    def token(self, role: str, namespace: str, name: str) -> str:
        data = {"role": role, "jwt": self.identity.token(namespace, name, AUDIENCE)}
        return str(self.bao.call("POST", f"auth/{AUTH_PATH}/login", data, token="")["auth"]["client_token"])

    def revoke_logins(self) -> None:
        """Make every login so far invalid, as its end of life would."""
        self.bao.call("POST", f"sys/leases/revoke-prefix/auth/{AUTH_PATH}/login")

    def state(self, archive: str, lineage: str) -> dict[str, Any]:
        """Read, as administrator, all that an archive has in Vault, with its own lineage's name taken out."""
        found: dict[str, Any] = {}
        for ca in CaName:
            mount = pki_mount(lineage, ca)
            found[f"{ca}/issuers"] = len(self.keys(f"{mount}/issuers"))
            found[f"{ca}/keys"] = len(self.keys(f"{mount}/keys"))
            for path in ("config/crl", "config/urls", *(f"roles/{role}" for role in self.keys(f"{mount}/roles"))):
                found[f"{ca}/{path}"] = self.bao.call("GET", f"{mount}/{path}")["data"]
        for component in Component:
            if component is Component.IMPORTER:
                continue  # there for a time only
            path = f"auth/{AUTH_PATH}/role/{login_role(archive, component)}"
            found[path] = self.bao.call("GET", path)["data"]
        return _without_names(found, lineage, archive)

    def keys(self, path: str) -> list[str]:
        answer = self.bao.try_call("LIST", path)
        return [] if answer.status_code == 404 else list(answer.json()["data"]["keys"])


def _without_names(found: dict[str, Any], lineage: str, archive: str) -> dict[str, Any]:
    return {_neutral(key, lineage, archive): _neutral(repr(value), lineage, archive) for key, value in found.items()}


def _neutral(text: str, lineage: str, archive: str) -> str:
    return text.replace(lineage, "LINEAGE").replace(archive, "ARCHIVE")


def leaf(archive: str, component: Component, name: str, **changed: Any) -> Leaf:
    """Return a component's leaf as ``agent.json`` has it, with single properties changed."""
    spec = next(one for one in leaves_of(component, archive) if one.name == name)
    wanted: dict[str, Any] = {
        "name": spec.name,
        "ca": spec.ca,
        "role": component_role(archive, component, spec.name),
        "key_type": spec.key_type,
        "dns_names": list(spec.dns_names),
        "ttl_seconds": spec.ttl_seconds,
    }
    return Leaf(**(wanted | changed))


def request(names: list[str], *more: x509.GeneralName, key_type: str = "EC") -> str:
    """Make a certificate request with a key of its own; ``more`` are further subject alternative names."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key = ec.generate_private_key(ec.SECP256R1()) if key_type == "EC" else rsa.generate_private_key(65537, 3072)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    alternatives = x509.SubjectAlternativeName([*(x509.DNSName(name) for name in names), *more])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(alternatives, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def run(program: Path, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
