"""What the reconcile may ask of an agent."""

from typing import Protocol

from pacs_operator.domain.agentconfig import AgentStatus
from pacs_operator.domain.errors import PacsError
from pacs_operator.vault.port import ClientCredentials


class AgentUnreachableError(PacsError):
    """An agent did not answer, or not as one of this archive."""

    reason = "AgentUnreachable"


class AgentPort(Protocol):
    """The control port of one agent."""

    def status(self, address: str, server_name: str, credentials: ClientCredentials) -> AgentStatus:
        """Return what the agent tells.

        Parameters
        ----------
        address
            IP address of the pod.
        server_name
            DNS name that the agent's certificate must bear.
        credentials
            Client certificate, key and the authority that must have signed the agent's certificate.

        Raises
        ------
        AgentUnreachableError
            No answer within the time, not verified, or not understood.
        """
