"""How young the newest image may be, and what of retention outlives the resource that demanded it."""

from datetime import UTC, datetime

from pacs_operator.domain import names
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.domain.times import parse_time
from pacs_operator.kube.inventory import NAMESPACE
from pacs_operator.kube.port import Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile.agents import activity
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.revocation import PROBE_IDS

_BY_ZONE = "when the zones were made (no later C-STORE was told)"
_BY_STORE = "the day of the last C-STORE that the agents told"


def check_kept(run: Pass) -> None:
    """Refuse to take over data with less retention than they came with.

    Within one resource the API server holds that (years only rise, a hold has its own right to be lifted); a new
    resource that adopts the zones would get round it.

    Raises
    ------
    InvalidSpecError
        Retention of another resource still stands on the zones, and this spec demands less.
    """
    if run.archive is None:
        return
    wanted, uid = run.archive.spec.retention, metadata(run.live).get("uid")
    for name, namespace in sorted(run.namespaces.items()):
        if labels_of(namespace).get(names.LABEL_ARCHIVE_UID) == uid:
            continue
        years, hold = kept(namespace)
        if years > wanted.minimum_years or (hold and not wanted.legal_hold):
            raise InvalidSpecError(
                f"spec.retention: namespace {name} came with minimumYears {years} and legalHold {str(hold).lower()}, "
                "the spec demands less",
                action="write at least these to adopt the data; afterwards a person with the right may lift a hold",
                reason="RetentionLowered",
            )


def kept(namespace: Manifest) -> tuple[int, bool]:
    """Return the years and the hold that stand on a zone; years that nobody can read count as the most there are."""
    said = annotations_of(namespace)
    years = said.get(names.ANNOTATION_MINIMUM_YEARS, "0")
    readable = years.isascii() and years.isdigit()
    return (int(years[:4]) if readable else 100), names.ANNOTATION_LEGAL_HOLD in said


def keep(run: Pass) -> None:
    """Write what retention demands onto the zones, where it outlives this resource; needs them to be there."""
    if run.archive is None:
        return
    wanted = run.archive.spec.retention
    marks = {
        names.ANNOTATION_LEGAL_HOLD: "true" if wanted.legal_hold else None,
        names.ANNOTATION_MINIMUM_YEARS: str(wanted.minimum_years) if wanted.minimum_years else None,
    }
    for zone in Zone:
        namespace = run.owned.get((NAMESPACE.kind, "", namespace_of(run.name, zone)))
        if namespace is None:
            continue
        differing = {key: value for key, value in marks.items() if annotations_of(namespace).get(key) != value}
        if differing:
            patch = {"metadata": {"uid": metadata(namespace)["uid"], "annotations": differing}}
            run.ports.kube.patch(NAMESPACE, metadata(namespace)["name"], None, patch)


def remember_newest(run: Pass) -> None:
    """Write the day of the newest C-STORE onto the zone of the images, where it outlives status and resource.

    One write on each day with a store. What the probes store they remove again; it does not count.
    """
    namespace = run.namespaces.get(namespace_of(run.name, Zone.ARCHIVE))
    told = [seen.last_store for key, seen in activity(run).items() if seen.last_store and key not in PROBE_IDS]
    if namespace is None or not told:
        return
    day = min(parse_time(max(told)), run.now).strftime("%Y-%m-%d")
    if day <= annotations_of(namespace).get(names.ANNOTATION_NEWEST_STORE, ""):
        return
    patch = {
        "metadata": {"uid": metadata(namespace)["uid"], "annotations": {names.ANNOTATION_NEWEST_STORE: day}},
    }
    run.ports.kube.patch(NAMESPACE, metadata(namespace)["name"], None, patch)


def newest(run: Pass) -> tuple[datetime, str]:
    """Return the latest time from which the newest image may be, and how that is known.

    A store's day counts to its end. Without a readable creation time the present counts: then nothing is over.
    """
    made, stored = [], []
    for zone in (Zone.ARCHIVE, Zone.DATA):
        namespace = run.namespaces.get(namespace_of(run.name, zone))
        if namespace is not None:
            made.append(_time(metadata(namespace).get("creationTimestamp"), run.now))
            day = annotations_of(namespace).get(names.ANNOTATION_NEWEST_STORE)
            if day is not None:
                stored.append(_time(f"{day}T23:59:59Z", run.now))
    if run.observed.peers is not None:  # a former version wrote no day onto the zone
        listed = [peer.last_store for peer in run.observed.peers.listed if peer.last_store]
        stored += [_time(told, run.now) for told in listed]
    latest = max(made, default=run.now)
    if stored and max(stored) > latest:
        return max(stored), _BY_STORE
    return latest, _BY_ZONE


def _time(text: object, otherwise: datetime) -> datetime:
    try:
        return parse_time(str(text)).astimezone(UTC)
    except ValueError:
        return otherwise
