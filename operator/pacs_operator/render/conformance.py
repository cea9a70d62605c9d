"""One run of the conformance pod: a Job whose name is the run's, gone when the operator prunes it."""

from pacs_operator.domain.conformanceconfig import CONFORMANCE_FILE, Bounds, ConformanceConfig, LegacyDevice
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.gatepeers import largest_share
from pacs_operator.domain.names import Component, Port, Zone, namespace_of, service_dns
from pacs_operator.domain.probepeers import CONFORMANCE_ASSOCIATIONS, STORE_ONLY_ASSOCIATIONS
from pacs_operator.render import agent, pods, sizes
from pacs_operator.render.gate_workload import REPLICAS_SERVICE
from pacs_operator.render.manifests import Manifest, config_map, document, namespaced, runs_database

_GRACE_SECONDS = 5  # it holds nothing that anybody waits for
# On top of the run itself. Before it: pulling the image, and Vault's answer. After its time: the check that had begun
# and the clean-up, which is always made; each waits for a few answers, at the longest.
_START_SECONDS = 240
_END_SECONDS = 120


def name(run: str) -> str:
    """Return the name of a run's Job and ConfigMap."""
    return f"conformance-{run}"


def config(desired: Desired, run: str) -> ConformanceConfig:
    """Return what the conformance pod knows."""
    archive = desired.archive.name
    gate = desired.archive.spec.gate
    largest = largest_share(gate.max_associations)
    return ConformanceConfig(
        run=run,
        archive_ae_title=desired.archive.spec.dicom.ae_title,
        gate_host=service_dns(Component.GATE, archive),
        gate_replicas_host=f"{REPLICAS_SERVICE}.{namespace_of(archive, Zone.EDGE)}.svc",
        gate_replicas=gate.replicas,
        gate_web_port=Port.GATE_WEB if desired.archive.spec.dicomweb else None,
        legacy_devices=_legacy_devices(desired),
        # A quarter, however small the gate: nobody waits for a probe.
        silent_associations=min(CONFORMANCE_ASSOCIATIONS, max(1, gate.max_associations // 4)),
        association_limit=min(STORE_ONLY_ASSOCIATIONS, largest),
        orthanc_host=service_dns(Component.ORTHANC, archive),
        postgres_host=service_dns(Component.POSTGRES, archive) if runs_database(desired) else None,
        contained=desired.archive.spec.containment.isolated or None,
    )


def _legacy_devices(desired: Desired) -> list[LegacyDevice]:
    doors = [(peer.legacy.port, peer.ae_titles[0]) for peer in desired.peers.peers if peer.legacy]
    return [LegacyDevice(port=port, ae_title=title) for port, title in sorted(doors)]


def _files(desired: Desired, run: str) -> dict[str, str]:
    return {
        **agent.files(desired, Component.CONFORMANCE),
        CONFORMANCE_FILE.rpartition("/")[2]: document(config(desired, run).document()),
    }


def render(desired: Desired) -> list[Manifest]:
    """Return ConfigMap and Job of the run that is due, if one is."""
    run = desired.conformance_run
    if run is None:
        return []
    files = _files(desired, run)
    return [config_map(desired, name(run), Component.CONFORMANCE, files), _job(desired, run, files)]


def _job(desired: Desired, run: str, files: dict[str, str]) -> Manifest:
    pod = pods.Pod(
        component=Component.CONFORMANCE,
        config=files,
        config_map=name(run),
        init_containers=[agent.one_shot(desired, Component.CONFORMANCE)],
        containers=[_probe(desired)],
        volumes=[pods.in_memory("tmp", "64Mi")],
        grace_seconds=_GRACE_SECONDS,
        fields={"restartPolicy": "Never"},
    )
    head = namespaced(desired, "Job", name(run), Component.CONFORMANCE)
    # A failed check is a result, not a reason to try again.
    return pods.job(head, pods.template(desired, pod), Bounds().run_seconds + _START_SECONDS + _END_SECONDS)


def _probe(desired: Desired) -> Manifest:
    return pods.container(
        "probe",
        desired.release.images.tools,
        sizes.main(desired, Component.CONFORMANCE).resources(),
        [pods.MOUNT_CONFIG, pods.MOUNT_TLS, pods.MOUNT_TMP],
        command=["/opt/pacs/bin/pacs-probe", "conformance", "--config", CONFORMANCE_FILE],
        **pods.TOLD_AT_ITS_END,
    )
