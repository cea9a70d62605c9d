"""The gate beside the agent: peers, certificates and revocations into a running HAProxy, open associations unharmed."""

import asyncio
from pathlib import Path

from cryptography import x509

from pacs_operator.agent.clock import Clock, SystemClock
from pacs_operator.agent.errors import (
    AgentConfigError,
    NeighbourError,
    ReadBackError,
    SessionsRemainError,
    SlotsExhaustedError,
)
from pacs_operator.agent.gatelists import ListEnds
from pacs_operator.agent.gatelog import LogReader, Tally
from pacs_operator.agent.gateroutes import Routes
from pacs_operator.agent.gateslots import (
    MAPS,
    WEB_MAPS,
    Entries,
    Plan,
    Rights,
    live_slots,
    make_plan,
    taken_away,
    wanted_rights,
)
from pacs_operator.agent.gatetrust import ClientTrust
from pacs_operator.agent.gateweb import Web
from pacs_operator.agent.haproxy import FileKind, HaproxySilentError, RuntimeSocket
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.x509tools import Served, serial_of
from pacs_operator.domain import gatemaps
from pacs_operator.domain.agentconfig import AgentConfig, PeerActivity
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.names import CaName

SERVED_LEAVES = ("server-ec", "server-rsa", "orthanc-client", "outbound-server", "outbound-client")
USED_ROOTS = (CaName.PEERS, CaName.INTERNAL)

_END_SECONDS = 5.0
_LOOKS = 2
_ROUNDS = 3  # free, then fill; one more for what came in between


class GateNeighbour:
    """HAProxy, by its runtime socket and its records.

    Parameters
    ----------
    config
        Sockets and number of slots.
    surroundings
        Where the certificates are.
    clock
        The wall clock.
    """

    def __init__(self, config: AgentConfig, surroundings: Surroundings, clock: Clock | None = None) -> None:
        if config.haproxy_socket is None or config.haproxy_log_socket is None:
            raise AgentConfigError(
                "agent.json: a gate's agent needs haproxySocket and haproxyLogSocket",
                action="render the gate's ConfigMap with this version of the operator",
            )
        self._surroundings = surroundings
        self._slots = config.gate_slots
        self._socket = RuntimeSocket(Path(config.haproxy_socket))
        self._web = Web(self._socket, on=bool(config.web))
        self._maps = MAPS + WEB_MAPS if self._web.on else MAPS
        self._routes = Routes(self._socket, config.gate_slots)
        self._trust = ClientTrust(self._socket, surroundings) if config.client_issuers else None
        now = (clock or SystemClock()).now
        self._lists = ListEnds(self._web, surroundings, self._trust, now) if config.refuse_expired_lists else None
        self._tally = Tally()
        self._log = LogReader(Path(config.haproxy_log_socket), self._tally, now)
        self._writing = asyncio.Lock()
        self._applied: dict[str, Rights] | None = None
        self._slot_of: dict[str, str] = {}  # peer id -> slot, of the applied list
        self._revoked: frozenset[str] = frozenset()  # serials of the list in use
        self._opened_before: frozenset[str] | None = None  # slots whose associations began before this agent listened
        self._doubtful: frozenset[str] = frozenset()  # slots whose associations must end, whenever that succeeds

    async def prepare(self, peers: LivePeers) -> None:
        """Listen for records; HAProxy reads its own files and starts with empty maps, so there is no more to do."""
        wanted_rights(peers)
        if self._trust is not None:
            await asyncio.to_thread(self._trust.prepare, peers)
        await self._log.start()

    async def close(self) -> None:
        """Stop listening; the gate goes on."""
        self._log.close()

    async def apply_certificates(self, changed: Changes) -> None:
        """Commit new leaves, roots and revocation lists; end the associations of newly revoked certificates.

        Raises
        ------
        NeighbourError
            Not taken, or another certificate is in use afterwards.
        """
        async with self._writing:
            await self._note_earlier_sessions()
            for ca in USED_ROOTS:
                if ca in changed.roots:
                    await self._commit("ca-file", self._surroundings.root(ca))
            try:
                if self._trust is not None and CaName.PEERS in changed.roots | changed.crls:
                    await self._trust.refresh(always=True)
            finally:  # who is revoked is ended, whatever becomes of other authorities
                if CaName.PEERS in changed.crls:
                    await self._commit_revocations(self._surroundings.crl(CaName.PEERS))
            for leaf in SERVED_LEAVES:
                if leaf in changed.leaves:
                    await self._commit_leaf(self._surroundings.bundle(leaf))

    async def _commit(self, kind: FileKind, path: Path) -> str:
        pem = await asyncio.to_thread(path.read_text, "ascii")
        await self._socket.replace_file(kind, path, pem)
        return pem

    async def _commit_leaf(self, path: Path) -> None:
        pem = await self._commit("cert", path)
        expected = serial_of(x509.load_pem_x509_certificates(pem.encode("ascii"))[0])
        if await self._socket.serial_of(path) != expected:
            raise ReadBackError(
                f"HAProxy serves another certificate than the one in {path.name}",
                action="the agent tries again; look for somebody else who uses the runtime socket",
            )

    async def _commit_revocations(self, path: Path) -> None:
        before = await self._socket.revoked_serials(path)
        await self._commit("crl-file", path)
        self._revoked = await self._socket.revoked_serials(path)
        if self._revoked - before:
            self._doubtful |= self._opened_before or frozenset()
        await self._web.revoke(self._revoked)
        await self._end_revoked()

    async def _end_revoked(self) -> None:
        """End associations of revoked certificates, and of slots where nobody knows which certificate opened them.

        Also called when no list came: a handshake that was over before the list can still become an association.
        """
        revoked = self._revoked | (self._trust.revoked if self._trust else frozenset())
        shown = {slot for slot, serials in self._tally.serials.items() if serials & revoked}
        shown |= await self._web.slots_using(self._revoked)
        if self._lists is not None:
            shown |= await self._lists.slots_over(await self._read())
        if not shown | self._doubtful:
            return
        remain = await self._end_sessions(await self._busy_slots() & (self._doubtful | shown))
        for slot in shown - remain:
            self._tally.serials.pop(slot, None)
        if remain:
            raise SessionsRemainError(remain, _END_SECONDS)
        self._opened_before = (self._opened_before or frozenset()) - self._doubtful
        self._doubtful = frozenset()

    async def apply_peers(self, peers: LivePeers) -> str:
        """Make the list live: first what goes, with its associations, then what comes; read back and compare.

        Raises
        ------
        NeighbourError
            Not applied; what could be removed is removed all the same.
        """
        wanted = wanted_rights(peers, web=self._web.on)
        async with self._writing:
            try:
                try:
                    await self._apply_issuers(peers)
                except PacsError:  # whoever goes does not wait for an authority that HAProxy will not take
                    await self._take_away(wanted)
                    raise
                left_out = await self._apply_inbound(wanted)
            finally:  # neither way waits for the other
                await self._routes.apply(peers)
        if left_out:
            raise SlotsExhaustedError(
                f"the gate has {self._slots} slots, {len(left_out)} of {len(wanted)} peers find none",
                action="bind fewer peers to this archive, or give several AE titles to one certificate",
            )
        return peers.revision

    async def _apply_issuers(self, peers: LivePeers) -> None:
        """Doubt the slots whose associations an issuer vouched for that went, or may have revoked since."""
        if self._trust is None:
            return
        await self._note_earlier_sessions()
        before = await self._socket.revoked_serials(self._trust.crl_file)
        try:
            await self._trust.apply(peers)
        finally:  # it may have come half the way, and next time there is no difference any more
            if await self._socket.revoked_serials(self._trust.crl_file) - before:
                self._doubtful |= self._opened_before or frozenset()
            held = {slot: state.rights() for slot, state in live_slots(await self._read()).items()}
            self._doubtful |= {slot for slot, rights in held.items() if rights and self._trust.concerns(rights)}
            self._trust.gone = frozenset()

    async def _take_away(self, wanted: dict[str, Rights]) -> None:
        """Remove and narrow, and let nobody in."""
        applied = self._applied
        await self._apply_inbound(taken_away(live_slots(await self._read()), wanted))
        # What HAProxy should hold, also one that started again.
        self._applied = applied and {identity: rights for identity, rights in applied.items() if identity in wanted}

    async def _apply_inbound(self, wanted: dict[str, Rights]) -> frozenset[str]:
        """Return the certificate names for which there was no slot."""
        await self._note_earlier_sessions()
        await self._web.revoke(self._revoked)  # a HAProxy that started again has forgotten them
        for _ in range(_ROUNDS):
            plan = make_plan(live_slots(await self._read()), await self._busy_slots(), wanted, self._slots)
            if not plan:
                break
            await self._carry_out(plan)
        await self._end_revoked()
        await self._prove({name: rights for name, rights in wanted.items() if name not in plan.left_out})
        return plan.left_out

    async def _prove(self, wanted: dict[str, Rights]) -> None:
        held = {slot: state.rights() for slot, state in live_slots(await self._read()).items()}
        by_identity = {rights.identity: rights for rights in held.values() if rights}
        if len(by_identity) != len(held) or by_identity != wanted:
            raise ReadBackError(
                "HAProxy's maps differ from the list of peers after it was written",
                action="the agent tries again; look for somebody else who uses the runtime socket",
            )
        self._applied = wanted
        self._slot_of = {rights.peer: slot for slot, rights in held.items() if rights}
        self._tally.know({identity: rights.peer for identity, rights in wanted.items()})

    async def _read(self) -> Entries:
        return {name: await self._socket.read_map(name) for name in self._maps}

    async def _carry_out(self, plan: Plan) -> None:
        """Take away from all, end who is in, then give: what one peer's associations do, no other's change awaits."""
        narrowed = frozenset(slot for slot, before, after in plan.change if after.narrows(before))
        leaving = frozenset(plan.free)
        entries = await self._read()
        await self._shut(leaving, entries)
        for slot, before, after in plan.change:
            await self._narrow(slot, before, after)
        remain = await self._end_sessions(leaving | narrowed)
        await self._forget(leaving - remain, entries)
        for slot, before, after in plan.change:
            for title in sorted(after.titles - before.titles):
                await self._socket.add_entry(gatemaps.TITLES, f"{slot}/{title}", "1")
            if before.contained and not after.contained:
                await self._socket.remove_entry(gatemaps.CONTAINED, slot)
        for slot, rights in plan.fill:
            await self._fill(slot, rights)
        if remain:
            raise SessionsRemainError(remain, _END_SECONDS)

    async def _shut(self, slots: frozenset[str], entries: Entries) -> None:
        """Let nobody in by these slots."""
        for identity, slot in entries[gatemaps.IDENTITY]:
            if slot in slots:
                await self._socket.remove_entry(gatemaps.IDENTITY, identity)
        for key in {key for key, _ in entries[gatemaps.TITLES] if key.partition("/")[0] in slots}:
            await self._socket.remove_entry(gatemaps.TITLES, key)

    async def _forget(self, slots: frozenset[str], entries: Entries) -> None:
        """Forget whose these slots were; until then nobody else gets them."""
        for name in (
            gatemaps.SOURCES,
            gatemaps.LIMITS,
            gatemaps.RATES,
            gatemaps.EXCEPTIONS,
            gatemaps.CONTAINED,
            gatemaps.SERVICES,
            gatemaps.IDS,
        ):
            for slot in slots & {key for key, _ in entries.get(name, [])}:
                await self._socket.remove_entry(name, slot)
        for slot in slots:
            await self._socket.forget_rate(slot)
            await self._web.forget_rate(slot)
            self._tally.serials.pop(slot, None)
        self._doubtful -= slots

    async def _narrow(self, slot: str, before: Rights, after: Rights) -> None:
        if after.contained and not before.contained:
            await self._socket.add_entry(gatemaps.CONTAINED, slot, "1")
        for title in sorted(before.titles - after.titles):
            await self._socket.remove_entry(gatemaps.TITLES, f"{slot}/{title}")
        if after.sources != before.sources:
            await self._socket.set_entry(gatemaps.SOURCES, slot, after.sources)
        if after.limit != before.limit:
            await self._socket.set_entry(gatemaps.LIMITS, slot, after.limit)
        if after.rate != before.rate:
            await self._socket.set_entry(gatemaps.RATES, slot, after.rate)
        if after.exception != before.exception:
            await self._socket.set_entry(gatemaps.EXCEPTIONS, slot, after.exception)
        if after.services and after.services != before.services:
            await self._web.serve(slot, after.services, known=before.services is not None)

    async def _fill(self, slot: str, rights: Rights) -> None:
        await self._socket.add_entry(gatemaps.IDS, slot, rights.peer)
        await self._socket.add_entry(gatemaps.LIMITS, slot, rights.limit)
        await self._socket.add_entry(gatemaps.RATES, slot, rights.rate)
        await self._socket.add_entry(gatemaps.EXCEPTIONS, slot, rights.exception)
        if rights.contained:
            await self._socket.add_entry(gatemaps.CONTAINED, slot, "1")
        if rights.services:
            await self._web.serve(slot, rights.services, known=False)
        await self._socket.add_entry(gatemaps.SOURCES, slot, rights.sources)
        for title in sorted(rights.titles):
            await self._socket.add_entry(gatemaps.TITLES, f"{slot}/{title}", "1")
        await self._socket.add_entry(gatemaps.IDENTITY, rights.identity, slot)

    async def _end_sessions(self, slots: frozenset[str]) -> frozenset[str]:
        """End sessions until two looks in a row find none, since one may have passed the maps just before.

        Returns
        -------
        frozenset
            Slots whose sessions would not end.
        """
        looks_without = 0
        remain = slots

        async def empty() -> bool:
            nonlocal looks_without, remain
            for slot in sorted(slots):
                await self._socket.end_sessions(slot)
                await self._web.end_requests(slot)
            remain = slots & await self._busy_slots()
            looks_without = 0 if remain else looks_without + 1
            return looks_without >= _LOOKS

        if slots:
            await self._socket.poll(empty, _END_SECONDS)
        return remain

    async def _busy_slots(self) -> frozenset[str]:
        prefix = gatemaps.BACKEND_PREFIX
        loads = await self._socket.loads()
        associations = frozenset(
            name.removeprefix(prefix) for name, load in loads.items() if name.startswith(prefix) and load.open_sessions
        )
        return associations | self._web.busy(loads)

    async def _note_earlier_sessions(self) -> None:
        """Remember once which slots had associations whose certificates this agent never saw."""
        if self._opened_before is None:
            self._revoked = await self._socket.revoked_serials(self._surroundings.crl(CaName.PEERS))
            busy = await self._busy_slots()
            self._opened_before = frozenset(slot for slot in busy if not self._tally.serials.get(slot))

    async def ready(self) -> bool:
        """Tell whether HAProxy answers and holds the identities last applied; a restarted one holds none."""
        applied = self._applied
        if applied is None:
            return False
        try:
            live = await self._socket.read_map(gatemaps.IDENTITY)
        except NeighbourError:
            return False
        return sorted(identity for identity, _ in live) == sorted(applied)

    async def alive(self) -> bool:
        """Tell whether HAProxy answers; one that is not there is the kubelet's to start, not ours to end."""
        try:
            await self._socket.ask("show info")
        except HaproxySilentError:
            return False
        except NeighbourError:
            return True
        return True

    async def served(self) -> dict[str, Served]:
        """Return what is in use of each leaf."""
        found = {}
        for leaf in SERVED_LEAVES:
            try:
                serial = await self._socket.serial_of(self._surroundings.bundle(leaf))
            except NeighbourError:
                return {}
            if serial:
                found[leaf] = Served(serial)
        return found

    async def activity(self) -> list[PeerActivity]:
        """Return what each peer of the applied list did, and what it has open."""
        try:
            loads = await self._socket.loads()
        except NeighbourError:
            return []
        slots = sorted(self._slot_of.items())
        open_ones = {slot: load.open_sessions for _, slot in slots if (load := loads.get(gatemaps.backend_name(slot)))}
        return [self._tally.activity(peer, open_ones.get(slot, 0)) for peer, slot in slots]
