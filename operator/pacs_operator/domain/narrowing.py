"""What is left of a peer in force when nothing may be added: the common part of what runs and what is wanted."""

import ipaddress
from collections.abc import Iterable
from itertools import product
from typing import TypeVar

from pacs_operator.domain.gatepeers import LegacyDoor, LivePeer

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Bound = TypeVar("_Bound", int, str)


def common_networks(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """Return the fewest networks that cover what both lists hold, IPv4 first; empty when they share nothing."""
    shared: set[Network] = set()
    for left, right in product(map(ipaddress.ip_network, one), map(ipaddress.ip_network, other)):
        if left.version == right.version and left.overlaps(right):  # then one holds the other
            shared.add(max(left, right, key=lambda network: network.prefixlen))
    fours = ipaddress.collapse_addresses(network for network in shared if network.version == 4)
    sixes = ipaddress.collapse_addresses(network for network in shared if network.version == 6)
    return [str(network) for network in (*fours, *sixes)]


def narrowed(live: LivePeer, wanted: LivePeer) -> LivePeer | None:
    """Return a peer with no more than it has and no more than it is wanted to have.

    Parameters
    ----------
    live
        The peer as gate and Orthanc have it.
    wanted
        The same peer as its resource says now.

    Returns
    -------
    LivePeer or None
        None when nothing is left, or when it is bound to another certificate now: that is a new peer. Equal to
        ``wanted`` where that asks for nothing that the live one lacks.
    """
    if live.id != wanted.id or live.identity != wanted.identity:
        return None
    titles = [title for title in wanted.ae_titles if title in live.ae_titles]
    rights = [right for right in wanted.rights if right in live.rights]
    if not titles or not rights:
        return None
    # No network at all would mean any: only the archive's own probes have that, on both sides.
    probe = not live.source_cidrs and not wanted.source_cidrs
    cidrs = [] if probe else _sources(live.source_cidrs, wanted.source_cidrs)
    if not cidrs and not probe:
        return None
    return LivePeer(
        id=live.id,
        dns_name=live.dns_name,
        issuer=live.issuer,
        spki=live.spki,
        ae_titles=titles,
        source_cidrs=cidrs,
        rights=rights,
        ends=_least(live.ends, wanted.ends),
        max_associations=min(live.max_associations, wanted.max_associations),
        contained=live.contained or wanted.contained,
        legacy=_earlier(live.legacy, wanted.legacy),
        associations_per_minute=_least(live.associations_per_minute, wanted.associations_per_minute),
        tls_exception_until=_both(live.tls_exception_until, wanted.tls_exception_until),
        # Another address is another place: nothing is sent to either.
        outbound=wanted.outbound if wanted.outbound == live.outbound else None,
        move_destinations=[t for t in wanted.move_destinations or () if t in (live.move_destinations or ())] or None,
    )


def _both(one: int | None, other: int | None) -> int | None:
    """Return the earlier end of a leave that both have."""
    return None if one is None or other is None else min(one, other)


def _least(one: _Bound | None, other: _Bound | None) -> _Bound | None:
    """Return the narrower of two ends or limits; none is wider than any."""
    return min((bound for bound in (one, other) if bound is not None), default=None)


def _earlier(live: LegacyDoor | None, wanted: LegacyDoor | None) -> LegacyDoor | None:
    """Return the door that closes first; where nobody can tell when it would, as it stands."""
    if live is None or wanted is None or wanted.closes is None:
        return live
    return live if live.closes is not None and live.closes <= wanted.closes else wanted


def _sources(live: list[str], wanted: list[str]) -> list[str]:
    """Return the common sources; in the words of the resource where that is all of them."""
    shared, plain = common_networks(live, wanted), common_networks(wanted, wanted)
    return sorted(wanted) if shared == plain else sorted(shared)
