"""What the scrub of the stored images found: a condition, a status and metrics; counts and names drawn by chance."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pacs_operator.domain.agentconfig import CLOCK_SKEW, MAX_FOUND, AgentStatus, ScrubPass, ScrubTold
from pacs_operator.domain.conditions import ConditionType, Verdict
from pacs_operator.domain.names import Component
from pacs_operator.domain.scrub import Scrub, stale_at
from pacs_operator.domain.status import ScrubStatus
from pacs_operator.domain.times import parse_time
from pacs_operator.reconcile.agents import answers
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.metrics import PREFIX

_WORDS = {
    "changed": "changed",
    "unreadable": "unreadable",
    "file_missing": "missing on the volume",
    "row_missing": "unknown to the index",
}
_DAMAGE = ("changed", "unreadable", "file_missing")
_NAMED = 4  # files that the condition names; the status has more
_SUBJECT = "scrub"


def condition(run: Pass) -> None:
    """Set ImagesIntact from what Orthanc's agent told, and remember it."""
    wanted = run.archive.spec.storage.scrub if run.archive else None
    if wanted is None:
        run.status = run.status.model_copy(update={"scrub": None})
        text = "Stored images are not read again: spec.storage.scrub is not set"
        run.set(ConditionType.IMAGES_INTACT, "Unknown", "NotScheduled", text)
        return
    known = _status(run, wanted)
    run.status = run.status.model_copy(update={"scrub": known})
    status, reason, text = _verdict(run, wanted, known)
    run.set(ConditionType.IMAGES_INTACT, status, reason, text)


def _verdict(run: Pass, wanted: Scrub, known: ScrubStatus | None) -> Verdict:
    blocked = _blocked(run)
    if known is None:
        return "Unknown", "NotObserved", f"Orthanc's agent has not told of a scrub{blocked}"
    if any(getattr(known, name) for name in _DAMAGE):
        return "False", "ImagesDamaged", _counted(known) + blocked
    if known.row_missing:
        return "False", "RowsMissing", _counted(known) + blocked
    halted = "; suspended" if wanted.suspend else ""
    if known.began is None or known.ended is None:
        begun = f"the first pass began at {known.running}" if known.running else "no pass has begun"
        return "Unknown", "NotYet", f"Stored images were not read again yet; {begun}{halted}{blocked}"
    text = f"All {known.objects} files were read from the disk as they were stored; pass ended at {known.ended}"
    if run.now >= stale_at(wanted, parse_time(known.began), parse_time(known.ended)):
        return "Unknown", "Stale", f"{text}, which is too long ago{halted}{blocked}"
    return "True", "Intact", text


def _counted(known: ScrubStatus) -> str:
    counts = ", ".join(f"{count} {word}" for name, word in _WORDS.items() if (count := getattr(known, name)))
    named = ", ".join(one.object for one in known.found[:_NAMED])
    more = " and more" if sum(getattr(known, name) for name in _WORDS) > _NAMED else ""
    return f"Files of stored images: {counts} ({named}{more}); see pacs-agent scrub show in Orthanc's pod"


def _blocked(run: Pass) -> str:
    reasons = sorted(
        reason
        for status in answers(run, Component.ORTHANC)
        for subject, reason in status.problems.items()
        if subject.split("/")[0] == _SUBJECT
    )
    return f"; its agent reports {', '.join(reasons)}" if reasons else ""


def _status(run: Pass, wanted: Scrub) -> ScrubStatus | None:
    """Return what is known; what was known before stands while no agent tells."""
    effective = {
        "schedule": wanted.schedule,
        "time_zone": wanted.time_zone,
        "max_mi_per_second": wanted.max_mi_per_second,
    }
    told = _told(run)
    if told is None:
        return run.observed.scrub and run.observed.scrub.model_copy(update=effective)
    last, running = told.last, told.running
    worst = {name: max((getattr(part, name) for part in (last, running) if part), default=0) for name in _WORDS}
    found = {one.object: one for part in (running, last) if part for one in part.found}
    return ScrubStatus(
        **effective,
        **worst,
        running=running.began if running else None,
        began=last.began if last else None,
        ended=last.ended if last else None,
        objects=last.objects if last else 0,
        bytes=last.bytes if last else 0,
        found=list(found.values())[:MAX_FOUND],
    )


def _told(run: Pass) -> ScrubTold | None:
    return next((_believable(run, status) for status in answers(run, Component.ORTHANC) if status.scrub), None)


def _believable(run: Pass, status: AgentStatus) -> ScrubTold | None:
    """Return what can be: a pass that ended in the future would stay fresh for ever."""
    told, end = status.scrub, run.now + CLOCK_SKEW
    if told is None:
        return None
    last, running = told.last, told.running
    if last is not None and (last.ended is None or not parse_time(last.began) <= parse_time(last.ended) <= end):
        last = None
    if running is not None and parse_time(running.began) > end:
        running = None
    return ScrubTold(last=last, running=running)


def age(run: Pass) -> None:
    """Take back what was True and is too long ago, for a pass that is stopped; what was False stays so."""
    before = next((item for item in run.observed.conditions if item.type is ConditionType.IMAGES_INTACT), None)
    known = run.observed.scrub
    if before is None or before.status != "True" or known is None or known.began is None or known.ended is None:
        return
    in_force = Scrub(schedule=known.schedule, time_zone=known.time_zone)
    if run.now >= stale_at(in_force, parse_time(known.began), parse_time(known.ended)):
        run.set(
            ConditionType.IMAGES_INTACT,
            "Unknown",
            "Stale",
            f"The last whole pass over stored images ended at {known.ended}",
        )


def remember(run: Pass, known: dict[str, ScrubTold]) -> None:
    """Keep what the metrics show of this archive: what its agent told, or nothing."""
    told = _told(run) if run.archive and run.archive.spec.storage.scrub else None
    if told is None:
        known.pop(run.name, None)
    else:
        known[run.name] = told


class ScrubMetrics(Collector):
    """Yields the metrics of scrubs at scrape time.

    Parameters
    ----------
    ask
        Returns what was told by archive.
    """

    def __init__(self, ask: Callable[[], dict[str, ScrubTold]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield how far the pass under way is, when the last whole one ended, and what was found."""
        done = {
            name: GaugeMetricFamily(f"{PREFIX}_scrub_{name}", text, labels=["archive"])
            for name, text in (
                ("objects", "Files read by the pass under way, or else by the last one"),
                ("bytes", "Bytes read from the disk by the pass under way, or else by the last one"),
            )
        }
        running = GaugeMetricFamily(f"{PREFIX}_scrub_running", "Whether a pass is under way", labels=["archive"])
        ended = GaugeMetricFamily(
            f"{PREFIX}_scrub_last_end_seconds",
            "End of the last whole pass, seconds since the epoch; absent before the first",
            labels=["archive"],
        )
        found = GaugeMetricFamily(
            f"{PREFIX}_scrub_found", "Files that are not as they were stored", labels=["archive", "kind"]
        )
        for archive, told in sorted(self._ask().items()):
            shown = told.running or told.last or ScrubPass(began="2000-01-01T00:00:00Z")
            for name, gauge in done.items():
                gauge.add_metric([archive], getattr(shown, name))
            running.add_metric([archive], told.running is not None)
            if told.last is not None and told.last.ended is not None:
                ended.add_metric([archive], parse_time(told.last.ended).timestamp())
            for name in _WORDS:
                parts = [part for part in (told.last, told.running) if part]
                found.add_metric([archive, name], max((getattr(part, name) for part in parts), default=0))
        yield from (*done.values(), running, ended, found)
