"""Authorities of the hospital that an archive trusts beside its own, and what of them its gate can go by.

A certificate is told by (issuer, name). The issuer's distinguished name alone proves nothing while siblings under
one root are let through the handshake; the gate therefore takes no certificate of an authority that is not named
here, and names whose subjects could be mistaken for one another are refused.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import Field, model_validator

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.identifiers import check_dns_name
from pacs_operator.domain.model import Model

MAX_ISSUERS = 4
MAX_CHAIN = 4
MAX_LISTS_BYTES = 98_304  # of all together: HAProxy takes a file in one command of 128 KiB, our own list among it
MIN_RSA_BITS = 2048  # NIST SP 800-131A rev. 2
PEM = serialization.Encoding.PEM
OWN = "@own"  # the archive's own peers CA, as the gate names it; no issuer can be called so
_Folded = tuple[frozenset[tuple[str, str | bytes]], ...]
IssuerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", max_length=32)]


class Issuer(Model):
    """One authority of the hospital, by consent of whoever answers for the archive."""

    name: IssuerName
    ca_pem: Annotated[str, Field(min_length=64, max_length=16_384, alias="caPEM")]
    crl_pem: Annotated[str, Field(min_length=64, max_length=65_536)] | None = Field(None, alias="crlPEM")
    no_crl_reason: Annotated[str, Field(min_length=10, max_length=256)] | None = Field(None, alias="noCRLReason")
    allowed_domains: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)] = []

    @model_validator(mode="after")
    def _one_of_list_and_reason(self) -> Self:
        if (self.crl_pem is None) is (self.no_crl_reason is None):
            raise InvalidSpecError(
                f"spec.peers.issuers: {self.name} needs exactly one of crlPEM and noCRLReason",
                action="give its revocation lists; without any, say why its revoked certificates cannot be known",
            )
        for domain in self.allowed_domains:
            check_dns_name(domain, "spec.peers.issuers.allowedDomains")
        return self

    def may_name(self, dns_name: str) -> bool:
        """Tell whether this authority may speak for a device's name."""
        return not self.allowed_domains or any(
            dns_name == domain or dns_name.endswith(f".{domain}") for domain in self.allowed_domains
        )


@dataclass(frozen=True)
class Trust:
    """An authority as read from its PEM.

    Attributes
    ----------
    name
        What peers call it.
    chain
        The certificate that issues devices' certificates, then those above it up to a self-signed root.
    lists
        Revocation lists, that of the issuing certificate among them; none: by consent.
    """

    name: str
    chain: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]

    @property
    def issuing(self) -> x509.Certificate:
        """Return the certificate whose key signs devices' certificates."""
        return self.chain[0]

    @property
    def issuing_list(self) -> x509.CertificateRevocationList | None:
        """Return the list that tells which devices' certificates are revoked."""
        return next((one for one in self.lists if one.issuer == self.issuing.subject), None)


def read_trust(name: str, ca_pem: str, crl_pem: str | None) -> Trust:
    """Return what an authority's PEM holds.

    Parameters
    ----------
    name
        Of the authority, for messages.
    ca_pem
        The issuing certificate first, each further one the issuer of the one before, the last self-signed.
    crl_pem
        Its revocation lists; None where there are none.

    Raises
    ------
    InvalidSpecError
        Not such a chain, or a list that none of it signed.
    """
    if "PRIVATE KEY" in ca_pem or "PRIVATE KEY" in (crl_pem or ""):
        raise _bad(name, "holds a private key", "take it out, and have that key replaced: it has been seen")
    try:
        chain = tuple(x509.load_pem_x509_certificates(ca_pem.encode("ascii")))
    except (ValueError, UnicodeError):
        chain = ()
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise _bad(name, f"caPEM is not 1 to {MAX_CHAIN} certificates in PEM", "write the issuing certificate first")
    for certificate in chain:
        _check_authority(name, certificate)
    for lower, upper in zip(chain, (*chain[1:], chain[-1]), strict=True):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise _bad(
                name,
                "caPEM is no chain up to a self-signed root",
                "write the issuing certificate first, then the one that issued it, and so on up to the root",
            ) from error
    lists = tuple(_read_lists(name, crl_pem, chain)) if crl_pem is not None else ()
    trust = Trust(name, chain, lists)
    if crl_pem is not None and trust.issuing_list is None:
        raise _bad(name, "crlPEM lacks the list of the issuing certificate", "add it; lists above it are optional")
    return trust


def _check_authority(name: str, certificate: x509.Certificate) -> None:
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        key = certificate.public_key()
    except (x509.ExtensionNotFound, ValueError):
        is_ca, key = False, None
    strong = isinstance(key, ec.EllipticCurvePublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS
    )
    if not is_ca or not strong:
        raise _bad(
            name,
            f"caPEM holds a certificate that is no authority with an EC key or RSA of {MIN_RSA_BITS} bits or more",
            "give the authority's own certificates, not a device's",
        )


def _read_lists(name: str, crl_pem: str, chain: Sequence[x509.Certificate]) -> Iterable[x509.CertificateRevocationList]:
    end = "-----END X509 CRL-----"
    parts = [part.strip() + f"\n{end}\n" for part in crl_pem.split(end) if part.strip()]
    if not 1 <= len(parts) <= MAX_CHAIN:
        raise _bad(name, f"crlPEM is not 1 to {MAX_CHAIN} revocation lists in PEM", "convert DER by openssl crl")
    for part in parts:
        try:
            found = x509.load_pem_x509_crl(part.encode("ascii"))
            signed = any(found.issuer == one.subject and _signed_by(found, one) for one in chain)
        except (ValueError, UnicodeError) as error:
            raise _bad(name, "crlPEM cannot be read", "convert DER by openssl crl -inform DER") from error
        if not signed or found.next_update_utc is None:
            raise _bad(
                name,
                "crlPEM holds a list that no certificate of caPEM signed, or one without an end",
                "give the lists of these very authorities, with nextUpdate (RFC 5280 5.1.2.5)",
            )
        yield found


def _signed_by(found: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    return isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and found.is_signature_valid(key)


def _bad(name: str, what: str, action: str) -> InvalidSpecError:
    return InvalidSpecError(f"spec.peers.issuers: {name}: {what}", action=action, reason="IssuerInvalid")


def clashing(trusts: Sequence[Trust], own: x509.Certificate | None = None) -> dict[str, str]:
    """Return the issuers that could be mistaken for one another, each with the other's name.

    OpenSSL finds an issuer by its subject, without regard to case and spaces, and by its key identifier where
    certificates bear one. Equal subjects of different keys are therefore told apart by nothing that is sure.

    Parameters
    ----------
    trusts
        All of an archive.
    own
        The root of the archive's own peers CA; None where it is not known yet.
    """
    seen: dict[_Folded, tuple[str, bytes]] = {}
    issuing: dict[bytes, str] = {}
    found: dict[str, str] = {}
    if own is not None:
        seen[_folded(own.subject)] = (OWN, _key(own))
        issuing[_key(own)] = OWN
    for trust in trusts:
        for certificate in trust.chain:
            name, key = seen.setdefault(_folded(certificate.subject), (trust.name, _key(certificate)))
            if key != _key(certificate):
                found[trust.name] = name
        other = issuing.setdefault(_key(trust.issuing), trust.name)
        if other != trust.name:
            found[trust.name] = other
    return found


def _folded(name: x509.Name) -> _Folded:
    """Return a name so that names equal to OpenSSL (X509_NAME_cmp: case, spaces around and within) are equal here."""
    return tuple(frozenset((one.oid.dotted_string, _folded_value(one.value)) for one in rdn) for rdn in name.rdns)


def _folded_value(value: str | bytes) -> str | bytes:
    return value if isinstance(value, bytes) else " ".join(value.casefold().split())


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def subject_hash(certificate: x509.Certificate) -> str:
    """Return SHA-256 (lower-case hex) of an authority's subject, which is the issuer in what it signs."""
    return hashlib.sha256(certificate.subject.public_bytes()).hexdigest()


def certificate_hash(certificate: x509.Certificate) -> str:
    """Return SHA-256 (lower-case hex) of the whole certificate."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def usable(issuers: Iterable[Issuer], own: x509.Certificate | None = None) -> tuple[list[Trust], dict[str, str]]:
    """Return the issuers that a gate can go by, and why not the others.

    Parameters
    ----------
    issuers
        ``spec.peers.issuers``.
    own
        The root of the archive's own peers CA; None where it is not known yet.

    Returns
    -------
    tuple
        The usable ones in their order, and messages by name. Of two that clash the later one is left out, and so is
        one whose lists find no room beside the earlier ones'.
    """
    trusts, why = _usable(tuple((issuer.name, issuer.ca_pem, issuer.crl_pem) for issuer in issuers), own)
    return list(trusts), dict(why)


@lru_cache(maxsize=32)  # a pass asks several times, and signatures are slow to check
def _usable(
    said: tuple[tuple[str, str, str | None], ...], own: x509.Certificate | None
) -> tuple[tuple[Trust, ...], tuple[tuple[str, str], ...]]:
    trusts: list[Trust] = []
    why: dict[str, str] = {}
    for name, ca_pem, crl_pem in said:
        try:
            trust = read_trust(name, ca_pem, crl_pem)
        except InvalidSpecError as error:
            why[name] = str(error)
            continue
        problem = _beside(trusts, trust, own)
        if problem is None:
            trusts.append(trust)
        else:
            why[name] = f"spec.peers.issuers: {name}{problem}"
    return tuple(trusts), tuple(why.items())


def _beside(trusts: Sequence[Trust], trust: Trust, own: x509.Certificate | None) -> str | None:
    """Return why an authority has no place beside earlier ones; None where it has."""
    if any(one.name == trust.name for one in trusts):
        return " stands there twice; the first one counts"
    clash = clashing([*trusts, trust], own).get(trust.name)
    if clash is not None:
        return (
            f" clashes with {'the own authority of the archive' if clash == OWN else clash}: the same subject with "
            "another key, or the same issuing key; name each authority once, and one whose key changed under its old "
            "name only in place of the old one"
        )
    size = lists_size([*trusts, trust])
    if size > MAX_LISTS_BYTES:
        return (
            f": with its crlPEM all revocation lists have {size} bytes together, {MAX_LISTS_BYTES} are the most; give "
            "the list of the issuing certificate alone, have the authority take out what has expired, or name fewer "
            "authorities"
        )
    return None


def lists_size(trusts: Iterable[Trust]) -> int:
    """Return the bytes of all revocation lists in PEM, each counted once."""
    return sum(map(len, dict.fromkeys(one.public_bytes(PEM) for trust in trusts for one in trust.lists)))


def ends(trust: Trust) -> datetime:
    """Return when the first certificate of the chain ends."""
    return min(certificate.not_valid_after_utc for certificate in trust.chain)
