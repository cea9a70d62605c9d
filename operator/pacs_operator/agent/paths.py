"""Where an agent finds and leaves files; fixed in a pod, moved only by tests that call the code directly."""

from dataclasses import dataclass
from pathlib import Path

from pacs_operator.domain.agentconfig import (
    CONFIG_DIR,
    IMAGES_DIR,
    OFFLINE_DIR,
    OFFLINE_KEY_DIR,
    PEERS_DIR,
    RUN_DIR,
    SEALED_DIR,
    STORAGE_KEYS_DIR,
    STORAGE_RING_FILE,
    TLS_DIR,
    WEB_TLS_DIR,
)
from pacs_operator.domain.gatepeers import PEERS_FILE
from pacs_operator.domain.names import CaName, Port


@dataclass(frozen=True)
class Surroundings:
    """Folders and ports of one agent.

    Attributes
    ----------
    tls
        Memory-backed folder of keys, certificates, roots and CRLs.
    run
        Memory-backed folder of sockets and assembled configuration.
    web_tls
        Memory-backed folder of what the HAProxy beside Orthanc has as `tls`, where there is one.
    config
        The component's own configuration (ConfigMap, read-only).
    peers
        Folder of ``peers.json`` (ConfigMap, read-only).
    images
        The images' volume, where this agent has it.
    offline
        Folder on the node's disk that outlives a reboot with the pod, for the sealed file; where there is one.
    offline_key
        Folder of the Secret by which a person lets the pod start without Vault; empty while there is none.
    health_port
        Plain HTTP for the kubelet.
    control_port
        Mutual TLS for the operator and the conformance pod.
    postgres_port, dicom_port
        Where the neighbour listens, for looking at the certificate it serves.
    """

    tls: Path = Path(TLS_DIR)
    run: Path = Path(RUN_DIR)
    web_tls: Path = Path(WEB_TLS_DIR)
    config: Path = Path(CONFIG_DIR)
    peers: Path = Path(PEERS_DIR)
    images: Path = Path(IMAGES_DIR)
    offline: Path = Path(OFFLINE_DIR)
    offline_key: Path = Path(OFFLINE_KEY_DIR)
    health_port: int = Port.AGENT_HEALTH
    control_port: int = Port.AGENT_CONTROL
    postgres_port: int = Port.POSTGRES
    dicom_port: int = Port.ORTHANC_DICOM

    @property
    def sealed(self) -> Path:
        """Return the folder of encrypted images."""
        return self.images / Path(SEALED_DIR).name

    @property
    def storage_keys(self) -> Path:
        """Return the folder of wrapped data keys."""
        return self.images / Path(STORAGE_KEYS_DIR).name

    @property
    def ring(self) -> Path:
        """Return the path of the storage plugin's list of data keys."""
        return self.run / Path(STORAGE_RING_FILE).name

    @property
    def peers_file(self) -> Path:
        """Return the path of the live list of peers."""
        return self.peers / PEERS_FILE

    @property
    def client_authorities(self) -> Path:
        """Return the path of all authorities whose client certificates the gate takes."""
        return self.tls / "ca-clients.pem"

    @property
    def client_crls(self) -> Path:
        """Return the path of all their revocation lists."""
        return self.tls / "crl-clients.pem"

    def chain(self, leaf: str) -> Path:
        """Return the path of a leaf's certificate chain."""
        return self.tls / f"{leaf}.crt"

    def key(self, leaf: str) -> Path:
        """Return the path of a leaf's private key."""
        return self.tls / f"{leaf}.key"

    def bundle(self, leaf: str) -> Path:
        """Return the path of key and chain in one file."""
        return self.tls / f"{leaf}.pem"

    def root(self, ca: CaName) -> Path:
        """Return the path of an authority's root."""
        return self.tls / f"ca-{ca.value}.pem"

    def crl(self, ca: CaName) -> Path:
        """Return the path of an authority's revocation list."""
        return self.tls / f"crl-{ca.value}.pem"
