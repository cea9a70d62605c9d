"""Keys, requests and what a certificate must be before it is used."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from pacs_operator.agent.errors import CertificateMismatchError
from pacs_operator.domain.agentconfig import Leaf, LeafStatus
from pacs_operator.domain.times import rfc3339

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
RSA_BITS = 3072  # NIST SP 800-57 part 1: 128 bits of security
MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name-length


@dataclass(frozen=True)
class Credential:
    """A private key and the chain that vouches for it."""

    key: PrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def certificate(self) -> x509.Certificate:
        """Return the leaf."""
        return self.chain[0]

    def chain_pem(self) -> bytes:
        """Return the chain, leaf first."""
        return b"".join(part.public_bytes(serialization.Encoding.PEM) for part in self.chain)

    def key_pem(self) -> bytes:
        """Return the key, unencrypted PKCS #8."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make_key(leaf: Leaf) -> PrivateKey:
    """Return a fresh key of the leaf's type."""
    if leaf.key_type == "RSA":
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def make_request(leaf: Leaf, key: PrivateKey) -> str:
    """Return the PEM of a certificate signing request for exactly the leaf's names."""
    common_name = leaf.dns_names[0]
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if len(common_name) <= MAX_COMMON_NAME else []
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in leaf.dns_names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def dns_names_of(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names of a certificate, in its order."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial as lower-case hex of whole bytes, as Vault writes it without the colons."""
    digits = f"{certificate.serial_number:x}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


@dataclass(frozen=True)
class Served:
    """What a server presents.

    Parameters
    ----------
    serial
        Lower-case hex.
    not_after
        End of its life, RFC 3339 UTC; None where only the serial can be seen.
    """

    serial: str
    not_after: str | None = None


def served_of(certificate: x509.Certificate) -> Served:
    """Return what one looks like that was seen whole."""
    return Served(serial_of(certificate), rfc3339(certificate.not_valid_after_utc))


def load_root(pem: bytes) -> x509.Certificate:
    """Return the one self-signed authority in a PEM.

    Raises
    ------
    CertificateMismatchError
        None, several, or not an authority.
    """
    try:
        roots = x509.load_pem_x509_certificates(pem)
        is_ca = len(roots) == 1 and roots[0].extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        is_ca, roots = False, []
    if not is_ca:
        raise CertificateMismatchError(
            "the authority's certificate is not exactly one CA certificate",
            action="look at <mount>/ca/pem of the archive's PKI mounts in Vault",
        )
    return roots[0]


def load_crl(pem: bytes, root: x509.Certificate) -> x509.CertificateRevocationList:
    """Return a revocation list that this root signed.

    Raises
    ------
    CertificateMismatchError
        Unreadable, without an end of validity, or signed by someone else.
    """
    action = "look at <mount>/crl/pem of the archive's PKI mounts in Vault"
    try:
        crl = x509.load_pem_x509_crl(pem)
    except ValueError as error:
        raise CertificateMismatchError("the revocation list cannot be read", action=action) from error
    public_key = root.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise CertificateMismatchError("the authority's key is neither EC nor RSA", action=action)
    if crl.next_update_utc is None or not crl.is_signature_valid(public_key):
        raise CertificateMismatchError("the revocation list is not signed by its authority", action=action)
    return crl


def check_credential(credential: Credential, leaf: Leaf, root: x509.Certificate, now: datetime | None = None) -> None:
    """Refuse a certificate that is not the one this leaf needs.

    Parameters
    ----------
    credential, leaf, root
        What came, what was asked for, and who has to have signed it.
    now
        Moment at which it has to be valid still; None: age does not matter.

    Raises
    ------
    CertificateMismatchError
        Another key, other names, another issuer, or expired.
    """
    certificate = credential.certificate
    wrong = None
    wanted_key = rsa.RSAPrivateKey if leaf.key_type == "RSA" else ec.EllipticCurvePrivateKey
    if not isinstance(credential.key, wanted_key):
        wrong = "its key is of another type"
    elif certificate.public_key() != credential.key.public_key():
        wrong = "it was issued for another key"
    elif sorted(dns_names_of(certificate)) != sorted(leaf.dns_names):
        wrong = "its DNS names are not those asked for"
    elif now is not None and certificate.not_valid_after_utc <= now:
        wrong = "it has expired"
    else:
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            wrong = "the archive's authority did not issue it"
    if wrong:
        raise CertificateMismatchError(
            f"certificate of leaf {leaf.name}: {wrong}",
            action=f"compare Vault's PKI role {leaf.role} with the archive's leaves",
        )


def parse_credential(key_pem: bytes, chain_pem: bytes) -> Credential:
    """Return key and chain read back from their PEM form.

    Raises
    ------
    ValueError
        Not readable, or a key of a type we never make.
    """
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("key is neither EC nor RSA")
    chain = x509.load_pem_x509_certificates(chain_pem)
    return Credential(key, tuple(chain))


def describe(leaf: Leaf, certificate: x509.Certificate, served: Served | None) -> LeafStatus:
    """Return what may be told of a leaf."""
    return LeafStatus(
        name=leaf.name,
        ca=leaf.ca,
        serial=serial_of(certificate),
        not_before=rfc3339(certificate.not_valid_before_utc),
        not_after=rfc3339(certificate.not_valid_after_utc),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        dns_names=dns_names_of(certificate),
        served_serial=served.serial if served else None,
        served_not_after=served.not_after if served else None,
    )
