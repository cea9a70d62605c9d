"""What rendering needs beside the spec, gathered by the reconcile and handed in; rendering itself looks at nothing."""

from dataclasses import dataclass, field

from pacs_operator.domain.agentconfig import SealingOrders
from pacs_operator.domain.archive import Archive
from pacs_operator.domain.catalog import Release
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.importing import ImportSpec


@dataclass(frozen=True)
class VaultSettings:
    """Where Vault is, for the archive's agents and for the operator.

    ``cidrs`` are the addresses network policies open; ``port`` is the address' port.
    """

    address: str
    ca_pem: str
    auth_path: str
    audience: str
    cidrs: tuple[str, ...]
    port: int


@dataclass(frozen=True)
class ClusterSettings:
    """The operator's own surroundings, from its environment."""

    operator_namespace: str
    operator_service_account: str
    operator_pod_labels: dict[str, str]
    cluster_domain: str = "cluster.local"
    dns_namespace: str = "kube-system"
    dns_pod_labels: dict[str, str] = field(default_factory=lambda: {"k8s-app": "kube-dns"})


@dataclass(frozen=True)
class Importing:
    """The import whose turn it is; ``run`` names the slice whose Job should exist now, None: none is due."""

    name: str
    uid: str
    spec: ImportSpec
    run: str | None = None


@dataclass(frozen=True)
class Desired:
    """One archive as it should be: the input of every renderer."""

    archive: Archive
    lineage_id: str
    release: Release
    vault: VaultSettings
    cluster: ClusterSettings
    peers: LivePeers
    conformance_run: str | None = None  # name of the run whose Job should exist now; None: none is due
    importing: Importing | None = None
    sealing: SealingOrders | None = None  # what is to be done with images that lie on the volume already
