"""Imports: whose turn it is, which slice is due, what the last one left behind, and what each status says.

One import of an archive works at a time: the oldest that can, and during its pause the next. Each slice is a Job; the
next one is named after the one before, so that the same wish is one Job however often it is looked at. The journal on
its volume is what counts: a slice that leaves no word costs its counts until the next one tells them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from pacs_operator.domain import names
from pacs_operator.domain.archive import Archive
from pacs_operator.domain.errors import ConflictError, InvalidSpecError, NotFoundError, PacsError
from pacs_operator.domain.facts import Importing
from pacs_operator.domain.identifiers import covered
from pacs_operator.domain.importing import ImportSpec, ImportStatus, SliceResult, Stop, run_of
from pacs_operator.domain.names import ZONE_OF, Component, Zone, namespace_of
from pacs_operator.domain.probepeers import IMPORT_NEEDS
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.domain.validation import parse
from pacs_operator.kube.apply import content_hash
from pacs_operator.kube.inventory import DEPLOYMENT, IMPORT, JOB, STATEFUL_SET, Kind, kind_of
from pacs_operator.kube.jobs import ended_at
from pacs_operator.kube.port import Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.importwords import conditions
from pacs_operator.render.importer import JOB_PREFIX

KEPT_JOBS = 2
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
_GOES_ON = (Stop.TIME, Stop.TERMINATED, Stop.DONE)
NO_RESULT, OUT_OF_MEMORY = "NoResult", "OutOfMemory"
Turn = Literal["Done", "Refused", "Suspended", "Contained", "Waiting", "NotReady", "Pause", "Held", "Working"]


@dataclass
class ImportState:
    """One ``PacsImport`` in one pass."""

    live: Manifest
    spec: ImportSpec | None
    status: ImportStatus
    error: InvalidSpecError | None = None
    turn: Turn = "Waiting"
    until: datetime | None = None  # end of the pause
    held: PacsError | None = None  # what it waits for beside itself

    @property
    def uid(self) -> str:
        """Return the object's uid, which names journal and slices."""
        return str(metadata(self.live)["uid"])

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to do."""
        return self.status.last_stop == Stop.DONE.value


def read(run: Pass) -> None:
    """Read the archive's imports, take over what ended, and decide whose turn it is and which slice is due."""
    if run.archive is None or namespace_of(run.name, Zone.OPS) not in run.namespaces:
        return
    run.imports = [_state(run.archive, live) for live in _objects(run)]
    jobs = [item for item in run.owned.values() if kind_of(item) is JOB and _slice_of(item)]
    for state in run.imports:
        _take_over(run, state, [job for job in jobs if _belongs(job, state)])
    chosen = _choose(run, [job for job in jobs if ended_at(job) is None])
    for job in jobs:
        if ended_at(job) is None and not (chosen and _belongs(job, chosen)):
            _delete(run, job)  # suspended, deleted, contained: what is in hand is ended by the pod itself
    _prune(run, jobs)
    if chosen is None or chosen.spec is None:
        return
    active = next((job for job in jobs if _belongs(job, chosen) and ended_at(job) is None), None)
    due = _slice_of(active) if active else _due(run, chosen)
    run.importing = Importing(str(metadata(chosen.live)["name"]), chosen.uid, chosen.spec, due)


def standing(run: Pass, archive: Archive) -> set[str]:
    """Return the uids of the imports that may work within an archive's bounds, whosever turn it is."""
    states = [_state(archive, live) for live in _objects(run)]
    return {state.uid for state in states if state.spec and not state.spec.suspend and not state.done}


def end_others(run: Pass, allowed: set[str]) -> None:
    """Delete the slices at work of all but the allowed imports."""
    ours = {names.LABEL_ARCHIVE: run.name, names.LABEL_COMPONENT: Component.IMPORTER.value}
    for job in run.ports.kube.list(JOB, namespace_of(run.name, Zone.OPS), ours):
        if _slice_of(job) and ended_at(job) is None and annotations_of(job).get(names.ANNOTATION_IMPORT) not in allowed:
            _delete(run, job)


def hold(run: Pass, error: PacsError) -> None:
    """Start nothing in this pass, and say why; a slice that runs goes on."""
    state = next((state for state in run.imports if run.importing and state.uid == run.importing.uid), None)
    if state is None or run.importing is None:
        return
    state.turn, state.held = "Held", error
    job = (JOB.kind, namespace_of(run.name, Zone.OPS), f"{JOB_PREFIX}{run.importing.run}")
    if job not in run.owned:
        run.importing = replace(run.importing, run=None)


def write_statuses(run: Pass) -> None:
    """Write each import's status where it differs."""
    for state in run.imports:
        data = metadata(state.live)
        status = state.status.model_copy(
            update={
                "observed_generation": int(data.get("generation") or 0),
                "conditions": conditions(state, run.now),
            }
        )
        if (document := status.document()) == (state.live.get("status") or {}):
            continue
        body = {
            "apiVersion": IMPORT.api_version,
            "kind": IMPORT.kind,
            "metadata": {part: data[part] for part in ("name", "namespace", "uid", "resourceVersion")},
            "status": document,
        }
        try:
            run.ports.kube.apply_status(body)
        except (NotFoundError, ConflictError):
            continue  # gone or edited meanwhile: either wakes the next pass


def _objects(run: Pass) -> list[Manifest]:
    """Return the imports of this archive, oldest first."""
    found = [
        live
        for live in run.ports.kube.list(IMPORT, namespace_of(run.name, Zone.OPS))
        if ((live.get("spec") or {}).get("archiveRef") or {}).get("name") == run.name
        and not metadata(live).get("deletionTimestamp")
    ]
    return sorted(found, key=lambda live: (str(metadata(live).get("creationTimestamp")), metadata(live)["name"]))


def _state(archive: Archive, live: Manifest) -> ImportState:
    try:
        before = ImportStatus.model_validate(live.get("status") or {})
    except ValidationError:
        before = ImportStatus()  # all of it comes again with the next slice
    try:
        spec = parse(ImportSpec, live.get("spec") or {}, "spec")
        _check_source(archive, spec)
        if before.last_stop != Stop.DONE.value:
            _check_rights(archive)
    except InvalidSpecError as error:
        return ImportState(live, None, before, error, "Refused")
    return ImportState(live, spec, before)


def _check_source(archive: Archive, spec: ImportSpec) -> None:
    allowed = archive.spec.peers.allowed_cidrs
    if not covered(spec.source.address, allowed):
        raise InvalidSpecError(
            f"spec.source.address: {spec.source.address} lies outside the archive's allowedCIDRs "
            f"({', '.join(allowed)})",
            action="name the source's address, or have spec.peers.allowedCIDRs of the archive widened",
            reason="ImportSourceNotAllowed",
        )


def _check_rights(archive: Archive) -> None:
    """Refuse an import that would be more than any peer may be; once that is lifted it goes on by itself."""
    most = archive.spec.peers.max_rights
    if lacking := [right.value for right in IMPORT_NEEDS if right not in most]:
        raise InvalidSpecError(
            f"spec.archiveRef: an import needs {', '.join(lacking)}, which the archive's maxRights "
            f"({', '.join(most)}) lets no peer have",
            action="have spec.peers.maxRights of the archive widened while the import works; it goes on by itself",
            reason="ImportRightsNotAllowed",
        )


def _choose(run: Pass, active: list[Manifest]) -> ImportState | None:
    """Return the import whose turn it is, and say of the others why it is not theirs."""
    contained = run.archive is not None and run.archive.spec.containment.isolated
    able = []
    for state in run.imports:
        if state.error is not None or state.spec is None:
            continue
        if state.done:
            state.turn = "Done"
        elif state.spec.suspend:
            state.turn = "Suspended"
        elif contained:
            state.turn = "Contained"
        else:
            able.append(state)
            _pause(run, state)
    # A slice at work is left to its end, so that the end of an older one's pause costs it nothing.
    at_work = [state for state in able if any(_belongs(job, state) for job in active)]
    awake = [state for state in able if state.turn != "Pause"]
    chosen = next(iter(at_work or awake or able), None)
    if chosen is not None and (at_work or awake):
        chosen.turn = "Working"
    return chosen


def _pause(run: Pass, state: ImportState) -> None:
    """Mark an import that waits after slices that settled nothing."""
    status = state.status
    ended = parse_time(status.last_slice_time) if status.last_slice_time else None
    if status.failed_slices and ended is not None:
        pause = min(_FIRST_PAUSE * 2 ** min(status.failed_slices - 1, 6), _LONGEST_PAUSE)
        if run.now < ended + pause:
            state.turn, state.until = "Pause", ended + pause


def _due(run: Pass, state: ImportState) -> str | None:
    """Return the slice to start now; None while something is to be waited for."""
    if state.turn == "Pause":
        return None
    if not _serving(run):
        state.turn = "NotReady"
        return None
    status = state.status
    if status.started_time is None:
        state.status = status.model_copy(update={"started_time": rfc3339(run.now)})
    return "i" + content_hash([state.uid, status.last_slice])[:11]


def _serving(run: Pass) -> bool:
    """Tell whether gate and Orthanc have ready pods: a slice against nothing would only cost a pause."""
    return all(_ready(run, *each) for each in ((DEPLOYMENT, Component.GATE), (STATEFUL_SET, Component.ORTHANC)))


def _ready(run: Pass, kind: Kind, component: Component) -> bool:
    live = run.owned.get((kind.kind, namespace_of(run.name, ZONE_OF[component]), component.value))
    return int(((live or {}).get("status") or {}).get("readyReplicas") or 0) > 0


def _take_over(run: Pass, state: ImportState, jobs: Iterable[Manifest]) -> None:
    """Take what the newest ended slice left behind into the status, once."""
    ended = [(time, str(metadata(job)["name"]), job) for job in jobs if (time := ended_at(job)) is not None]
    if not ended:
        return
    time, name, job = max(ended, key=lambda each: each[:2])
    status = state.status
    if status.last_slice == name or (status.last_slice_time and parse_time(status.last_slice_time) > time):
        return
    result, word = _result(run, job)
    update: dict[str, object] = {"last_slice": name, "last_slice_time": rfc3339(time), "last_stop": word}
    if result is not None and result.stop is not Stop.JOURNAL_UNUSABLE:
        update |= {
            "counts": result.counts,
            "codes": result.codes,
            "listed": result.listed,
            "undated": result.undated,
            "ranges_at_limit": result.ranges_at_limit,
            "objects_per_minute": result.moved * 60 // max(result.seconds, 1),
        }
    fine = result is not None and (result.stop in _GOES_ON or result.moved > 0)
    update["failed_slices"] = 0 if fine else status.failed_slices + 1
    if word == Stop.DONE.value:
        update["completed_time"] = rfc3339(time)
    state.status = status.model_copy(update=update)


def _result(run: Pass, job: Manifest) -> tuple[SliceResult | None, str]:
    """Return what a slice told, and the word for its end."""
    word = NO_RESULT
    for pod in run.pods:
        same_place = metadata(pod).get("namespace") == metadata(job).get("namespace")
        if not same_place or labels_of(pod).get("batch.kubernetes.io/job-name") != metadata(job)["name"]:
            continue
        for container in (pod.get("status") or {}).get("containerStatuses") or []:
            terminated = (container.get("state") or {}).get("terminated") or {}
            if terminated.get("reason") == "OOMKilled":
                word = OUT_OF_MEMORY
            try:
                result = SliceResult.from_message(terminated.get("message") or "")
            except ValueError:
                continue
            if result.run == _slice_of(job):
                return result, result.stop.value
    return None, word


def _prune(run: Pass, jobs: list[Manifest]) -> None:
    """Keep the last Jobs only; their results stand in the status since the passes before."""
    told = {state.status.last_slice for state in run.imports}
    ended = sorted((time, str(metadata(job)["name"]), id(job)) for job in jobs if (time := ended_at(job)) is not None)
    old = {name for _, name, _ in ended[:-KEPT_JOBS]} - told
    for job in jobs:
        if metadata(job)["name"] in old and ended_at(job) is not None:
            _delete(run, job)


def _delete(run: Pass, job: Manifest) -> None:
    if not metadata(job).get("deletionTimestamp"):
        run.ports.kube.delete(job)


def _belongs(job: Manifest, state: ImportState) -> bool:
    return annotations_of(job).get(names.ANNOTATION_IMPORT) == state.uid


def _slice_of(job: Manifest) -> str | None:
    return run_of(str(metadata(job)["name"]), JOB_PREFIX)
