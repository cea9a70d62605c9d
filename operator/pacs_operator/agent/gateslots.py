"""Which peer holds which slot of the gate: what is live, what should be, and in which order to get there. No I/O."""

from collections import defaultdict
from dataclasses import dataclass, field

from pacs_operator.agent import gateweb
from pacs_operator.agent.errors import InvalidPeersError
from pacs_operator.domain import gatemaps
from pacs_operator.domain.gatepeers import LivePeer, LivePeers

MAPS = (
    gatemaps.IDS,
    gatemaps.TITLES,
    gatemaps.SOURCES,
    gatemaps.LIMITS,
    gatemaps.RATES,
    gatemaps.EXCEPTIONS,
    gatemaps.CONTAINED,
    gatemaps.IDENTITY,
)
WEB_MAPS = (gatemaps.SERVICES,)  # where DICOMweb is on
Entries = dict[str, list[tuple[str, str]]]  # map -> its entries as read


@dataclass(frozen=True)
class Rights:
    """What one peer may do at the gate, as the maps hold it."""

    peer: str
    identity: str
    titles: frozenset[str]  # keys of gatemaps.TITLES without the slot
    sources: str
    limit: str
    contained: bool = False
    rate: str = gatemaps.NO_RATE
    exception: str = gatemaps.NO_EXCEPTION
    services: str | None = None  # of DICOMweb; None: it is off

    @classmethod
    def of(cls, peer: LivePeer, *, web: bool = False) -> "Rights":
        """Return the rights that a peer's entry in the live list gives; those of DICOMweb, where that is on."""
        return cls(
            peer=peer.id,
            identity=peer.identity,
            titles=frozenset(map(gatemaps.title_hex, peer.ae_titles)),
            sources=gatemaps.sources_value(peer.source_cidrs),
            limit=str(peer.max_associations),
            contained=bool(peer.contained),
            rate=str(peer.associations_per_minute or gatemaps.NO_RATE),
            exception=str(peer.tls_exception_until or gatemaps.NO_EXCEPTION),
            services=gateweb.services(peer.rights) if web else None,
        )

    def narrows(self, before: "Rights") -> bool:
        """Tell whether an association that was right before could be wrong now.

        A lower limit does not count: it holds for new associations, and which of the open ones should end
        nobody could say.
        """
        shut = (self.contained and not before.contained) or _leave(self.exception) < _leave(before.exception)
        shut = shut or not _services(before.services) <= _services(self.services)
        return shut or not before.titles <= self.titles or not _sources_widen(before.sources, self.sources)


def _leave(until: str) -> int:
    """Return the end of an exception as a number; what is none was not written by us and counts as the longest."""
    return int(until) if until.isdecimal() else 2**63


def _services(services: str | None) -> set[str]:
    return set((services or "").split("+")) - {"", gatemaps.NO_SERVICES}


def _sources_widen(before: str, after: str) -> bool:
    if after == gatemaps.ANY_SOURCE:
        return True
    if before == gatemaps.ANY_SOURCE:
        return False
    return set(before.split(",")) <= set(after.split(","))


@dataclass
class LiveSlot:
    """One slot as read from HAProxy; more than one value anywhere means that it is not as we write it."""

    ids: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    rates: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    contained: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)

    def rights(self) -> Rights | None:
        """Return what it gives, or None when it is incomplete or ambiguous."""
        single = (self.ids, self.identities, self.sources, self.limits, self.rates, self.exceptions)
        if any(len(values) != 1 for values in single) or len(set(self.titles)) != len(self.titles):
            return None
        if len(self.contained) > 1 or len(self.services) > 1:
            return None
        return Rights(
            peer=self.ids[0],
            identity=self.identities[0],
            titles=frozenset(self.titles),
            sources=self.sources[0],
            limit=self.limits[0],
            contained=bool(self.contained),
            rate=self.rates[0],
            exception=self.exceptions[0],
            services=next(iter(self.services), None),
        )


def live_slots(entries: Entries) -> dict[str, LiveSlot]:
    """Return every slot that any map mentions."""
    slots: dict[str, LiveSlot] = defaultdict(LiveSlot)
    for identity, slot in entries[gatemaps.IDENTITY]:
        slots[slot].identities.append(identity)
    for key, _ in entries[gatemaps.TITLES]:
        slot, _, title = key.partition("/")
        slots[slot].titles.append(title)
    for name, attribute in (
        (gatemaps.IDS, "ids"),
        (gatemaps.SOURCES, "sources"),
        (gatemaps.LIMITS, "limits"),
        (gatemaps.CONTAINED, "contained"),
        (gatemaps.RATES, "rates"),
        (gatemaps.EXCEPTIONS, "exceptions"),
        (gatemaps.SERVICES, "services"),
    ):
        for slot, value in entries.get(name, []):
            getattr(slots[slot], attribute).append(value)
    return dict(slots)


@dataclass(frozen=True)
class Plan:
    """What to do, in this order: free, change, fill; and how many peers have to wait for a slot."""

    free: tuple[str, ...]
    change: tuple[tuple[str, Rights, Rights], ...]  # slot, before, after
    fill: tuple[tuple[str, Rights], ...]
    left_out: frozenset[str] = frozenset()  # certificate names

    def __bool__(self) -> bool:
        return bool(self.free or self.change or self.fill)


def wanted_rights(peers: LivePeers, *, web: bool = False) -> dict[str, Rights]:
    """Return each peer's rights by its certificate's name.

    Parameters
    ----------
    peers
        The live list.
    web
        Whether DICOMweb is on.

    Raises
    ------
    InvalidPeersError
        Two peers share a certificate: one of them would get the other's rights.
    """
    wanted: dict[str, Rights] = {}
    for peer in peers.peers:
        rights = Rights.of(peer, web=web)
        other = wanted.setdefault(rights.identity, rights)
        if other is not rights:
            raise InvalidPeersError(
                f"peers.json: {other.peer} and {rights.peer} have the same identity {rights.identity}",
                action="give one of the two DicomPeers another certificate name",
            )
    return wanted


def taken_away(live: dict[str, LiveSlot], wanted: dict[str, Rights]) -> dict[str, Rights]:
    """Return the rights held now without those that are wanted no more: nobody new, and nobody with more.

    Parameters
    ----------
    live
        What the maps say now.
    wanted
        Rights by certificate name.
    """
    held = [rights for state in live.values() if (rights := state.rights())]
    left = {}
    for before in held:
        after = wanted.get(before.identity)
        if after is not None and after.peer == before.peer:
            left[before.identity] = after if after.narrows(before) else before
    return left


def make_plan(live: dict[str, LiveSlot], busy: frozenset[str], wanted: dict[str, Rights], slots: int) -> Plan:
    """Return how to get from the live slots to the wanted rights.

    A peer keeps its slot, also when the agent started again; a slot is free only when no map names it and no
    session of its last peer is left.

    Parameters
    ----------
    live
        What the maps say now.
    busy
        Slots with open sessions.
    wanted
        Rights by certificate name.
    slots
        How many the gate has.
    """
    free: list[str] = []
    change: list[tuple[str, Rights, Rights]] = []
    placed: set[str] = set()
    for slot, state in sorted(live.items()):
        before = state.rights()
        after = wanted.get(before.identity) if before else None
        if before is None or after is None or after.peer != before.peer or after.identity in placed:
            free.append(slot)
            continue
        placed.add(after.identity)
        if after != before:
            change.append((slot, before, after))
    free += sorted(slot for slot in busy if slot not in live)
    newcomers = [rights for identity, rights in sorted(wanted.items()) if identity not in placed]
    vacant = [name for name in map(gatemaps.slot_name, range(slots)) if name not in live and name not in busy]
    fill = tuple(zip(vacant, newcomers, strict=False))
    left_out = frozenset(rights.identity for rights in newcomers[len(fill) :])
    return Plan(tuple(free), tuple(change), fill, left_out)
