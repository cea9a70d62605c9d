"""Names and encodings in HAProxy's memory that the rendered gate reads and the gate's agent writes.

A peer occupies one slot: a backend of its own, so that its associations can be ended alone. All maps but
``IDENTITY`` are keyed by slot; the certificate's name in ``IDENTITY`` is what lets a peer in, and is therefore
written last and removed first.
"""

import ipaddress

# "virt@" maps have no file: empty at start, so that a gate whose agent has not spoken yet lets nobody in.
IDENTITY = "virt@identity"  # DNS name of the certificate -> slot
IDS = "virt@ids"  # slot -> id of the peer, for records and for an agent that starts again
TITLES = "virt@titles"  # "<slot>/<title in hex>" -> 1; hex, because titles may hold what the socket's syntax uses
SOURCES = "virt@sources"  # slot -> "<network in hex>/<bits>,..." or ANY_SOURCE
ISSUERS = "virt@issuers"  # SHA-256 of an issuer's subject -> its name, or issuers.OWN
AUTHORITIES = "virt@authorities"  # ALL -> SHA-256 of every authority's certificate, by commas
UNCHECKED = "virt@unchecked"  # name of an issuer that has no revocation list, by consent -> 1
CONTAINED = "virt@contained"  # slot -> 1: known, but told to try again later
LIMITS = "virt@limits"  # slot -> greatest number of associations at one time
RATES = "virt@rates"  # slot -> greatest number of new associations in a minute, or NO_RATE

EXCEPTIONS = "virt@exceptions"  # slot -> until when it may use older TLS, seconds since the epoch, or NO_EXCEPTION
# Title in hex -> "<slot>/<address>/<port>/<DNS name of the certificate>": where the gate opens a connection for
# Orthanc. In one value, so that no address is ever tried with another device's name.
ROUTES = "virt@routes"

# Only where DICOMweb is on:
SERVICES = "virt@services"  # slot -> "Find+Get+Store", those that it may use, or NO_SERVICES
LIST_END = "virt@list_end"  # ALL -> end of the own revocation list in use, seconds since the epoch
REVOKED = "virt@revoked"  # serial -> 1: a connection can be older than the revocation of its certificate

ANY_SOURCE = "any"
ALL = "all"
NO_SERVICES = "-"
NO_RATE = "0"
NO_EXCEPTION = "0"
WEB_COUNTS_TABLE = "web_peers"  # likewise of DICOMweb
WEB_CERTIFICATES_TABLE = "web_certificates"  # "<slot>/<serial>" of each request under way
COUNTS_TABLE = "peers"  # what each slot has open, and began within the last minute
BACKEND_PREFIX = "slot_"
WEB_PREFIX = "web_"
SERVER = "orthanc"  # name of the only server in every such backend
OUTBOUND_PREFIX = "out_"
DESTINATION = "device"  # name of the only server in every outbound backend
ARCHIVE_BACKEND = "orthanc"  # whose server is checked, and which all slots follow
WEB_BACKEND = "dicomweb"  # likewise of DICOMweb


def slot_name(slot: int) -> str:
    """Return a slot as maps and backends name it."""
    return f"{slot:03d}"


def backend_name(slot: str) -> str:
    """Return the backend of a slot."""
    return f"{BACKEND_PREFIX}{slot}"


def web_backend(slot: str) -> str:
    """Return the backend by which a slot's DICOMweb requests go."""
    return f"{WEB_PREFIX}{slot}"


def outbound_backend(slot: str) -> str:
    """Return the backend by which a device is reached; these slots are counted apart from those of `backend_name`."""
    return f"{OUTBOUND_PREFIX}{slot}"


def title_hex(title: str) -> str:
    """Return an AE title as HAProxy's ``hex`` converter writes it: upper case, without padding."""
    return title.encode("ascii").hex().upper()


def sources_value(cidrs: list[str]) -> str:
    """Return a peer's source networks as the gate compares them.

    Parameters
    ----------
    cidrs
        Networks, IPv4 and IPv6; none means any source that network policies let through (probe pods).
    """
    if not cidrs:
        return ANY_SOURCE
    networks = sorted(map(ipaddress.ip_network, cidrs), key=lambda network: (network.version, network))
    return ",".join(f"{network.network_address.packed.hex()}/{network.prefixlen}" for network in networks)
