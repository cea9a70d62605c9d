"""``DicomPeer``: a modality, workstation or router, and what it may do."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, model_validator

from pacs_operator.domain.agentconfig import PLAUSIBLE_YEARS
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.identifiers import check_ae_title, check_disjoint, check_dns_name
from pacs_operator.domain.issuers import IssuerName
from pacs_operator.domain.legacy import Legacy, check_sources
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import PROBE_AE_TITLE
from pacs_operator.domain.outbound import Outbound, check_destination, check_peer_reference


class Right(StrEnum):
    """A DIMSE service that a peer may use."""

    ECHO = "Echo"
    STORE = "Store"
    STORAGE_COMMITMENT = "StorageCommitment"
    FIND = "Find"
    FIND_WORKLIST = "FindWorklist"
    GET = "Get"
    MOVE = "Move"


#: No worklist runs in this product: nothing honest could fill it (docs/peers.md), so nobody is given the right.
NOT_OFFERED = frozenset({Right.FIND_WORKLIST})


class TlsTier(StrEnum):
    """Older TLS than the gate takes from everybody, which an exception can allow one peer."""

    #: Suites with AES-CBC: forward secrecy stays, authenticated encryption, which RFC 9325 4.2 recommends, does not.
    TLS12_ECDHE_CBC = "Tls12EcdheCbc"


class ArchiveRef(Model):
    """Which archive the peer binds to."""

    name: Annotated[str, Field(min_length=1, max_length=40)]


class CertificateIdentity(Model):
    """What tells the peer's certificate: its issuer and subject alternative name, or its key."""

    dns_name: str | None = None
    issuer: IssuerName | None = None  # one of the archive's spec.peers.issuers; absent: the archive's own peers CA
    spki_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(None, alias="spkiSHA256")

    @model_validator(mode="after")
    def _one_way_to_tell(self) -> Self:
        if (self.dns_name is None) is (self.spki_sha256 is None):
            raise InvalidSpecError(
                "spec.certificate: exactly one of dnsName and spkiSHA256 tells the certificate",
                action="give dnsName; spkiSHA256 only for a device whose certificate bears no usable name",
            )
        if self.issuer is not None and self.dns_name is None:
            raise InvalidSpecError(
                "spec.certificate.issuer: given with spkiSHA256, which holds whoever issued the certificate",
                action="take issuer away, or give dnsName in place of spkiSHA256",
            )
        if self.dns_name is not None:
            check_dns_name(self.dns_name, "spec.certificate.dnsName")
        return self

    @property
    def identity(self) -> str:
        """Return what the gate knows it by; no DNS name has a slash or a colon."""
        if self.spki_sha256 is not None:
            return f"spki:{self.spki_sha256}"
        return f"{self.issuer}/{self.dns_name}" if self.issuer else str(self.dns_name)

    @property
    def own(self) -> bool:
        """Tell whether the archive's own CA issues it."""
        return self.issuer is None and self.dns_name is not None


class PeerLimits(Model):
    """What one peer may take of the gate."""

    max_associations: Annotated[int, Field(ge=1, le=128)] = 8
    associations_per_minute: Annotated[int, Field(ge=1, le=6000)] | None = None


class TlsException(Model):
    """Leave for one device to use older TLS for a time."""

    tier: TlsTier
    reason: Annotated[str, Field(min_length=10, max_length=256)]
    expires: AwareDatetime


class PeerTls(Model):
    """What is special about the peer's TLS."""

    exception: TlsException


class ExpectTraffic(Model):
    """How long the peer may be silent before somebody should look."""

    max_silence_hours: Annotated[int, Field(ge=1, le=8760)]


class PeerSpec(Model):
    """``DicomPeer.spec``."""

    archive_ref: ArchiveRef
    ae_titles: Annotated[list[str], Field(min_length=1, max_length=16)]
    certificate: CertificateIdentity | None = None
    source_cidrs: Annotated[list[str], Field(min_length=1, max_length=16, alias="sourceCIDRs")]
    rights: Annotated[list[Right], Field(min_length=1, max_length=7)]
    limits: PeerLimits = PeerLimits()
    expect_traffic: ExpectTraffic | None = None
    tls: PeerTls | None = None
    legacy: Legacy | None = None
    outbound: Outbound | None = None
    move_destinations: Annotated[list[str], Field(max_length=32)] = []

    @model_validator(mode="after")
    def _rules_across_fields(self) -> Self:
        for title in self.ae_titles:
            check_ae_title(title, "spec.aeTitles")
            if title.startswith(PROBE_AE_TITLE):
                raise InvalidSpecError(
                    f"spec.aeTitles: {title!r} is reserved for the archive's own probes",
                    action=f"choose a title that does not begin with {PROBE_AE_TITLE}",
                    reason="ReservedAETitle",
                )
        check_disjoint(self.source_cidrs, "spec.sourceCIDRs")
        if self.tls and self.tls.exception.expires.year not in PLAUSIBLE_YEARS:
            raise InvalidSpecError(
                f"spec.tls.exception.expires: {self.tls.exception.expires.isoformat()} is no time in which an archive "
                "is run",
                action="name the day on which the device is updated or replaced, for example 2027-03-31T00:00:00Z",
            )
        self._check_identity()
        if self.outbound:
            check_destination(self.outbound.address, "spec.outbound.address")
            self._check_outbound_identity()
        self._check_move_destinations()
        return self

    def _check_outbound_identity(self) -> None:
        if self.certificate is not None and not self.certificate.own:
            raise InvalidSpecError(
                "spec.outbound: a device is sent to under a certificate name of the archive's own peers CA only",
                action="take spec.outbound away; or issuer and spkiSHA256, and enrol the device as docs/peers.md says",
            )

    def _check_move_destinations(self) -> None:
        if self.move_destinations and Right.MOVE not in self.rights:
            raise InvalidSpecError(
                "spec.moveDestinations: only a peer with the right Move has destinations",
                action="add Move to spec.rights, or remove spec.moveDestinations",
                reason="MoveNotAllowed",
            )
        for name in self.move_destinations:
            check_peer_reference(name, "spec.moveDestinations")

    def _check_identity(self) -> None:
        if (self.certificate is None) is (self.legacy is None):
            raise InvalidSpecError(
                "spec: exactly one of certificate and legacy says who the device is",
                action="give certificate.dnsName; only for a device that cannot speak TLS give legacy instead",
            )
        if self.legacy is None:
            return
        if self.tls is not None:
            raise InvalidSpecError(
                "spec.tls: nothing to except where spec.legacy says that the device has no TLS",
                action="take spec.tls away; or spec.legacy, if the device speaks older TLS",
            )
        if self.outbound is not None:
            raise InvalidSpecError(
                "spec.outbound: a device without TLS is sent nothing",
                action="take spec.outbound away; or spec.legacy, if the device speaks TLS",
            )
        check_sources(self.source_cidrs)
        if len(self.ae_titles) != 1:
            raise InvalidSpecError(
                f"spec.aeTitles: {len(self.ae_titles)} titles, and spec.legacy pins exactly one",
                action="give each device without TLS a DicomPeer and a port of its own",
            )

    @property
    def offered_rights(self) -> list[Right]:
        """Return the rights that the archive can serve."""
        return [right for right in self.rights if right not in NOT_OFFERED]

    @property
    def identity(self) -> str:
        """Return what tells the device from others: its certificate's name, or its plaintext port."""
        if self.certificate is not None:
            return self.certificate.identity
        return f"port:{self.legacy.port if self.legacy else 0}"


class Peer(Model):
    """A ``DicomPeer`` as read from the API; ``created`` orders claims to the same title or identity."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    spec: PeerSpec

    @property
    def key(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"
