"""``peers.json`` as the kubelet mounts it, and the last good list kept for a restart."""

from pathlib import Path

from pydantic import ValidationError

from pacs_operator.agent.errors import InvalidPeersError
from pacs_operator.agent.files import PUBLIC, read_if_there, write_atomic
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.identifiers import check_ae_title, check_disjoint, check_dns_name

MAX_BYTES = 1024 * 1024  # a ConfigMap holds no more
NOBODY = LivePeers(revision="", peers=[])

FileMark = tuple[int, int, int, int]


def mark_of(path: Path) -> FileMark | None:
    """Return what changes when the file does: the kubelet swaps a link, so device and inode do; None when absent."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def parse_peers(raw: bytes) -> LivePeers:
    """Return a list of peers that can be enforced as a whole.

    Raises
    ------
    InvalidPeersError
        Not the documented form; or an identity, title or id occurs twice, so that rights would depend on order.
    """
    action = "the operator writes this file: read its log, and remove hand edits of the ConfigMap peers"
    if len(raw) > MAX_BYTES:
        raise InvalidPeersError(f"peers.json: {len(raw)} bytes, {MAX_BYTES} are allowed", action=action)
    try:
        peers = LivePeers.model_validate_json(raw)
        for number, peer in enumerate(peers.peers):
            field = f"peers.json: peers[{number}]"
            if peer.dns_name is not None:
                check_dns_name(peer.dns_name, f"{field}.dnsName")
            for title in peer.ae_titles:
                check_ae_title(title, f"{field}.aeTitles")
            check_disjoint(peer.source_cidrs, f"{field}.sourceCIDRs")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidPeersError(f"peers.json: {where}: {first['type']}", action=action) from error
    except InvalidSpecError as error:
        raise InvalidPeersError(error.message, action=action) from error
    for what, values in (
        ("id", [peer.id for peer in peers.peers]),
        ("identity", [peer.identity for peer in peers.peers]),
        ("AE title", [title for peer in peers.peers for title in peer.ae_titles]),
    ):
        if len(set(values)) != len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise InvalidPeersError(f"peers.json: {what} {twice!r} occurs twice", action=action)
    if not peers.revision:
        raise InvalidPeersError("peers.json: revision is empty", action=action)
    return peers


def read_peers(path: Path) -> LivePeers:
    """Return the mounted list.

    Raises
    ------
    InvalidPeersError
        Absent, unreadable or invalid.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidPeersError(
            f"{path}: cannot be read ({type(error).__name__})", action="mount the ConfigMap peers there"
        ) from error
    return parse_peers(raw)


def remember(path: Path, peers: LivePeers) -> None:
    """Keep an accepted list in the pod's memory volume, for a restart of the agent while the mounted one is bad."""
    write_atomic(path, peers.model_dump_json(by_alias=True).encode(), PUBLIC)


def recall(path: Path) -> LivePeers | None:
    """Return the list accepted before a restart, if any."""
    raw = read_if_there(path)
    if raw is None:
        return None
    try:
        return parse_peers(raw)
    except InvalidPeersError:
        return None
