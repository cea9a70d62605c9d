"""What the agents tell: certificate times, which peer list is live, per-peer counts."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pacs_operator.domain import names
from pacs_operator.domain.agentconfig import CLOCK_SKEW, AgentStatus, LeafStatus, PeerActivity, StorageTold
from pacs_operator.domain.errors import PacsError, VaultError
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import CaName, Component, service_dns
from pacs_operator.domain.probepeers import own_peers
from pacs_operator.domain.rotation import Rotation, pending
from pacs_operator.domain.status import CertificateStatus
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.kube.port import Manifest, labels_of, metadata
from pacs_operator.reconcile.context import Pass

ASK_AGAIN = timedelta(seconds=30)
MAX_REPORTED = 6
_ABOUT_CERTIFICATES = ("age/", "certificates", "leaf/", "served/", "trust/")
_SERVING = (Component.GATE, Component.ORTHANC, Component.POSTGRES)


def ask(run: Pass) -> None:
    """Ask each serving pod's agent, at most every 30 seconds unless a new peer list is on its way."""
    memory, pods = run.memory, serving_pods(run)
    known = {str(metadata(pod)["uid"]) for pod in pods}
    fresh = memory.agents_asked is not None and run.now - memory.agents_asked < ASK_AGAIN
    if fresh and known == memory.agents.keys() | memory.agent_errors.keys() and not unconfirmed(run):
        return
    if run.lineage is None or not pods:
        memory.agents, memory.agent_errors = {}, {}
        return
    try:
        credentials = run.ports.vault(run.vault_settings).status_client_credentials(run.lineage)
    except VaultError as error:
        memory.agents, memory.agent_errors = {}, dict.fromkeys(known, error)
        return
    memory.agents, memory.agent_errors, memory.agents_asked = {}, {}, run.now
    for pod in pods:
        uid, component = str(metadata(pod)["uid"]), Component(labels_of(pod)[names.LABEL_COMPONENT])
        try:
            status = run.ports.agents.status(pod["status"]["podIP"], service_dns(component, run.name), credentials)
        except PacsError as error:
            memory.agent_errors[uid] = error
        else:
            memory.agents[uid] = (component, believable(run, component, status))


def believable(run: Pass, component: Component, told: AgentStatus) -> AgentStatus:
    """Return what is taken over of an agent's answer: the leaves that it was given, and peers that the archive has.

    An agent is a pod that may have been taken over: a name of its own making would be free text in the status, in
    conditions and in metrics.
    """
    given = {leaf.name: leaf.ca for leaf in leaves_of(component, run.name)}
    known = {decision.claim.key for decision in run.decisions} | {
        peer.id for peer in own_peers(run.name, importing=True)
    }
    leaves = {leaf.name: leaf for leaf in told.leaves if given.get(leaf.name) is leaf.ca}
    seen = {peer.id: _until(peer, _end(run.now)) for peer in told.peers if peer.id in known}
    update = {
        "leaves": list(leaves.values()),
        "peers": list(seen.values()),
        "storage": _storage(told, run.now),
        "images_used_percent": told.images_used_percent if told.component is Component.ORTHANC else None,
        "database": told.database if told.component is Component.ORTHANC else None,
    }
    return told.model_copy(update=update)


def _storage(told: AgentStatus, now: datetime) -> StorageTold | None:
    """Return what is told of the stored images, which may be said of Orthanc's past alone."""
    if told.component is not Component.ORTHANC or told.storage is None:
        return None
    verified = told.storage.verified
    return told.storage if (verified or "") <= _end(now) else told.storage.model_copy(update={"verified": None})


def _end(now: datetime) -> str:
    return rfc3339(now + CLOCK_SKEW)


def _until(seen: PeerActivity, end: str) -> PeerActivity:
    """Leave out what is said to have happened later: nothing true could ever take its place in the status."""
    happened = ("last_association", "last_store", "last_rejection", "last_limited", "last_request")
    return seen.model_copy(update={name: None for name in happened if (getattr(seen, name) or "") > end})


def serving(run: Pass) -> tuple[Component, ...]:
    """Return the components whose pods have an agent to ask."""
    there = run.archive.spec.components if run.archive else tuple(Component)
    return tuple(component for component in _SERVING if component in there)


def serving_pods(run: Pass) -> list[Manifest]:
    """Return the pods that have an agent to ask: those that run, and Orthanc's while it waits for its index."""
    return [
        pod
        for pod in run.pods
        if labels_of(pod).get(names.LABEL_COMPONENT) in _SERVING
        and ((pod.get("status") or {}).get("phase") == "Running" or _waits_for_index(run, pod))
        and (pod.get("status") or {}).get("podIP")
        and not metadata(pod).get("deletionTimestamp")
    ]


def _waits_for_index(run: Pass, pod: Manifest) -> bool:
    """Tell whether a pod's agent looks at an external index before Orthanc starts: it alone knows what is wrong."""
    if run.archive is None or run.archive.spec.database.external is None:
        return False
    agents = (pod.get("status") or {}).get("initContainerStatuses") or []
    return labels_of(pod)[names.LABEL_COMPONENT] == Component.ORTHANC.value and any(
        "running" in (one.get("state") or {}) for one in agents
    )


def component_of(pod: Manifest) -> Component:
    """Return which component a serving pod is."""
    return Component(labels_of(pod)[names.LABEL_COMPONENT])


def answers(run: Pass, *components: Component) -> list[AgentStatus]:
    """Return what the agents of these components told."""
    return [status for component, status in run.memory.agents.values() if component in components]


def unconfirmed(run: Pass) -> bool:
    """Tell whether a gate or Orthanc still has another peer list than the one decided on."""
    if run.peers is None:
        return False
    return any(
        status.peers_revision != run.peers.revision for status in answers(run, Component.GATE, Component.ORTHANC)
    )


def certificates(run: Pass) -> list[CertificateStatus]:
    """Return each component's leaves; of several replicas' the one that ends first; unseen ones as last known."""
    found: dict[tuple[Component, str], CertificateStatus] = {}
    for component, status in run.memory.agents.values():
        for leaf in status.leaves:
            entry = _certificate(component, leaf, run.observed.certificates)
            other = found.get((component, leaf.name))
            if other is None or end_of(entry) < end_of(other):
                found[component, leaf.name] = entry
    answered = {component for component, _ in found}
    given = {(leaf.component, leaf.name) for component in serving(run) for leaf in leaves_of(component, run.name)}
    for known in run.observed.certificates:
        if known.component not in answered and (known.component, known.name) in given:
            found[known.component, known.name] = known
    return [found[key] for key in sorted(found)]


def reported(run: Pass, *, certificates: bool) -> str:
    """Return the reasons of what agents say is wrong, to follow a condition's message; empty when nothing is.

    Parameters
    ----------
    run
        The pass.
    certificates
        Whether about certificates, authorities and revocation lists, or about the rest: peers and the neighbour.
    """
    found = {
        f"{component.value} {reason}"
        for component, status in run.memory.agents.values()
        for subject, reason in status.problems.items()
        if subject.startswith(_ABOUT_CERTIFICATES) is certificates
    }
    return f"; agents report: {', '.join(sorted(found)[:MAX_REPORTED])}" if found else ""


def rotation_of(run: Pass) -> Rotation | None:
    """Return the restart that Orthanc needs, as its agent tells in this very process; silence is no ground for one."""
    return pending(certificates(run)) if answers(run, Component.ORTHANC) else None


def _certificate(component: Component, leaf: LeafStatus, before: list[CertificateStatus]) -> CertificateStatus:
    """Return one leaf; with what its server presents in its stead, whose end the status remembers."""
    entry = CertificateStatus(component=component, name=leaf.name, serial=leaf.serial, not_after=leaf.not_after)
    if leaf.served_serial in (None, leaf.serial):
        return entry
    known = {old.serial: old.not_after for old in before if old.component is component and old.name == leaf.name}
    known |= {
        old.served_serial: old.served_not_after
        for old in before
        if old.component is component and old.name == leaf.name and old.served_serial and old.served_not_after
    }
    end = leaf.served_not_after or known.get(leaf.served_serial or "") or _usual_end(leaf)
    return entry.model_copy(update={"served_serial": leaf.served_serial, "served_not_after": end})


def _usual_end(leaf: LeafStatus) -> str:
    """Return when a certificate ends that was renewed at two thirds of its life, as agents do it."""
    began, ends = parse_time(leaf.not_before), parse_time(leaf.not_after)
    return rfc3339(began + (ends - began) / 3)


def end_of(entry: CertificateStatus) -> str:
    """Return when what a server presents ends: the older certificate, while it presents that one."""
    return entry.served_not_after or entry.not_after


def ends_by_component(known: Iterable[CertificateStatus]) -> dict[str, float]:
    """Return when each component's first certificate ends, seconds since the epoch."""
    ends: dict[str, float] = {}
    for entry in known:
        end = parse_time(end_of(entry)).timestamp()
        ends[entry.component.value] = min(end, ends.get(entry.component.value, end))
    return ends


def activity(run: Pass) -> dict[str, PeerActivity]:
    """Return what the pods saw of each peer: the latest times over gates and Orthanc."""
    merged: dict[str, PeerActivity] = {}
    for status in answers(run, Component.GATE, Component.ORTHANC):
        for seen in status.peers:
            merged[seen.id] = _latest([merged[seen.id], seen]) if seen.id in merged else seen
    return merged


def _latest(seen: Iterable[PeerActivity]) -> PeerActivity:
    one, other = seen
    late = one if (one.last_rejection or "") >= (other.last_rejection or "") else other
    shown = one if (one.last_traffic or "") >= (other.last_traffic or "") else other
    return one.model_copy(
        update={
            "last_association": max(one.last_association or "", other.last_association or "") or None,
            "last_store": max(one.last_store or "", other.last_store or "") or None,
            "last_rejection": late.last_rejection,
            "last_rejection_reason": late.last_rejection_reason,
            "presented_not_after": shown.presented_not_after or one.presented_not_after or other.presented_not_after,
            "stores": one.stores + other.stores,
            "rejections": one.rejections + other.rejections,
            "associations": one.associations + other.associations,
            "open_associations": one.open_associations + other.open_associations,
            "limited": one.limited + other.limited,
            "last_limited": max(one.last_limited or "", other.last_limited or "") or None,
            "requests": one.requests + other.requests,
            "last_request": max(one.last_request or "", other.last_request or "") or None,
        }
    )


def crl_ends(run: Pass, *authorities: CaName) -> datetime | None:
    """Return when the first of the revocation lists in use ends, of these authorities or else of all."""
    known = [status.crl_next_update for _, status in run.memory.agents.values()]
    ends = [end for lists in known for ca, end in lists.items() if ca in (authorities or CaName)]
    return min((parse_time(end) for end in ends), default=None)
