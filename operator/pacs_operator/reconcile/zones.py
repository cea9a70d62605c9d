"""Zone namespaces and the lineage they carry: taken over only when they are ours."""

from pacs_operator.domain import names
from pacs_operator.domain.errors import InvalidSpecError, PacsError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.kube.inventory import ARCHIVE, NAMESPACE, POD
from pacs_operator.kube.port import Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile.context import Pass

ANNOTATION_LINEAGE = names.LABEL_LINEAGE  # on the PacsArchive: written ahead of everything that carries it
#: Whose it is: `kubectl get -o yaml | kubectl apply` under another name copies annotations, but never a uid.
ANNOTATION_LINEAGE_UID = f"{names.GROUP}/lineage-uid"
_POD_SECURITY = "pod-security.kubernetes.io/enforce"
#: Without these two there is nothing to adopt: they hold images and index.
_HOLD_DATA = (Zone.ARCHIVE, Zone.DATA)


class NamespaceTerminatingError(PacsError):
    """A zone's namespace is on its way out."""

    reason = "NamespaceTerminating"


def establish(run: Pass) -> None:
    """Check the zones' namespaces, then have the lineage and our finalizer on the ``PacsArchive``.

    The lineage is written there before anything carries it, together with the finalizer, in one patch that fails
    when anybody else wrote in between: a lineage is never drawn twice and never lost.

    Raises
    ------
    InvalidSpecError
        A namespace is not ours or carries other data, or the lineage is another archive's.
    """
    run.namespaces = read(run)
    drawn = _known_lineage(run)
    for namespace in run.namespaces.values():
        _check(run, namespace, drawn)
    _check_adoption(run, drawn)
    _check_taken(run, drawn)
    run.lineage = drawn or run.ports.draw_lineage()
    _write_ahead(run)


def read(run: Pass) -> dict[str, Manifest]:
    """Return the live namespaces that bear the zones' names, ours or not."""
    kube, wanted = run.ports.kube, {namespace_of(run.name, zone) for zone in Zone}
    found = {
        metadata(item)["name"]: item
        for item in kube.list(NAMESPACE, labels={names.LABEL_ARCHIVE: run.name})
        if metadata(item)["name"] in wanted
    }
    for name in sorted(wanted - found.keys()):
        live = kube.get(NAMESPACE, name)
        if live is not None:
            found[name] = live
    return found


def own_lineage(run: Pass) -> str | None:
    """Return the lineage that this very resource is known to have; needs the zones' namespaces read.

    An annotation counts only with our uid beside it. Without one it is a copy, was lost by a careless replace, or a
    former version wrote it: then the zones that bear our uid tell, and the status, which no copy brings along.
    """
    uid = metadata(run.live).get("uid")
    ours = [
        labels_of(namespace)[names.LABEL_LINEAGE]
        for namespace in run.namespaces.values()
        if labels_of(namespace).get(names.LABEL_ARCHIVE_UID) == uid and names.LABEL_LINEAGE in labels_of(namespace)
    ]
    return written(run.live) or next(iter(ours), None) or run.observed.lineage_id


def rival(run: Pass, lineage: str) -> str | None:
    """Return who else carries a lineage, with a better right than this archive; None when nobody does.

    Whoever has zones of its own comes before whoever has none, and the elder before the younger. Zones that stand
    under another archive's name count as well: their data may be adopted again.
    """
    zones = run.ports.kube.list(NAMESPACE, labels={names.LABEL_LINEAGE: lineage})
    provisioned = {labels_of(zone).get(names.LABEL_ARCHIVE_UID) for zone in zones}
    mine = metadata(run.live).get("uid")

    def rank(live: Manifest) -> tuple[bool, str, str]:
        data = metadata(live)
        return data["uid"] not in provisioned, str(data.get("creationTimestamp") or ""), data["uid"]

    known = own_lineage(run) == lineage
    for other in run.ports.kube.list(ARCHIVE):
        uid = metadata(other)["uid"]
        if uid == mine or not (uid in provisioned or _carried(other) == lineage):
            continue
        if not known or rank(other) < rank(run.live):
            return f"PacsArchive {metadata(other)['name']}"
    foreign = sorted({metadata(zone)["name"] for zone in zones} - {namespace_of(run.name, zone) for zone in Zone})
    return f"namespace {foreign[0]}" if foreign and mine not in provisioned else None


def written(live: Manifest) -> str | None:
    """Return the lineage in an archive's annotation where that very archive's uid stands beside it."""
    said = annotations_of(live)
    return said.get(ANNOTATION_LINEAGE) if said.get(ANNOTATION_LINEAGE_UID) == metadata(live).get("uid") else None


def _carried(live: Manifest) -> str | None:
    return written(live) or (live.get("status") or {}).get("lineageID")


def _known_lineage(run: Pass) -> str | None:
    if run.archive is None:
        return None
    spec = run.archive.spec.bootstrap
    return spec.lineage_id if spec.mode == "Adopt" else own_lineage(run)


def _check(run: Pass, namespace: Manifest, lineage: str | None) -> None:
    name, labels = metadata(namespace)["name"], labels_of(namespace)
    if metadata(namespace).get("deletionTimestamp"):
        raise NamespaceTerminatingError(
            f"namespace {name} is being deleted",
            action="wait until it is gone; if it hangs, look at its status.conditions for what remains in it",
        )
    carried = labels.get(names.LABEL_LINEAGE)
    if carried is None:
        if labels.get(names.LABEL_CONSENT) != run.name:
            raise InvalidSpecError(
                f"namespace {name} exists and is not this archive's",
                action=f"choose another archive name, or label the namespace {names.LABEL_CONSENT}={run.name} "
                "when it was made for this archive",
                reason="ForeignNamespace",
            )
        _check_handed_over(run, namespace)
    elif carried != lineage:
        raise InvalidSpecError(
            f"namespace {name} holds data of lineage {carried}, not of this archive",
            action="to take these data over, apply the archive with spec.bootstrap "
            f"{{mode: Adopt, lineageID: {carried}}}; otherwise choose another name",
            reason="LineageMismatch",
        )


def _check_handed_over(run: Pass, namespace: Manifest) -> None:
    """Look into a namespace that was made for this archive, before its labels say that it is a zone.

    A pod that is in a zone can act as that zone: admission keeps others from making one there, but only afterwards.
    """
    name, enforced = metadata(namespace)["name"], labels_of(namespace).get(_POD_SECURITY)
    if enforced not in (None, "restricted"):
        raise InvalidSpecError(
            f"namespace {name} is labelled {_POD_SECURITY}={enforced}, and a zone is restricted",
            action=f"take that label away, or set it to restricted: kubectl label namespace {name} {_POD_SECURITY}-",
            reason="PodSecurityDiffers",
        )
    pods = [metadata(pod)["name"] for pod in run.ports.kube.list(POD, name)]
    if pods:
        raise InvalidSpecError(
            f"namespace {name} holds {len(pods)} pods that are not this archive's, {pods[0]} among them",
            action="hand over an empty namespace: remove what runs there, and what makes it",
            reason="NamespaceInUse",
        )


def _check_adoption(run: Pass, lineage: str | None) -> None:
    if run.archive is None or run.archive.spec.bootstrap.mode != "Adopt":
        return
    for zone in _HOLD_DATA:
        name = namespace_of(run.name, zone)
        if labels_of(run.namespaces.get(name, {})).get(names.LABEL_LINEAGE) != lineage:
            raise InvalidSpecError(
                f"spec.bootstrap.lineageID: namespace {name} does not exist or does not carry lineage {lineage}",
                action="restore the retained namespaces first, or use mode New for an empty archive",
                reason="NothingToAdopt",
            )


def _check_taken(run: Pass, lineage: str | None) -> None:
    """Refuse a lineage that somebody else has: two archives would share authorities and take each other's roles away.

    Once it is written ahead and our own zones carry it, nobody asks any more: that would be two lists a pass.
    """
    uid = metadata(run.live).get("uid")
    settled = any(labels_of(namespace).get(names.LABEL_ARCHIVE_UID) == uid for namespace in run.namespaces.values())
    if lineage is None or (settled and written(run.live) == lineage):
        return
    holder = rival(run, lineage)
    if holder is not None:
        raise InvalidSpecError(
            f"lineage {lineage} is that of {holder}; two archives never share data, authorities and Vault roles",
            action="delete this resource and apply it under a new name without spec.bootstrap, for a lineage of its "
            "own; or, if these are the data to keep, delete the other archive first (its data are retained)",
            reason="LineageTaken",
        )


def _write_ahead(run: Pass) -> None:
    data = metadata(run.live)
    finalizers = list(data.get("finalizers") or [])
    if written(run.live) == run.lineage and names.FINALIZER in finalizers:
        return
    patch = {
        "metadata": {
            "uid": data["uid"],
            "resourceVersion": data["resourceVersion"],
            "annotations": {ANNOTATION_LINEAGE: run.lineage, ANNOTATION_LINEAGE_UID: data["uid"]},
            "finalizers": sorted({*finalizers, names.FINALIZER}),
        }
    }
    run.live = run.ports.kube.patch(ARCHIVE, run.name, None, patch)
