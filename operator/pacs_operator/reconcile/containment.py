"""Containment: told to the gate before anything in a pass that can stall, and said in words nobody takes for an outage.

Nothing here deletes, restarts or scales: pods run on, and what they know stays for whoever looks into the matter.
Lifting opens, and like all that opens it takes a pass that nothing stops.
"""

from pacs_operator.domain.agentconfig import AgentStatus
from pacs_operator.domain.conditions import ConditionType, Verdict
from pacs_operator.domain.containment import Containment, contain, wanted
from pacs_operator.domain.names import Component
from pacs_operator.domain.status import ContainmentStatus
from pacs_operator.domain.times import rfc3339
from pacs_operator.reconcile import agents, revocation
from pacs_operator.reconcile.context import Pass

_SHOWN = 8


def hold(run: Pass) -> None:
    """Tell gate and Orthanc whom they may serve, close the gate's network policy to the rest; write only what differs.

    Needs no valid spec, no release, no Vault and no agent that answers: what is live is read, marked and written back.

    Raises
    ------
    PacsError
        Something could not be written; everything else was.
    """
    containment = wanted(run.live.get("spec"))
    if containment is None:
        return
    cut = revocation.read_lists(run)
    for component, (live, before, _) in cut.lists.items():
        marked = contain(before.peers, containment)
        # A mark that a spec edit takes away is a way in, and waits for the full pass.
        kept = [old if old.contained else new for old, new in zip(before.peers, marked, strict=True)]
        if kept != before.peers:
            cut.lists[component] = (live, before, revocation.in_order(kept, before.issuers))
    failures = [failure for act in (revocation.cut_lists, revocation.cut_sources) for failure in act(run, cut)]
    if failures:
        raise failures[0]


def report(run: Pass, *, stopped: bool) -> None:
    """Say in status and conditions that the archive is contained, since when, why, and who is spared.

    Parameters
    ----------
    run
        At the end of a pass, before its status is written.
    stopped
        Whether the pass was stopped, so that nobody was asked what is in force.
    """
    containment = wanted(run.live.get("spec"))
    kind = ConditionType.CONTAINED
    before = next((item for item in run.observed.conditions if item.type is kind), None)
    if containment is None:
        if before is None:
            return
        if stopped and before.status != "False":
            run.set(kind, before.status, "LiftingWaits", "No longer asked for; opening waits for what stops the pass")
            return
        run.status = run.status.model_copy(update={"containment": None})
        run.set(kind, "False", "NotContained", "Every accepted peer is served")
        return
    known = run.observed.containment
    since = known.since if known else rfc3339(run.now)
    spared = sorted(containment.spared)
    told = ContainmentStatus.model_validate({"since": since, "reason": containment.reason or "", "spared": spared})
    run.status = run.status.model_copy(update={"containment": told})
    text = _text(told)
    if not stopped:
        status, reason, message = _proven(run, containment, text)
        run.set(kind, status, reason, message)
    elif before is None or before.status != "True" or before.observed_generation != run.generation:
        unasked = f"{text}; told to the gate, whose agents nobody asked: the pass is stopped"
        run.set(kind, "Unknown", "NotConfirmed", unasked)
    run.set(ConditionType.READY, "False", "Contained", f"{text}; no outage: lifted in spec.containment")


def _text(told: ContainmentStatus) -> str:
    spared = ", ".join(told.spared[:_SHOWN]) or "nobody"
    more = f" and {len(told.spared) - _SHOWN} more" if len(told.spared) > _SHOWN else ""
    return f"Isolated by spec.containment since {told.since} ({told.reason}); spared: {spared}{more}"


def _proven(run: Pass, containment: Containment, text: str) -> Verdict:
    """Return the condition: True only when the gate's agents tell that they serve by this list."""
    gates = agents.answers(run, Component.GATE)
    if not gates or not _all_serve_by(run, gates):
        return "Unknown", "Applying", f"{text}; told to the gate, not yet confirmed by every agent of it"
    missing = sorted(containment.spared - _accepted(run))
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        return "True", "SparedPeerNotAccepted", f"{text}; NOT SERVED, since no accepted DicomPeer: {shown}"
    return "True", "Isolated", text


def _all_serve_by(run: Pass, gates: list[AgentStatus]) -> bool:
    revision = run.peers.revision if run.peers else None
    pods = [pod for pod in agents.serving_pods(run) if agents.component_of(pod) is Component.GATE]
    return len(gates) == len(pods) and all(gate.peers_revision == revision for gate in gates)


def _accepted(run: Pass) -> frozenset[str]:
    readers = (box.what.key for box in run.glass or ())
    return frozenset([*readers, *(decision.claim.key for decision in run.decisions if decision.accepted)])
