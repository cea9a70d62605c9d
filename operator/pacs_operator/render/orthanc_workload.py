"""The archive engine: one Orthanc, its volume, its Service."""

from pacs_operator.domain.agentconfig import (
    IMAGES_DIR,
    RUN_DIR,
    SEALED_DIR,
    STORAGE_RING_FILE,
    TLS_DIR,
    WEB_RUN_DIR,
    WEB_TLS_DIR,
)
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import ANNOTATION_DATABASE, ANNOTATION_ENCRYPTION, REENCRYPTING, Component, Port
from pacs_operator.render import agent, database, gate, offline, orthanc_config, pods, services, sizes
from pacs_operator.render.manifests import Manifest, config_map, document, namespaced, selector, volume_size

NAME = Component.ORTHANC.value
IMAGES_CLAIM = "images"
_WEB_TLS = "web-tls"
_WEB_RUN = "web-run"

# Orthanc with an open association ends late; the gate drains first, the rest is cut after this.
_GRACE_SECONDS = 150  # an open association holds Orthanc for up to DicomScpTimeout, 120 s

# A schema upgrade of a large index took 22 minutes elsewhere, during which Orthanc answers nothing.
_STARTUP_PERIOD_SECONDS = 5
_STARTUP_FAILURES = 1440  # two hours

# A restart cuts associations: only when nothing answered for five minutes.
_LIVENESS_PERIOD_SECONDS = 10
_LIVENESS_FAILURES = 30


def files(desired: Desired) -> dict[str, str]:
    """Return the content of Orthanc's ConfigMap."""
    return {
        **agent.files(desired, Component.ORTHANC),
        "orthanc.json": document(orthanc_config.render(desired)),
        **database.files(desired),
        **gate.archive_web_config(desired),
    }


def configuration(desired: Desired) -> list[Manifest]:
    """Return Orthanc's ConfigMap."""
    return [config_map(desired, NAME, Component.ORTHANC, files(desired))]


def storage(desired: Desired) -> list[Manifest]:
    """Return the claim of the volume that holds the images; ours, so that no workload's end takes it along."""
    wanted, encryption = desired.archive.spec.storage, desired.archive.spec.encryption
    images = claim(desired, IMAGES_CLAIM, Component.ORTHANC, wanted.size_gi, wanted.storage_class_name)
    # They outlive the resource: who takes the volume over later reads it as it was written, or not at all.
    moving = desired.sealing is not None and desired.sealing.clear
    marks: dict[str, str] = (
        {ANNOTATION_ENCRYPTION: REENCRYPTING if moving else encryption.mode} if encryption.on else {}
    )
    if desired.archive.spec.database.external:
        marks[ANNOTATION_DATABASE] = desired.archive.spec.database.mode
    if marks:
        images["metadata"]["annotations"] = marks
    return [images]


def claim(desired: Desired, name: str, component: Component, size_gi: int, storage_class: str) -> Manifest:
    """Return a claim of one volume in a component's zone."""
    head = namespaced(desired, "PersistentVolumeClaim", name, component)
    return {
        **head,
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": volume_size(size_gi)}},
            "storageClassName": storage_class,
            "volumeMode": "Filesystem",
        },
    }


def network(desired: Desired) -> list[Manifest]:
    """Return Orthanc's Service."""
    return [services.internal(desired, Component.ORTHANC)]


def workload(desired: Desired) -> Manifest:
    """Return the StatefulSet of one replica: two on one volume would be two archives."""
    pod = pods.Pod(
        component=Component.ORTHANC,
        config=files(desired),
        config_map=NAME,
        init_containers=[agent.sidecar(desired, Component.ORTHANC, _agent_mounts(desired))],
        containers=[_orthanc(desired), *_web(desired)],
        volumes=[
            pods.run_volume(),
            pods.peers_volume(),
            pods.claim(IMAGES_CLAIM),
            pods.in_memory("tmp", "64Mi"),
            *database.volumes(desired),
            *_web_volumes(desired),
            *offline.volumes(desired),
        ],
        grace_seconds=_GRACE_SECONDS,
        fields=offline.scheduling(desired),
    )
    return stateful_set(desired, Component.ORTHANC, pods.template(desired, pod))


def _agent_mounts(desired: Desired) -> list[Manifest]:
    """Return what the agent mounts beside what every agent has.

    The images' volume: to keep wrapped data keys beside the images that need them, to see whether there are any that
    an empty external index would hide, and to scrub. Writable for the scrub too, which remembers there how far it is;
    images it opens to read alone.
    """
    spec = desired.archive.spec
    if spec.encryption.on or spec.storage.scrub is not None:
        images = [pods.mount(IMAGES_CLAIM, IMAGES_DIR, writable=True)]
    else:
        images = [pods.mount(IMAGES_CLAIM, IMAGES_DIR)] if spec.database.external else []
    web = [pods.mount(_WEB_TLS, WEB_TLS_DIR, writable=True), pods.mount(_WEB_RUN, WEB_RUN_DIR)] if spec.dicomweb else []
    return [*images, *database.mounts(desired), *web]


def stateful_set(desired: Desired, component: Component, template: Manifest) -> Manifest:
    """Return a StatefulSet of one replica.

    ``Parallel`` lets a corrected template replace a pod that never became ready; ``OrderedReady`` would wait for it.
    """
    head = namespaced(desired, "StatefulSet", component.value, component)
    return {
        **head,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "podManagementPolicy": "Parallel",
            "serviceName": component.value,
            "selector": {"matchLabels": selector(desired, component)},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": template,
        },
    }


def _orthanc(desired: Desired) -> Manifest:
    environment = {
        "TCP_NODELAY": "1",  # else every store waits some 40 ms for a delayed acknowledgement
        "HOME": "/tmp",  # noqa: S108  # libpq fails on an unreadable home
        # Image-sized buffers are taken from the heap again and again: mapping fresh pages costs more than AES.
        "MALLOC_MMAP_THRESHOLD_": "67108864",
        "MALLOC_TRIM_THRESHOLD_": "134217728",
    }
    if desired.archive.spec.encryption.on:
        environment |= {"PACS_STORAGE_ROOT": SEALED_DIR, "PACS_STORAGE_KEYS": STORAGE_RING_FILE}
    return pods.container(
        "orthanc",
        desired.release.images.archive,
        sizes.main(desired, Component.ORTHANC).resources(),
        [
            pods.MOUNT_TLS,
            pods.MOUNT_RUN,
            pods.MOUNT_TMP,
            pods.mount(IMAGES_CLAIM, IMAGES_DIR, writable=True),
            *([pods.MOUNT_CONFIG] if desired.archive.spec.database.external else []),  # authority of the index
        ],
        args=[orthanc_config.CONFIG_FILE],
        env=[{"name": name, "value": value} for name, value in environment.items()],
        ports=[{"name": "dicom", "containerPort": Port.ORTHANC_DICOM, "protocol": "TCP"}],
        startupProbe=pods.http_probe("/neighbour-startupz", period=_STARTUP_PERIOD_SECONDS, failures=_STARTUP_FAILURES),
        livenessProbe=pods.http_probe(
            "/neighbour-livez", period=_LIVENESS_PERIOD_SECONDS, failures=_LIVENESS_FAILURES, timeout=5
        ),
        readinessProbe=pods.http_probe("/readyz", period=2, failures=3),
    )


def _web_volumes(desired: Desired) -> list[Manifest]:
    return [pods.in_memory(_WEB_TLS, "1Mi"), pods.in_memory(_WEB_RUN, "1Mi")] if desired.archive.spec.dicomweb else []


def _web(desired: Desired) -> list[Manifest]:
    """Return the HAProxy that takes DICOMweb from the gate.

    It has no probes: DICOM goes on without it, and the gate sees for itself whether it answers. It reads what peers
    send: of the pod's folders it has none but two of its own, with the files that it needs.
    """
    if desired.archive.spec.dicomweb is None:
        return []
    return [
        pods.container(
            "web",
            desired.release.images.gate,
            sizes.web(desired).resources(),
            [pods.MOUNT_CONFIG, pods.mount(_WEB_TLS, TLS_DIR), pods.mount(_WEB_RUN, RUN_DIR, writable=True)],
            args=["-f", "/etc/pacs/web.cfg"],
            ports=[{"name": "web", "containerPort": Port.ORTHANC_WEB, "protocol": "TCP"}],
        )
    ]
