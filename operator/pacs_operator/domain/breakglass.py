"""Break-glass readers: for some hours, by two people's consent, one person's workstation may find and get images.

45 CFR 164.312(a)(2)(ii), emergency access procedure. Nobody stores, moves or deletes by it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.identifiers import check_ae_title, check_disjoint, covered
from pacs_operator.domain.leaves import PUBLIC_SUFFIX
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import PROBE_AE_TITLE
from pacs_operator.domain.peer import Right
from pacs_operator.domain.times import rfc3339

MAX_HOURS = 24
MAX_OPEN = 4
MAX_ASSOCIATIONS = 4
MAX_WORDS = 16  # of one person for one reader, the latest: pairs are looked at, and nobody needs more
#: Both people decide on the same emergency: a word of hours ago does not count for another one.
TOGETHER = timedelta(hours=1)
_OWNER = "break.glass"  # no namespace's name has a dot, so no DicomPeer has such an id
_ROLE_OWNER = "_break-glass"  # nor an underscore, so no DicomPeer has such a role


class BreakGlass(Model):
    """``PacsApproval.spec.breakGlass``: whom two people let in, from where, for how long."""

    holder: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$", max_length=32)]
    ae_title: str
    source_cidrs: Annotated[list[str], Field(min_length=1, max_length=4, alias="sourceCIDRs")]
    rights: Annotated[list[Literal["Find", "Get"]], Field(min_length=1, max_length=2)]
    hours: Annotated[int, Field(ge=1, le=MAX_HOURS)]

    @model_validator(mode="after")
    def _rules(self) -> Self:
        check_ae_title(self.ae_title, "spec.breakGlass.aeTitle")
        if self.ae_title.startswith(PROBE_AE_TITLE):
            raise InvalidSpecError(
                f"spec.breakGlass.aeTitle: {self.ae_title!r} is reserved for the archive's own probes",
                action=f"choose a title that does not begin with {PROBE_AE_TITLE}",
                reason="ReservedAETitle",
            )
        check_disjoint(self.source_cidrs, "spec.breakGlass.sourceCIDRs")
        return self

    @property
    def key(self) -> str:
        """Return the id under which gate and Orthanc know the reader."""
        return f"{_OWNER}/{self.holder}"

    @property
    def dns_name(self) -> str:
        """Return the name that the reader's certificate bears; reserved, so no DicomPeer can have it."""
        return f"{self.holder}.break-glass.{PUBLIC_SUFFIX}"

    @property
    def role(self) -> str:
        """Return the Vault role that signs the reader's certificate."""
        return f"peer.{_ROLE_OWNER}.{self.holder}"

    def same(self) -> str:
        """Return what has to be equal in both people's words."""
        words = {**self.document(), "sourceCIDRs": sorted(self.source_cidrs), "rights": sorted(self.rights)}
        return repr(sorted(words.items()))


class BreakGlassBounds(Model):
    """``PacsArchive.spec.breakGlass``: that break-glass readers are prepared for, and for how long at most."""

    max_hours: Annotated[int, Field(ge=1, le=MAX_HOURS)]


@dataclass(frozen=True)
class Word:
    """One person's consent to one reader, valid now.

    Attributes
    ----------
    approver
        The person.
    given
        When (UTC).
    expires
        Until when the word counts.
    what
        The reader.
    """

    approver: str
    given: datetime
    expires: datetime
    what: BreakGlass


@dataclass(frozen=True)
class Box:
    """A reader that is let in now."""

    what: BreakGlass
    since: datetime
    until: datetime
    approvers: tuple[str, ...]

    @property
    def peer(self) -> LivePeer:
        """Return the reader as gate and Orthanc take it; they forget it by themselves at its end."""
        return LivePeer(
            id=self.what.key,
            dns_name=self.what.dns_name,
            ae_titles=[self.what.ae_title],
            source_cidrs=sorted(self.what.source_cidrs),
            rights=sorted(Right(right) for right in self.what.rights),
            max_associations=MAX_ASSOCIATIONS,
            ends=rfc3339(self.until),
        )


def opened(words: Iterable[Word], now: datetime) -> tuple[list[Box], list[str]]:
    """Return which readers two different people let in, and what is missing for the others.

    Parameters
    ----------
    words
        Consents that count for this archive.
    now
        Time of the pass (UTC).

    Returns
    -------
    tuple
        Boxes, the one that ends first first; and sentences.
    """
    groups: dict[str, list[Word]] = {}
    for word in words:
        groups.setdefault(word.what.same(), []).append(word)
    boxes, missing = [], []
    for group in groups.values():
        box = _latest(group)
        if box is not None and box.until > now:
            boxes.append(box)
        elif box is None and any(now - word.given < TOGETHER for word in group):
            who = ", ".join(sorted({word.approver for word in group}))
            missing.append(f"{group[0].what.holder}: approved by {who}; a second person has not, or in other words")
    return sorted(boxes, key=lambda box: (box.until, box.what.holder, box.what.same())), sorted(missing)


def _latest(group: Sequence[Word]) -> Box | None:
    """Return the box of the two people whose consent lasts longest.

    Nobody is let in for longer than either of them said, counted from when they said it: a person who writes again
    alone moves no end beyond the other one's hours.
    """
    boxes = []
    latest: dict[str, list[Word]] = {}
    for word in sorted(group, key=lambda word: word.given):
        latest.setdefault(word.approver.casefold(), []).append(word)
    words = [word for said in latest.values() for word in said[-MAX_WORDS:]]
    for one, other in combinations(sorted(words, key=lambda word: word.given), 2):
        if one.approver.casefold() == other.approver.casefold() or other.given - one.given > TOGETHER:
            continue
        until = min(one.given + timedelta(hours=one.what.hours), one.expires, other.expires)
        boxes.append(Box(one.what, other.given, until, (one.approver, other.approver)))
    return max(boxes, key=lambda box: box.until, default=None)


@dataclass(frozen=True)
class Room:
    """What an archive has for break-glass readers.

    Attributes
    ----------
    bounds
        ``spec.breakGlass``; None: nothing is prepared.
    allowed_cidrs
        ``spec.peers.allowedCIDRs``.
    titles
        AE titles that are taken: the archive's own, and accepted peers'.
    slots
        How many further peers its gate can tell apart.
    """

    bounds: BreakGlassBounds | None
    allowed_cidrs: Sequence[str]
    titles: frozenset[str]
    slots: int


def admitted(boxes: Iterable[Box], room: Room) -> tuple[list[Box], list[str]]:
    """Return which of the readers the archive takes, and why not the others.

    Parameters
    ----------
    boxes
        In the order in which they win.
    room
        What the archive has.
    """
    taken: list[Box] = []
    refused = []
    for box in boxes:
        why = _why_not(box, taken, room)
        if why is None:
            taken.append(box)
        else:
            refused.append(f"{box.what.holder}: {why}")
    return taken, refused


def _why_not(box: Box, taken: Sequence[Box], room: Room) -> str | None:
    what = box.what
    if room.bounds is None:
        return "the archive has no spec.breakGlass (have it written by whoever answers for the archive)"
    outside = [cidr for cidr in what.source_cidrs if not covered(cidr, room.allowed_cidrs)]
    longest = room.bounds.max_hours
    reasons = (
        (what.hours > longest, f"{what.hours} hours exceed spec.breakGlass.maxHours ({longest}) (approve fewer)"),
        (outside, f"{', '.join(outside)} lies outside the archive's allowedCIDRs (approve an address inside)"),
        (
            what.ae_title in room.titles | {one.what.ae_title for one in taken},
            f"AE title {what.ae_title!r} is taken (approve another one)",
        ),
        (
            what.holder in {one.what.holder for one in taken},
            "another reader of this holder is let in (withdraw its approvals, or wait for its end)",
        ),
        (
            len(taken) >= min(MAX_OPEN, room.slots),
            f"{len(taken)} readers are let in, and there is room for no more (wait for the end of one)",
        ),
    )
    return next((text for wrong, text in reasons if wrong), None)
