"""Conditions as Kubernetes means them: a list keyed by type, whose times change only when the status does."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from pacs_operator.domain.model import Model
from pacs_operator.domain.times import rfc3339

#: Status, reason and message of a condition.
Verdict = tuple[Literal["True", "False", "Unknown"], str, str]


class ConditionType(StrEnum):
    """The promises of one archive, one condition each, and the three that kstatus reads."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    VAULT_READY = "VaultReady"
    DATABASE_READY = "DatabaseReady"
    CERTIFICATES_CURRENT = "CertificatesCurrent"
    VOLUMES_FIT = "VolumesFit"
    PEERS_ACCEPTED = "PeersAccepted"
    IMAGES_ENCRYPTED = "ImagesEncrypted"
    IMAGES_INTACT = "ImagesIntact"
    NETWORK_ISOLATED = "NetworkIsolated"
    CONFORMANCE_PASSED = "ConformancePassed"
    GATE_EXPOSED = "GateExposed"
    LEGACY_PEERS = "LegacyPeers"  # only once an archive took a device without TLS
    PEER_ISSUERS = "PeerIssuers"  # only once an archive named authorities of the hospital
    BREAK_GLASS = "BreakGlass"  # only once somebody approved a break-glass reader
    CONTAINED = "Contained"  # only once an archive was contained
    OFFLINE_START = "OfflineStart"  # only once an archive declared a key for it
    INGEST_CLEAN = "IngestClean"
    ORPHANED = "Orphaned"  # only while deleting: something is left in Vault that we could not remove in time
    DELETION_BLOCKED = "DeletionBlocked"  # only while deleting with policy Delete: what still keeps the data


class Condition(Model):
    """One condition."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int
    last_transition_time: str | None = None


class Stood(Protocol):
    """A condition of any resource, as it stood before."""

    @property
    def status(self) -> str:
        """Return True, False or Unknown."""

    @property
    def last_transition_time(self) -> str | None:
        """Return since when."""


def since(old: Stood | None, status: str, now: datetime) -> str:
    """Return since when a condition has its status: the time changes only where the status does."""
    kept = old.last_transition_time if old and old.status == status else None
    return kept or rfc3339(now)


def merge(observed: Iterable[Condition], desired: Iterable[Condition], now: datetime) -> list[Condition]:
    """Return the conditions to write.

    Parameters
    ----------
    observed
        Conditions as they stand in the live status.
    desired
        What this pass found; a type that is absent here keeps its observed value.
    now
        Time of the pass (UTC); becomes ``lastTransitionTime`` only where the status changes.
    """
    before = {condition.type: condition for condition in observed}
    after = dict(before)
    for condition in desired:
        began = since(before.get(condition.type), condition.status, now)
        after[condition.type] = condition.model_copy(update={"last_transition_time": began})
    return [after[kind] for kind in ConditionType if kind in after]
