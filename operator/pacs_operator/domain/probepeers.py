"""The archive's own probe peers, beside the accepted DicomPeers in the live list."""

from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.names import (
    PROBE_AE_TITLE,
    PROBE_STORE_ONLY_AE_TITLE,
    Zone,
    namespace_of,
)
from pacs_operator.domain.peer import Right

CONFORMANCE_PEER_ID = "probe/conformance"
STORE_ONLY_PEER_ID = "probe/store-only"


def probe_dns_name(archive: str, *, store_only: bool) -> str:
    """Return the subject alternative name of a probe's client certificate."""
    return f"{'probe-store' if store_only else 'probe'}.{namespace_of(archive, Zone.OPS)}.svc"


def probe_peers(archive: str) -> list[LivePeer]:
    """Return the two probe peers of an archive.

    The store-only peer has no right but Store, not even Echo: its refused C-ECHO is the only one that shows from
    outside whether Orthanc was told to answer an echo to anybody (``DicomAlwaysAllowEcho``), because the gate
    turns unknown titles away before Orthanc sees them.
    """
    return [
        LivePeer(
            id=CONFORMANCE_PEER_ID,
            dns_name=probe_dns_name(archive, store_only=False),
            ae_titles=[PROBE_AE_TITLE],
            source_cidrs=[],
            rights=[Right.ECHO, Right.STORE, Right.FIND, Right.GET],
            max_associations=8,
        ),
        LivePeer(
            id=STORE_ONLY_PEER_ID,
            dns_name=probe_dns_name(archive, store_only=True),
            ae_titles=[PROBE_STORE_ONLY_AE_TITLE],
            source_cidrs=[],
            rights=[Right.STORE],
            max_associations=4,
        ),
    ]
