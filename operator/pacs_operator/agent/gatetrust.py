"""Whose client certificates the gate takes, beside the archive's own: files and maps of a running HAProxy."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pacs_operator.agent.errors import InvalidPeersError, NeighbourError
from pacs_operator.agent.files import PUBLIC, write_atomic
from pacs_operator.agent.gateslots import Rights
from pacs_operator.agent.haproxy import FileKind, RuntimeSocket
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.x509tools import load_root
from pacs_operator.domain import gatemaps
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.issuers import OWN, Trust, certificate_hash, clashing, read_trust, subject_hash
from pacs_operator.domain.names import CaName

_PEM = serialization.Encoding.PEM


class IssuersDifferError(NeighbourError):
    """HAProxy knows other issuers than those written."""

    reason = "GateIssuersDiffer"


def read_issuers(peers: LivePeers) -> tuple[Trust, ...]:
    """Return the named authorities of a list.

    Raises
    ------
    InvalidPeersError
        One cannot be gone by: then nobody could tell whose certificate comes.
    """
    try:
        return tuple(read_trust(one.name, one.ca_pem, one.crl_pem) for one in peers.issuers or ())
    except InvalidSpecError as error:
        raise InvalidPeersError(error.message, action=error.action) from error


class ClientTrust:
    """The archive's own authority and the named ones, as one pair of files and three maps.

    Parameters
    ----------
    socket
        HAProxy's runtime socket.
    surroundings
        Where the files lie.
    """

    def __init__(self, socket: RuntimeSocket, surroundings: Surroundings) -> None:
        self._socket = socket
        self._surroundings = surroundings
        self._trusts: tuple[Trust, ...] = ()
        self._in_use: dict[Path, bytes] = {}  # what this agent saw committed; HAProxy may have outlived an earlier one
        self.revoked: frozenset[str] = frozenset()  # "<issuer>/<serial>", by the lists in use
        self.gone: frozenset[str] = frozenset()  # that went, or are others now, and whose peers nobody has looked for

    @property
    def crl_file(self) -> Path:
        """Return the path of all revocation lists."""
        return self._surroundings.client_crls

    def prepare(self, peers: LivePeers) -> None:
        """Write the files that HAProxy starts with.

        Raises
        ------
        InvalidPeersError
            An issuer of the list cannot be gone by.
        """
        self._trusts = read_issuers(peers)
        for path, pem in self._files().items():
            write_atomic(path, pem, PUBLIC)

    async def apply(self, peers: LivePeers) -> None:
        """Make the issuers of a list live: files, then maps; read back and compare.

        What those vouched for that went, or whose certificates are others now, must end: they are added to ``gone``,
        also when the rest fails.

        Raises
        ------
        InvalidPeersError, NeighbourError
            Not applied; what was in use stays, but an issuer that goes is forgotten by the maps first.
        """
        trusts = read_issuers(peers)
        root = load_root(await asyncio.to_thread(self._surroundings.root(CaName.PEERS).read_bytes))
        clash = clashing(trusts, root)
        if clash:
            raise InvalidPeersError(
                f"peers.json: issuers that cannot be told apart: {', '.join(sorted({*clash, *clash.values()}))}",
                action="take one of them out of spec.peers.issuers",
            )
        wanted = _maps(trusts, root)
        for name, entries in wanted.items():
            await self._forget(name, entries)
        kept = {trust.name: trust.chain for trust in trusts}
        self.gone |= {trust.name for trust in self._trusts if kept.get(trust.name) != trust.chain}
        self._trusts = trusts
        await self.refresh()
        for name, entries in wanted.items():
            await self._write(name, entries)
            if dict(await self._socket.read_map(name)) != entries:
                raise IssuersDifferError(
                    "HAProxy's issuers differ from the list after they were written",
                    action="the agent tries again; look for somebody else who uses the runtime socket",
                )

    async def refresh(self, *, always: bool = False) -> None:
        """Commit the files where they differ from those in use: also when the archive's own part is new."""
        for path, pem in self._files().items():
            if not always and self._in_use.get(path) == pem:
                continue
            kind: FileKind = "crl-file" if path == self.crl_file else "ca-file"
            await self._socket.replace_file(kind, path, pem.decode("ascii"))
            await asyncio.to_thread(write_atomic, path, pem, PUBLIC)  # for a HAProxy that starts again
            self._in_use[path] = pem
        self.revoked = frozenset(_revoked(self._trusts))

    def list_ends(self) -> dict[str, datetime]:
        """Return when the first of the lists ends by which a named authority's certificates are judged."""
        ends = [(one.issuer, one.next_update_utc) for trust in self._trusts for one in trust.lists]
        first: dict[str, datetime] = {}
        for trust in self._trusts:
            # Also another's list, where it is that of a root they share: the handshake looks at all in the file.
            subjects = [certificate.subject for certificate in trust.chain]
            own = [end for issuer, end in ends if end is not None and issuer in subjects]
            first |= {trust.name: min(own)} if own else {}
        return first

    def concerns(self, rights: Rights) -> bool:
        """Tell whether an issuer that went may have vouched for a peer's open associations.

        Of a pinned key nobody remembers who issued the certificate that came with it.
        """
        issuer = rights.identity.partition("/")[0]
        return bool(self.gone) and (issuer in self.gone or rights.identity.startswith("spki:"))

    def _files(self) -> dict[Path, bytes]:
        """Return authorities first: a list can only be used once its signer is known."""
        own = self._surroundings.root(CaName.PEERS).read_bytes()
        chains = dict.fromkeys(part.public_bytes(_PEM) for trust in self._trusts for part in trust.chain)
        lists = dict.fromkeys(part.public_bytes(_PEM) for trust in self._trusts for part in trust.lists)
        crl = self._surroundings.crl(CaName.PEERS).read_bytes()
        return {
            self._surroundings.client_authorities: b"".join([own.strip(), b"\n", *chains]),
            self._surroundings.client_crls: b"".join([crl.strip(), b"\n", *lists]),
        }

    async def _forget(self, name: str, entries: dict[str, str]) -> None:
        live = await self._socket.read_map(name)
        for key in {key for key, value in live if entries.get(key) != value} - {gatemaps.ALL}:
            await self._socket.remove_entry(name, key)

    async def _write(self, name: str, entries: dict[str, str]) -> None:
        live = dict(await self._socket.read_map(name))
        for key, value in entries.items():
            if key not in live:
                await self._socket.add_entry(name, key, value)
            elif live[key] != value:
                await self._socket.set_entry(name, key, value)


def _maps(trusts: Sequence[Trust], root: x509.Certificate) -> dict[str, dict[str, str]]:
    chains = [root, *(part for trust in trusts for part in trust.chain)]
    return {
        gatemaps.UNCHECKED: {trust.name: "1" for trust in trusts if not trust.lists},
        gatemaps.AUTHORITIES: {gatemaps.ALL: ",".join(sorted({certificate_hash(part) for part in chains}))},
        gatemaps.ISSUERS: {subject_hash(root): OWN, **{subject_hash(trust.issuing): trust.name for trust in trusts}},
    }


def _revoked(trusts: Iterable[Trust]) -> Iterable[str]:
    for trust in trusts:
        for entry in trust.issuing_list or ():
            digits = f"{entry.serial_number:x}"
            yield f"{trust.name}/{digits if len(digits) % 2 == 0 else f'0{digits}'}"
