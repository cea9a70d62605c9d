"""Conformance runs: when one is due, what it is called, and what it left behind.

The Job's name is made of what asked for the run, so that the same wish is one Job however often it is looked at.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from pacs_operator.domain import names
from pacs_operator.domain.archive import Conformance
from pacs_operator.domain.checks import CONTAINED, Check, checks_of
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import Component
from pacs_operator.domain.results import Outcome, RunResult
from pacs_operator.domain.status import ConformanceStatus
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.kube.apply import content_hash
from pacs_operator.kube.inventory import JOB, kind_of
from pacs_operator.kube.jobs import ended_at
from pacs_operator.kube.port import Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.workloads import render, running_hash, settled

JOB_PREFIX = "conformance-"
KEPT_JOBS = 3
RETRY_AFTER = timedelta(minutes=15)  # a run that failed or could not run is repeated, since causes pass
MAX_TOKEN = 253
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)  # whether a slot exists does not hang on when it is asked
_DRAWN = re.compile(r"[hr](\W|$)", re.IGNORECASE)  # random fields of the library: another time at each look


@dataclass(frozen=True)
class Asked:
    """What would start a run now."""

    config_hash: str
    now: datetime
    token: str | None
    schedule: Conformance


def check_schedule(schedule: Conformance) -> None:
    """Refuse what is no five-field cron expression, or one that names no day there is.

    Raises
    ------
    InvalidSpecError
        With the value and the way out.
    """
    fields = schedule.schedule.split()
    drawn = any(_DRAWN.match(part) for field in fields for part in field.split(","))
    if len(fields) != 5 or drawn or not croniter.is_valid(schedule.schedule):
        raise InvalidSpecError(
            f"spec.conformance.schedule: {schedule.schedule!r} is not a cron expression of five fields",
            action="write minute, hour, day, month and weekday, for example 17 */6 * * *",
        )
    try:
        latest_slot(schedule, _ANY_TIME), next_slot(schedule, _ANY_TIME)
    except CroniterError:
        raise InvalidSpecError(
            f"spec.conformance.schedule: {schedule.schedule!r} names a day that no year has",
            action="choose a day that its months have; the 29th of February is one, in leap years",
        ) from None


def latest_slot(schedule: Conformance, now: datetime) -> datetime:
    """Return the last time at or before ``now`` that the schedule names."""
    slot: datetime = _cron(schedule, now + timedelta(seconds=1)).get_prev(datetime)
    return slot.astimezone(UTC)


def next_slot(schedule: Conformance, now: datetime) -> datetime:
    """Return the next time that the schedule names."""
    slot: datetime = _cron(schedule, now).get_next(datetime)
    return slot.astimezone(UTC)


def freshness(schedule: Conformance, now: datetime) -> timedelta:
    """Return how old a result may be before it proves nothing any more: two intervals and an hour."""
    return 2 * (next_slot(schedule, now) - latest_slot(schedule, now)) + timedelta(hours=1)


def _cron(schedule: Conformance, now: datetime) -> croniter:
    return croniter(schedule.schedule, now.astimezone(ZoneInfo(schedule.time_zone)))


def trigger(asked: Asked, last: ConformanceStatus | None, handled_token: str | None) -> str | None:
    """Return why a run is due, in words that enter its name; None when none is."""
    if last is None or last.config_hash != asked.config_hash:
        return "change"
    if asked.token and asked.token != handled_token:
        return f"token {asked.token}"
    ended = parse_time(last.time)
    if last.outcome != "Passed" and not proves_containment(last) and asked.now - ended >= RETRY_AFTER:
        return "retry"
    slot = latest_slot(asked.schedule, asked.now)
    if not asked.schedule.suspend and ended < slot:
        return f"slot {slot.isoformat()}"
    return None


def run_name(uid: str, config_hash: str, why: str, last: ConformanceStatus | None) -> str:
    """Return the run's name: the same for the same wish after the same history."""
    return "r" + content_hash([uid, config_hash, why, last.run if last else None])[:11]


def step(run: Pass) -> None:
    """Take over finished runs, then start one when it is due and everything it attacks stands."""
    jobs = [item for item in run.owned.values() if kind_of(item) is JOB and _run_of(item)]
    last = _newest(run, jobs)
    run.status = run.status.model_copy(
        update={"conformance": last, "last_handled_conformance_token": _handled(run, jobs, last)}
    )
    active = [job for job in jobs if ended_at(job) is None and not metadata(job).get("deletionTimestamp")]
    if active:
        run.running = True
        _render_with(run, _run_of(active[0]))
        return
    if run.desired is None or run.archive is None:
        return
    if not run.archive.spec.containment.isolated:  # evidence: nothing is taken away
        _prune_history(run, jobs)
    if run.wrote_workload or run.vault_error or settled(run):
        return  # it would attack what is about to go, or fail for want of a certificate
    tested = attacked(run)
    asked = Asked(tested, run.now, wanted_token(run), run.archive.spec.conformance)
    why = trigger(asked, last, run.status.last_handled_conformance_token)
    if why is not None:
        run.running = True
        _render_with(run, run_name(run.archive.uid, tested, why, last))


def expected(run: Pass) -> frozenset[Check]:
    """Return the checks that this archive can be put to: none that attacks what it does not have."""
    spec = run.archive.spec if run.archive else None
    external = spec is not None and spec.database.external is not None
    return checks_of(managed_database=not external, dicomweb=spec is not None and spec.dicomweb is not None)


def attacked(run: Pass) -> str:
    """Return the hash of what a run attacks now; a contained archive is another one, before and after."""
    contained = run.archive is not None and run.archive.spec.containment.isolated
    return content_hash([running_hash(run), "Contained"]) if contained else running_hash(run)


def proves_containment(last: ConformanceStatus) -> bool:
    """Tell whether a run asked all that a contained archive can be asked, and found it in order."""
    return bool(last.checks) and all(check.outcome == "Passed" or check.code == CONTAINED for check in last.checks)


def wanted_token(run: Pass) -> str | None:
    """Return the token by which somebody asks for a run now."""
    token = annotations_of(run.live).get(names.ANNOTATION_RUN_NOW)
    return token[:MAX_TOKEN] if token else None


def _render_with(run: Pass, name: str | None) -> None:
    if run.desired is None or name is None:
        return
    known = {names.ANNOTATION_CONFIG_HASH: attacked(run)}
    if token := wanted_token(run):
        known[names.ANNOTATION_RUN_NOW] = token
    manifests = []
    for manifest in render(run, replace(run.desired, conformance_run=name)):
        if kind_of(manifest) is JOB:
            data = {**metadata(manifest), "annotations": {**annotations_of(manifest), **known}}
            manifests.append({**manifest, "metadata": data})
        else:
            manifests.append(manifest)
    run.manifests = manifests


def _run_of(job: Manifest) -> str | None:
    name = str(metadata(job)["name"])
    return name.removeprefix(JOB_PREFIX) if name.startswith(JOB_PREFIX) else None


def _newest(run: Pass, jobs: list[Manifest]) -> ConformanceStatus | None:
    """Return the last finished run: the newest Job's, or what the status remembers when that is newer."""
    known = run.observed.conformance
    ended = [(time, job) for job in jobs if (time := ended_at(job)) is not None]
    if not ended:
        return known
    time, job = max(ended, key=lambda pair: (pair[0], metadata(pair[1])["name"]))
    if known and (known.run == _run_of(job) or parse_time(known.time) >= time):
        return known
    return _result(run, job, time)


def _result(run: Pass, job: Manifest, ended: datetime) -> ConformanceStatus:
    result = next(filter(None, (_message(pod, job) for pod in run.pods)), None)
    outcome: Outcome = "NotRun"
    if result is not None:
        failed = any(check.outcome == "Failed" for check in result.checks)
        outcome = "Passed" if result.proves(expected(run)) else "Failed" if failed else "NotRun"
    return ConformanceStatus(
        run=_run_of(job) or "",
        time=rfc3339(ended),
        outcome=outcome,
        config_hash=annotations_of(job).get(names.ANNOTATION_CONFIG_HASH, ""),
        replicas=result.replicas if result else 0,
        checks=result.checks if result else [],
    )


def _message(pod: Manifest, job: Manifest) -> RunResult | None:
    labels = labels_of(pod)
    if labels.get("batch.kubernetes.io/job-name", labels.get("job-name")) != metadata(job)["name"]:
        return None
    if metadata(pod).get("namespace") != metadata(job).get("namespace"):
        return None
    if labels.get(names.LABEL_COMPONENT, Component.CONFORMANCE) != Component.CONFORMANCE:
        return None
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        message = ((container.get("state") or {}).get("terminated") or {}).get("message")
        if not message:
            continue
        try:
            result = RunResult.from_message(message)
        except ValueError:
            continue
        if result.run == _run_of(job):
            return result
    return None


def _handled(run: Pass, jobs: list[Manifest], last: ConformanceStatus | None) -> str | None:
    for job in jobs:
        if last and _run_of(job) == last.run and names.ANNOTATION_RUN_NOW in annotations_of(job):
            return annotations_of(job)[names.ANNOTATION_RUN_NOW][:MAX_TOKEN]
    return run.observed.last_handled_conformance_token


def _prune_history(run: Pass, jobs: list[Manifest]) -> None:
    ended = sorted((job for job in jobs if ended_at(job)), key=lambda job: (ended_at(job), metadata(job)["name"]))
    for job in ended[:-KEPT_JOBS]:
        if not metadata(job).get("deletionTimestamp"):
            run.ports.kube.delete(job)
