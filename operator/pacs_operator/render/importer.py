"""An import: the volume of its journal, and one Job for each slice of the work."""

from pacs_operator.domain.facts import Desired, Importing
from pacs_operator.domain.importing import IMPORT_FILE, JOURNAL_DIR, SLICE_SECONDS, SOURCE_CA_FILE, ImportConfig
from pacs_operator.domain.names import ANNOTATION_IMPORT, Component, service_dns
from pacs_operator.render import agent, pods, sizes
from pacs_operator.render.manifests import Manifest, config_map, document, namespaced
from pacs_operator.render.orthanc_workload import claim

JOB_PREFIX = "import-"
JOURNAL = "imports"  # one volume for the journals of all imports of the archive
JOURNAL_GI = 2  # some 300 bytes for each object: six million objects
# What is in hand is ended, the journal closed, the result written.
_GRACE_SECONDS = 60
# On top of the slice: pulling the image, Vault's answer, and the batch in hand when its time is over.
_START_SECONDS = 900


def name(run: str) -> str:
    """Return the name of a slice's Job and ConfigMap."""
    return f"{JOB_PREFIX}{run}"


def render(desired: Desired) -> list[Manifest]:
    """Return the journal's volume while there is an import, and ConfigMap and Job of the slice that is due."""
    importing = desired.importing
    if importing is None:
        return []
    if importing.run is None:
        return [_journal(desired)]
    files = _files(desired, importing, importing.run)
    return [
        _journal(desired),
        config_map(desired, name(importing.run), Component.IMPORTER, files),
        _job(desired, importing.run, files),
    ]


def config(desired: Desired, importing: Importing, run: str) -> ImportConfig:
    """Return what the pod of a slice knows."""
    spec = importing.spec
    return ImportConfig(
        run=run,
        import_uid=importing.uid,
        source=spec.source,
        selection=spec.selection,
        rate_limit=spec.rate_limit,
        archive_ae_title=desired.archive.spec.dicom.ae_title,
        gate_host=service_dns(Component.GATE, desired.archive.name),
    )


def _files(desired: Desired, importing: Importing, run: str) -> dict[str, str]:
    files = {
        **agent.files(desired, Component.IMPORTER),
        IMPORT_FILE.rpartition("/")[2]: document(config(desired, importing, run).document()),
    }
    if ca_pem := importing.spec.source.tls.ca_pem:
        files[SOURCE_CA_FILE.rpartition("/")[2]] = ca_pem
    return files


def _journal(desired: Desired) -> Manifest:
    storage_class = desired.archive.spec.storage.storage_class_name
    return claim(desired, JOURNAL, Component.IMPORTER, JOURNAL_GI, storage_class)


def _job(desired: Desired, run: str, files: dict[str, str]) -> Manifest:
    pod = pods.Pod(
        component=Component.IMPORTER,
        config=files,
        config_map=name(run),
        init_containers=[agent.one_shot(desired, Component.IMPORTER)],
        containers=[_importer(desired)],
        volumes=[pods.in_memory("tmp", "64Mi"), pods.claim(JOURNAL)],
        grace_seconds=_GRACE_SECONDS,
        fields={"restartPolicy": "Never"},
    )
    mark = {ANNOTATION_IMPORT: desired.importing.uid} if desired.importing else None
    head = namespaced(desired, "Job", name(run), Component.IMPORTER, mark)
    # The next slice is the operator's to start, after a pause where one is due.
    return pods.job(head, pods.template(desired, pod), SLICE_SECONDS + _START_SECONDS)


def _importer(desired: Desired) -> Manifest:
    return pods.container(
        "importer",
        desired.release.images.tools,
        sizes.main(desired, Component.IMPORTER).resources(),
        [pods.MOUNT_CONFIG, pods.MOUNT_TLS, pods.MOUNT_TMP, pods.mount(JOURNAL, JOURNAL_DIR, writable=True)],
        command=["/opt/pacs/bin/pacs-import", "run", "--config", IMPORT_FILE],
        **pods.TOLD_AT_ITS_END,
    )
