"""The one status write: conditions from what the pass found, skipped when nothing changed."""

import json
from datetime import datetime, timedelta
from typing import Literal

from pacs_operator.domain.acceptance import Decision
from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.conditions import ConditionType, Verdict, merge
from pacs_operator.domain.largest import MEMORY_BASE_MI, MEMORY_COPIES
from pacs_operator.domain.names import Component, Port, Zone, namespace_of, service_dns
from pacs_operator.domain.status import (
    MAX_LISTED_BYTES,
    MAX_LISTED_PEERS,
    MAX_PEER_MESSAGE,
    ArchiveStatus,
    Effective,
    Endpoints,
    PeersStatus,
    PeerSummary,
    ZoneStatus,
)
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.kube.events import Notice, post
from pacs_operator.kube.inventory import ARCHIVE, SERVICE
from pacs_operator.kube.port import Manifest, metadata
from pacs_operator.reconcile import (
    database,
    evidence,
    exposure,
    indexatrest,
    ingest,
    issuers,
    legacy,
    offline,
    scrub,
    volumes,
)
from pacs_operator.reconcile.agents import activity, answers, certificates, reported, unconfirmed
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.workloads import settled
from pacs_operator.render import sizes

COARSE = timedelta(minutes=15)
_NAMED = 8  # peers that a condition names

_ANNOUNCED = (
    ConditionType.READY,
    ConditionType.STALLED,
    ConditionType.VAULT_READY,
    ConditionType.DATABASE_READY,
    ConditionType.VOLUMES_FIT,
    ConditionType.CERTIFICATES_CURRENT,
    ConditionType.PEERS_ACCEPTED,
    ConditionType.IMAGES_ENCRYPTED,
    ConditionType.IMAGES_INTACT,
    ConditionType.NETWORK_ISOLATED,
    ConditionType.CONFORMANCE_PASSED,
    ConditionType.GATE_EXPOSED,
    ConditionType.LEGACY_PEERS,
    ConditionType.PEER_ISSUERS,
    ConditionType.BREAK_GLASS,
    ConditionType.CONTAINED,
    ConditionType.OFFLINE_START,
    ConditionType.INGEST_CLEAN,
    ConditionType.ORPHANED,
    ConditionType.DELETION_BLOCKED,
)
_MAY_BE_OLD = (ConditionType.CONFORMANCE_PASSED, ConditionType.IMAGES_ENCRYPTED)
_ONLY_WHEN_TRUE = (
    ConditionType.LEGACY_PEERS,
    ConditionType.BREAK_GLASS,
    ConditionType.CONTAINED,
    ConditionType.ORPHANED,
    ConditionType.DELETION_BLOCKED,
)  # absent until they first hold
_ONLY_WHEN_ASKED = (ConditionType.PEER_ISSUERS, ConditionType.OFFLINE_START)  # absent until the spec has it
_BAD_WHEN_TRUE = (ConditionType.STALLED, *_ONLY_WHEN_TRUE)


def announce(run: Pass) -> None:
    """Write ``Reconciling=True`` with the new generation, before anything else is written for it.

    Without both, a GitOps tool takes the resource for finished.
    """
    if run.observed.observed_generation == run.generation:
        return
    run.set(ConditionType.RECONCILING, "True", "Progressing", "The new generation is being worked on")
    for kind in ConditionType:
        known = any(condition.type is kind for condition in run.observed.conditions)
        if not known and kind not in (ConditionType.RECONCILING, *_ONLY_WHEN_ASKED, *_ONLY_WHEN_TRUE):
            run.set(kind, "Unknown", "Pending", "Not looked at yet")
    run.status = run.observed
    write(run)
    run.observed = run.status
    run.conditions.clear()


def fill(run: Pass) -> None:
    """Gather everything a healthy pass knows into the status and its conditions."""
    if run.archive is None or run.desired is None:
        return
    run.status = run.status.model_copy(
        update={
            "lineage_id": run.lineage,
            "endpoints": _endpoints(run),
            "zones": [ZoneStatus(zone=zone, namespace=namespace_of(run.name, zone)) for zone in Zone],
            "certificates": certificates(run),
            "effective": _effective(run),
            "peers": summarise(run),
            "waiting": run.waiting,
        }
    )
    database.report(run)
    volumes.report(run)
    evidence.certificates(run)
    evidence.encryption(run)
    indexatrest.report(run)
    scrub.condition(run)
    _peers_condition(run)
    evidence.conformance(run)
    evidence.isolation(run)
    exposure.report(run)
    legacy.report(run)
    issuers.report(run)
    offline.report(run)
    ingest.condition(run)
    _summary(run)


def _endpoints(run: Pass) -> Endpoints | None:
    service = run.owned.get((SERVICE.kind, namespace_of(run.name, Zone.EDGE), Component.GATE.value))
    if service is None or run.archive is None:
        return run.observed.endpoints
    ports = (service.get("spec") or {}).get("ports") or [{}]
    web: Manifest = next((port for port in ports if port.get("port") == Port.HTTPS), {})
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return Endpoints(
        service=service_dns(Component.GATE, run.name),
        port=int(ports[0].get("port") or Port.DICOM_TLS),
        node_port=ports[0].get("nodePort"),
        web_port=web.get("port"),
        web_node_port=web.get("nodePort"),
        ae_title=run.archive.spec.dicom.ae_title,
        aliases=run.archive.spec.dicom.aliases,
        load_balancer=sorted({entry.get("hostname") or entry.get("ip") or "" for entry in ingress} - {""})[:8],
    )


def _effective(run: Pass) -> Effective | None:
    if run.archive is None or run.release is None:
        return None
    spec = run.archive.spec
    return Effective(
        release=f"{spec.release.catalog}/{spec.release.version}",
        images={name: str(image) for name, image in run.release.images.document().items()},
        vault_address=run.vault_settings.address,
        gate_replicas=spec.gate.replicas,
        gate_max_associations=spec.gate.max_associations,
        conformance_schedule=spec.conformance.schedule,
        conformance_time_zone=spec.conformance.time_zone,
        orthanc_memory=_memory(run),
        encryption=_encryption(spec),
    )


def _memory(run: Pass) -> str | None:
    """Return Orthanc's memory, and what it holds."""
    if run.desired is None:
        return None
    storage, limit = run.desired.archive.spec.storage, sizes.main(run.desired, Component.ORTHANC).memory_mi
    if storage.max_object_mi is None:
        room = (limit - MEMORY_BASE_MI) // MEMORY_COPIES
        return f"{limit} MiB: objects of {max(room, 0)} MiB at once; larger ones may end Orthanc (no maxObjectMi)"
    senders = storage.max_object_senders or 1
    return (
        f"{limit} MiB: {MEMORY_COPIES} x {storage.max_object_mi} MiB x {senders} at once + {MEMORY_BASE_MI}; "
        "larger objects are refused"
    )


def _encryption(spec: ArchiveSpec) -> str:
    """Return how images and index lie at rest; of the index, only what somebody said."""
    wanted, index = spec.encryption, spec.encryption.index
    images = f"a new data key every {wanted.key_age_days} days" if wanted.on else wanted.reason
    if wanted.data_key_max_chunks:
        images = f"{images} or {wanted.data_key_max_chunks} chunks"
    if index is None:
        said = "nothing declared"
    elif index.mode == "StorageClass":
        said = f"by StorageClass {spec.database.storage_class_name}, as declared"
    else:
        said = f"not encrypted: {index.reason}"
    return f"{wanted.mode}: {images}; index: {said}"


def summarise(run: Pass) -> PeersStatus:
    """Return all peers as this pass decided on them, coarsely."""
    before = {peer.id: peer for peer in run.observed.peers.listed} if run.observed.peers else {}
    seen = activity(run)
    summaries = []
    # Whom it serves comes first: anybody may name an archive, and is refused.
    ranked = sorted(run.decisions, key=lambda decision: (not decision.accepted, decision.claim.key))
    for decision in ranked[:MAX_LISTED_PEERS]:
        key, peer = decision.claim.key, decision.claim.peer
        summary = PeerSummary(
            id=key,
            accepted=decision.accepted,
            reason=None if decision.accepted else decision.reason,
            message=None if decision.accepted else _short(decision.message),
            tls_exception_until=_standing(decision, run.now),
            dns_name=peer.spec.identity if peer and decision.accepted else None,
        )
        summaries.append(_coarsely(summary, before.get(key), seen.get(key), run))
    accepted = sum(decision.accepted for decision in run.decisions)
    return PeersStatus(
        accepted=accepted,
        refused=len(run.decisions) - accepted,
        tls_exceptions=sum(_standing(decision, run.now) is not None for decision in run.decisions),
        listed=_fitting(summaries),
    )


def _standing(decision: Decision, now: datetime) -> str | None:
    """Return until when an accepted peer may use older TLS, while that lasts."""
    tls = decision.claim.peer.spec.tls if decision.accepted and decision.claim.peer else None
    if tls is None or tls.exception.expires <= now:
        return None
    return rfc3339(tls.exception.expires)


def _short(message: str) -> str:
    return message if len(message) <= MAX_PEER_MESSAGE else message[: MAX_PEER_MESSAGE - 1] + "…"


def _fitting(summaries: list[PeerSummary]) -> list[PeerSummary]:
    """Return as many as fit, by their ids: every pass writes and every client reads the whole status."""
    listed, left = [], MAX_LISTED_BYTES
    for summary in summaries:
        left -= len(json.dumps(summary.document(), ensure_ascii=True))
        if left < 0:
            break
        listed.append(summary)
    return sorted(listed, key=lambda summary: summary.id)


def _coarsely(summary: PeerSummary, before: PeerSummary | None, seen: PeerActivity | None, run: Pass) -> PeerSummary:
    """Take a newer time over only when the one that stands there is 15 minutes old; metrics tell the rest."""
    old_store, old_rejection = (before.last_store, before.last_rejection) if before else (None, None)
    update: dict[str, str | None] = {
        "last_store": old_store,
        "last_rejection": old_rejection,
        "last_rejection_reason": before.last_rejection_reason if before else None,
        "presented_not_after": _presented(summary.id, before, seen, run),
    }
    if seen and seen.last_store and _old(old_store, run.now):
        update["last_store"] = max(seen.last_store, old_store or "")
    if seen and seen.last_rejection and _old(old_rejection, run.now) and seen.last_rejection > (old_rejection or ""):
        update["last_rejection"] = seen.last_rejection
        update["last_rejection_reason"] = seen.last_rejection_reason
    return summary.model_copy(update=update)


def _presented(key: str, before: PeerSummary | None, seen: PeerActivity | None, run: Pass) -> str | None:
    """Take another end over at most every 15 minutes: devices that share a name may have two certificates."""
    old, new = before.presented_not_after if before else None, seen.presented_not_after if seen else None
    changed = run.memory.presented_at.get(key)
    if new is None or new == old or (old and changed and run.now - changed < COARSE):
        return old
    run.memory.presented_at[key] = run.now
    return new


def _old(stamp: str | None, now: datetime) -> bool:
    return stamp is None or now - parse_time(stamp) >= COARSE


def _peers_condition(run: Pass) -> None:
    status, reason, text = _peers(run)
    run.set(ConditionType.PEERS_ACCEPTED, status, reason, text + reported(run, certificates=False))


def _peers(run: Pass) -> Verdict:
    refused = [decision for decision in run.decisions if not decision.accepted]
    accepted = len(run.decisions) - len(refused)
    if refused:
        shown = ", ".join(f"{decision.claim.key} ({decision.reason})" for decision in refused[:_NAMED])
        return "False", "PeersRefused", f"{accepted} accepted, {len(refused)} refused: {shown}"
    if not answers(run, Component.GATE) or not answers(run, Component.ORTHANC):
        return "Unknown", "NotConfirmed", "Gate and Orthanc have not yet told which peers they serve"
    if unconfirmed(run):
        return "Unknown", "Applying", f"{accepted} accepted; gate or Orthanc still apply the list"
    return "True", "Applied", f"{accepted} accepted; live in gate and Orthanc"


def _summary(run: Pass) -> None:
    rolling = settled(run)
    needed = [ConditionType.DATABASE_READY, ConditionType.CERTIFICATES_CURRENT, ConditionType.CONFORMANCE_PASSED]
    if run.archive is not None and run.archive.spec.encryption.on:
        needed.insert(2, ConditionType.IMAGES_ENCRYPTED)
    if run.service_refused is not None:
        needed.append(ConditionType.GATE_EXPOSED)  # no address alone is no reason: nodes' ports may be what is used
    provisioned = run.conditions.get(ConditionType.VAULT_READY)
    open_ends = [run.conditions[kind] for kind in needed if not _promise_kept(run, kind)]
    run.set(ConditionType.STALLED, "False", "NotStalled", "Nothing here needs a person")
    if rolling:
        run.set(ConditionType.READY, "False", "WorkloadsNotReady", "; ".join(rolling))
    elif open_ends:
        worst = open_ends[0]
        run.set(ConditionType.READY, "False", worst.reason, f"{worst.type.value}: {worst.message}")
    elif provisioned is None:
        run.set(ConditionType.READY, "False", "VaultNotAsked", "Vault was not asked yet")
    else:
        run.set(ConditionType.READY, "True", "Ready", "Serves its peers; attacked and found in order")
    busy = rolling or run.running or (run.peers is not None and unconfirmed(run))
    if busy:
        text = "; ".join(rolling) or ("A conformance run is under way" if run.running else "Peers are being applied")
        run.set(ConditionType.RECONCILING, "True", "Progressing", text)
    elif run.waiting:
        run.set(ConditionType.RECONCILING, "False", "Waiting", f"Would interrupt service: {'; '.join(run.waiting)}")
    else:
        run.set(ConditionType.RECONCILING, "False", "Settled", "The cluster is as the spec says")


def _promise_kept(run: Pass, kind: ConditionType) -> bool:
    condition = run.conditions[kind]
    # A stale or repeated run does not take service away: this configuration was attacked once and held.
    # Nor is an archive whose older images are still being encrypted worse than it was in mode None.
    moving = condition.reason == "Reencrypting"
    return condition.status == "True" or moving or (kind in _MAY_BE_OLD and condition.reason == "Stale")


def write(run: Pass) -> bool:
    """Write the status when it differs from what stands there; return whether it was written."""
    status = run.status.model_copy(
        update={
            "observed_generation": run.generation,
            "conditions": merge(run.observed.conditions, run.conditions.values(), run.now),
        }
    )
    run.status = status
    document = status.document()
    if (run.live.get("status") or {}) == document:
        return False
    data = metadata(run.live)
    body = {
        "apiVersion": ARCHIVE.api_version,
        "kind": ARCHIVE.kind,
        # The version is a precondition: a pass that started from an old read must not overwrite newer news.
        "metadata": {part: data[part] for part in ("name", "uid", "resourceVersion")},
        "status": document,
    }
    run.live = run.ports.kube.apply_status(body)
    return True


def tell(run: Pass, before: ArchiveStatus) -> None:
    """Post events for what people must know: promises that were broken or restored, and drift that was undone."""
    known = {condition.type: condition for condition in before.conditions}
    for condition in run.status.conditions:
        old = known.get(condition.type)
        if condition.type not in _ANNOUNCED or condition.status == "Unknown":
            continue
        if old is not None and (old.status, old.reason) == (condition.status, condition.reason):
            continue
        good = (condition.status == "True") != (condition.type in _BAD_WHEN_TRUE)
        if good and condition.type is not ConditionType.READY and (old is None or old.status == "Unknown"):
            continue  # kept from the start: no news
        if not good and _growing(run) and (old is None or old.status != "True"):
            continue  # not yet there while it is being built
        kind: Literal["Normal", "Warning"] = "Normal" if good else "Warning"
        run.notices.append(Notice(kind, f"{condition.type.value}{condition.reason}", condition.message))
    post_notices(run)


def post_notices(run: Pass) -> None:
    """Post the events that the pass noted."""
    for notice in run.notices:
        post(run.ports.kube, _reference(run.live), notice, run.now)


def _growing(run: Pass) -> bool:
    busy = run.conditions.get(ConditionType.RECONCILING)
    return not run.vault_error and busy is not None and busy.reason == "Progressing"


def _reference(live: Manifest) -> Manifest:
    return {"apiVersion": ARCHIVE.api_version, "kind": ARCHIVE.kind, "metadata": metadata(live)}
