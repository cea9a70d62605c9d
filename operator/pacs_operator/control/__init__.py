"""Asking the agents: mutual TLS to their control ports, for certificate times and per-peer counts."""

from pacs_operator.control.port import AgentPort, AgentUnreachableError

__all__ = ["AgentPort", "AgentUnreachableError"]
