"""Break-glass readers: let in while two people's words stand, shown as a standing exception, ended by the clock."""

from collections.abc import Callable
from datetime import timedelta

from pacs_operator.domain.acceptance import MAX_PEERS, accepted_peers
from pacs_operator.domain.approval import Subject, counts
from pacs_operator.domain.archive import Archive
from pacs_operator.domain.breakglass import Box, Room, Word, admitted, opened
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.status import BreakGlassReader, BreakGlassStatus
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.kube.events import Notice
from pacs_operator.kube.port import metadata
from pacs_operator.reconcile import approvals
from pacs_operator.reconcile.agents import activity
from pacs_operator.reconcile.context import Pass

_COARSE = timedelta(minutes=15)


def admit(run: Pass, archive: Archive | None, lineage: str | None) -> list[Box]:
    """Return the readers that are let in now; notes in the pass what keeps others out.

    Parameters
    ----------
    run
        The pass, with its peers judged.
    archive
        By whose bounds.
    lineage
        The data that approvals must be for; None: of no archive yet.
    """
    run.glass, run.glass_refused, run.glass_missing = [], [], []
    if archive is None or lineage is None:
        return []
    subject = Subject(run.name, str(metadata(run.live)["uid"]), lineage)
    words = [
        Word(one.spec.approver, one.created, one.spec.expires_at, one.spec.break_glass)
        for one in approvals.read(run)
        if one.spec.break_glass is not None and counts(one, "BreakGlass", subject, run.now)
    ]
    if not words:
        return []
    peers = accepted_peers(run.decisions)
    titles = {title for peer in peers for title in peer.spec.ae_titles}
    room = Room(
        bounds=archive.spec.break_glass,
        allowed_cidrs=archive.spec.peers.allowed_cidrs,
        titles=frozenset({*titles, *archive.spec.dicom.called_titles}),
        slots=MAX_PEERS - len(peers) - 1,  # the last one is for an import
    )
    boxes, run.glass_missing = opened(words, run.now)
    run.glass, run.glass_refused = admitted(boxes, room)
    return run.glass


def keep_apart(run: Pass, has_way_in: Callable[[str], bool]) -> None:
    """Take from those that are let in whom a pass that was stopped could not let in: it adds nobody to a live list.

    Parameters
    ----------
    run
        The pass.
    has_way_in
        Tells by a peer's key whether gate or Orthanc has it in its list.
    """
    for box in run.glass or ():
        if not has_way_in(box.what.key):
            run.glass_refused.append(
                f"{box.what.holder}: the archive is stopped (mend what Stalled or Reconciling say)"
            )
    run.glass = None if run.glass is None else [box for box in run.glass if has_way_in(box.what.key)]


def report(run: Pass) -> None:
    """Say in status, conditions and events who is let in by two people's word, until when, and how often they came."""
    if run.glass is None:
        return  # nobody looked: what stands there stays
    known = _known(run)
    listed = [_reader(run, box, known.get(box.what.holder)) for box in run.glass]
    _say(run, known, listed, [*run.glass_refused, *run.glass_missing])


def report_suspended(run: Pass) -> timedelta | None:
    """Say who is still let in: whoever was, until the end that gate and Orthanc were told; nobody new.

    Returns
    -------
    timedelta | None
        After which the next one ends; None: nobody is let in.
    """
    known = _known(run)
    ends = {holder: parse_time(one.until) for holder, one in known.items()}
    listed = [one for one in known.values() if ends[one.holder] > run.now]
    new = sorted({box.what.holder for box in run.glass or ()} - {one.holder for one in listed})
    if known or new:
        _say(run, known, listed, [f"{holder}: spec.suspend is true (set it to false)" for holder in new])
    return min((ends[one.holder] - run.now for one in listed), default=None)


def _known(run: Pass) -> dict[str, BreakGlassReader]:
    return {one.holder: one for one in (run.observed.break_glass.listed if run.observed.break_glass else [])}


def _say(run: Pass, known: dict[str, BreakGlassReader], listed: list[BreakGlassReader], others: list[str]) -> None:
    kind = ConditionType.BREAK_GLASS
    _tell(run, known, listed)
    told = BreakGlassStatus.model_validate({"count": len(listed), "list": listed}) if listed else None
    run.status = run.status.model_copy(update={"break_glass": told})
    waiting = "; ".join(others)
    if listed:
        shown = "; ".join(f"{one.holder} as {one.ae_title} until {one.until}" for one in listed)
        text = f"STANDING EXCEPTION: {shown}" + (f". Not let in: {waiting}" if waiting else "")
        run.set(kind, "True", "ReadersOpen", text)
    elif waiting:
        run.set(kind, "False", "NotOpened", f"Nobody is let in: {waiting}")
    elif any(condition.type is kind for condition in run.observed.conditions):
        run.set(kind, "False", "NoReaders", "No break-glass reader is let in")


def _reader(run: Pass, box: Box, before: BreakGlassReader | None) -> BreakGlassReader:
    said: dict[str, object] = {
        "holder": box.what.holder,
        "identity": box.what.dns_name,
        "aeTitle": box.what.ae_title,
        "sourceCIDRs": sorted(box.what.source_cidrs),
        "rights": sorted(box.what.rights),
        "since": rfc3339(box.since),
        "until": rfc3339(box.until),
        "approvers": list(box.approvers),
    }
    same = before if before and before.since == said["since"] else None
    seen = activity(run).get(box.what.key)
    told = [one.associations for one in (seen, same) if one is not None]
    counted = max([run.memory.glass_seen.get(box.what.holder, 0), *told])
    run.memory.glass_seen[box.what.holder] = counted
    if same and (counted == same.associations or run.now - parse_time(same.counted) < _COARSE):
        said |= {"associations": same.associations, "counted": same.counted}
    else:
        said |= {"associations": counted, "counted": rfc3339(run.now)}
    return BreakGlassReader.model_validate(said)


def _tell(run: Pass, known: dict[str, BreakGlassReader], listed: list[BreakGlassReader]) -> None:
    now = {one.holder: one for one in listed}
    for holder, one in now.items():
        if holder in known and known[holder].since == one.since:
            continue
        text = (
            f"{holder} may {' and '.join(one.rights)} as {one.ae_title} from {', '.join(one.source_cidrs)} until "
            f"{one.until}, approved by {' and '.join(one.approvers)}"
        )
        run.notices.append(Notice("Warning", "BreakGlassOpened", text))
    for holder, one in known.items():
        if holder in now:
            continue
        count = max(one.associations, run.memory.glass_seen.pop(holder, 0))
        why = "by its time" if parse_time(one.until) <= run.now else f"before its time: {_why(run, holder)}"
        text = f"{holder} is let in no more, ended {why}; {count} associations since {one.since} that gates remember"
        run.notices.append(Notice("Normal", "BreakGlassEnded", text))


def _why(run: Pass, holder: str) -> str:
    """Return why a reader ended early: the archive takes it no longer, or else one of the two words is gone."""
    of_it = f"{holder}: "
    refusals = (text.removeprefix(of_it) for text in run.glass_refused if text.startswith(of_it))
    return next(refusals, "an approval is gone")
