"""Which peers an archive accepts, and why not the others: pure rules over specs.

A namespace consents by carrying the labels of ``spec.peers.namespaceSelector``; the archive bounds sources and
rights; a title or an identity belongs to whoever claimed it first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from pacs_operator.domain.archive import Archive
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.identifiers import covered
from pacs_operator.domain.issuers import usable
from pacs_operator.domain.leaves import is_reserved_dns_name
from pacs_operator.domain.legacy import MAX_AHEAD, Legacy
from pacs_operator.domain.peer import CertificateIdentity, Peer, Right
from pacs_operator.domain.staffed import closing_time
from pacs_operator.domain.times import rfc3339

#: The gate has 256 pre-allocated slots; two belong to the archive's own probes.
MAX_PEERS = 254

ACCEPTED = "Accepted"


@dataclass(frozen=True)
class Claim:
    """A ``DicomPeer`` that wants to bind: its typed form, or why it has none or may not bind whatever else holds.

    ``key`` is ``namespace/name``, ``created`` its creation time; both are known even when the spec is invalid.
    """

    key: str
    created: str
    uid: str
    generation: int
    peer: Peer | None
    error: InvalidSpecError | None = None


@dataclass(frozen=True)
class Decision:
    """What became of one claim; ``message`` of a refusal names field, value, rule and way out."""

    claim: Claim
    accepted: bool
    reason: str
    message: str


def decide(  # noqa: PLR0913  # all that decides
    archive: Archive | None,
    claims: Iterable[Claim],
    consenting: set[str],
    archive_name: str,
    now: datetime | None = None,
    *,
    own_root: x509.Certificate | None = None,
) -> list[Decision]:
    """Decide on all claims to one archive, the earliest first.

    Parameters
    ----------
    archive
        The archive; None when it does not exist (or is being deleted).
    claims
        All peers that name it, without those being deleted.
    consenting
        Namespaces whose labels match ``spec.peers.namespaceSelector``.
    archive_name
        Name that the claims refer to.
    now
        Time of the pass (UTC), by which exceptions end; needed wherever there is an archive.
    own_root
        The root of the archive's own peers CA, for which no other may be taken; None where it is not known yet.

    Returns
    -------
    list[Decision]
        One for each claim, in the order of creation time, then uid: the order in which they win.
    """
    taken = _Taken(archive)
    said = archive.spec.peers.issuers or () if archive else ()
    trusted = frozenset(trust.name for trust in usable(said, own_root)[0])
    decisions = []
    for claim in sorted(claims, key=lambda claim: (claim.created, claim.uid)):
        try:
            peer = _valid(claim)
            if archive is None:
                raise InvalidSpecError(
                    f"spec.archiveRef.name: there is no PacsArchive {archive_name!r}",
                    action="create the archive or correct the name",
                    reason="ArchiveNotFound",
                )
            _check_bounds(archive, peer, consenting)
            if peer.spec.certificate:
                _check_certificate(archive, peer.spec.certificate, trusted)
            if peer.spec.legacy:
                _check_legacy(archive, peer.spec.legacy, now)
            taken.claim(peer)
        except InvalidSpecError as error:
            decisions.append(Decision(claim, False, error.reason, str(error)))
        else:
            decisions.append(Decision(claim, True, ACCEPTED, _bound(peer)))
    return decisions


def accepted_peers(decisions: Sequence[Decision]) -> list[Peer]:
    """Return the accepted peers in the order of their keys."""
    return sorted(
        (decision.claim.peer for decision in decisions if decision.accepted and decision.claim.peer),
        key=lambda peer: peer.key,
    )


def _valid(claim: Claim) -> Peer:
    if claim.error is not None or claim.peer is None:
        raise claim.error or InvalidSpecError("spec: not valid", action="see kubectl explain dicompeer.spec")
    return claim.peer


def _check_bounds(archive: Archive, peer: Peer, consenting: set[str]) -> None:
    bounds = archive.spec.peers
    if peer.namespace not in consenting:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(bounds.namespace_selector.match_labels.items()))
        raise InvalidSpecError(
            f"metadata.namespace: {peer.namespace!r} may not bind peers to archive {archive.name!r}",
            action=f"have the namespace labelled {wanted} by whoever administers it",
            reason="NamespaceNotAllowed",
        )
    for cidr in peer.spec.source_cidrs:
        if not covered(cidr, bounds.allowed_cidrs):
            raise InvalidSpecError(
                f"spec.sourceCIDRs: {cidr} lies outside the archive's allowedCIDRs ({', '.join(bounds.allowed_cidrs)})",
                action="narrow the source, or have spec.peers.allowedCIDRs of the archive widened",
                reason="SourceNotAllowed",
            )
    for right in peer.spec.rights:
        if right not in bounds.max_rights:
            raise InvalidSpecError(
                f"spec.rights: {right.value} exceeds the archive's maxRights ({', '.join(bounds.max_rights)})",
                action="drop the right, or have spec.peers.maxRights of the archive widened",
                reason="RightNotAllowed",
            )
    if not peer.spec.offered_rights:
        raise InvalidSpecError(
            "spec.rights: FindWorklist alone, and this archive offers no worklist",
            action="point the worklist query at the RIS or a worklist server, and give the rights needed here",
            reason="WorklistNotOffered",
        )
    tier = peer.spec.tls.exception.tier if peer.spec.tls else None
    if tier and tier not in bounds.tls_exceptions:
        raise InvalidSpecError(
            f"spec.tls.exception.tier: {tier.value} is not among the archive's tlsExceptions",
            action="take the exception away, or have the tier added to spec.peers.tlsExceptions of the archive",
            reason="TlsExceptionNotAllowed",
        )
    _check_outbound(archive, peer)
    for title in archive.spec.dicom.called_titles:
        if title in peer.spec.ae_titles:
            raise InvalidSpecError(
                f"spec.aeTitles: {title!r} is the archive's own AE title or one of its aliases",
                action="give the device a title of its own",
                reason="DuplicateAETitle",
            )


def _check_certificate(archive: Archive, certificate: CertificateIdentity, trusted: frozenset[str]) -> None:
    if certificate.dns_name and is_reserved_dns_name(certificate.dns_name):
        raise InvalidSpecError(
            f"spec.certificate.dnsName: {certificate.dns_name!r} is a name of the cluster's own services",
            action="use a name of the device, for example ct1.imaging.example",
            reason="ReservedIdentity",
        )
    issuers = archive.spec.peers.issuers
    if certificate.spki_sha256 and issuers is None:
        raise InvalidSpecError(
            f"spec.certificate.spkiSHA256: archive {archive.name!r} takes no pinned keys",
            action="have spec.peers.issuers of the archive written, [] at least, by whoever answers for it",
            reason="KeyPinNotAllowed",
        )
    if certificate.issuer is None:
        return
    named = next((issuer for issuer in issuers or () if issuer.name == certificate.issuer), None)
    if named is None or named.name not in trusted:
        raise InvalidSpecError(
            f"spec.certificate.issuer: {certificate.issuer!r} is no usable issuer of archive {archive.name!r}",
            action="have it named in spec.peers.issuers of the archive, whose condition PeerIssuers says what is wrong",
            reason="IssuerNotTrusted",
        )
    if not named.may_name(str(certificate.dns_name)):
        raise InvalidSpecError(
            f"spec.certificate.dnsName: {certificate.dns_name!r} lies outside allowedDomains of issuer {named.name!r} "
            f"({', '.join(named.allowed_domains)})",
            action="use a name inside, or have allowedDomains of that issuer widened",
            reason="IdentityNotAllowed",
        )


def _bound(peer: Peer) -> str:
    if peer.spec.legacy is None:
        return f"Bound to {peer.spec.identity}"
    legacy = peer.spec.legacy
    return f"STANDING EXCEPTION: without TLS on port {legacy.port} until {legacy.expires}: {legacy.reason}"


def _check_legacy(archive: Archive, legacy: Legacy, now: datetime | None) -> None:
    dicom = archive.spec.dicom
    if archive.spec.peers.legacy != "Allowed" or dicom.legacy_ports is None:
        raise InvalidSpecError(
            f"spec.legacy: archive {archive.name!r} takes no device without TLS",
            action="have spec.peers.legacy: Allowed and spec.dicom.legacyPorts set by whoever answers for the archive",
            reason="LegacyNotAllowed",
        )
    if legacy.port not in dicom.legacy_ports:
        raise InvalidSpecError(
            f"spec.legacy.port: {legacy.port} lies outside the archive's legacyPorts "
            f"({dicom.legacy_ports.first} to {dicom.legacy_ports.last})",
            action="choose a free port inside, or have the range widened",
            reason="LegacyPortNotAllowed",
        )
    if now is not None and legacy.end - now > MAX_AHEAD:
        raise InvalidSpecError(
            f"spec.legacy.expires: {legacy.expires} is more than {MAX_AHEAD.days} days ahead",
            action="choose an earlier day; it can be extended with a new reason when it comes near",
            reason="LegacyTooLong",
        )
    if now is None or dicom.staffed_hours is None:
        return  # nobody can tell when it closes: what stands in the live list does
    closes = closing_time(dicom.staffed_hours, legacy.end)
    if closes <= now:
        raise InvalidSpecError(
            f"spec.legacy.expires: {legacy.expires} has passed, and the port was closed at {rfc3339(closes)}",
            action="give the device a certificate; else extend with a later expires and a new reason",
            reason="LegacyExpired",
        )


def _check_outbound(archive: Archive, peer: Peer) -> None:
    outbound, allowed = peer.spec.outbound, archive.spec.peers.allowed_cidrs
    if outbound is None:
        if Right.STORAGE_COMMITMENT in peer.spec.rights:
            raise InvalidSpecError(
                "spec.outbound: absent, but the right StorageCommitment needs it: the report comes on a new connection",
                action="say in spec.outbound where the device listens for it, or drop the right",
                reason="OutboundMissing",
            )
        return
    if not covered(outbound.address, allowed):
        raise InvalidSpecError(
            f"spec.outbound.address: {outbound.address} lies outside the archive's allowedCIDRs ({', '.join(allowed)})",
            action="name the device's address, or have spec.peers.allowedCIDRs of the archive widened",
            reason="OutboundNotAllowed",
        )


class _Taken:
    """What earlier accepted peers hold."""

    def __init__(self, archive: Archive | None) -> None:
        self._titles: dict[str, str] = {}
        self._identities: dict[str, str] = {}
        self._archive = archive.name if archive else ""
        self._count = 0

    def claim(self, peer: Peer) -> None:
        for title in peer.spec.ae_titles:
            if title in self._titles:
                raise InvalidSpecError(
                    f"spec.aeTitles: {title!r} belongs to DicomPeer {self._titles[title]}, which came first",
                    action="choose another title, or remove it from the earlier peer",
                    reason="DuplicateAETitle",
                )
        identity = peer.spec.identity
        if identity in self._identities:
            if peer.spec.legacy:
                raise InvalidSpecError(
                    f"spec.legacy.port: {peer.spec.legacy.port} belongs to DicomPeer {self._identities[identity]}, "
                    "which came first",
                    action="give each device without TLS a port of its own",
                    reason="DuplicateLegacyPort",
                )
            raise InvalidSpecError(
                f"spec.certificate: {identity!r} belongs to DicomPeer {self._identities[identity]}, which came first",
                action="give each device its own certificate name",
                reason="DuplicateIdentity",
            )
        if self._count >= MAX_PEERS:
            raise InvalidSpecError(
                f"archive {self._archive!r} has {MAX_PEERS} peers, which is the most its gate can tell apart",
                action="list several AE titles of one device in one DicomPeer, or use a second archive",
                reason="TooManyPeers",
            )
        self._count += 1
        self._identities[identity] = peer.key
        self._titles.update(dict.fromkeys(peer.spec.ae_titles, peer.key))
