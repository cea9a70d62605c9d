"""The reconcile: one function, right when called at any time, any number of times, by anyone.

Live read, first status write, lineage, checks, Vault, peers, render, apply, live lists, conformance, agents, prune,
one status write.
"""

import contextlib
from collections.abc import Callable
from datetime import datetime

from pacs_operator.domain.acceptance import decide
from pacs_operator.domain.agentconfig import ScrubTold, SealingTold
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.errors import ConflictError, InvalidSpecError, NotFoundError, PacsError, UnexpectedError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.kube.apply import Applier
from pacs_operator.kube.inventory import ARCHIVE
from pacs_operator.kube.port import Manifest, metadata
from pacs_operator.reconcile import (
    agents,
    breakglass,
    conformance,
    containment,
    deletion,
    destruction,
    evidence,
    fences,
    imports,
    ingest,
    legacy,
    observe,
    peers,
    peerwatch,
    provision,
    reencrypt,
    retention,
    revocation,
    scrub,
    status,
    volumes,
    workloads,
    zones,
)
from pacs_operator.reconcile.context import Memory, Outcome, Pass, Ports, Settings
from pacs_operator.reconcile.ingest import IngestNumbers
from pacs_operator.reconcile.peermetrics import PeerNumbers, numbers

STEADY_SECONDS = 120.0  # how late a sealed Vault or a late renewal is noticed when no event tells
STALLED_SECONDS = 60.0  # what only a person can change may be changed where no event tells (a StorageClass)
PROGRESS_SECONDS = 5.0
CONFIRM_SECONDS = 1.0
UNREADY_SECONDS = 15.0


class ArchiveReconciler:
    """Reconciles archives by name; calls for different names may run at the same time.

    Parameters
    ----------
    ports
        Everything outside the process.
    settings
        The operator's own settings.
    """

    def __init__(self, ports: Ports, settings: Settings) -> None:
        self._ports, self._settings = ports, settings
        self._memory: dict[str, Memory] = {}
        self._ends: dict[str, dict[str, float]] = {}  # archive -> component -> end of its first certificate to end
        self._peers: dict[str, PeerNumbers] = {}
        self._ingest: dict[str, IngestNumbers] = {}
        self._scrubs: dict[str, ScrubTold] = {}
        self._sealing: dict[str, SealingTold] = {}

    def names(self) -> list[str]:
        """Return the names of all archives, for the periodic full pass."""
        return [metadata(live)["name"] for live in self._ports.kube.list(ARCHIVE)]

    def certificate_ends(self) -> dict[str, float]:
        """Return by component when the first certificate of any archive ends, seconds since the epoch."""
        ends: dict[str, float] = {}
        for archive in list(self._ends.values()):
            for component, end in archive.items():
                ends[component] = min(end, ends.get(component, end))
        return ends

    def peer_numbers(self) -> dict[str, PeerNumbers]:
        """Return what the agents last told of each archive's peers."""
        return dict(self._peers)

    def ingest_numbers(self) -> dict[str, IngestNumbers]:
        """Return what the agents last told of each archive's ingest."""
        return dict(self._ingest)

    def scrubs(self) -> dict[str, ScrubTold]:
        """Return what the agents last told of each archive's scrub."""
        return dict(self._scrubs)

    def sealing(self) -> dict[str, SealingTold]:
        """Return what the agents last told of the encryption of what lies on each archive's volume."""
        return dict(self._sealing)

    def reconcile(self, name: str) -> Outcome:
        """Bring one archive a step closer to its spec.

        Parameters
        ----------
        name
            Name of the ``PacsArchive``; also one that no longer exists, whose peers are then told.

        Returns
        -------
        Outcome
            What came of it and when to look again.

        Raises
        ------
        PacsError
            Something that trying again can help, `UnexpectedError` among it; the queue backs off.
        """
        try:
            return self._reconcile(name)
        except PacsError:
            raise
        except Exception as error:
            raise UnexpectedError.of(error) from error

    def _reconcile(self, name: str) -> Outcome:
        now, kube = self._ports.clock(), self._ports.kube
        live = kube.get(ARCHIVE, name)
        if live is None:
            return self._gone(name, now)
        memory = self._memory.setdefault(name, Memory(Applier(kube)))
        observed = observe.typed_status(live)
        run = Pass(name, live, observed, self._ports, self._settings, memory, now, status=observed)
        held = _attempt(run, containment.hold)
        suspended = (live.get("spec") or {}).get("suspend") is True
        if metadata(live).get("deletionTimestamp"):
            if not destruction.asked(run):
                return _closed(_told(run, deletion.step), held)
            found = destruction.verdict(run)
            if not suspended and (found is None or found.agreed):
                return _closed(_told(run, lambda run: destruction.step(run, found)), held)
            run.blocked = destruction.suspended(found) if suspended else found
        if suspended:
            return _closed(_told(run, _suspended), held)
        outcome = _work(run, held)
        self._ends[name] = agents.ends_by_component(run.status.certificates)
        self._peers[name] = numbers(run)
        self._ingest[name] = ingest.numbers(run)
        scrub.remember(run, self._scrubs)
        reencrypt.remember(run, self._sealing)
        return outcome

    def _gone(self, name: str, now: datetime) -> Outcome:
        self._memory.pop(name, None)
        self._ends.pop(name, None)
        self._peers.pop(name, None)
        self._ingest.pop(name, None)
        self._scrubs.pop(name, None)
        self._sealing.pop(name, None)
        claims = observe.read_claims(self._ports.kube, name)
        decisions = decide(None, [claim for _, claim in claims], set(), name)
        objects = {claim.key: live for live, claim in claims}
        untold = peers.write_statuses(self._ports.kube, decisions, objects, peers.StatusFacts(None, now))
        return Outcome("Gone", CONFIRM_SECONDS if untold else None)


def _work(run: Pass, held: PacsError | None) -> Outcome:
    error = _attempt(run, status.announce)
    before = run.observed
    if run.blocked is not None:
        destruction.block(run, run.blocked)
    error = error or _attempt(run, _stages)
    if error is not None:
        _record(run, error)
        error = _enforce(run, error)
    containment.report(run, stopped=error is not None)
    breakglass.report(run)
    error = error or held  # a full pass tells the gate too; whatever else could not be told is tried again soon
    if status.write(run) or run.notices:
        status.tell(run, before)
    if error is not None and error.retry:
        raise error
    return _outcome(run, error)


def _attempt(run: Pass, act: Callable[[Pass], None]) -> PacsError | None:
    """Act; return what stopped it. A lost race is not worth a word in the status, a mistake of ours is."""
    try:
        act(run)
    except (ConflictError, NotFoundError):
        raise
    except PacsError as error:
        return error
    except Exception as error:
        return UnexpectedError.of(error)
    return None


def _enforce(run: Pass, error: PacsError) -> PacsError:
    """Take away what was revoked, whatever stopped the pass; a failure of that is tried again sooner."""
    try:
        revocation.enforce(run, error)
    except PacsError as failure:
        return error if error.retry else failure
    except Exception as failure:
        return error if error.retry else UnexpectedError.of(failure)
    return error


def _closed(outcome: Outcome, held: PacsError | None) -> Outcome:
    """Return the outcome of a pass that told the gate of a containment; a failure of that is tried again."""
    if held is not None:
        raise held
    return outcome


def _told(run: Pass, act: Callable[[Pass], Outcome]) -> Outcome:
    """Act where nothing else may be written than what the act writes; say in the status what stopped it.

    A lost race is not worth a word, and an act that came to its own word has said where it is.
    """
    try:
        return act(run)
    except (ConflictError, NotFoundError):
        raise
    except Exception as cause:
        error = cause if isinstance(cause, PacsError) else UnexpectedError.of(cause)
        if ConditionType.RECONCILING not in run.conditions or error is not cause:
            run.status = run.observed
            run.set(ConditionType.RECONCILING, "True", error.reason, str(error))
            with contextlib.suppress(PacsError):
                status.write(run)
        if error is cause:
            raise
        raise error from cause


def _stages(run: Pass) -> None:
    run.archive = observe.typed_archive(run.live)
    conformance.check_schedule(run.archive.spec.conformance)
    observe.check_vault(run)
    observe.read_release(run)
    observe.check_database(run)
    observe.check_storage_classes(run)
    zones.establish(run)
    retention.check_kept(run)
    observe.read_owned(run)
    imports.read(run)
    peers.accept(run)
    run.desired = workloads.desired_of(run, run.archive)
    if run.desired is None:
        return
    run.manifests = workloads.render(run, run.desired)
    volumes.check(run)
    provision.provision(run)
    provision.provision_import(run)
    provision.provision_peers(run)
    fences.remember(run)
    workloads.apply_all(run)
    retention.keep(run)
    peers.tell_pods(run)
    conformance.step(run)
    if run.running:
        workloads.apply_all(run)
    agents.ask(run)
    retention.remember_newest(run)
    workloads.rotate(run, agents.rotation_of(run))
    _prune(run)
    facts = peers.StatusFacts(run.lineage, run.now, peerwatch.watch(run), legacy.hours_of(run.archive))
    run.untold = peers.write_statuses(run.ports.kube, run.decisions, run.peer_objects, facts)
    imports.write_statuses(run)
    status.fill(run)


def _prune(run: Pass) -> None:
    namespaces = {namespace_of(run.name, zone) for zone in Zone}
    if run.archive is not None and run.archive.spec.containment.isolated:
        return  # evidence: nothing is taken away
    for gone in run.memory.applier.prune(list(run.owned.values()), run.manifests, namespaces):
        _forget(run, gone)


def _forget(run: Pass, gone: Manifest) -> None:
    data = metadata(gone)
    run.owned.pop((gone["kind"], data["namespace"], data["name"]), None)


def _record(run: Pass, error: PacsError) -> None:
    """Say what stopped the pass; what was known before stays while its evidence is fresh: what runs keeps running."""
    run.status = run.observed
    evidence.age(run)
    text = str(error)
    if error.retry:
        run.set(ConditionType.RECONCILING, "True", error.reason, text)
        run.set(ConditionType.STALLED, "False", "Retrying", text)
        return
    run.set(ConditionType.STALLED, "True", error.reason, text)
    run.set(ConditionType.RECONCILING, "False", error.reason, text)
    run.set(ConditionType.READY, "False", error.reason, text)


def _suspended(run: Pass) -> Outcome:
    text = (
        "spec.suspend is true: nothing is written but this status and what spec.containment closes; "
        "what runs keeps running, and peers that are revoked or narrowed stay in force until it is false"
    )
    _try_to_type(run)
    evidence.age(run)
    if run.blocked is not None:
        destruction.block(run, run.blocked)
    revocation.report_suspended(run)
    until = breakglass.report_suspended(run)
    run.set(ConditionType.RECONCILING, "False", "Suspended", text)
    run.set(ConditionType.STALLED, "False", "Suspended", text)
    run.set(ConditionType.READY, "Unknown", "Suspended", text)
    containment.report(run, stopped=True)
    status.write(run)
    status.post_notices(run)
    return Outcome("Suspended", None if until is None else max(until.total_seconds(), 1.0))


def _try_to_type(run: Pass) -> None:
    try:
        run.archive = observe.typed_archive(run.live)
    except InvalidSpecError:
        run.archive = None  # peers are then judged by what can be read


def _outcome(run: Pass, error: PacsError | None) -> Outcome:
    if error is not None:
        return Outcome("Stalled", STALLED_SECONDS)
    if run.untold or agents.unconfirmed(run):
        return Outcome("Progressing", CONFIRM_SECONDS)
    if workloads.settled(run):
        return Outcome("Progressing", PROGRESS_SECONDS)
    ready = run.conditions.get(ConditionType.READY)
    contained = run.conditions.get(ConditionType.CONTAINED)
    if contained is not None and contained.status == "True" and not run.vault_error:
        return Outcome("Ready", _until_next(run))
    if run.vault_error or ready is None or ready.status != "True":
        return Outcome("Progressing", UNREADY_SECONDS)
    return Outcome("Ready", _until_next(run))


def _until_next(run: Pass) -> float:
    ends = [(box.until - run.now).total_seconds() for box in run.glass or ()]
    if run.archive is not None and not run.archive.spec.conformance.suspend:
        ends.append((conformance.next_slot(run.archive.spec.conformance, run.now) - run.now).total_seconds())
    return max(min([STEADY_SECONDS, *ends]), 1.0)
