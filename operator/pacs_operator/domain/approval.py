"""``PacsApproval``: one person's consent to one act; two different people make an act allowed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from pacs_operator.domain.breakglass import BreakGlass
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model
from pacs_operator.domain.peer import ArchiveRef

Act = Literal["Delete", "Shred", "OverrideRetention", "BreakGlass"]
MAX_LIFE = timedelta(days=7)
NEEDED = 2
NO_PERSON = "system:"  # how the cluster names its own components and service accounts


class ApprovalSpec(Model):
    """``PacsApproval.spec``; that ``approver`` is the user of the request is admission's to hold."""

    archive_ref: ArchiveRef
    archive_uid: Annotated[str, Field(min_length=1, max_length=64, alias="archiveUID")]
    lineage_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", alias="lineageID")]
    act: Act
    approver: Annotated[str, Field(min_length=1, max_length=253)]
    expires_at: AwareDatetime
    reason: Annotated[str, Field(min_length=10, max_length=256)]
    break_glass: BreakGlass | None = None

    @model_validator(mode="after")
    def _says_whom(self) -> Self:
        if (self.act == "BreakGlass") is (self.break_glass is None):
            raise InvalidSpecError(
                f"spec.breakGlass: {'missing' if self.break_glass is None else 'given'} with act {self.act}",
                action="say with act BreakGlass, and with no other, whom you let in",
            )
        return self

    @model_validator(mode="after")
    def _a_person(self) -> Self:
        if self.approver.startswith(NO_PERSON):
            raise InvalidSpecError(
                f"spec.approver: {self.approver!r} is no person",
                action="log in as yourself; service accounts and components of the cluster approve nothing",
            )
        return self


@dataclass(frozen=True)
class Approval:
    """A ``PacsApproval`` as read from the API; ``created`` is the API server's own time."""

    name: str
    created: datetime
    spec: ApprovalSpec


@dataclass(frozen=True)
class Subject:
    """What an approval must be for: this very resource and these very data."""

    name: str
    uid: str
    lineage: str


@dataclass(frozen=True)
class Consent:
    """What people said to one act.

    Parameters
    ----------
    act
        The act.
    given
        The valid approvals that count, one for each person, earliest first.
    """

    act: Act
    given: tuple[Approval, ...]

    @property
    def complete(self) -> bool:
        """Tell whether two different people approved."""
        return len(self.given) >= NEEDED

    @property
    def since(self) -> datetime:
        """Return when the second person approved; only for a complete consent."""
        return self.given[NEEDED - 1].created


def consent(approvals: Iterable[Approval], act: Act, subject: Subject, now: datetime) -> Consent:
    """Return who approved an act on a subject, as it stands now.

    Parameters
    ----------
    approvals
        Everything that lies in the archive's ops zone.
    act, subject
        What is asked for.
    now
        Time of the pass (UTC).
    """
    given: dict[str, Approval] = {}
    for approval in sorted(approvals, key=lambda approval: (approval.created, approval.name)):
        if counts(approval, act, subject, now):
            # An identity provider may let one person in under several spellings.
            given.setdefault(approval.spec.approver.casefold(), approval)
    return Consent(act, tuple(given.values()))


def counts(approval: Approval, act: Act, subject: Subject, now: datetime) -> bool:
    """Tell whether an approval is for this act on this subject, and stands now."""
    spec = approval.spec
    meant = (spec.archive_ref.name, spec.archive_uid, spec.lineage_id, spec.act)
    if meant != (subject.name, subject.uid, subject.lineage, act):
        return False
    return now < spec.expires_at <= approval.created + MAX_LIFE
