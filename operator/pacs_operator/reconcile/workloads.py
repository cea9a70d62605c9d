"""Applying what was rendered, with one question before anything that interrupts service."""

from pacs_operator.domain.archive import Archive
from pacs_operator.domain.disruption import Cause, may_disrupt
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import GROUP, ZONE_OF, Component, namespace_of
from pacs_operator.domain.rotation import ANNOTATION_RESTARTED_FOR, Rotation
from pacs_operator.domain.status import MAX_WAITING, MAX_WAITING_TEXT
from pacs_operator.kube.apply import Key, Written, content_hash, in_apply_order
from pacs_operator.kube.diff import Difference, Path, show
from pacs_operator.kube.errors import ApiInvalidError
from pacs_operator.kube.events import Notice
from pacs_operator.kube.inventory import CONFIG_MAP, DEPLOYMENT, SERVICE, STATEFUL_SET, Kind, kind_of
from pacs_operator.kube.port import Manifest, annotations_of, display, key_of, metadata
from pacs_operator.reconcile import pullcheck, reencrypt, volumes
from pacs_operator.reconcile.context import Pass
from pacs_operator.render.pods import PEERS_CONFIG_MAP

#: On a workload: hash of the pod template as we last rendered it, and of what a person decided that it came from.
#: They tell a changed spec from a changed operator from somebody's edit.
ANNOTATION_TEMPLATE = f"{GROUP}/template-hash"
ANNOTATION_INPUTS = f"{GROUP}/inputs-hash"

_TEMPLATE: Path = ("spec", "template")
#: In a template only these are no matter of security; whatever is not listed is.
_HARMLESS_POD = {
    "affinity",
    "nodeSelector",
    "priorityClassName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "schedulerName",
}
#: What a person decides here says nothing about pods, so it carries no held-back template along.
_NO_PODS_MATTER = ("containment", "retention", "deletion", "deletionPolicy")
_HARMLESS_CONTAINER = {"resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"}


def inputs_hash(desired: Desired) -> str:
    """Return the hash of what people decided: spec, release, lineage, Vault's settings; not this program's version.

    Containment is no part of it: whatever else waits for a change of the spec must not roll pods that are evidence.
    """
    spec = {name: value for name, value in desired.archive.spec.document().items() if name not in _NO_PODS_MATTER}
    release = desired.release.document()
    vault = [desired.vault.address, desired.vault.ca_pem, desired.vault.auth_path, desired.vault.audience]
    return content_hash([spec, desired.lineage_id, release, vault])


def decorate(manifest: Manifest, inputs: str) -> Manifest:
    """Return a workload with the annotations that later tell why it differs; other kinds unchanged."""
    if kind_of(manifest) not in (DEPLOYMENT, STATEFUL_SET):
        return manifest
    marks = {ANNOTATION_TEMPLATE: content_hash(manifest["spec"]["template"]), ANNOTATION_INPUTS: inputs}
    data = {**metadata(manifest), "annotations": {**annotations_of(manifest), **marks}}
    return {**manifest, "metadata": data}


def render(run: Pass, desired: Desired) -> list[Manifest]:
    """Return the decorated manifests in the order of application."""
    inputs = inputs_hash(desired)
    rendered = run.ports.renderer.render_archive(desired)
    return in_apply_order(decorate(manifest, inputs) for manifest in rendered)


def apply_all(run: Pass) -> None:
    """Apply everything that differs, in order; what may not be interrupted now is left waiting.

    Raises
    ------
    ImageNotPulledError
        A workload that runs would get an image that cannot be had; nothing was applied.
    """
    run.pulling = pullcheck.step(run, _new_images(run))
    for manifest in run.manifests:
        live = run.owned.get(key_of(manifest))
        kind = kind_of(manifest)
        if run.pulling and live is not None and _read_at_start(manifest):
            continue
        if kind in (DEPLOYMENT, STATEFUL_SET):
            written = _apply_workload(run, kind, _carried(manifest, live), live)
            run.wrote_workload = run.wrote_workload or written is not None
        else:
            written = _write(run, manifest, live)
        if written:
            run.owned[key_of(manifest)] = written.manifest
            _tell(run, written)
    run.waiting = sorted(set(run.waiting))[:MAX_WAITING]


def _write(run: Pass, manifest: Manifest, live: Manifest | None) -> Written | None:
    """Apply what interrupts nothing; a Service of the gate that the API server refuses holds up nothing else."""
    try:
        return run.memory.applier.write(manifest, live)
    except ApiInvalidError as error:
        if key_of(manifest) != gates_service(run.name):
            raise
        run.service_refused = error
        return None


def gates_service(archive: str) -> Key:
    """Return the key of the Service that devices reach an archive's gate by."""
    return SERVICE.kind, namespace_of(archive, ZONE_OF[Component.GATE]), Component.GATE.value


def _read_at_start(manifest: Manifest) -> bool:
    """Tell whether something is configuration of pods to come: one that restarts by itself must find its old one."""
    return kind_of(manifest) is CONFIG_MAP and metadata(manifest)["name"] != PEERS_CONFIG_MAP


def _new_images(run: Pass) -> dict[str, str]:
    """Return the images, by name in the release, that a change would bring to workloads that do not have them."""
    new: set[str] = set()
    for manifest in run.manifests:
        kind, live = kind_of(manifest), run.owned.get(key_of(manifest))
        if kind not in (DEPLOYMENT, STATEFUL_SET):
            continue
        if live is None:  # the label may have been taken off a running workload
            live = run.ports.kube.get(kind, metadata(manifest)["name"], metadata(manifest)["namespace"])
            if live is None:
                continue
            run.owned[key_of(manifest)] = live
        if _brings_new(run, _carried(manifest, live), live):
            new |= _images(manifest) - _images(live)
    known = run.release.images.document() if run.release else {}
    return {str(name): str(image) for name, image in known.items() if image in new}


def _brings_new(run: Pass, manifest: Manifest, live: Manifest) -> bool:
    """Tell whether a template would change now to what it never was; what ran before and was edited did start."""
    if annotations_of(live).get(ANNOTATION_TEMPLATE) == annotations_of(manifest)[ANNOTATION_TEMPLATE]:
        return False
    paths = run.memory.applier.difference(manifest, live).paths
    template = [path for path in paths if path[:2] == _TEMPLATE]
    return bool(template) and may_disrupt(cause_of(manifest, live, template), run.now)


def _images(workload: Manifest) -> set[str]:
    pod = workload["spec"]["template"]["spec"]
    return {container["image"] for key in ("initContainers", "containers") for container in pod.get(key) or []}


def _carried(manifest: Manifest, live: Manifest | None) -> Manifest:
    """Return a workload with the mark of its last planned restart, which no rendering knows.

    Its absence must not cause another restart; it stands in no hash of the template, since it changes nothing that a
    conformance run attacks.
    """
    mark = _restarted_for(live)
    return manifest if mark is None else _marked(manifest, mark)


def _restarted_for(live: Manifest | None) -> str | None:
    template = ((live or {}).get("spec") or {}).get("template") or {}
    mark = annotations_of(template).get(ANNOTATION_RESTARTED_FOR)
    return str(mark) if mark is not None else None


def _marked(manifest: Manifest, serial: str) -> Manifest:
    template = manifest["spec"]["template"]
    data = {**metadata(template), "annotations": {**annotations_of(template), ANNOTATION_RESTARTED_FOR: serial}}
    return {**manifest, "spec": {**manifest["spec"], "template": {**template, "metadata": data}}}


def rotate(run: Pass, rotation: Rotation | None) -> None:
    """Restart Orthanc for its renewed certificate, once, when it can wait no longer; until then say that it waits.

    The one thing written is the mark in the live template: what else may be waiting there stays waiting.
    """
    wanted = next((item for item in run.manifests if _is_orthanc(item)), None)
    live = run.owned.get(key_of(wanted)) if wanted else None
    if rotation is None or wanted is None or live is None:
        return
    if _restarted_for(live) == rotation.issued or _unsettled(wanted, live):
        return  # on its way
    if not (rotation.due(run.now) and may_disrupt(Cause.SECURITY, run.now)):
        text = f"Orthanc restarts to serve its renewed certificate: before {rotation.ends:%Y-%m-%d}"
        run.waiting = sorted({*run.waiting, text})[:MAX_WAITING]
        return
    data = metadata(live)
    mark: Manifest = {"metadata": {"annotations": {ANNOTATION_RESTARTED_FOR: rotation.issued}}}
    patch = {
        "metadata": {"uid": data["uid"], "resourceVersion": data["resourceVersion"]},
        "spec": {"template": mark},
    }
    run.owned[key_of(live)] = run.ports.kube.patch(STATEFUL_SET, data["name"], data["namespace"], patch)
    run.wrote_workload = True
    text = f"Restarts to serve its renewed certificate; the old one ends {rotation.ends:%Y-%m-%d}"
    run.notices.append(Notice("Normal", "OrthancRestarted", text))


def _is_orthanc(manifest: Manifest) -> bool:
    return kind_of(manifest) is STATEFUL_SET and metadata(manifest)["name"] == Component.ORTHANC.value


def _apply_workload(run: Pass, kind: Kind, manifest: Manifest, live: Manifest | None) -> Written | None:
    applier = run.memory.applier
    if live is None:
        return applier.write(manifest, None) if may_disrupt(Cause.CREATION, run.now) else None
    difference = applier.difference(manifest, live)
    template = [path for path in difference.paths if path[:2] == _TEMPLATE]
    if not template:
        return applier.write(manifest, live)
    cause = cause_of(manifest, live, template)
    if run.pulling and _brings_new(run, manifest, live):
        return _outside_template(run, kind, manifest, live, difference)
    if may_disrupt(cause, run.now):
        return applier.write(manifest, live)
    by = f" by {', '.join(difference.managers)}" if difference.managers else ""
    shown = ", ".join(show(path) for path in template[:3])
    run.waiting.append(f"{display(manifest)}: {cause.value}{by}: {shown}"[:MAX_WAITING_TEXT])
    return _outside_template(run, kind, manifest, live, difference)


def cause_of(manifest: Manifest, live: Manifest, template: list[Path]) -> Cause:
    """Tell why a pod template would change.

    Parameters
    ----------
    manifest
        As rendered and decorated.
    live
        As it stands.
    template
        Paths inside the template that differ.
    """
    want, have = annotations_of(manifest), annotations_of(live)
    if have.get(ANNOTATION_INPUTS) not in (None, want[ANNOTATION_INPUTS]):
        return Cause.SPEC_CHANGE
    if have.get(ANNOTATION_TEMPLATE) not in (None, want[ANNOTATION_TEMPLATE]):
        return Cause.OPERATOR_UPGRADE
    # Rendered as before, so somebody edited the live object (or took our marks off it).
    return Cause.SECURITY if any(_touches_security(path[2:]) for path in template) else Cause.DRIFT


def _touches_security(path: Path) -> bool:
    if not path or path[0] == "metadata":
        # Labels decide which policies select the pod; annotations decide nothing.
        return len(path) < 2 or path[1] != "annotations"
    inside = path[1:]
    if not inside:
        return True
    if inside[0] in ("containers", "initContainers"):
        return len(inside) < 3 or inside[2] not in _HARMLESS_CONTAINER
    return inside[0] not in _HARMLESS_POD


def _outside_template(
    run: Pass, kind: Kind, manifest: Manifest, live: Manifest, difference: Difference
) -> Written | None:
    """Repair what needs no restart (replicas, strategy) while the template waits."""
    fields = sorted({path[1] for path in difference.changed if path[0] == "spec" and path[1] != "template"})
    if not fields:
        return None
    data = metadata(live)
    patch = {
        "metadata": {"uid": data["uid"], "resourceVersion": data["resourceVersion"]},
        "spec": {field: manifest["spec"][field] for field in fields},
    }
    result = run.ports.kube.patch(kind, data["name"], data["namespace"], patch)
    return Written(result, difference, created=False)


def _tell(run: Pass, written: Written) -> None:
    """Say aloud when somebody else's change was undone."""
    others = written.difference.managers
    if written.created or not others:
        return
    shown = ", ".join(show(path) for path in written.difference.paths[:3])
    text = f"{display(written.manifest)}: {shown}, changed by {', '.join(others)}, put back"
    run.notices.append(Notice("Warning", "DriftRepaired", text))


def running_hash(run: Pass) -> str:
    """Return the hash of the pod templates that run, which is what a conformance run attacks.

    While a change waits these are the old templates: an operator upgrade that waits asks for no new run, a release
    that was rolled out beside something waiting does.
    """
    workloads = [manifest for manifest in run.manifests if kind_of(manifest) in (DEPLOYMENT, STATEFUL_SET)]
    marks = {
        display(manifest): annotations_of(run.owned.get(key_of(manifest)) or {}).get(ANNOTATION_TEMPLATE)
        for manifest in workloads
    }
    return content_hash(sorted(marks.items()))


def settled(run: Pass) -> list[str]:
    """Return what is not yet as rendered: workloads whose pods are not all new and ready; empty when all are."""
    texts = [run.pulling] if run.pulling else []
    for manifest in run.manifests:
        if kind_of(manifest) in (DEPLOYMENT, STATEFUL_SET):
            text = _unsettled(manifest, run.owned.get(key_of(manifest)))
            stuck = pullcheck.of_workload(run, manifest) if text else None
            if text:
                texts.append(f"{display(manifest)} {stuck}" if stuck else text)
    return texts


def _unsettled(manifest: Manifest, live: Manifest | None) -> str | None:
    if live is None:
        return f"{display(manifest)} does not exist yet"
    status, wanted = live.get("status") or {}, int(manifest["spec"].get("replicas", 1))
    if int(status.get("observedGeneration") or 0) < int(metadata(live).get("generation") or 0):
        return f"{display(manifest)} is being rolled out"
    ready, updated = int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)
    if updated < wanted or int(status.get("replicas") or 0) > wanted:
        return f"{display(manifest)} is being rolled out ({updated} of {wanted})"
    return f"{display(manifest)} has {ready} of {wanted} pods ready" if ready < wanted else None


def desired_of(run: Pass, archive: Archive, conformance_run: str | None = None) -> Desired | None:
    """Return the renderer's input, when all facts are known."""
    if run.release is None or run.lineage is None or run.peers is None:
        return None
    return Desired(
        archive=volumes.within_reach(run, archive),
        lineage_id=run.lineage,
        release=run.release,
        vault=run.vault_settings,
        cluster=run.settings.cluster,
        peers=run.peers,
        conformance_run=conformance_run,
        importing=run.importing,
        sealing=reencrypt.orders(run, archive),
    )
