"""What can go wrong in an agent, each with a stable reason for logs and status."""

from pacs_operator.domain.errors import PacsError


class AgentError(PacsError):
    """Something in this pod is not as the agent needs it."""

    reason = "AgentError"


class AgentConfigError(AgentError):
    """``agent.json`` is missing, unreadable or contradicts itself."""

    reason = "AgentConfigInvalid"
    retry = False


class KeysNotInMemoryError(AgentError):
    """The folder for private keys is not a memory-backed file system."""

    reason = "KeysNotInMemory"
    retry = False


class CertificateMismatchError(AgentError):
    """Vault answered with something other than what was asked for; it is not used."""

    reason = "CertificateMismatch"


class InvalidPeersError(AgentError):
    """``peers.json`` cannot be honoured; the list applied before stays."""

    reason = "InvalidPeers"
    retry = False


class NeighbourError(AgentError):
    """The main container does not answer, or did not take what it was given."""

    reason = "NeighbourUnavailable"


class SessionsRemainError(NeighbourError):
    """Associations that had to end are still open at the gate."""

    reason = "GateSessionsRemain"

    def __init__(self, slots: frozenset[str], seconds: float) -> None:
        super().__init__(
            f"associations of slots {', '.join(sorted(slots))} are still open {seconds:.0f} s after they were ended",
            action="nobody new is let in there; the agent tries again",
        )


class SlotsExhaustedError(NeighbourError):
    """More peers than the gate has slots."""

    reason = "GateSlotsExhausted"
    retry = False


class ReadBackError(NeighbourError):
    """HAProxy holds something other than what was written."""

    reason = "GateReadBackDiffers"
