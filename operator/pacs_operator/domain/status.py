"""``PacsArchive.status`` and ``DicomPeer.status``, typed; the CRDs say the same by test.

Everything here can be found again from the cluster; nothing irreplaceable lives only in a status.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from pacs_operator.domain.agentconfig import MAX_FOUND, LeafName, ScrubFound, Serial, Time
from pacs_operator.domain.atrest import IndexAtRest
from pacs_operator.domain.conditions import Condition
from pacs_operator.domain.legacy import MAX_PORTS
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import Component, Zone
from pacs_operator.domain.results import CheckResult, Outcome
from pacs_operator.domain.times import parse_time

MAX_LISTED_PEERS = 200
MAX_WAITING = 32
MAX_MESSAGE = 1024  # of a condition
MAX_PEER_MESSAGE = 96  # in the archive's list; the DicomPeer's own condition has the whole text
MAX_LISTED_BYTES = 44 * 1024  # of the archive's list, so that names at their longest do not swell it
MAX_WAITING_TEXT = 256
MAX_EARLIER = 8  # ends of one exception that its status remembers


class Endpoints(Model):
    """Where modalities connect."""

    service: str  # DNS name of the gate's Service
    port: int
    node_port: int | None = None
    web_port: int | None = None  # of DICOMweb over HTTPS
    web_node_port: int | None = None
    ae_title: str
    aliases: Annotated[list[str], Field(max_length=10)] = []
    load_balancer: Annotated[list[str], Field(max_length=8)] = []


class ZoneStatus(Model):
    """One zone and its namespace."""

    zone: Zone
    namespace: str


class CertificateStatus(Model):
    """The leaf of a component that ends first; several replicas have one each."""

    component: Component
    name: LeafName
    serial: Serial
    not_after: Time
    served_serial: Serial | None = None  # while the server still presents an older one; and when that one ends
    served_not_after: Time | None = None


class VolumeStatus(Model):
    """One volume: what its claim asks for, and what it has."""

    name: str  # of the claim
    requested_gi: int
    capacity_gi: int | None = None  # absent while the claim has no volume


class Effective(Model):
    """What is in force where the spec leaves it open."""

    release: str  # catalog/version
    images: dict[str, str]
    vault_address: str
    gate_replicas: int
    gate_max_associations: int
    conformance_schedule: str
    conformance_time_zone: str
    orthanc_memory: Annotated[str, Field(max_length=256)] | None = None
    encryption: str  # mode, and reason or age of data keys


class ReencryptStatus(Model):
    """How far images that lay on the volume are; refreshed at most every 15 minutes while it only goes on."""

    kind: Literal["Clear", "Keys"]
    state: Literal["Idle", "Working", "Waiting", "Done"]
    problem: str | None = None
    left: int
    left_bytes: int
    done: int
    failed: int
    foreign: int
    updated: Time


class EncryptionStatus(Model):
    """How images and index lie at rest; without encryption the index alone. ``verified`` changes at most hourly."""

    transit_key: str | None = None  # <mount>/<key>, which wraps the data keys
    active_data_key: int | None = None
    data_keys: int | None = None
    reencrypt: ReencryptStatus | None = None
    verified: Time | None = None  # an object was written, read back, and was not in clear on the volume
    index: IndexAtRest | None = None


class ScrubStatus(Model):
    """What the scrub found: the last whole pass, and with it what the one under way has found already."""

    schedule: str
    time_zone: str
    max_mi_per_second: int
    running: Time | None = None  # since when
    began: Time | None = None  # the last whole pass, as the next three
    ended: Time | None = None
    objects: int = 0
    bytes: int = 0
    changed: int = 0
    unreadable: int = 0
    file_missing: int = 0
    row_missing: int = 0
    found: Annotated[list[ScrubFound], Field(max_length=MAX_FOUND)] = []


class ConformanceStatus(Model):
    """The last finished run; ``config_hash`` is what it attacked."""

    run: str
    time: Time
    outcome: Outcome
    config_hash: str
    replicas: int = 0
    checks: Annotated[list[CheckResult], Field(max_length=128)] = []


class PeerSummary(Model):
    """One peer, coarsely: times are refreshed at most every 15 minutes."""

    id: str
    accepted: bool
    reason: str | None = None
    message: str | None = None
    dns_name: str | None = None
    presented_not_after: Time | None = None
    last_store: Time | None = None
    last_rejection: Time | None = None
    last_rejection_reason: str | None = None
    tls_exception_until: Time | None = None  # while it stands


class PeersStatus(Model):
    """All peers; the list is cut at 200 entries and 44 KiB, the counts are not."""

    accepted: int
    refused: int
    tls_exceptions: int = 0  # that stand now
    listed: Annotated[list[PeerSummary], Field(max_length=MAX_LISTED_PEERS, alias="list")] = []


class LegacyPeer(Model):
    """One device without TLS that is let in."""

    id: str
    port: int
    expires: Time
    closes: Time  # at the next staffed hour after that
    reason: Annotated[str, Field(max_length=256)]

    @property
    def end(self) -> datetime:
        """Return when the exception expires."""
        return parse_time(self.expires)


class LegacyStatus(Model):
    """The standing exceptions; absent while there is none."""

    count: int
    listed: Annotated[list[LegacyPeer], Field(max_length=MAX_PORTS, alias="list")]


class BreakGlassReader(Model):
    """One reader that two people let in; ``associations`` is refreshed at most every 15 minutes."""

    holder: str
    identity: str
    ae_title: str
    source_cidrs: Annotated[list[str], Field(max_length=4, alias="sourceCIDRs")]
    rights: Annotated[list[str], Field(max_length=2)]
    since: Time
    until: Time
    approvers: Annotated[list[str], Field(max_length=2)]
    associations: int
    counted: Time


class BreakGlassStatus(Model):
    """The readers that are let in; absent while there is none."""

    count: int
    listed: Annotated[list[BreakGlassReader], Field(max_length=4, alias="list")]


class ContainmentStatus(Model):
    """Since when the gate serves nobody but the spared, and why; absent while it serves all."""

    since: Time
    reason: Annotated[str, Field(max_length=256)]
    spared: Annotated[list[str], Field(max_length=16)] = []  # namespace/name


class OfflinePod(Model):
    """One pod: when it last sealed what its start needs, and since when it lives on that."""

    name: str
    sealed: Time | None = None
    started: Time | None = None


class OfflineStatus(Model):
    """By which key the archive's pods can start while Vault is away; absent while none is declared."""

    recipient: str  # fingerprint: SHA-256 over the public half, hex
    holder: Annotated[str, Field(max_length=128)]
    reason: Annotated[str, Field(max_length=256)]
    pods: Annotated[list[OfflinePod], Field(max_length=16)] = []
    last_started: Time | None = None  # when a pod last started by this key, in a drill or an outage


class ArchiveStatus(Model):
    """``PacsArchive.status``."""

    observed_generation: int | None = None
    conditions: Annotated[list[Condition], Field(max_length=32)] = []
    lineage_id: str | None = Field(None, alias="lineageID")
    endpoints: Endpoints | None = None
    zones: Annotated[list[ZoneStatus], Field(max_length=8)] = []
    certificates: Annotated[list[CertificateStatus], Field(max_length=64)] = []
    volumes: Annotated[list[VolumeStatus], Field(max_length=4)] = []
    effective: Effective | None = None
    encryption: EncryptionStatus | None = None
    scrub: ScrubStatus | None = None
    conformance: ConformanceStatus | None = None
    peers: PeersStatus | None = None
    legacy: LegacyStatus | None = None
    break_glass: BreakGlassStatus | None = None
    containment: ContainmentStatus | None = None
    offline_start: OfflineStatus | None = None
    waiting: Annotated[list[str], Field(max_length=MAX_WAITING)] = []
    last_handled_reencrypt_token: Annotated[str, Field(max_length=253)] | None = None
    last_handled_conformance_token: Annotated[str, Field(max_length=253)] | None = None


class PeerConditionType(StrEnum):
    """What a peer's conditions are about; all but the first are there only while it is accepted."""

    ACCEPTED = "Accepted"
    MOVE_DESTINATIONS = "MoveDestinationsResolved"  # only with spec.moveDestinations
    WORKLIST = "WorklistOffered"  # only with the right FindWorklist, and then False
    CERTIFICATE_ENDING = "CertificateEnding"
    SILENT = "Silent"  # only with spec.expectTraffic
    TLS_EXCEPTION = "TlsException"  # only with spec.tls.exception
    LEGACY_EXCEPTION = "LegacyException"  # only with spec.legacy, and then True: it stands


class PeerFinding(Model):
    """What a pass found of a peer."""

    type: PeerConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


class PeerCondition(PeerFinding):
    """One condition of a peer."""

    observed_generation: int
    last_transition_time: str


class PeerEffective(Model):
    """What is in force for an accepted peer where its spec leaves it open, or the archive allows less."""

    max_associations: int  # at each gate pod
    associations_per_minute: int | None = None  # at each gate pod; absent: not limited


class EarlierException(Model):
    """An end that an exception had before somebody extended it, and the reason then given."""

    expires: Time
    reason: Annotated[str, Field(max_length=256)]


class PeerLegacy(Model):
    """The exception of a device without TLS; stays after it was closed, as long as the spec has it."""

    port: int
    expires: Time
    closes: Time | None = None
    reason: Annotated[str, Field(max_length=256)]
    earlier: Annotated[list[EarlierException], Field(max_length=MAX_EARLIER)] = []  # the oldest first


class PeerStatus(Model):
    """``DicomPeer.status``; identity and role stand here only while the peer is accepted."""

    observed_generation: int
    conditions: Annotated[list[PeerCondition], Field(max_length=32)]
    bound_identity: str | None = None
    vault_role: str | None = None  # <mount>/sign/<role>
    legacy: PeerLegacy | None = None
    effective: PeerEffective | None = None
    certificate_not_after: Time | None = None  # of what it presented last; changes at most every 15 minutes
    traffic_expected_since: Time | None = None
    last_traffic: Time | None = None  # with expectTraffic only; refreshed at most every 15 minutes
