"""Checked identifiers of the field: AE titles, certificate names, CIDRs."""

import ipaddress
import re
from collections.abc import Iterable

from pacs_operator.domain.errors import InvalidSpecError

# PS3.5 6.2, VR AE: 16 bytes at most, no backslash, no control characters, spaces at the ends not significant;
# an empty title is not a title. We refuse padding rather than strip it: what is compared is what was written.
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_ae_title(value: str, field: str) -> str:
    """Return an AE title when it is one.

    Parameters
    ----------
    value
        The title: 1 to 16 ASCII characters.
    field
        Path of the field, for the message.

    Raises
    ------
    InvalidSpecError
        Empty, longer than 16 bytes, padded, or with a backslash, control or non-ASCII character (PS3.5 6.2).
    """
    if _AE_TITLE.fullmatch(value):
        return value
    if not value.strip():
        rule = "it is empty"
    elif len(value.encode("utf-8")) > 16:
        rule = f"it has {len(value.encode('utf-8'))} bytes, 16 are allowed"
    elif value != value.strip():
        rule = "it begins or ends with a space"
    elif "\\" in value:
        rule = "it contains a backslash, which separates values in DICOM"
    else:
        rule = "it contains a control or non-ASCII character"
    raise InvalidSpecError(
        f"{field}: {value!r} is not an AE title: {rule}",
        action="use 1 to 16 printable ASCII characters without backslash, as set on the device (DICOM PS3.5 6.2)",
        reason="InvalidAETitle",
    )


def check_dns_name(value: str, field: str) -> str:
    """Return a certificate's DNS name when it names exactly one host.

    Raises
    ------
    InvalidSpecError
        Empty, a wildcard, upper case, or not a DNS name of two labels or more (RFC 5280 4.2.1.6, RFC 1123).
    """
    if _DNS_NAME.fullmatch(value):
        return value
    if not value:
        rule = "it is empty, so any certificate would match"
    elif "*" in value:
        rule = "it is a wildcard, so one certificate would stand for several devices"
    elif value != value.lower():
        rule = "it has upper-case letters"
    else:
        rule = "it is not a DNS name of at least two labels"
    raise InvalidSpecError(
        f"{field}: {value!r} cannot identify a peer: {rule}",
        action="name one host in lower case, for example ct1.imaging.example",
        reason="InvalidIdentity",
    )


def parse_cidr(value: str, field: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return a network.

    Raises
    ------
    InvalidSpecError
        Not a CIDR, host bits set, or the whole Internet.
    """
    try:
        network = ipaddress.ip_network(value, strict=True)
    except ValueError as error:
        raise InvalidSpecError(
            f"{field}: {value!r} is not a network: {error}",
            action="write the network address and its length, for example 198.18.10.0/24, or /32 for one host",
            reason="InvalidCIDR",
        ) from error
    if network.prefixlen == 0:
        raise InvalidSpecError(
            f"{field}: {value!r} allows every address on earth",
            action="name the networks the devices really stand in",
            reason="UnboundedCIDR",
        )
    return network


def check_disjoint(values: Iterable[str], field: str) -> None:
    """Refuse a list of networks in which one contains another.

    Raises
    ------
    InvalidSpecError
        Two networks overlap: one of the two is then not what its writer thinks it is.
    """
    seen: list[tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network]] = []
    for value in values:
        network = parse_cidr(value, field)
        for other_value, other in seen:
            if network.version == other.version and network.overlaps(other):
                raise InvalidSpecError(
                    f"{field}: {value} overlaps {other_value}",
                    action="keep only the wider or only the narrower of the two",
                    reason="OverlappingCIDRs",
                )
        seen.append((value, network))


def covered(value: str, bounds: Iterable[str]) -> bool:
    """Tell whether a network lies inside one of the bounds."""
    network = ipaddress.ip_network(value)
    return any(
        network.version == bound.version and network.subnet_of(bound)  # type: ignore[arg-type]  # same version
        for bound in map(ipaddress.ip_network, bounds)
    )
