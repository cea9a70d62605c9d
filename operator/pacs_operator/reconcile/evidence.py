"""Evidence, which has an age: lives of certificates, runs that attacked what runs.

A full pass judges it together with what it sees. A pass that is stopped sees nothing, and time goes on: what nobody
can prove any more may not stand there as True.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from pacs_operator.domain import rotation
from pacs_operator.domain.agentconfig import StorageTold
from pacs_operator.domain.archive import Conformance
from pacs_operator.domain.checkcatalog import NETWORK_CHECKS
from pacs_operator.domain.conditions import ConditionType, Verdict
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.names import CaName, Component, data_key, data_mount
from pacs_operator.domain.status import CertificateStatus, ConformanceStatus, EncryptionStatus
from pacs_operator.domain.times import parse_time
from pacs_operator.reconcile import ingest, reencrypt, scrub
from pacs_operator.reconcile.agents import answers, crl_ends, end_of, reported, serving
from pacs_operator.reconcile.conformance import attacked, check_schedule, expected, freshness, proves_containment
from pacs_operator.reconcile.context import Pass

#: A leaf this close to its end should long have been renewed (agents renew at two thirds of its life).
RENEWAL_OVERDUE = timedelta(hours=24)
#: The time of the last test of the encrypting storage moves in the status at most so often.
VERIFIED_COARSELY = timedelta(hours=1)
VERIFIED_TOO_OLD = timedelta(hours=3)
_ABOUT_DATA_KEYS = "storage/keys"
_CLEAR_FOUND = "storage/clear"
_NO_ROOM = "storage/room"
_SHOWN = 8
_NOT_OFFERED = (
    "Images that were stored in clear are not served: Orthanc's image is of a release that neither reads nor encrypts "
    "them; set spec.release.version to a newer one; nothing is lost"
)


#: What a stopped pass may itself have set, so that it looks again.
_AGED = ("NotObserved", "Stale", "ServedNotRenewed")


def certificates(run: Pass) -> None:
    """Set CertificatesCurrent from what the agents told, now or last, with what they themselves say is wrong."""
    status, reason, text = _certificates(run)
    run.set(ConditionType.CERTIFICATES_CURRENT, status, reason, text + reported(run, certificates=True))


def _certificates(run: Pass) -> Verdict:
    known = run.status.certificates
    missing = [
        component.value for component in serving(run) if not any(entry.component is component for entry in known)
    ]
    ends = _ends(known)
    expired = sorted(name for name, end in ends.items() if end <= run.now)
    late = sorted(name for name, end in ends.items() if end - run.now < RENEWAL_OVERDUE)
    crl, restart = crl_ends(run), rotation.pending(known)
    if expired:
        return "False", "Expired", f"Expired: {', '.join(expired)}; look at the agents' logs and at Vault"
    if crl is not None and crl <= run.now:
        return _list_expired(run, crl)
    if restart is not None and restart.broken(run.now):
        return _not_restarted(restart, run.now)
    if late:
        return "False", "RenewalOverdue", f"Ends within a day: {', '.join(late)}; is Vault reachable for pods?"
    if missing:
        why = next((f": {error}" for error in run.memory.agent_errors.values()), "")
        return "Unknown", "NotObserved", f"No agent answered for {', '.join(missing)}{why}"
    first = min(ends, key=lambda name: ends[name])
    return "True", "Current", f"{len(ends)} certificates; the next to end is {first}"


def _list_expired(run: Pass, ended: datetime) -> Verdict:
    text = f"A revocation list in use ended at {ended.isoformat()}"
    peers = crl_ends(run, CaName.PEERS)
    if run.archive and run.archive.spec.peers.refuse_expired_lists and peers is not None and peers <= run.now:
        text += (
            "; all devices with certificates of the archive's own authority are refused until a newer one is there: "
            "see that Vault answers the gates and rebuilds its lists, or set spec.peers.expiredRevocationList to "
            "ServeAndViolate, which helps gates that run; a gate that starts needs Vault"
        )
    return "False", "RevocationListExpired", text


def conformance(run: Pass) -> None:
    """Set ConformancePassed: the last run attacked what runs, held, and is not too old."""
    kind, last = ConditionType.CONFORMANCE_PASSED, run.status.conformance
    if run.archive is None or last is None:
        why = ("Running", "The first run is under way") if run.running else ("NotProbed", "No run has ended yet")
        run.set(kind, "Unknown", *why)
        return
    if not _attacked_this(run, last):
        run.set(kind, "Unknown", "NotProbed", f"Run {last.run} attacked an earlier configuration")
    elif last.outcome == "Failed":
        failed = [check.check for check in last.checks if check.outcome == "Failed"]
        run.set(kind, "False", "ChecksFailed", f"Run {last.run}: {', '.join(failed[:12])}")
    elif run.archive.spec.containment.isolated and proves_containment(last):
        passed = sum(check.outcome == "Passed" for check in last.checks)
        text = f"Run {last.run}: {passed} checks passed, {len(last.checks) - passed} wait for the end of containment"
        run.set(kind, "Unknown", "Contained", text)
    elif last.outcome == "NotRun":
        text = f"Run {last.run} could not prove anything; see job conformance-{last.run} in {run.name}-ops"
        run.set(kind, "Unknown", "NotRun", text)
    elif _too_old(last, run.archive.spec.conformance, run.now):
        run.set(kind, "Unknown", "Stale", _stale(last))
    else:
        run.set(kind, "True", "Passed", f"Run {last.run}: {len(last.checks)} checks passed")


def _too_old(last: ConformanceStatus, schedule: Conformance, now: datetime) -> bool:
    return now - parse_time(last.time) > freshness(schedule, now)


def _stale(last: ConformanceStatus) -> str:
    return f"Run {last.run} of {last.time} is too old to prove anything"


def _attacked_this(run: Pass, last: ConformanceStatus) -> bool:
    return last.config_hash == attacked(run)


def isolation(run: Pass) -> None:
    """Set NetworkIsolated: no foreign policy, and the last run's attacks on closed paths were dropped."""
    kind, last = ConditionType.NETWORK_ISOLATED, run.status.conformance
    wanted = expected(run) & NETWORK_CHECKS
    checks = {check.check: check for check in (last.checks if last else []) if check.check in wanted}
    if run.foreign_policies:
        shown = ", ".join(run.foreign_policies[:5])
        run.set(kind, "False", "ForeignPolicy", f"Policies that are not ours add to what ours allow: {shown}")
    elif any(check.outcome == "Failed" for check in checks.values()):
        failed = sorted(name for name, check in checks.items() if check.outcome == "Failed")
        run.set(kind, "False", "Reachable", f"Reached from the wrong zone: {', '.join(failed)}")
    elif last is None or run.archive is None or not _attacked_this(run, last):
        run.set(kind, "Unknown", "NotProbed", "No run has attacked this configuration yet")
    elif _too_old(last, run.archive.spec.conformance, run.now):
        run.set(kind, "Unknown", "Stale", _stale(last))
    elif checks.keys() != {check.value for check in wanted} or any(
        check.outcome != "Passed" for check in checks.values()
    ):
        run.set(kind, "Unknown", "NotProbed", f"Run {last.run} could not attack every path")
    else:
        run.set(kind, "True", "Probed", f"Attacked at {last.time}: {', '.join(sorted(checks))} dropped, twins served")


def encryption(run: Pass) -> None:
    """Set ImagesEncrypted from what Orthanc's agent told, and remember it coarsely."""
    if run.archive is None:
        return
    update = {"encryption": _encryption_status(run), "last_handled_reencrypt_token": reencrypt.handled(run)}
    run.status = run.status.model_copy(update=update)
    status, reason, text = _encryption(run)
    run.set(ConditionType.IMAGES_ENCRYPTED, status, reason, text)


def _encryption_status(run: Pass) -> EncryptionStatus | None:
    if run.archive is None or run.lineage is None or not run.archive.spec.encryption.on:
        return None
    told, known = _storage_told(run), run.observed.encryption
    if told is None:
        return known
    fresh = known is not None and known.verified and run.now - parse_time(known.verified) < VERIFIED_COARSELY
    return EncryptionStatus(
        transit_key=f"{data_mount(run.lineage)}/{data_key(run.name)}",
        active_data_key=told.active_key,
        data_keys=told.keys,
        reencrypt=reencrypt.status(run, known),
        verified=known.verified if fresh and known else told.verified,
    )


def _storage_told(run: Pass) -> StorageTold | None:
    return next((status.storage for status in answers(run, Component.ORTHANC) if status.storage), None)


def _encryption(run: Pass) -> Verdict:
    wanted = run.archive.spec.encryption if run.archive else None
    if wanted is None or not wanted.on:
        return "False", "NotEncrypted", f"Images lie on the volume as stored: {wanted.reason if wanted else ''}"
    problems = {subject: why for told in answers(run, Component.ORTHANC) for subject, why in told.problems.items()}
    if why := problems.get(_ABOUT_DATA_KEYS):
        return "False", "DataKeysUnavailable", f"Orthanc's agent reports {why}; what is stored stays encrypted"
    test = next((told.self_test for told in (_storage_told(run),) if told), None)
    if test not in (None, "Passed"):
        return "False", "SelfTestFailed", f"The encrypting storage reports {test}; what is stored stays encrypted"
    if _CLEAR_FOUND in problems:
        return "False", "ClearImagesFound", "Files lie on the volume as if stored in clear; they are not served"
    return _all_encrypted(run, _NO_ROOM in problems)


def _all_encrypted(run: Pass, full: bool) -> Verdict:
    known = run.status.encryption
    left = reencrypt.standing(run)
    if left and reencrypt.not_offered(run):
        return "False", "ReencryptNotOffered", _NOT_OFFERED
    if stale := _aged_encryption(known, run.now):
        return stale
    if left:
        return "False", "Reencrypting", left
    if known is None or known.verified is None:
        return "Unknown", "NotProbed", "Orthanc's agent has not yet told of a test of the encrypting storage"
    if full:
        text = f"A new data key is due and has no room beside the {known.data_keys} there are; the newest stays in use"
        return "False", "DataKeysFull", text
    keys = "1 data key" if known.data_keys == 1 else f"{known.data_keys} data keys"
    text = f"{keys}, wrapped by {known.transit_key}; written, read back, not in clear on the volume"
    return "True", "Verified", text


def _aged_encryption(known: EncryptionStatus | None, now: datetime) -> Verdict | None:
    if known is None or known.verified is None or now - parse_time(known.verified) <= VERIFIED_TOO_OLD:
        return None
    return "Unknown", "Stale", f"Last written, read back and looked for in clear at {known.verified}"


def age(run: Pass) -> None:
    """Take back what was True and is no longer shown, from what the status last knew and the time.

    For passes that a stall or a suspension has stopped. What was False stays so: not looking makes nothing better.

    Parameters
    ----------
    run
        The stopped pass; takes the conditions that changed.
    """
    before = {condition.type: condition for condition in run.observed.conditions}
    looks: dict[ConditionType, Callable[[Pass], Verdict | None]] = {
        ConditionType.CERTIFICATES_CURRENT: _aged_certificates,
        ConditionType.CONFORMANCE_PASSED: _aged_run,
        ConditionType.NETWORK_ISOLATED: _aged_run,
        ConditionType.IMAGES_ENCRYPTED: lambda run: _aged_encryption(run.observed.encryption, run.now),
    }
    for kind, look in looks.items():
        known = before.get(kind)
        if known is None or (known.status != "True" and known.reason not in _AGED):
            continue
        verdict = look(run)
        if verdict is not None:
            run.set(kind, *verdict)
    if ConditionType.INGEST_CLEAN in before:
        ingest.unseen(run)
    scrub.age(run)
    lost, ready = run.conditions.get(ConditionType.CERTIFICATES_CURRENT), before.get(ConditionType.READY)
    if lost is not None and ready is not None and ready.status == "True":
        run.set(ConditionType.READY, lost.status, lost.reason, f"{lost.type.value}: {lost.message}")


def _aged_certificates(run: Pass) -> Verdict | None:
    known = run.observed.certificates
    restart = rotation.pending(known)
    if restart is not None and restart.broken(run.now):
        return _not_restarted(restart, run.now)
    near = sorted(name for name, end in _ends(known).items() if end - run.now < RENEWAL_OVERDUE)
    if not near:
        return None
    # Agents renew without the operator, so an end that it last heard of is no proof of an expired certificate.
    names = ", ".join(near[:_SHOWN])
    text = f"By what was last known these have ended or end within a day: {names}; no agent was asked since"
    return "Unknown", "NotObserved", text


def _aged_run(run: Pass) -> Verdict | None:
    last, now = run.observed.conformance, run.now
    if last is None:
        return None
    try:
        old = _too_old(last, _schedule_in_force(run), now)
    except (PacsError, ValueError, LookupError):
        old = _too_old(last, Conformance(), now)
    return ("Unknown", "Stale", _stale(last)) if old else None


def _schedule_in_force(run: Pass) -> Conformance:
    """Return the schedule that the last full pass worked by: today's spec may be what nobody can honour."""
    effective = run.observed.effective
    if effective is None:
        return Conformance()
    schedule = Conformance(schedule=effective.conformance_schedule, time_zone=effective.conformance_time_zone)
    check_schedule(schedule)
    return schedule


def _ends(known: Iterable[CertificateStatus]) -> dict[str, datetime]:
    return {f"{entry.component.value}/{entry.name}": parse_time(end_of(entry)) for entry in known}


def _not_restarted(restart: rotation.Rotation, now: datetime) -> Verdict:
    text = (
        f"Orthanc presents its old certificate, which ends {restart.ends:%Y-%m-%d}; the operator's own restart "
        f"when {rotation.RESTART_WITHIN.days} days were left did not come about"
    )
    if restart.ends <= now:
        return "False", "Expired", text
    return "False", "ServedNotRenewed", f"{text}: look at its agent, or kubectl rollout restart"
