"""What the gates saw of each accepted peer, on its way into the peer's own status and Events."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from pacs_operator.domain import names
from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.domain.gatepeers import largest_share
from pacs_operator.domain.names import Component
from pacs_operator.domain.peer import Peer
from pacs_operator.domain.peerhealth import (
    Traffic,
    certificate_finding,
    exception_finding,
    legacy_finding,
    silence_finding,
)
from pacs_operator.domain.staffed import closing_time
from pacs_operator.domain.status import PeerConditionType, PeerEffective, PeerFinding, PeerStatus
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.kube.events import Notice, post
from pacs_operator.kube.port import Manifest, labels_of, metadata
from pacs_operator.reconcile import legacy
from pacs_operator.reconcile.agents import activity, serving_pods
from pacs_operator.reconcile.context import Pass

COARSE = timedelta(minutes=15)
_LIMITED_LATELY = timedelta(minutes=10)  # longer than between two passes
_NOTHING = PeerActivity(id="unseen/peer")
#: Of these, being True is news for a person, and that it is over too.
_ALARMS = (
    PeerConditionType.CERTIFICATE_ENDING,
    PeerConditionType.SILENT,
    PeerConditionType.TLS_EXCEPTION,
    PeerConditionType.LEGACY_EXCEPTION,
)


@dataclass(frozen=True)
class Watched:
    """What the status of one accepted peer says beside the decision on it."""

    findings: tuple[PeerFinding, ...]
    effective: PeerEffective
    certificate_not_after: str | None
    traffic_expected_since: str | None
    last_traffic: str | None


def watch(run: Pass) -> dict[str, Watched]:
    """Return what this pass knows of each accepted peer, and post the Events that follow from it."""
    seen, heard = activity(run), gates_heard(run)
    watched = {}
    for decision in run.decisions:
        peer = decision.claim.peer
        if not decision.accepted or peer is None:
            continue
        live = run.peer_objects[peer.key]
        before, now_seen = status_of(live), seen.get(peer.key) or _NOTHING
        watched[peer.key] = _watched(run, peer, before, now_seen, heard=heard)
        for notice in (*_news(before, watched[peer.key]), *legacy.news(peer, before)):
            post(run.ports.kube, live, notice, run.now)
        _tell_of_limits(run, peer, live, now_seen)
    run.silent = {key: alarm for key, one in watched.items() if (alarm := _silent(one)) is not None}
    return watched


def status_of(live: Manifest) -> PeerStatus | None:
    """Return a peer's status as it stands there; None when there is none that can be read."""
    try:
        return PeerStatus.model_validate(live.get("status") or {})
    except ValidationError:
        return None


def gates_heard(run: Pass) -> bool:
    """Tell whether every gate that serves told in this pass what it saw."""
    gates = {
        str(metadata(pod)["uid"])
        for pod in serving_pods(run)
        if labels_of(pod).get(names.LABEL_COMPONENT) == Component.GATE
    }
    return bool(gates) and gates <= run.memory.agents.keys()


def _watched(run: Pass, peer: Peer, before: PeerStatus | None, seen: PeerActivity, *, heard: bool) -> Watched:
    end = _end(run, peer.key, before, seen)
    findings = [_identity_finding(run, peer, end)]
    since = last = None
    if peer.spec.expect_traffic:
        longest = timedelta(hours=peer.spec.expect_traffic.max_silence_hours)
        since = (before.traffic_expected_since if before else None) or rfc3339(run.now)
        last = _last_traffic(before.last_traffic if before else None, seen.last_traffic, longest, run.now)
        traffic = Traffic(parse_time(last) if last else None, parse_time(since), heard)
        findings.append(silence_finding(traffic, longest, run.now))
    if peer.spec.tls:
        findings.append(exception_finding(peer.spec.tls.exception, run.now))
    return Watched(tuple(findings), _effective(run, peer), end, since, last)


def _identity_finding(run: Pass, peer: Peer, end: str | None) -> PeerFinding:
    hours = legacy.hours_of(run.archive)
    if peer.spec.legacy and hours:
        return legacy_finding(peer.spec.legacy, closing_time(hours, peer.spec.legacy.end), run.now)
    return certificate_finding(parse_time(end) if end else None, run.now)


def _last_traffic(old: str | None, seen: str | None, longest: timedelta, now: datetime) -> str | None:
    """Return when the peer last came, refreshed at most every 15 minutes, but at once where it ends a silence."""
    if seen is None or (old is not None and seen <= old):
        return old
    if old is None or parse_time(seen) - parse_time(old) >= COARSE or now - parse_time(old) > longest:
        return seen
    return old


def _end(run: Pass, key: str, before: PeerStatus | None, seen: PeerActivity) -> str | None:
    """Take another end over at most every 15 minutes: devices that share a name may have two certificates."""
    old, new = before.certificate_not_after if before else None, seen.presented_not_after
    changed = run.memory.ends_at.get(key)
    if new is None or new == old or (old and changed and run.now - changed < COARSE):
        return old
    run.memory.ends_at[key] = run.now
    return new


def _effective(run: Pass, peer: Peer) -> PeerEffective:
    limits = peer.spec.limits
    total = run.archive.spec.gate.max_associations if run.archive else limits.max_associations
    return PeerEffective(
        max_associations=min(limits.max_associations, largest_share(total)),
        associations_per_minute=limits.associations_per_minute,
    )


def _news(before: PeerStatus | None, after: Watched) -> Iterator[Notice]:
    """Yield what is worse than it was, or good again: each once."""
    known = {condition.type: condition for condition in before.conditions} if before else {}
    for finding in after.findings:
        old = known.get(finding.type)
        if finding.type not in _ALARMS or (old and (old.status, old.reason) == (finding.status, finding.reason)):
            continue
        if finding.status == "True":
            yield Notice("Warning", finding.reason, finding.message)
        elif finding.status == "False" and old is not None and old.status == "True":
            worse = finding.type is PeerConditionType.TLS_EXCEPTION  # its end is what somebody must look at
            yield Notice("Warning" if worse else "Normal", finding.reason, finding.message)


def _tell_of_limits(run: Pass, peer: Peer, live: Manifest, seen: PeerActivity) -> None:
    """Post that a peer reached its own limits: once an hour, however often it did."""
    hour = run.now.strftime("%Y%m%d%H")
    recent = seen.last_limited is not None and run.now - parse_time(seen.last_limited) < _LIMITED_LATELY
    if not recent or run.memory.limits_told.get(peer.key) == hour:
        return
    limits = _effective(run, peer)
    rate = f", or {limits.associations_per_minute} new ones in a minute" if limits.associations_per_minute else ""
    text = (
        f"Associations were refused: the peer had {limits.max_associations} open at one gate{rate}, which is its own "
        "limit; other peers are not affected. Raise spec.limits, or see what the device does"
    )
    post(run.ports.kube, live, Notice("Warning", "PeerAtItsLimits", text), run.now)
    run.memory.limits_told[peer.key] = hour


def _silent(watched: Watched) -> bool | None:
    """Tell whether a peer is silent; None where nobody asked, or nobody knows."""
    found = next((finding for finding in watched.findings if finding.type is PeerConditionType.SILENT), None)
    return None if found is None or found.status == "Unknown" else found.status == "True"
