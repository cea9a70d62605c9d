"""Zone namespaces and the lineage they carry: taken over only when they are ours."""

from pacs_operator.domain import names
from pacs_operator.domain.errors import InvalidSpecError, PacsError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.kube.inventory import ARCHIVE, NAMESPACE
from pacs_operator.kube.port import Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile.context import Pass

ANNOTATION_LINEAGE = names.LABEL_LINEAGE  # on the PacsArchive: written ahead of everything that carries it
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
        A namespace is not ours, or carries other data.
    """
    run.namespaces = read(run)
    drawn = _known_lineage(run)
    for namespace in run.namespaces.values():
        _check(run, namespace, drawn)
    _check_adoption(run, drawn)
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


def _known_lineage(run: Pass) -> str | None:
    """Find the lineage this archive already has; the annotation can be lost by a careless replace."""
    if run.archive is None:
        return None
    spec = run.archive.spec.bootstrap
    if spec.mode == "Adopt":
        return spec.lineage_id
    uid = metadata(run.live).get("uid")
    ours = [
        labels_of(namespace)[names.LABEL_LINEAGE]
        for namespace in run.namespaces.values()
        if labels_of(namespace).get(names.LABEL_ARCHIVE_UID) == uid and names.LABEL_LINEAGE in labels_of(namespace)
    ]
    return annotations_of(run.live).get(ANNOTATION_LINEAGE) or run.observed.lineage_id or next(iter(ours), None)


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
    elif carried != lineage:
        raise InvalidSpecError(
            f"namespace {name} holds data of lineage {carried}, not of this archive",
            action="to take these data over, apply the archive with spec.bootstrap "
            f"{{mode: Adopt, lineageID: {carried}}}; otherwise choose another name",
            reason="LineageMismatch",
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


def _write_ahead(run: Pass) -> None:
    data = metadata(run.live)
    finalizers = list(data.get("finalizers") or [])
    if annotations_of(run.live).get(ANNOTATION_LINEAGE) == run.lineage and names.FINALIZER in finalizers:
        return
    patch = {
        "metadata": {
            "uid": data["uid"],
            "resourceVersion": data["resourceVersion"],
            "annotations": {ANNOTATION_LINEAGE: run.lineage},
            "finalizers": sorted({*finalizers, names.FINALIZER}),
        }
    }
    run.live = run.ports.kube.patch(ARCHIVE, run.name, None, patch)
