"""Deletion with policy Delete: served until two people approved, stopped for the grace, then destroyed and recorded.

Setting ``deletionPolicy: Retain`` at any moment ends it with what is left of the data.
"""

from datetime import timedelta

from pacs_operator.domain import names
from pacs_operator.domain.approval import Subject
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.destruction import Case, Verdict, judge
from pacs_operator.domain.errors import InvalidSpecError, PacsError, VaultError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.domain.times import parse_time
from pacs_operator.kube.events import Notice
from pacs_operator.kube.inventory import NAMESPACE, PVC, VOLUME, kind_of
from pacs_operator.kube.port import Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile import approvals, deletion, record, retention, status, zones
from pacs_operator.reconcile.context import Outcome, Pass
from pacs_operator.reconcile.observe import check_vault, read_owned, typed_archive

DESTROYED = "its data are being destroyed"
_STOPPED = "its data stay until the grace is over"
#: Not the ops zone: it keeps the approvals and the record.
_REMOVED_ZONES = (Zone.EDGE, Zone.ARCHIVE, Zone.DATA)


def asked(run: Pass) -> bool:
    """Tell whether the data of a deleted resource shall go; a spec that cannot be read keeps them."""
    if names.FINALIZER not in (metadata(run.live).get("finalizers") or []):
        return False
    try:
        spec = typed_archive(run.live).spec
    except InvalidSpecError:
        return False
    return spec.deletion_policy == "Delete" and spec.deletion.confirm_name == run.name


def verdict(run: Pass) -> Verdict | None:
    """Return what is still missing; None when the destruction was decided and goes on.

    Keeps on record since when nothing is missing, unless the archive is suspended.
    """
    run.archive = typed_archive(run.live)
    run.namespaces = zones.read(run)
    run.lineage = zones.own_lineage(run)
    written = record.read(run)
    if written is not None and record.has(written, record.DECISION):
        return None
    since = record.grace_since(written)
    spec, data = run.archive.spec, metadata(run.live)
    latest, known_by = retention.newest(run)
    case = Case(
        subject=Subject(run.name, data["uid"], run.lineage or ""),
        retention=spec.retention,
        newest=latest,
        newest_known_by=known_by,
        stopped_since=since,
        deleted_at=parse_time(str(data["deletionTimestamp"])),
        grace=timedelta(hours=spec.deletion.grace_hours),
        encrypted=spec.encryption.on,
    )
    found = judge(case, approvals.read(run), run.now)
    if found.agreed and since is None and not spec.suspend:
        record.begin_grace(run, written)
    elif not found.agreed and written is not None and since is not None and not spec.suspend:
        record.end_grace(run, written)
    return found


def block(run: Pass, why: Verdict) -> None:
    """Say on an archive that serves on what its deletion waits for."""
    run.set(ConditionType.DELETION_BLOCKED, "True", why.reason, why.message)


def suspended(found: Verdict | None) -> Verdict:
    """Return what to say while ``spec.suspend`` keeps even an agreed destruction waiting."""
    if found is not None and not found.agreed:
        return found
    return Verdict("Suspended", "spec.suspend is true: the destruction goes on when it is false; until then data stay")


def step(run: Pass, found: Verdict | None) -> Outcome:
    """Do the next step, once nobody's word is missing.

    Parameters
    ----------
    run
        The pass, with archive, namespaces and lineage read.
    found
        What `verdict` returned.
    """
    failure = deletion.refuse_peers(run)
    outcome = _advance(run, found)
    if failure is not None:
        raise failure
    return outcome


def _advance(run: Pass, found: Verdict | None) -> Outcome:
    read_owned(run)
    retention.keep(run)  # a hold that was set or lifted meanwhile; admission goes by the zones' marks
    waiting = found is not None and found.reason == "GracePeriod"
    if found is not None:
        run.set(ConditionType.DELETION_BLOCKED, "True" if waiting else "False", found.reason, found.message)
    still_running = deletion.stop(run)
    if still_running:
        deletion.progress(run, "Stopping", f"Waiting for {still_running}", _STOPPED if waiting else DESTROYED)
        return Outcome("Deleting", 2.0)
    if found is not None and waiting:
        deletion.progress(run, "GracePeriod", "Everything is stopped; nothing else happens before the end", _STOPPED)
        until = (found.until - run.now).total_seconds() if found.until else 60.0
        return Outcome("Deleting", min(max(until, 10.0), 120.0))
    if run.archive is not None and run.archive.spec.retention.legal_hold:
        run.set(ConditionType.DELETION_BLOCKED, "True", "LegalHold", "A legal hold was set; what is left stays")
        deletion.progress(run, "LegalHold", "Everything is stopped; nothing else happens during a legal hold", _STOPPED)
        return Outcome("Deleting", 60.0)
    written = record.read(run)
    if written is None or not record.has(written, record.DECISION):
        if found is None:
            return Outcome("Deleting", 2.0)  # the record that this pass began with is gone: judge anew
        written = record.decide(run, written, found)
    return _destroy(run, written)


def _destroy(run: Pass, written: Manifest) -> Outcome:
    shredded = _shredded(run, written)
    if shredded is None:
        return Outcome("Deleting", 30.0)
    left = _remove_volumes(run, shredded)
    if left:
        deletion.progress(run, "RemovingVolumes", f"Waiting until these are gone: {left}", DESTROYED)
        return Outcome("Deleting", 10.0)
    deletion.remove_rest(run)
    if not deletion.clear_roles(run, DESTROYED):
        return Outcome("Deleting", 15.0)
    left = _remove_zones(run)
    if left:
        deletion.progress(run, "RemovingZones", f"Waiting until these are gone: {left}", DESTROYED)
        return Outcome("Deleting", 10.0)
    _finish(run, shredded)
    return Outcome("Deleting")


def _shredded(run: Pass, written: Manifest) -> Manifest | None:
    """Return the record when there is nothing (more) to shred; None while the key is there or Vault cannot tell."""
    if record.decision(written)["encryption"] == "None" or record.has(written, record.SHRED):
        return written
    key, mount = names.data_key(run.name), names.data_mount(str(run.lineage))
    error: PacsError | None = None
    try:
        check_vault(run)
        gone = run.ports.vault(run.vault_settings).data_key_gone(run.name, str(run.lineage))
    except (VaultError, InvalidSpecError) as failure:
        gone, error = False, failure
    if gone:
        text = "Vault knows the transit mount and no key of this name"
        return record.add(run, written, record.SHRED, {"mount": mount, "key": key, "found": text})
    command = f"deploy/vault/shred --archive {run.name} --lineage {run.lineage} --confirm {run.name}"
    text = f"Vault's administrator runs {command}; the volumes are removed when the key is seen to be gone"
    run.set(ConditionType.DELETION_BLOCKED, "True", "ShredPending", text + (f". Now: {error}" if error else ""))
    deletion.progress(run, "ShredPending", text, DESTROYED)
    return None


def _remove_volumes(run: Pass, written: Manifest) -> str:
    """Delete the claims; return what is still there, volumes that go with their claims included."""
    claims = [
        item
        for item in run.owned.values()
        if kind_of(item) is PVC and labels_of(item).get(names.LABEL_LINEAGE) == run.lineage
    ]
    for claim in claims:
        if not metadata(claim).get("deletionTimestamp"):
            _release(run, claim)
            run.ports.kube.delete(claim)
    left = [f"claim {metadata(claim)['namespace']}/{metadata(claim)['name']}" for claim in claims]
    for volume in record.decision(written)["volumes"]:
        name = volume["volume"]
        if name and volume["reclaimPolicy"] == "Delete" and run.ports.kube.get(VOLUME, name) is not None:
            left.append(f"volume {name}")
    return ", ".join(left)


def _remove_zones(run: Pass) -> str:
    """Delete the zones but ops; one that somebody made for us is left to its owner, empty and released."""
    left = []
    for zone in _REMOVED_ZONES:
        namespace = run.namespaces.get(namespace_of(run.name, zone))
        if namespace is None or labels_of(namespace).get(names.LABEL_LINEAGE) != run.lineage:
            continue
        _release(run, namespace)
        if names.LABEL_CONSENT in labels_of(namespace):
            continue
        if not metadata(namespace).get("deletionTimestamp"):
            run.ports.kube.delete(namespace)
        left.append(metadata(namespace)["name"])
    return ", ".join(left)


def _finish(run: Pass, written: Manifest) -> None:
    kept = [volume["volume"] for volume in record.decision(written)["volumes"] if volume["reclaimPolicy"] != "Delete"]
    kept = [name for name in kept if name and run.ports.kube.get(VOLUME, name) is not None]
    if not record.has(written, record.REMOVAL):
        record.add(run, written, record.REMOVAL, {"volumesLeft": kept})
    where = namespace_of(run.name, Zone.OPS)
    if kept:
        text = (
            f"PersistentVolumes {', '.join(kept)} stay by their reclaim policy; the storage's administrator wipes them"
        )
        run.notices.append(Notice("Warning", "VolumesLeft", text))
    external = run.archive.spec.database.external if run.archive else None
    if external is not None:
        text = f"The index stays: database {external.name} at {external.host}; its administrator drops it"
        run.notices.append(Notice("Warning", "IndexLeft", text))
    run.notices.append(
        Notice("Normal", "DataDestroyed", f"Volumes and zones are removed; the record stands in {where}")
    )
    run.status = run.observed
    status.tell(run, run.observed)
    ops = run.ports.kube.get(NAMESPACE, where)  # as it is now: this pass may have written its marks
    if ops is not None:
        _release(run, ops)
    deletion.let_go(run)


def _release(run: Pass, item: Manifest) -> None:
    """Say to admission that an object may be deleted, once retention and approvals have been seen to."""
    name, said = metadata(item)["name"], annotations_of(item)
    marks: dict[str, str | None] = {names.ANNOTATION_RELEASE: name}
    if names.ANNOTATION_MINIMUM_YEARS in said:
        marks[names.ANNOTATION_MINIMUM_YEARS] = None
    if any(said.get(key) != value for key, value in marks.items()):
        patch = {"metadata": {"uid": metadata(item)["uid"], "annotations": marks}}
        run.ports.kube.patch(kind_of(item), name, metadata(item).get("namespace"), patch)
