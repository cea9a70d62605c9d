"""Revocation lists that end, at a gate that lets nobody in by one that has (spec.peers.expiredRevocationList: Refuse).

New connections the handshake refuses by itself. What was opened before, ends here.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509

from pacs_operator.agent.gateslots import Entries, live_slots
from pacs_operator.agent.gatetrust import ClientTrust
from pacs_operator.agent.gateweb import Web
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.issuers import OWN
from pacs_operator.domain.names import CaName

#: A handshake that was over before the list becomes an association no later (first PDU: 5 s).
_LATE = timedelta(seconds=10)


class ListEnds:
    """When the lists in use end, and whose associations end with them.

    Parameters
    ----------
    web
        DICOMweb at this gate, which judges each request by the end of the archive's own list.
    surroundings
        Where the archive's own list is.
    trust
        The named authorities; None where there are none.
    now
        The wall clock.
    """

    def __init__(
        self, web: Web, surroundings: Surroundings, trust: ClientTrust | None, now: Callable[[], datetime]
    ) -> None:
        self._web = web
        self._surroundings = surroundings
        self._trust = trust
        self._now = now
        self._done: dict[str, datetime] = {}  # ends after which associations of pinned keys were ended

    async def slots_over(self, entries: Entries) -> frozenset[str]:
        """Return the slots whose associations must end now; to be asked every few seconds.

        Those of pinned keys once for each list that ended: nobody remembers whose certificate came with the key, and
        who bears one that is still right comes again and is served.

        Parameters
        ----------
        entries
            HAProxy's maps of peers.

        Raises
        ------
        NeighbourError
            HAProxy did not take the end of the archive's own list.
        """
        own = x509.load_pem_x509_crl(self._surroundings.crl(CaName.PEERS).read_bytes()).next_update_utc
        ends = {} if own is None else {OWN: own}
        await self._web.list_ends(0 if own is None else int(own.timestamp()))
        ends |= self._trust.list_ends() if self._trust else {}
        now = self._now()
        over = {name: end for name, end in ends.items() if end <= now}
        if not over:
            return frozenset()
        pinned = any(self._done.get(name) != end for name, end in over.items())
        self._done |= {name: end for name, end in over.items() if now >= end + _LATE}
        found = {slot: rights.identity for slot, state in live_slots(entries).items() if (rights := state.rights())}
        return frozenset(slot for slot, identity in found.items() if _judged_by(identity, over, pinned=pinned))


def _judged_by(identity: str, over: dict[str, datetime], *, pinned: bool) -> bool:
    """Tell whether a peer's certificate is judged by one of these authorities' lists."""
    if identity.startswith("port:"):  # no certificate at all
        return False
    if identity.startswith("spki:"):
        return pinned
    issuer, slash, _ = identity.partition("/")
    return (issuer if slash else OWN) in over
