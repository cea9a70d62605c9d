"""Peers as Orthanc's ``DicomModalities``: one entry an AE title, every right written out."""

from typing import Any

from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.peer import Right

Entry = dict[str, Any]

# A right that an entry leaves out is granted (seen with 1.13.0), so all are written, also those refused.
_SWITCHES: dict[Right, str] = {
    Right.ECHO: "AllowEcho",
    Right.STORE: "AllowStore",
    Right.STORAGE_COMMITMENT: "AllowStorageCommitment",
    Right.FIND: "AllowFind",
    Right.FIND_WORKLIST: "AllowFindWorklist",
    Right.GET: "AllowGet",
    Right.MOVE: "AllowMove",
}
# Read back, storage commitment shows as its two DIMSE messages (PS3.4 annex J).
_COMMITMENT_PARTS = ("AllowNAction", "AllowEventReport")
# Peers have no address of their own yet: entries give rights inbound; nothing listens here.
_NOWHERE = {"Host": "127.0.0.1", "Port": 1}


def entry_name(ae_title: str) -> str:
    """Return the stable symbolic name of a title; Orthanc's names allow less than an AE title does."""
    return f"ae-{ae_title.encode('ascii').hex()}"


def entries_of(peers: LivePeers) -> dict[str, Entry]:
    """Return the entries of all titles of all peers, by name."""
    entries: dict[str, Entry] = {}
    for peer in peers.peers:
        for title in peer.ae_titles:
            entry: Entry = {"AET": title, **_NOWHERE}
            entry.update({switch: right in peer.rights for right, switch in _SWITCHES.items()})
            # Decompressing for a workstation that cannot loses nothing; refusing it would keep the image from it.
            entry["AllowTranscoding"] = True
            entries[entry_name(title)] = entry
    return entries


def same(wanted: Entry, live: Entry) -> bool:
    """Tell whether a live entry is exactly the wanted one, in everything that gives a right or an address."""
    expected = dict(wanted)
    commitment = expected.pop("AllowStorageCommitment")
    if "AllowStorageCommitment" in live:
        expected["AllowStorageCommitment"] = commitment
    else:
        expected.update(dict.fromkeys(_COMMITMENT_PARTS, commitment))
    unasked = {key for key in live if key.startswith("Allow")} - expected.keys()
    if any(live[key] for key in unasked):  # a right that a newer Orthanc knows and we do not
        return False
    return all(live.get(key) == value for key, value in expected.items())
