"""Authorities, leaves and revocation lists, made for a test and valid only there."""

import datetime
import itertools
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_names = itertools.count(1)
_PEM = serialization.Encoding.PEM


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def make_key(kind: str = "EC") -> Key:
    if kind == "RSA":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass(frozen=True)
class Leaf:
    key: Key
    certificate: x509.Certificate

    @property
    def serial(self) -> str:
        digits = f"{self.certificate.serial_number:x}"
        return digits if len(digits) % 2 == 0 else f"0{digits}"

    def pem(self) -> bytes:
        return key_pem(self.key) + self.certificate.public_bytes(_PEM)

    def write(self, folder: Path, name: str) -> Path:
        path = folder / f"{name}.pem"
        path.write_bytes(self.pem())
        return path


@dataclass
class Authority:
    """A self-signed root, as Vault keeps one for each archive and purpose."""

    common_name: str
    key: Key = field(default_factory=make_key)
    revoked: list[int] = field(default_factory=list)
    parent: "Authority | None" = None  # none: a self-signed root
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.parent.certificate.subject if self.parent else name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - datetime.timedelta(days=1))
            .not_valid_after(now() + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign((self.parent or self).key, hashes.SHA256())
        )

    def issue(  # one keyword for each property in which a bad certificate differs from a good one
        self,
        *dns_names: str,
        kind: str = "EC",
        server: bool = False,
        client: bool | None = None,  # a client unless it is a server
        days: float = 7,
        critical_names: bool = False,
        other_names: tuple[x509.GeneralName, ...] = (),
        key: Key | None = None,
        begins_in: float = -1,  # hours
    ) -> Leaf:
        key = key or make_key(kind)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
        if client or (client is None and not server):
            usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        common_name = dns_names[0][:64] if dns_names else f"device-{next(_names)}"  # RFC 5280 ub-common-name
        end = now() + datetime.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now(), end) + datetime.timedelta(hours=begins_in))
            .not_valid_after(end)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        names = [*other_names, *map(x509.DNSName, dns_names)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical_names)
        return Leaf(key, builder.sign(self.key, hashes.SHA256()))

    def revoke(self, leaf: Leaf) -> None:
        self.revoked.append(leaf.certificate.serial_number)

    def chain_pem(self) -> str:
        """Return this authority's certificate and those above it."""
        own = self.certificate.public_bytes(_PEM).decode()
        return own + (self.parent.chain_pem() if self.parent else "")

    def self_signed(self, *dns_names: str, key: Key | None = None, days: float = 7) -> Leaf:
        """Return a device's certificate that vouches for itself."""
        key = key or make_key()
        maker = Authority(dns_names[0] if dns_names else "device", key)
        return maker.issue(*dns_names, key=key, days=days)

    def root_pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    def crl_pem(self, days: float = 7) -> bytes:
        """Return the revocation list; with negative days one that has expired."""
        end = now() + datetime.timedelta(days=days)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(min(now(), end) - datetime.timedelta(hours=1))
            .next_update(end)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now()).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM)
