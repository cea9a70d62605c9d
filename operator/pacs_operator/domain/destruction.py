"""May the data of an archive be destroyed now? Decided from facts alone; in doubt they stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pacs_operator.domain.approval import NEEDED, Act, Approval, Consent, Subject, consent
from pacs_operator.domain.archive import Retention
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.domain.times import rfc3339

Reason = Literal["LegalHold", "RetentionNotOver", "ApprovalsMissing", "GracePeriod", "Approved", "Suspended"]
HOW = "docs/deletion.md shows how"
NOT_ENCRYPTED = "the images were never encrypted here, so no key can be shredded: only the volumes are deleted"


@dataclass(frozen=True)
class Case:
    """One deletion with policy Delete.

    Parameters
    ----------
    subject
        The resource and its data.
    retention
        What the spec demands.
    newest
        The latest time from which the newest image may be.
    newest_known_by
        In words, where that time is from.
    deleted_at
        When the resource was deleted.
    stopped_since
        Since when nobody's word is missing, without a break, and the archive is stopped; None before that.
    grace
        How long the data stay after everybody approved.
    encrypted
        Whether the images are encrypted with a key in Vault, which then is to be shredded.
    """

    subject: Subject
    retention: Retention
    newest: datetime
    newest_known_by: str
    deleted_at: datetime
    stopped_since: datetime | None
    grace: timedelta
    encrypted: bool


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    Parameters
    ----------
    reason, message
        For the condition ``DeletionBlocked``.
    until
        When to look again, where time alone changes the verdict.
    approvals
        Those that count.
    """

    reason: Reason
    message: str
    until: datetime | None = None
    approvals: tuple[Approval, ...] = ()

    @property
    def agreed(self) -> bool:
        """Tell whether nobody's word is missing any more: the archive stops, its data wait for the grace's end."""
        return self.reason in ("GracePeriod", "Approved")


def judge(case: Case, approvals: Sequence[Approval], now: datetime) -> Verdict:
    """Decide whether the data may go.

    A legal hold is above everything; retention gives way to two people who approve just that; the grace begins when
    nothing is in the way any more: with the last approval, the deletion, the end of a hold or of the retention.

    Parameters
    ----------
    case
        The deletion.
    approvals
        All readable ones in the archive's ops zone.
    now
        Time of the pass (UTC).
    """
    if case.retention.legal_hold:
        text = (
            "spec.retention.legalHold: nothing is deleted while it is true, whoever approves; a person with the right "
            "lift-legal-hold lifts it, or set deletionPolicy: Retain and the data stay when this resource goes"
        )
        return Verdict("LegalHold", text)
    needed: list[Act] = ["Delete", *(["Shred"] if case.encrypted else [])]  # type: ignore[list-item]
    ends = _years_after(case.newest, case.retention.minimum_years)
    override = consent(approvals, "OverrideRetention", case.subject, now)
    if now < ends and not override.complete:
        return Verdict("RetentionNotOver", _not_over(case, ends, override), ends)
    if now < ends:
        needed.append("OverrideRetention")
    consents = [consent(approvals, act, case.subject, now) for act in needed]
    missing = [given for given in consents if not given.complete]
    if missing:
        return Verdict("ApprovalsMissing", _missing(case, missing))
    used = tuple(approval for given in consents for approval in given.given)
    over = max(case.stopped_since or now, case.deleted_at, *(given.since for given in consents)) + case.grace
    plainly = "" if case.encrypted else f"; {NOT_ENCRYPTED}"
    if now < over:
        text = (
            f"Approved by {_people(consents)}. Stopped; the data are destroyed after {rfc3339(over)}{plainly}. "
            "To keep them set deletionPolicy: Retain, or withdraw an approval (the archive then starts again)"
        )
        return Verdict("GracePeriod", text, over, used)
    return Verdict("Approved", f"Approved by {_people(consents)}, grace is over{plainly}", None, used)


def _not_over(case: Case, ends: datetime, override: Consent) -> str:
    return (
        f"spec.retention.minimumYears: {case.retention.minimum_years} years after the newest image end at "
        f"{rfc3339(ends)}, counted from {rfc3339(case.newest)}: {case.newest_known_by}. Wait, or two people approve "
        f"OverrideRetention ({_count(override)}); {HOW}"
    )


def _missing(case: Case, missing: list[Consent]) -> str:
    where = namespace_of(case.subject.name, Zone.OPS)
    said = ", ".join(f"{given.act} {_count(given)}" for given in missing)
    return f"Serving on. PacsApprovals by two different people are needed in {where}: {said}; {HOW}"


def _count(given: Consent) -> str:
    people = ", ".join(approval.spec.approver for approval in given.given)
    return f"has {len(given.given)} of {NEEDED}" + (f": {people}" if people else "")


def _people(consents: list[Consent]) -> str:
    names = {approval.spec.approver: None for given in consents for approval in given.given}
    return ", ".join(names)


def _years_after(moment: datetime, years: int) -> datetime:
    """Return the same day some years later; the day after the 28th where February has no 29th."""
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        return moment.replace(year=moment.year + years, month=3, day=1)
