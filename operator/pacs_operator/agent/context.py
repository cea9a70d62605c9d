"""What every part of one agent shares; handed in, so that tests move time, folders and Vault."""

from dataclasses import dataclass, field
from typing import Protocol

from pacs_operator.agent.clock import Clock
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.problems import Problems
from pacs_operator.agent.storagekeys import DataKeyVault
from pacs_operator.domain.agentconfig import AgentConfig, Leaf
from pacs_operator.domain.names import CaName


class Signer(Protocol):
    """Vault as an agent needs it; blocking calls that raise :class:`VaultError`."""

    def sign(self, leaf: Leaf, lineage_id: str, csr_pem: str) -> str:
        """Return the PEM chain for a request."""

    def ca_pem(self, lineage_id: str, ca: CaName) -> str:
        """Return an authority's root."""

    def crl_pem(self, lineage_id: str, ca: CaName) -> str:
        """Return an authority's revocation list."""


@dataclass(frozen=True)
class Context:
    """Configuration, folders, Vault, time, and the list of what is wrong."""

    config: AgentConfig
    surroundings: Surroundings
    signer: Signer
    clock: Clock
    data_keys: DataKeyVault | None = None  # beside Orthanc alone
    pod_uid: str = ""  # known where something is sealed for this very pod
    problems: Problems = field(default_factory=Problems)
