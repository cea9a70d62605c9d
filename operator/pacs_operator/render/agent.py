"""The agent in a pod: its configuration and its container, as sidecar or as one-shot."""

from collections.abc import Sequence

from pacs_operator.domain.agentconfig import (
    CONFIG_DIR,
    RUN_DIR,
    SEALING_FILE,
    WEB_RUN_DIR,
    AgentConfig,
    Leaf,
    StorageKeyring,
    VaultAccess,
)
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.gatepeers import PEERS_FILE
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import (
    ZONE_OF,
    CaName,
    Component,
    Port,
    component_role,
    data_key,
    namespace_of,
    outbound_dns,
    service_dns,
)
from pacs_operator.domain.scrub import SCRUB_FILE
from pacs_operator.render import database, offline, pods, sizes
from pacs_operator.render.manifests import Manifest, config_map, document

CONFIG_FILE = f"{CONFIG_DIR}/agent.json"
HAPROXY_SOCKET = f"{RUN_DIR}/haproxy.sock"
WEB_SOCKET = f"{WEB_RUN_DIR}/web.sock"
HAPROXY_LOG_SOCKET = f"{RUN_DIR}/log.sock"

_TRUST = {
    Component.GATE: [CaName.PEERS, CaName.INTERNAL, CaName.CONTROL],
    Component.ORTHANC: [CaName.INTERNAL, CaName.CONTROL],
    Component.POSTGRES: [CaName.INTERNAL, CaName.CONTROL],
    Component.CONFORMANCE: [CaName.PEERS, CaName.CONTROL],
    Component.IMPORTER: [CaName.PEERS],
}

# Vault may be sealed when a pod starts: the agent itself keeps trying, a restart would only add to its back-off.
_STARTUP_PERIOD_SECONDS = 1
_STARTUP_FAILURES = 3600


def config(desired: Desired, component: Component) -> AgentConfig:
    """Return what a component's agent knows."""
    archive = desired.archive.name
    vault = desired.vault
    specific: dict[str, object] = {}
    match component:
        case Component.GATE:
            specific = {
                "haproxy_socket": HAPROXY_SOCKET,
                "haproxy_log_socket": HAPROXY_LOG_SOCKET,
                "client_issuers": True if desired.archive.spec.peers.issuers is not None else None,
                "refuse_expired_lists": desired.archive.spec.peers.refuse_expired_lists or None,
                "web": desired.archive.spec.dicomweb is not None or None,
            }
        case Component.ORTHANC:
            specific = {
                "orthanc_url": f"http://127.0.0.1:{Port.ORTHANC_HTTP}",
                "outbound_host": outbound_dns(archive),
                "outbound_port": Port.GATE_OUTBOUND,
                "storage": _storage(desired),
                "database": database.access(desired),
                "web_socket": WEB_SOCKET if desired.archive.spec.dicomweb else None,
            }
        case Component.POSTGRES:
            specific = {"postgres_socket_dir": RUN_DIR}
        case Component.CONFORMANCE | Component.IMPORTER:
            pass
    serves = component not in (Component.CONFORMANCE, Component.IMPORTER)
    return AgentConfig(
        component=component,
        lineage_id=desired.lineage_id,
        vault=VaultAccess(
            address=vault.address,
            auth_path=vault.auth_path,
            role=f"{namespace_of(archive, ZONE_OF[component])}.{component.value}",
        ),
        leaves=_leaves(archive, component),
        trust=_TRUST[component],
        control_leaf="control" if serves else None,
        control_clients=_control_clients(desired, component) if serves else {},
        ae_title=desired.archive.spec.dicom.ae_title,
        offline=offline.recipient(desired) if serves else None,
        **specific,
    )


def _storage(desired: Desired) -> StorageKeyring | None:
    encryption = desired.archive.spec.encryption
    if not encryption.on:
        return None
    return StorageKeyring(
        transit_key=data_key(desired.archive.name),
        max_age_days=encryption.key_age_days,
        max_chunks=encryption.data_key_max_chunks,
    )


def _leaves(archive: str, component: Component) -> list[Leaf]:
    return [
        Leaf(
            name=leaf.name,
            ca=leaf.ca,
            role=component_role(archive, component, leaf.name),
            key_type=leaf.key_type,
            dns_names=list(leaf.dns_names),
            ttl_seconds=leaf.ttl_seconds,
        )
        for leaf in leaves_of(component, archive)
    ]


def _control_clients(desired: Desired, component: Component) -> dict[str, str]:
    clients = {"status": f"status.{desired.cluster.operator_namespace}.svc"}
    if component is Component.ORTHANC:
        clients["cleanup"] = service_dns(Component.CONFORMANCE, desired.archive.name)
    return clients


def files(desired: Desired, component: Component) -> dict[str, str]:
    """Return the agent's files in the component's ConfigMap."""
    return {
        "agent.json": document(config(desired, component).document()),
        "vault-ca.pem": desired.vault.ca_pem,
    }


def sidecar(desired: Desired, component: Component, more_mounts: Sequence[Manifest] = ()) -> Manifest:
    """Return the agent that starts before its neighbour and outlives it.

    Its restart restarts nothing else, and it does not take the pod out of service: readiness is the neighbour's.
    """
    mounts = [pods.MOUNT_CONFIG, pods.MOUNT_TOKEN, pods.MOUNT_TLS_WRITABLE, pods.MOUNT_RUN_WRITABLE]
    if component in (Component.GATE, Component.ORTHANC):
        mounts.append(pods.MOUNT_PEERS)
    mounts += [*more_mounts, *offline.mounts(desired)]
    return pods.container(
        "agent",
        desired.release.images.tools,
        sizes.AGENT.resources(),
        mounts,
        command=["/opt/pacs/bin/pacs-agent", "run", "--config", CONFIG_FILE],
        restartPolicy="Always",
        ports=[
            {"name": "health", "containerPort": Port.AGENT_HEALTH, "protocol": "TCP"},
            {"name": "control", "containerPort": Port.AGENT_CONTROL, "protocol": "TCP"},
        ],
        startupProbe=pods.http_probe("/startupz", period=_STARTUP_PERIOD_SECONDS, failures=_STARTUP_FAILURES),
        livenessProbe=pods.http_probe("/livez", period=10, failures=6, timeout=5),
        **offline.environment(desired),
    )


def one_shot(desired: Desired, component: Component) -> Manifest:
    """Return the agent of a Job: gets certificates once and ends."""
    return pods.container(
        "agent",
        desired.release.images.tools,
        sizes.AGENT.resources(),
        [pods.MOUNT_CONFIG, pods.MOUNT_TOKEN, pods.MOUNT_TLS_WRITABLE],
        command=["/opt/pacs/bin/pacs-agent", "init", "--config", CONFIG_FILE],
    )


def live_peers(desired: Desired) -> list[Manifest]:
    """Return what agents follow live; in no template, so its change restarts nothing.

    The list of peers, once for each agent that enforces it, and beside Orthanc the orders to scrub and to encrypt.
    """
    peers = desired.peers.model_copy(update={"peers": sorted(desired.peers.peers, key=lambda peer: peer.id)})
    gate = {PEERS_FILE: document(peers.document())}
    scrub, sealing = desired.archive.spec.storage.scrub, desired.sealing
    orthanc = gate if scrub is None else {**gate, SCRUB_FILE: document(scrub.document())}
    if sealing is not None:
        orthanc = {**orthanc, SEALING_FILE: document(sealing.document())}
    return [
        config_map(desired, pods.PEERS_CONFIG_MAP, component, data)
        for component, data in ((Component.GATE, gate), (Component.ORTHANC, orthanc))
    ]
