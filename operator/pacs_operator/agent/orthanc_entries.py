"""Peers as Orthanc's ``DicomModalities``: one entry an AE title, every right written out."""

from dataclasses import dataclass
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
# For a peer that does not receive: the entry gives rights inbound; nothing listens here.
_NOWHERE: Entry = {"Host": "127.0.0.1", "Port": 1, "UseDicomTls": False}
# Of one message; a device may take this long to write a large object down.
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Exit:
    """The gate's outbound side, by which all that leaves Orthanc leaves.

    It is one address for all devices: the gate routes by the called AE title.
    """

    host: str
    port: int

    def entry(self) -> Entry:
        """Return the part of an entry that says where to connect."""
        return {"Host": self.host, "Port": self.port, "UseDicomTls": True, "Timeout": _TIMEOUT_SECONDS}


def entry_name(ae_title: str) -> str:
    """Return the stable symbolic name of a title; Orthanc's names allow less than an AE title does."""
    return f"ae-{ae_title.encode('ascii').hex()}"


def entries_of(peers: LivePeers, way_out: Exit | None = None) -> dict[str, Entry]:
    """Return the entries of all titles of all peers, by name; without a way out nobody is ever sent anything."""
    entries: dict[str, Entry] = {}
    for peer in peers.peers:
        for title in peer.ae_titles:
            entry: Entry = {"AET": title, **(way_out.entry() if peer.outbound and way_out else _NOWHERE)}
            entry.update({switch: right in peer.rights for right, switch in _SWITCHES.items()})
            # Decompressing for a workstation that cannot loses nothing; refusing it would keep the image from it.
            entry["AllowTranscoding"] = True
            entries[entry_name(title)] = entry
    return entries


def destinations_of(peers: LivePeers) -> dict[str, dict[str, str]]:
    """Return whom each asking title may have images sent to: title of the destination -> name of its entry."""
    receiving = {title for peer in peers.peers if peer.outbound for title in peer.ae_titles}
    lists = {}
    for peer in peers.peers:
        entries = {title: entry_name(title) for title in peer.move_destinations or () if title in receiving}
        if entries and Right.MOVE in peer.rights:
            lists.update(dict.fromkeys(peer.ae_titles, entries))
    return lists


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
