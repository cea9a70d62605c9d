"""Whom a workstation may have images sent to: names in specs become AE titles, and what cannot be said why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pacs_operator.domain.outbound import resolve
from pacs_operator.domain.peer import Peer


@dataclass(frozen=True)
class Resolved:
    """What a peer's ``spec.moveDestinations`` come to.

    Attributes
    ----------
    titles
        AE titles that its C-MOVE may name, sorted.
    unusable
        A sentence for each name that leads nowhere.
    """

    titles: tuple[str, ...]
    unusable: tuple[str, ...]


def by_key(peers: Iterable[Peer]) -> dict[str, Peer]:
    """Return peers by ``namespace/name``."""
    return {peer.key: peer for peer in peers}


def destinations(peer: Peer, accepted: Mapping[str, Peer]) -> Resolved:
    """Return where a peer may have images sent.

    A name that leads nowhere narrows the list and nothing else: the peer itself goes on working.

    Parameters
    ----------
    peer
        An accepted peer.
    accepted
        All accepted peers of the archive, by key.
    """
    titles: set[str] = set()
    unusable = []
    for name in peer.spec.move_destinations:
        key = resolve(name, peer.namespace)
        found = accepted.get(key)
        if found is None:
            unusable.append(f"{key} is no accepted DicomPeer of this archive")
        elif found.spec.outbound is None:
            unusable.append(f"{key} has no spec.outbound, so nothing can be sent to it")
        else:
            titles.update(found.spec.ae_titles)
    return Resolved(tuple(sorted(titles)), tuple(unusable))
