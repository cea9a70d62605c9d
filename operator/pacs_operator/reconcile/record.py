"""The record of a destruction: decided once, written ahead, kept in the ops zone after everything else is gone.

From its first entry on approvals may expire and withdrawing one changes nothing: half a volume is no archive. Only
``deletionPolicy: Retain`` still keeps what is left.
"""

import json
from datetime import datetime
from typing import Any

from pacs_operator.domain import names
from pacs_operator.domain.destruction import NOT_ENCRYPTED, Verdict
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.kube.inventory import CONFIG_MAP, PVC, VOLUME, kind_of
from pacs_operator.kube.port import Manifest, metadata
from pacs_operator.reconcile.context import Pass

PREFIX = "destruction-"  # admission lets the operator alone write ConfigMaps of such names in zones
GRACE, DECISION, SHRED, REMOVAL = "grace.json", "decision.json", "shred.json", "removal.json"
_IN_CLEAR = "images that lay on the volume before its encryption, and copies of them, are not reached by the shred"


def read(run: Pass) -> Manifest | None:
    """Return this very resource's record, None when nothing was written yet."""
    return run.ports.kube.get(CONFIG_MAP, _name(run), namespace_of(run.name, Zone.OPS))


def grace_since(written: Manifest | None) -> datetime | None:
    """Return since when the archive waits, stopped and agreed on; None when it does not."""
    if written is None or not has(written, GRACE):
        return None
    return parse_time(json.loads(written["data"][GRACE])["at"])


def begin_grace(run: Pass, written: Manifest | None) -> None:
    """Put on record that from now on nobody's word is missing."""
    _put(run, written, GRACE, {"at": _stamp(run)})


def end_grace(run: Pass, written: Manifest) -> None:
    """Take that back: something is missing again, and the time runs anew when it is there."""
    _patch(run, written, {GRACE: None})


def decide(run: Pass, written: Manifest | None, verdict: Verdict) -> Manifest:
    """Write the decision ahead of the first irreversible step; needs the live objects read.

    Parameters
    ----------
    run
        The pass.
    written
        The record so far.
    verdict
        An approved one.
    """
    archive = run.archive
    encrypted = archive is not None and archive.spec.encryption.on
    decision = {
        "archive": run.name,
        "archiveUID": metadata(run.live)["uid"],
        "lineageID": run.lineage,
        "decidedAt": _stamp(run),
        "vault": run.vault_settings.address,
        "retention": archive.spec.retention.document() if archive else {},
        "encryption": archive.spec.encryption.mode if archive else "Unknown",
        "shred": names.data_key(run.name) if encrypted else NOT_ENCRYPTED,
        **({"clear": _IN_CLEAR} if encrypted else {}),
        "index": "never encrypted by the operator: it goes with its volume only",
        "approvals": [
            {
                "name": approval.name,
                "act": approval.spec.act,
                "approver": approval.spec.approver,
                "createdAt": rfc3339(approval.created),
            }
            for approval in verdict.approvals
        ],
        "volumes": [_volume(run, item) for item in run.owned.values() if kind_of(item) is PVC],
    }
    return _put(run, written, DECISION, decision)


def decision(record: Manifest) -> dict[str, Any]:
    """Return what was decided."""
    return dict(json.loads(record["data"][DECISION]))


def has(record: Manifest, part: str) -> bool:
    """Tell whether a step is on record."""
    return part in (record.get("data") or {})


def add(run: Pass, record: Manifest, part: str, content: dict[str, Any]) -> Manifest:
    """Put a finished step on record, with its time."""
    return _patch(run, record, {part: _text({"at": _stamp(run), **content})})


def _put(run: Pass, written: Manifest | None, part: str, content: dict[str, Any]) -> Manifest:
    if written is not None:
        return _patch(run, written, {part: _text(content)})
    manifest = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        # Without the archive's label, so that it is never pruned with the rest.
        "metadata": {
            "name": _name(run),
            "namespace": namespace_of(run.name, Zone.OPS),
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_LINEAGE: str(run.lineage)},
        },
        "data": {part: _text(content)},
    }
    return run.ports.kube.create(manifest)


def _patch(run: Pass, written: Manifest, parts: dict[str, str | None]) -> Manifest:
    data = metadata(written)
    patch = {"metadata": {"uid": data["uid"], "resourceVersion": data["resourceVersion"]}, "data": parts}
    return run.ports.kube.patch(CONFIG_MAP, data["name"], data["namespace"], patch)


def _volume(run: Pass, claim: Manifest) -> dict[str, str]:
    name = str((claim.get("spec") or {}).get("volumeName") or "")
    volume = run.ports.kube.get(VOLUME, name) if name else None
    policy = str(((volume or {}).get("spec") or {}).get("persistentVolumeReclaimPolicy") or "Unknown")
    data = metadata(claim)
    return {"claim": f"{data['namespace']}/{data['name']}", "volume": name, "reclaimPolicy": policy}


def _name(run: Pass) -> str:
    return f"{PREFIX}{metadata(run.live)['uid']}"


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True)


def _stamp(run: Pass) -> str:
    return rfc3339(run.now)
