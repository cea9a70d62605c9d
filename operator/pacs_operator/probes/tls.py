"""TLS as the probes speak it: good, bad and deliberately old clients, and certificates made on the spot."""

import datetime
import ipaddress
import re
import ssl
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ALERT = re.compile(r"^(?:SSLV3|TLSV1|TLSV13)_ALERT_(?P<name>[A-Z0-9_]+)$")
# Alert numbers of RFC 8446 section 6 that a server may send in clear to who does not speak TLS at all.
_ALERT_NUMBERS = {10: "unexpected-message", 22: "record-overflow", 40: "handshake-failure", 50: "decode-error"}


@dataclass(frozen=True)
class Credentials:
    """Files of a client certificate (chain) and its key."""

    certificate: Path
    key: Path

    @classmethod
    def of_leaf(cls, tls_dir: str, leaf: str) -> "Credentials":
        """Return the files that the agent wrote for one leaf."""
        return cls(Path(tls_dir) / f"{leaf}.crt", Path(tls_dir) / f"{leaf}.key")

    def padded(self, *pems: str) -> "Credentials":
        """Return the same with more certificates appended to the chain that is shown, in a file beside the first."""
        chain = self.certificate.with_suffix(".padded.crt")
        chain.write_text("".join([self.certificate.read_text(encoding="ascii"), *pems]), encoding="ascii")
        return Credentials(chain, self.key)

    def not_after(self) -> datetime.datetime:
        """Return the end of the certificate's life, UTC."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc

    def dns_names(self) -> list[str]:
        """Return the DNS subject alternative names of the certificate."""
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)


@dataclass(frozen=True)
class Trust:
    """Which root a client trusts, and which name the server's certificate must carry."""

    ca_pem: str
    server_name: str


def client_context(
    trust: Trust,
    credentials: Credentials | None,
    version: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """Return a client that verifies the server's name and, with ``version``, speaks that version only.

    ``ciphers`` (in OpenSSL's words) are all that it offers below TLS 1.3.

    For a version below TLS 1.2 the client lowers its own OpenSSL security level to 0: otherwise it could not even
    offer it, and would report its own refusal as the server's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trust.ca_pem)
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if version is not None:
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        _pin(context, version)
    if credentials is not None:
        context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def _pin(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    with warnings.catch_warnings():
        # Old versions are deprecated, which is why they are tried.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        context.minimum_version = version


def alert_code(error: ssl.SSLError) -> str:
    """Return the code of a TLS error: the peer's alert by name, else ``handshake-failed``."""
    match = _ALERT.match(error.reason or "")
    if match is None:
        return "handshake-failed"
    return "alert-" + match["name"].lower().replace("_", "-")


def plaintext_alert_code(record: bytes) -> str | None:
    """Return the code of a TLS alert record received by a client that spoke no TLS; None if it is none."""
    if len(record) < 7 or record[0] != 0x15:
        return None
    return f"alert-{_ALERT_NUMBERS.get(record[6], record[6])}"


@dataclass(frozen=True)
class ForgedLeaf:
    """What may be special about a certificate of our own: purposes, life in seconds, and kind of key."""

    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
    seconds: int = 3600
    rsa: bool = False


PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def make_key(*, rsa_key: bool) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Return a new key: RSA 2048, or EC P-256."""
    if rsa_key:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


class Forge:
    """A certificate authority of our own: for foreign certificates, and for the weak server's.

    Keys live in a private folder that disappears with :meth:`close`; they open nothing anywhere.
    """

    def __init__(self, name: str | x509.Name = "foreign authority") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="probe-forge-")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name if isinstance(name, x509.Name) else _common(name)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._root = (
            self._builder(self._name, self._key.public_key())
            .not_valid_after(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_pem = self._root.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def imitating(cls, ca_pem: str) -> "Forge":
        """Return an authority that bears another one's name; the key is its own."""
        return cls(x509.load_pem_x509_certificate(ca_pem.encode("ascii")).subject)

    def _builder(self, subject: x509.Name, key: PublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
        )

    def issue(self, name: str, dns_names: list[str], leaf: "ForgedLeaf | None" = None) -> Credentials:
        """Return a certificate with exactly these names, for client and server use where ``leaf`` says nothing else.

        Parameters
        ----------
        name
            File name stem in the private folder.
        dns_names
            Subject alternative names; addresses are written as IP names.
        """
        leaf = leaf or ForgedLeaf()
        key = make_key(rsa_key=leaf.rsa)
        now = datetime.datetime.now(datetime.UTC)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(_common(dns_names[0]), key.public_key())
            .not_valid_after(now + datetime.timedelta(seconds=leaf.seconds))
            .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in dns_names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(list(leaf.purposes)), critical=False)
            .add_extension(identifier, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        credentials = Credentials.of_leaf(self._folder.name, name)
        credentials.key.touch(mode=0o600)
        credentials.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        credentials.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return credentials

    def close(self) -> None:
        """Remove the private folder."""
        self._folder.cleanup()


def _common(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
