"""The archive's own peers, probes and import, beside the accepted DicomPeers in the live list."""

from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.names import (
    IMPORT_AE_TITLE,
    PROBE_AE_TITLE,
    PROBE_STORE_ONLY_AE_TITLE,
    Component,
    Zone,
    namespace_of,
    service_dns,
)
from pacs_operator.domain.peer import Right

#: Without one of these an import cannot work: it stores, and asks and gets back what it stored.
IMPORT_NEEDS = (Right.STORE, Right.FIND, Right.GET)
CONFORMANCE_PEER_ID = "probe/conformance"
STORE_ONLY_PEER_ID = "probe/store-only"
IMPORT_PEER_ID = "probe/import"
#: As many as are held open to see whether another peer is served beside them.
CONFORMANCE_ASSOCIATIONS = 16
#: So few that all of them, for the moment in which the limit is tried, are missed by nobody.
STORE_ONLY_ASSOCIATIONS = 4


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
            max_associations=CONFORMANCE_ASSOCIATIONS,
        ),
        LivePeer(
            id=STORE_ONLY_PEER_ID,
            dns_name=probe_dns_name(archive, store_only=True),
            ae_titles=[PROBE_STORE_ONLY_AE_TITLE],
            source_cidrs=[],
            rights=[Right.STORE],
            max_associations=STORE_ONLY_ASSOCIATIONS,
        ),
    ]


def import_peer(archive: str) -> LivePeer:
    """Return the peer that an import is: it stores, and reads back what it stored; no other right.

    It is no probe to ingest: the reserved identifiers are refused from it as from everybody.
    """
    return LivePeer(
        id=IMPORT_PEER_ID,
        dns_name=service_dns(Component.IMPORTER, archive),
        ae_titles=[IMPORT_AE_TITLE],
        source_cidrs=[],
        rights=[Right.ECHO, *IMPORT_NEEDS],
        max_associations=8,
    )


def own_peers(archive: str, *, importing: bool) -> list[LivePeer]:
    """Return the archive's own peers; the import's is there only while something is imported. In order of ids."""
    own = [*probe_peers(archive), *([import_peer(archive)] if importing else [])]
    return sorted(own, key=lambda peer: peer.id)
