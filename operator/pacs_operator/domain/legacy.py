"""Legacy modalities: devices without TLS, each a standing exception with a port, a reason and an end of its own.

Their identity is the network's word alone: source address and AE titles, all of which a neighbour on their network can
claim. What bounds them is one listener each, pinned titles, few rights, and a date.
"""

import ipaddress
from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from pacs_operator.domain.agentconfig import Time
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import Port
from pacs_operator.domain.times import parse_time

MAX_PORTS = 16
MAX_SOURCES = 4
MAX_AHEAD = timedelta(days=366)  # an exception without an end in sight is no exception
ALARM_DAYS = (30, 7, 1)
_OURS = (Port.DICOM_TLS, 4243, Port.AGENT_HEALTH, Port.AGENT_CONTROL)  # all that the gate's pod itself listens on


class LegacyPorts(Model):
    """``PacsArchive.spec.dicom.legacyPorts``: where the gate may listen without TLS, both ends included."""

    first: Annotated[int, Field(ge=1024, le=65535)]
    last: Annotated[int, Field(ge=1024, le=65535)]
    first_node_port: Annotated[int, Field(ge=1, le=65535)] | None = None

    @model_validator(mode="after")
    def _few_and_not_ours(self) -> Self:
        if not 0 <= self.last - self.first < MAX_PORTS:
            raise InvalidSpecError(
                f"spec.dicom.legacyPorts: {self.first} to {self.last} is no range of 1 to {MAX_PORTS} ports",
                action="give as many ports as there are devices without TLS, the lowest as first",
            )
        for port in _OURS:
            if port in self:
                raise InvalidSpecError(
                    f"spec.dicom.legacyPorts: {self.first} to {self.last} holds {port}, a port of the gate's pod",
                    action="choose a range without it, for example 11112 to 11119",
                )
        return self

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def node_port(self, port: int) -> int | None:
        """Return the fixed port of the nodes for a listener's, or None where the cluster draws it."""
        return None if self.first_node_port is None else self.first_node_port + port - self.first


class StaffedHours(Model):
    """``PacsArchive.spec.dicom.staffedHours``: when somebody is there to see an exception close."""

    schedule: Annotated[str, Field(max_length=64)]  # each match of this cron expression begins a staffed hour
    time_zone: Annotated[str, Field(max_length=64)]


class Legacy(Model):
    """``DicomPeer.spec.legacy``."""

    port: Annotated[int, Field(ge=1024, le=65535)]
    reason: Annotated[str, Field(min_length=10, max_length=256)]
    expires: Time

    @property
    def end(self) -> datetime:
        """Return when the exception expires."""
        return parse_time(self.expires)


def check_sources(cidrs: list[str]) -> None:
    """Refuse a legacy device's networks: its address is half of its identity.

    Raises
    ------
    InvalidSpecError
        More than a few, or one that is not a single address.
    """
    if len(cidrs) > MAX_SOURCES:
        raise InvalidSpecError(
            f"spec.sourceCIDRs: {len(cidrs)} entries, {MAX_SOURCES} are allowed with spec.legacy",
            action="give each device without TLS a DicomPeer and a port of its own",
        )
    for cidr in cidrs:
        network = ipaddress.ip_network(cidr)
        if network.prefixlen != network.max_prefixlen:
            raise InvalidSpecError(
                f"spec.sourceCIDRs: {cidr} is not a single address, which spec.legacy requires",
                action="write the device's fixed address with /32 (IPv6: /128)",
            )


def alarm(end: datetime, now: datetime) -> int | None:
    """Return the closest alarm that is due, in days before the end; 0 when it has passed, None when none is due."""
    if end <= now:
        return 0
    due = [days for days in ALARM_DAYS if end - now <= timedelta(days=days)]
    return min(due) if due else None
