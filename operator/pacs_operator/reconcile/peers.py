"""Peers: who is accepted, what gate and Orthanc are told, which Vault roles exist, what each peer's status says."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pacs_operator.domain import names
from pacs_operator.domain.acceptance import Claim, Decision, accepted_peers, decide
from pacs_operator.domain.archive import Archive
from pacs_operator.domain.conditions import since
from pacs_operator.domain.containment import Containment, contain
from pacs_operator.domain.destinations import Resolved, by_key, destinations
from pacs_operator.domain.errors import ConflictError, NotFoundError
from pacs_operator.domain.gatepeers import LegacyDoor, LiveIssuer, LivePeer, LivePeers
from pacs_operator.domain.legacy import Legacy, StaffedHours
from pacs_operator.domain.names import CaName, Component, peer_role, pki_mount
from pacs_operator.domain.peer import Peer
from pacs_operator.domain.probepeers import own_peers
from pacs_operator.domain.staffed import closing_time
from pacs_operator.domain.status import MAX_MESSAGE, PeerCondition, PeerConditionType, PeerFinding, PeerStatus
from pacs_operator.domain.times import rfc3339
from pacs_operator.kube.apply import content_hash
from pacs_operator.kube.inventory import NAMESPACE, PEER, POD
from pacs_operator.kube.port import KubePort, Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile import breakglass, issuers
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.legacy import record
from pacs_operator.reconcile.observe import read_claims
from pacs_operator.reconcile.peerwatch import Watched, status_of

#: Statuses of peers that one pass writes at most.
MAX_TOLD = 256

_NO_WORKLIST = PeerFinding(
    type=PeerConditionType.WORKLIST,
    status="False",
    reason="NotOffered",
    message="spec.rights: FindWorklist is not given, since this archive offers no worklist (point the device's "
    "worklist query at the RIS or a worklist server, and drop the right; the others are in force)",
)


def accept(run: Pass) -> None:
    """Decide on all peers of the archive and make the live list."""
    judge(run, run.archive)
    spec = run.archive.spec if run.archive else None
    containment, hours = (spec.containment, spec.dicom.staffed_hours) if spec else (None, None)
    trusted, importing = issuers.live_issuers(run.archive, run.memory.own_root), run.importing is not None
    accepted = accepted_peers(run.decisions)
    everybody = live_peers(run.name, accepted, containment, hours, trusted, importing=importing)
    readers = contain([box.peer for box in breakglass.admit(run, run.archive, run.lineage)], containment)
    run.peers = with_readers(everybody, readers, len(own_peers(run.name, importing=importing)))


def judge(run: Pass, archive: Archive | None, consenting: set[str] | None = None) -> None:
    """Decide on all peers that name the archive.

    Parameters
    ----------
    run
        The pass, which takes decisions and objects.
    archive
        By whose bounds.
    consenting
        Namespaces that may bind peers; None: look for those that the archive's selector matches.
    """
    claims = [(live, _as_known(run, claim)) for live, claim in read_claims(run.ports.kube, run.name)]
    if consenting is None:
        consenting = set()
        if archive and claims:
            selector = archive.spec.peers.namespace_selector.match_labels
            consenting = {metadata(item)["name"] for item in run.ports.kube.list(NAMESPACE, labels=selector)}
    decided = [claim for _, claim in claims]
    run.decisions = decide(archive, decided, consenting, run.name, run.now, own_root=run.memory.own_root)
    run.peer_objects = {claim.key: live for live, claim in claims}


def _as_known(run: Pass, claim: Claim) -> Claim:
    """Return a claim with what the secrets backend said of it: only an edit of the peer can change that."""
    edition, error = run.memory.refused.get(claim.key, (None, None))
    return replace(claim, error=error) if error and edition == (claim.uid, claim.generation) else claim


def live_peers(  # noqa: PLR0913  # all that the list is made of
    archive: str,
    accepted: list[Peer],
    containment: Containment | None = None,
    hours: StaffedHours | None = None,
    trusted: list[LiveIssuer] | None = None,
    *,
    importing: bool = False,
) -> LivePeers:
    """Return what gate and Orthanc apply: the archive's own probes and import, and the accepted peers."""
    known = by_key(accepted)
    everybody = [*own_peers(archive, importing=importing), *(live_peer(peer, known, hours) for peer in accepted)]
    return as_list(contain(everybody, containment), trusted)


def with_readers(everybody: LivePeers, readers: list[LivePeer], own_count: int) -> LivePeers:
    """Return a list with break-glass readers behind the archive's own peers, in the order of a shortened list."""
    if not readers:
        return everybody
    own, others = everybody.peers[:own_count], everybody.peers[own_count:]
    return as_list([*own, *sorted([*readers, *others], key=lambda peer: peer.id)], everybody.issuers)


def live_peer(peer: Peer, accepted: Mapping[str, Peer], hours: StaffedHours | None = None) -> LivePeer:
    """Return what gate and Orthanc are told of one accepted peer.

    Parameters
    ----------
    peer
        The peer.
    accepted
        All accepted peers of the archive, by key.
    hours
        The archive's staffed hours, at which its exception would close; None: not known, so the list's own time stays.
    """
    return LivePeer(
        id=peer.key,
        dns_name=peer.spec.certificate.dns_name if peer.spec.certificate else None,
        issuer=peer.spec.certificate.issuer if peer.spec.certificate else None,
        spki=peer.spec.certificate.spki_sha256 if peer.spec.certificate else None,
        legacy=_door(peer.spec.legacy, hours),
        ae_titles=sorted(peer.spec.ae_titles),
        source_cidrs=sorted(peer.spec.source_cidrs),
        rights=sorted(peer.spec.offered_rights),
        max_associations=peer.spec.limits.max_associations,
        associations_per_minute=peer.spec.limits.associations_per_minute,
        tls_exception_until=int(peer.spec.tls.exception.expires.timestamp()) if peer.spec.tls else None,
        outbound=peer.spec.outbound,
        move_destinations=list(destinations(peer, accepted).titles) or None,
    )


def _door(legacy: Legacy | None, hours: StaffedHours | None) -> LegacyDoor | None:
    if legacy is None:
        return None
    closes = rfc3339(closing_time(hours, legacy.end)) if hours else None
    return LegacyDoor(port=legacy.port, closes=closes)


def as_list(peers: list[LivePeer], trusted: list[LiveIssuer] | None = None) -> LivePeers:
    """Return the list with its revision; the same issuers and peers in the same order have the same."""
    content = [peer.document() for peer in peers]
    revision = content_hash(content if trusted is None else [content, [issuer.document() for issuer in trusted]])
    return LivePeers(revision=revision, peers=peers, issuers=trusted)


def tell_pods(run: Pass) -> None:
    """Patch the live list's revision onto gate and Orthanc pods: it makes the kubelet refresh their volumes at once."""
    if run.peers is not None:
        tell(run, run.peers.revision, (Component.GATE, Component.ORTHANC))


def tell(run: Pass, revision: str, components: tuple[Component, ...]) -> None:
    """Patch a revision onto the pods of these components."""
    for pod in run.pods:
        data = metadata(pod)
        concerned = labels_of(pod).get(names.LABEL_COMPONENT) in components
        finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        told = annotations_of(pod).get(names.ANNOTATION_LIVE_HASH) == revision
        if not concerned or finished or told or data.get("deletionTimestamp"):
            continue
        patch = {"metadata": {"uid": data["uid"], "annotations": {names.ANNOTATION_LIVE_HASH: revision}}}
        try:
            run.ports.kube.patch(POD, data["name"], data["namespace"], patch)
        except NotFoundError:
            continue  # a pod that is gone reads the list when it comes back


def write_statuses(kube: KubePort, decisions: list[Decision], objects: dict[str, Manifest], run: "StatusFacts") -> bool:
    """Write each peer's status where it differs, those of accepted peers first.

    Returns
    -------
    bool
        Whether some are left for the next pass: anybody may make peers that name the archive, any number of them,
        and a pass that tells them all keeps the next one, with what it takes away, waiting.
    """
    known, left = by_key(accepted_peers(decisions)), MAX_TOLD
    for decision in sorted(decisions, key=lambda decision: not decision.accepted):
        live = objects[decision.claim.key]
        status = _status(decision, live, run, known).document()
        if (live.get("status") or {}) == status:
            continue
        if not left:
            return True
        left -= 1
        data = metadata(live)
        body = {
            "apiVersion": PEER.api_version,
            "kind": PEER.kind,
            "metadata": {part: data[part] for part in ("name", "namespace", "uid", "resourceVersion")},
            "status": status,
        }
        try:
            kube.apply_status(body)
        except (NotFoundError, ConflictError):
            continue  # gone or edited meanwhile: either wakes the next pass
    return False


class StatusFacts:
    """What a peer's status needs beside the decision.

    Parameters
    ----------
    lineage
        Lineage of the archive; None when there is no archive.
    now
        Time of the pass.
    watched
        What the gates saw, by peer; only where they were asked in this pass.
    hours
        The archive's staffed hours.
    """

    def __init__(
        self,
        lineage: str | None,
        now: datetime,
        watched: dict[str, Watched] | None = None,
        hours: StaffedHours | None = None,
    ) -> None:
        self.lineage, self.now, self.watched, self.hours = lineage, now, watched or {}, hours


def _status(decision: Decision, live: Manifest, facts: StatusFacts, known: Mapping[str, Peer]) -> PeerStatus:
    claim = decision.claim
    findings = [
        PeerFinding(
            type=PeerConditionType.ACCEPTED,
            status="True" if decision.accepted else "False",
            reason=decision.reason,
            message=decision.message,
        )
    ]
    peer = claim.peer if decision.accepted else None
    watched = facts.watched.get(claim.key) if peer else None
    role = None
    if peer and peer.spec.certificate and peer.spec.certificate.own and facts.lineage:
        role = f"{pki_mount(facts.lineage, CaName.PEERS)}/sign/{peer_role(peer.namespace, peer.name)}"
    if peer and peer.spec.move_destinations:
        findings.append(_destinations(destinations(peer, known)))
    if peer and len(peer.spec.offered_rights) < len(peer.spec.rights):
        findings.append(_NO_WORKLIST)
    return PeerStatus(
        observed_generation=claim.generation,
        conditions=_conditions([*findings, *(watched.findings if watched else ())], claim, status_of(live), facts.now),
        bound_identity=peer.spec.identity if peer else None,
        vault_role=role,
        legacy=record(claim, status_of(live), facts.hours),
        effective=watched.effective if watched else None,
        certificate_not_after=watched.certificate_not_after if watched else None,
        traffic_expected_since=watched.traffic_expected_since if watched else None,
        last_traffic=watched.last_traffic if watched else None,
    )


def _conditions(
    findings: list[PeerFinding], claim: Claim, before: PeerStatus | None, now: datetime
) -> list[PeerCondition]:
    """Return conditions whose times change only where the status does."""
    known = {condition.type: condition for condition in before.conditions} if before else {}
    return [
        PeerCondition(
            type=finding.type,
            status=finding.status,
            reason=finding.reason,
            message=finding.message[:MAX_MESSAGE],
            observed_generation=claim.generation,
            last_transition_time=since(known.get(finding.type), finding.status, now),
        )
        for finding in findings
    ]


def _destinations(found: Resolved) -> PeerFinding:
    if found.unusable:
        text = f"spec.moveDestinations: {'; '.join(found.unusable)}"
        return PeerFinding(
            type=PeerConditionType.MOVE_DESTINATIONS,
            status="False",
            reason="DestinationUnusable",
            message=f"{text} (correct the names, or say in those peers' spec.outbound where they listen)",
        )
    return PeerFinding(
        type=PeerConditionType.MOVE_DESTINATIONS,
        status="True",
        reason="Resolved",
        message=f"C-MOVE may name {', '.join(found.titles)}",
    )
