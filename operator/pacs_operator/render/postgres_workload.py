"""The index: one PostgreSQL, its volume, its Service."""

from pacs_operator.domain.agentconfig import CONFIG_DIR
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Component, Port
from pacs_operator.render import agent, offline, pods, postgres_config, services, sizes
from pacs_operator.render.manifests import Manifest, config_map
from pacs_operator.render.orthanc_workload import claim, stateful_set

NAME = Component.POSTGRES.value
DATABASE_CLAIM = "database"

_GRACE_SECONDS = 60  # fast shutdown: sessions end at once, the checkpoint is written


def files(desired: Desired) -> dict[str, str]:
    """Return the content of PostgreSQL's ConfigMap."""
    return {**agent.files(desired, Component.POSTGRES), **postgres_config.files(desired)}


def configuration(desired: Desired) -> list[Manifest]:
    """Return PostgreSQL's ConfigMap."""
    return [config_map(desired, NAME, Component.POSTGRES, files(desired))]


def storage(desired: Desired) -> list[Manifest]:
    """Return the claim of the volume that holds the database."""
    wanted = desired.archive.spec.database.volume
    if wanted is None:
        return []
    return [claim(desired, DATABASE_CLAIM, Component.POSTGRES, wanted.size_gi, wanted.storage_class_name)]


def network(desired: Desired) -> list[Manifest]:
    """Return PostgreSQL's Service."""
    return [services.internal(desired, Component.POSTGRES)]


def workload(desired: Desired) -> Manifest:
    """Return the StatefulSet of one replica."""
    pod = pods.Pod(
        component=Component.POSTGRES,
        config=files(desired),
        config_map=NAME,
        init_containers=[_prepare(desired), agent.sidecar(desired, Component.POSTGRES)],
        containers=[_postgres(desired)],
        volumes=[
            pods.run_volume(),
            pods.claim(DATABASE_CLAIM),
            pods.in_memory("tmp", "16Mi"),
            *offline.volumes(desired),
        ],
        grace_seconds=_GRACE_SECONDS,
        fields=offline.scheduling(desired),
    )
    return stateful_set(desired, Component.POSTGRES, pods.template(desired, pod))


_MOUNT_DATA = pods.mount(DATABASE_CLAIM, postgres_config.DATA_DIR, writable=True)


def _prepare(desired: Desired) -> Manifest:
    """Return the container that fills an empty volume, and refuses one of another major version."""
    return pods.container(
        "prepare",
        desired.release.images.database,
        sizes.main(desired, Component.POSTGRES).resources(),
        [pods.MOUNT_TMP, _MOUNT_DATA],
        command=["/opt/pacs/bin/database-init"],
    )


def _postgres(desired: Desired) -> Manifest:
    """Return the server; without liveness probe: crash recovery takes its time, and a restart starts it anew."""
    return pods.container(
        "postgres",
        desired.release.images.database,
        sizes.main(desired, Component.POSTGRES).resources(),
        [pods.MOUNT_CONFIG, pods.MOUNT_TLS, pods.MOUNT_RUN_WRITABLE, pods.MOUNT_TMP, _MOUNT_DATA],
        args=["-c", f"config_file={CONFIG_DIR}/postgresql.conf"],
        ports=[{"name": "postgres", "containerPort": Port.POSTGRES, "protocol": "TCP"}],
        readinessProbe=pods.http_probe("/readyz", period=2, failures=3),
    )
