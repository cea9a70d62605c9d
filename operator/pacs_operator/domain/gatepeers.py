"""``peers.json``: what gate and Orthanc agents apply live when peers come, change or go."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from pacs_operator.domain.agentconfig import Time
from pacs_operator.domain.issuers import MAX_ISSUERS, IssuerName
from pacs_operator.domain.model import Model
from pacs_operator.domain.outbound import Outbound
from pacs_operator.domain.peer import Right
from pacs_operator.domain.times import rfc3339

PEERS_FILE = "peers.json"


def largest_share(total: int) -> int:
    """Return how many of a gate's associations one peer can hold at most: three quarters, so that others find room.

    Parameters
    ----------
    total
        ``spec.gate.maxAssociations``: of all peers together, in one gate.
    """
    return max(1, total * 3 // 4)


class LegacyDoor(Model):
    """The plaintext listener of a device without TLS, whose number stands for a certificate's name."""

    port: Annotated[int, Field(ge=1024, le=65535)]
    closes: Time | None = None  # when gate and Orthanc forget the peer by themselves; None only of a list being judged


class LivePeer(Model):
    """One accepted peer, reduced to what the data plane must enforce.

    ``id`` is ``namespace/name`` of the DicomPeer, or ``probe/<name>`` for the archive's own probes.
    ``source_cidrs`` empty means any source that the network policies let through (probe pods, whose
    addresses change); an accepted DicomPeer always has at least one.
    ``contained`` is True for a peer that stays known and is told to try again later, and absent otherwise, so that
    agents of earlier releases can read every list that needs no more than they know.
    """

    id: Annotated[str, Field(max_length=317)]
    dns_name: str | None = None  # of its certificate; absent where ``legacy`` or ``spki`` stands
    issuer: str | None = None  # whose certificates; absent: of the archive's own peers CA
    spki: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # SHA-256 of the public key that tells it
    ae_titles: list[str]
    source_cidrs: Annotated[list[str], Field(alias="sourceCIDRs")]
    rights: list[Right]
    max_associations: int
    contained: bool | None = None
    legacy: LegacyDoor | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if [self.dns_name, self.legacy, self.spki].count(None) != 2:
            raise ValueError("one of dnsName, spki and legacy")
        if self.issuer is not None and self.dns_name is None:
            raise ValueError("issuer without dnsName")
        return self

    @property
    def identity(self) -> str:
        """Return what the gate knows it by.

        Its certificate's name, ``<issuer>/<name>``, ``spki:<hash>`` or ``port:<number>``: no name can be another's.
        """
        if self.dns_name:
            return f"{self.issuer}/{self.dns_name.lower()}" if self.issuer else self.dns_name.lower()
        return f"spki:{self.spki}" if self.spki else f"port:{self.legacy.port if self.legacy else 0}"

    associations_per_minute: int | None = None  # none: not limited; absent in the file, for agents that do not know it
    tls_exception_until: int | None = None  # end of its leave to use older TLS, seconds since the epoch; none: no leave
    ends: Time | None = None  # when gate and Orthanc forget it by themselves; none: it stays
    outbound: Outbound | None = None  # where the gate reaches it; absent: nothing is ever sent to it
    # AE titles that its C-MOVE may name; None and not an empty list where there are none, since an agent of an
    # earlier release refuses fields that it does not know.
    move_destinations: Annotated[list[str], Field(max_length=512)] | None = None


def _ends(peer: LivePeer) -> tuple[str | None, str | None]:
    return peer.ends, peer.legacy.closes if peer.legacy else None


class LiveIssuer(Model):
    """An authority of the hospital as the gate's agent takes it; without lists by consent."""

    name: IssuerName
    ca_pem: Annotated[str, Field(alias="caPEM")]
    crl_pem: str | None = Field(None, alias="crlPEM")


class LivePeers(Model):
    """The whole list; what is absent is revoked and its open associations end."""

    revision: str  # short hash of the content, reported back by the agents as "applied"
    peers: list[LivePeer]
    # Absent where the archive names none, so that agents of earlier releases can read the list.
    issuers: Annotated[list[LiveIssuer], Field(max_length=MAX_ISSUERS)] | None = None

    def at(self, now: datetime) -> Self:
        """Return the list without peers whose time is over: they go also while no operator runs."""
        stamp = rfc3339(now)
        left = [peer for peer in self.peers if not any(end and end <= stamp for end in _ends(peer))]
        return self if len(left) == len(self.peers) else self.model_copy(update={"peers": left})
