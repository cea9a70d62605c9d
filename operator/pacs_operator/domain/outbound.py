"""Where a peer receives, and which peers another one may have images sent to: pure rules."""

import ipaddress
import re
from typing import Annotated

from pydantic import Field

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model

# Kubernetes names (RFC 1123 subdomain), with the namespace (RFC 1123 label) before them or not.
_REFERENCE = re.compile(
    r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)


class Outbound(Model):
    """Where the device listens for C-STORE and for storage commitment reports, over TLS.

    An address, no name: network policies know addresses only, and what a resolver says would move the policy's hole
    away from the gate's connection. Who answers there is proven by ``spec.certificate.dnsName``.
    """

    address: Annotated[str, Field(min_length=2, max_length=45)]
    port: Annotated[int, Field(ge=1, le=65535)]


def check_address(value: str, field: str) -> str:
    """Return an IP address in its shortest written form.

    Raises
    ------
    InvalidSpecError
        No address, one with a zone, or one written in a longer form than RFC 5952 has it.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        address = None
    if address is None or str(address) != value or "%" in value:
        raise InvalidSpecError(
            f"{field}: {value!r} is not an IP address in its shortest form",
            action="write the address at which the device listens, for example 198.18.10.21; names are not resolved",
            reason="InvalidAddress",
        )
    return value


def check_destination(value: str, field: str) -> str:
    """Return an IP address that can be one device's.

    Raises
    ------
    InvalidSpecError
        As `check_address`; or loopback, link-local, multicast, unspecified or broadcast.
    """
    address = ipaddress.ip_address(check_address(value, field))
    nobody = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if nobody or value == "255.255.255.255":
        raise InvalidSpecError(
            f"{field}: {value!r} is no address of one device in a network",
            action="write the address at which the device listens; loopback, link-local and multicast are none",
            reason="InvalidAddress",
        )
    return value


def check_peer_reference(value: str, field: str) -> str:
    """Return the name of a ``DicomPeer``, with its namespace or without.

    Raises
    ------
    InvalidSpecError
        Not a name.
    """
    if _REFERENCE.fullmatch(value) is None:
        raise InvalidSpecError(
            f"{field}: {value!r} is not the name of a DicomPeer",
            action="name a DicomPeer of the same namespace, or namespace/name",
            reason="InvalidReference",
        )
    return value


def resolve(reference: str, namespace: str) -> str:
    """Return the key (``namespace/name``) that a reference means to a peer of this namespace."""
    return reference if "/" in reference else f"{namespace}/{reference}"
