"""Devices without TLS: standing exceptions, said in every status until they are gone, with alarms before they end."""

from collections.abc import Iterator

from pacs_operator.domain.acceptance import Claim
from pacs_operator.domain.archive import Archive
from pacs_operator.domain.conditions import ConditionType, Verdict
from pacs_operator.domain.legacy import StaffedHours, alarm
from pacs_operator.domain.peer import Peer
from pacs_operator.domain.staffed import closing_time
from pacs_operator.domain.status import (
    MAX_EARLIER,
    EarlierException,
    LegacyPeer,
    LegacyStatus,
    PeerLegacy,
    PeerStatus,
)
from pacs_operator.domain.times import rfc3339
from pacs_operator.kube.events import Notice
from pacs_operator.reconcile.context import Pass


def hours_of(archive: Archive | None) -> StaffedHours | None:
    """Return the archive's staffed hours, where it is known and has any."""
    return archive.spec.dicom.staffed_hours if archive else None


def record(claim: Claim, before: PeerStatus | None, hours: StaffedHours | None) -> PeerLegacy | None:
    """Return what a peer's status says of its exception, with the ends that it had before.

    Parameters
    ----------
    claim
        The peer; also a refused one, whose record stays.
    before
        Its status as it stands.
    hours
        The archive's staffed hours.
    """
    known = before.legacy if before else None
    if claim.peer is None:
        return known
    legacy = claim.peer.spec.legacy
    if legacy is None:
        return None
    earlier = list(known.earlier) if known else []
    if known and known.expires != legacy.expires:
        earlier.append(EarlierException.model_validate({"expires": known.expires, "reason": known.reason}))
    closes = closing_time(hours, legacy.end) if hours else None
    told = {"expires": legacy.expires, "reason": legacy.reason, "earlier": earlier[-MAX_EARLIER:]}
    return PeerLegacy.model_validate({"port": legacy.port, "closes": rfc3339(closes) if closes else None, **told})


def news(peer: Peer, before: PeerStatus | None) -> Iterator[Notice]:
    """Yield that an exception was extended: its end moved, and the reason for that."""
    legacy, known = peer.spec.legacy, before.legacy if before else None
    if legacy and known and known.expires < legacy.expires:
        text = f"Without TLS until {legacy.expires} instead of {known.expires}: {legacy.reason}"
        yield Notice("Warning", "LegacyExtended", text)


def standing(run: Pass) -> list[LegacyPeer]:
    """Return the exceptions in force, the first to end first."""
    hours, found = hours_of(run.archive), []
    for decision in run.decisions:
        peer = decision.claim.peer
        if not decision.accepted or peer is None or peer.spec.legacy is None or hours is None:
            continue
        legacy = peer.spec.legacy
        said = {"port": legacy.port, "expires": legacy.expires, "reason": legacy.reason}
        said["closes"] = rfc3339(closing_time(hours, legacy.end))
        found.append(LegacyPeer.model_validate({"id": peer.key, **said}))
    return sorted(found, key=lambda one: (one.expires, one.id))


def report(run: Pass) -> None:
    """Say in the archive's status which devices it takes without TLS."""
    kind, found = ConditionType.LEGACY_PEERS, standing(run)
    known = any(condition.type is kind for condition in run.observed.conditions)
    told = LegacyStatus.model_validate({"count": len(found), "list": found}) if found else None
    run.status = run.status.model_copy(update={"legacy": told})
    if not found and not known:
        return
    status, reason, text = _verdict(run, found)
    run.set(kind, status, reason, text)


def _verdict(run: Pass, found: list[LegacyPeer]) -> Verdict:
    if not found:
        return "False", "NoExceptions", "Every device speaks TLS with a certificate of its own"
    shown = "; ".join(f"{one.id} on port {one.port} until {one.expires}" for one in found)
    text = f"{len(found)} without TLS: {shown}"
    match alarm(found[0].end, run.now):
        case 0:
            return "True", "ExceptionExpired", f"{text}; {found[0].id} is closed at {found[0].closes}"
        case 1:
            return "True", "ExceptionEndsWithin1Day", text
        case 7:
            return "True", "ExceptionEndsWithin7Days", text
        case 30:
            return "True", "ExceptionEndsWithin30Days", text
    return "True", "StandingExceptions", text
