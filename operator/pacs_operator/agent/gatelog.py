"""The gate's records: one datagram a connection or DICOMweb request, ``key=value`` words, counted per peer.

Only connections whose certificate belongs to a peer count under it. What fails in the TLS handshake proves no
identity, so it counts under nobody.
"""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.domain.issuers import OWN
from pacs_operator.domain.times import rfc3339

_ABSENT = "-"


class Reason(StrEnum):
    """What became of a connection or a request; written by haproxy.cfg."""

    ACCEPTED = "Accepted"
    NOT_DICOM = "NotDicom"
    TIMEOUT = "Timeout"  # no whole first PDU in time, or closed before
    UNKNOWN_CERTIFICATE = "UnknownCertificate"
    ISSUER_NOT_TRUSTED = "IssuerNotTrusted"
    REVOCATION_UNKNOWN = "RevocationUnknown"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    WRONG_PROTOCOL_VERSION = "WrongProtocolVersion"
    WRONG_CALLED_AE_TITLE = "WrongCalledAETitle"
    WRONG_CALLING_AE_TITLE = "WrongCallingAETitle"
    TOO_MANY_ASSOCIATIONS = "TooManyAssociations"
    CONTAINED = "Contained"
    TOO_MANY_PER_MINUTE = "TooManyPerMinute"
    TLS_EXCEPTION_NEEDED = "TlsExceptionNeeded"
    GATE_FULL = "GateFull"
    ARCHIVE_UNAVAILABLE = "ArchiveUnavailable"
    TLS = "Tls"
    # Of DICOMweb, beside those above:
    REVOCATION_LIST_EXPIRED = "RevocationListExpired"  # since the connection was opened
    REVOKED_CERTIFICATE = "RevokedCertificate"  # since the connection was opened
    EXPIRED_CERTIFICATE = "ExpiredCertificate"  # since the connection was opened
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    ROUTE_NOT_ALLOWED = "RouteNotAllowed"
    QUERY_NOT_ALLOWED = "QueryNotAllowed"
    RIGHT_NOT_GRANTED = "RightNotGranted"
    TOO_LARGE = "TooLarge"
    TOO_MANY_REQUESTS = "TooManyRequests"
    BAD_REQUEST = "BadRequest"  # not whole in time, a body where none belongs, or not HTTP/1.1
    NO_REQUEST = "NoRequest"  # no TLS, or no HTTP


# By the peer's own limits.
_LIMITED = (Reason.TOO_MANY_ASSOCIATIONS, Reason.TOO_MANY_PER_MINUTE, Reason.TOO_MANY_REQUESTS)


@dataclass(frozen=True)
class Record:
    """One connection."""

    reason: Reason
    peer: str | None
    slot: str | None
    identity: str | None
    serial: str | None
    not_after: datetime | None
    web: bool = False  # a DICOMweb request


def parse(line: str) -> Record | None:
    """Return the record in a line of the gate's log, or None when it is none (HAProxy's own messages)."""
    words = dict(word.partition("=")[::2] for word in line.split())
    values = {key: value for key, value in words.items() if value not in ("", _ABSENT)}
    try:
        reason = Reason(values.get("reason", ""))
    except ValueError:
        return None
    # At the accepting record the archive's side stands ("--"); any other state is an association that never was.
    web = values.get("event") == "web"
    if not web and reason is Reason.ACCEPTED and values.get("state", "--") != "--":
        reason = Reason.ARCHIVE_UNAVAILABLE
    return Record(
        reason=reason,
        peer=values.get("peer"),
        slot=values.get("slot"),
        identity=values.get("identity"),
        serial=_serial(values.get("issuer"), values.get("serial")),
        not_after=parse_asn1_time(values.get("not_after", "")),
        web=web,
    )


def _serial(issuer: str | None, serial: str | None) -> str | None:
    """Return a serial with its issuer: two authorities of a hospital may count alike."""
    return serial if serial is None or issuer in (None, OWN) else f"{issuer}/{serial}"


def parse_asn1_time(text: str) -> datetime | None:
    """Return a certificate's time; RFC 5280 4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050 on."""
    for form, length in (("%y%m%d%H%M%SZ", 13), ("%Y%m%d%H%M%SZ", 15)):
        if len(text) == length:
            try:
                return datetime.strptime(text, form).replace(tzinfo=UTC)
            except ValueError:
                return None
    return None


@dataclass
class PeerCounts:
    """What one peer did since the agent started."""

    last_association: str | None = None
    associations: int = 0
    last_rejection: str | None = None
    last_rejection_reason: str | None = None
    rejections: int = 0
    presented_not_after: str | None = None
    limited: int = 0
    last_limited: str | None = None
    requests: int = 0
    last_request: str | None = None


@dataclass
class Tally:
    """Counts by peer; a connection that is nobody's is only logged."""

    peers: dict[str, PeerCounts] = field(default_factory=lambda: defaultdict(PeerCounts))
    serials: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # slot -> accepted certificates
    peer_of: dict[str, str] = field(default_factory=dict)  # certificate's name -> peer, of the applied list

    def add(self, record: Record, now: datetime) -> None:
        """Count one connection, if it is a peer's."""
        peer = record.peer or self.peer_of.get(record.identity or "")
        if peer is None:
            return
        counts = self.peers[peer]
        if record.not_after:
            counts.presented_not_after = rfc3339(record.not_after)
        if record.web and record.reason is Reason.ACCEPTED:
            counts.requests += 1
            counts.last_request = rfc3339(now)
            return
        if record.reason is Reason.ACCEPTED:
            counts.associations += 1
            counts.last_association = rfc3339(now)
            if record.slot and record.serial:
                self.serials[record.slot].add(record.serial)
            return
        counts.rejections += 1
        counts.last_rejection = rfc3339(now)
        counts.last_rejection_reason = record.reason.value
        if record.reason in _LIMITED:
            counts.limited += 1
            counts.last_limited = counts.last_rejection

    def activity(self, peer: str, open_associations: int) -> PeerActivity:
        """Return what a peer did, as the status tells it."""
        return PeerActivity(id=peer, open_associations=open_associations, **asdict(self.peers[peer]))

    def know(self, peer_of: dict[str, str]) -> None:
        """Take over who has which certificate; counts of those who are gone go too, or they would grow for ever."""
        self.peer_of = peer_of
        for gone in set(self.peers) - set(peer_of.values()):
            del self.peers[gone]


class LogReader(asyncio.DatagramProtocol):
    """Receives the gate's records on a datagram socket that only this pod's user can write to.

    Parameters
    ----------
    path
        Where HAProxy sends to.
    tally
        Where records are counted.
    now
        The wall clock.
    """

    def __init__(self, path: Path, tally: Tally, now: Callable[[], datetime]) -> None:
        self._path = path
        self._tally = tally
        self._now = now
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Listen; HAProxy addresses each datagram, so a new socket at the same path is found at once."""
        self._path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        receiver.bind(str(self._path))
        self._path.chmod(0o600)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=receiver)

    def datagram_received(self, data: bytes, addr: object) -> None:  # asyncio's signature
        """Count each line of a datagram."""
        for line in data.decode("ascii", "replace").splitlines():
            if record := parse(line):
                self._tally.add(record, self._now())

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
