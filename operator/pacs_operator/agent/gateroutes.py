"""Where the gate opens connections for Orthanc: what is live, what should be, and how to get there."""

from collections import Counter
from dataclasses import dataclass

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.haproxy import RuntimeSocket
from pacs_operator.domain import gatemaps
from pacs_operator.domain.gatepeers import LivePeers

_END_SECONDS = 5.0
_LOOKS = 2  # a session may have passed the map just before it was emptied


class RoutesDifferError(NeighbourError):
    """HAProxy's routes are other than those written."""

    reason = "GateRoutesDiffer"


class RouteSessionsRemainError(NeighbourError):
    """Connections to a destination that is one no more are still open."""

    reason = "GateRouteSessionsRemain"


class RoutesExhaustedError(NeighbourError):
    """More destinations than slots."""

    reason = "GateRoutesExhausted"
    retry = False


@dataclass(frozen=True)
class RoutePlan:
    """What to do, in this order: forget titles, end slots' connections, add routes."""

    wanted: dict[str, str]
    forget: tuple[str, ...]
    end: frozenset[str]
    add: tuple[tuple[str, str], ...]


def targets(peers: LivePeers) -> dict[str, str]:
    """Return ``<address>/<port>/<DNS name>`` by title in hex, for the peers that receive and are not contained."""
    return {
        gatemaps.title_hex(title): f"{peer.outbound.address}/{peer.outbound.port}/{peer.dns_name.lower()}"
        for peer in peers.peers
        if peer.outbound and peer.dns_name and not peer.contained
        for title in peer.ae_titles
    }


def plan_routes(live: list[tuple[str, str]], busy: frozenset[str], wanted: dict[str, str], slots: int) -> RoutePlan:
    """Return how to get from the live routes to the wanted targets.

    A target keeps its slot, also when the agent started again. A slot whose title or target goes has all its
    connections ended: which title an open one was made for, nobody can say.

    Parameters
    ----------
    live
        Entries of the map as read.
    busy
        Outbound slots with open connections.
    wanted
        Targets by title, as `targets` makes them.
    slots
        How many the gate has.

    Raises
    ------
    RoutesExhaustedError
        More targets than slots.
    """
    known = [gatemaps.slot_name(slot) for slot in range(slots)]
    counted = Counter(title for title, _ in live)
    slot_of: dict[str, str] = {}
    for _, value in live:
        slot, _, target = value.partition("/")
        if slot in known and slot not in slot_of.values():
            slot_of.setdefault(target, slot)
    taken = {value.partition("/")[0] for _, value in live} | busy
    vacant = iter([name for name in known if name not in taken])
    for target in sorted(set(wanted.values()) - slot_of.keys()):
        free = next(vacant, None)
        if free is None:
            raise RoutesExhaustedError(
                f"the gate has {slots} slots for destinations, no one is left",
                action="have fewer peers receive from this archive",
            )
        slot_of[target] = free
    routes = {title: f"{slot_of[target]}/{target}" for title, target in wanted.items()}
    kept = {title for title, value in live if routes.get(title) == value and counted[title] == 1}
    gone = {value.partition("/")[0] for title, value in live if title not in kept}
    in_use = {value.partition("/")[0] for value in routes.values()}
    return RoutePlan(
        wanted=routes,
        forget=tuple(sorted(counted.keys() - kept)),
        end=frozenset(gone | (busy - in_use)).intersection(known),
        add=tuple(sorted((title, value) for title, value in routes.items() if title not in kept)),
    )


class Routes:
    """The map of routes in one HAProxy.

    Parameters
    ----------
    socket
        HAProxy's runtime socket.
    slots
        How many outbound backends it has.
    """

    def __init__(self, socket: RuntimeSocket, slots: int) -> None:
        self._socket = socket
        self._slots = slots

    async def apply(self, peers: LivePeers) -> None:
        """Make the routes live: first what goes, with its connections, then what comes; read back and compare.

        Raises
        ------
        NeighbourError
            Not applied; a route that goes is gone all the same.
        """
        live = await self._socket.read_map(gatemaps.ROUTES)
        plan = plan_routes(live, await self._busy(), targets(peers), self._slots)
        for title in plan.forget:
            await self._socket.remove_entry(gatemaps.ROUTES, title)
        await self._end(plan.end)
        for title, value in plan.add:
            await self._socket.add_entry(gatemaps.ROUTES, title, value)
        if sorted(await self._socket.read_map(gatemaps.ROUTES)) != sorted(plan.wanted.items()):
            raise RoutesDifferError(
                "HAProxy's routes differ from the list of peers after they were written",
                action="the agent tries again; look for somebody else who uses the runtime socket",
            )

    async def _end(self, slots: frozenset[str]) -> None:
        looks_without = 0

        async def empty() -> bool:
            nonlocal looks_without
            for slot in sorted(slots):
                await self._socket.end_connections(gatemaps.outbound_backend(slot), gatemaps.DESTINATION)
            looks_without = 0 if slots & await self._busy() else looks_without + 1
            return looks_without >= _LOOKS

        if slots and not await self._socket.poll(empty, _END_SECONDS):
            raise RouteSessionsRemainError(
                f"connections of outbound slots {', '.join(sorted(slots))} are still open {_END_SECONDS:.0f} s after "
                "they were ended",
                action="nothing new is sent there; the agent tries again",
            )

    async def _busy(self) -> frozenset[str]:
        prefix = gatemaps.OUTBOUND_PREFIX
        return frozenset(
            name.removeprefix(prefix)
            for name, load in (await self._socket.loads()).items()
            if name.startswith(prefix) and load.open_sessions
        )
