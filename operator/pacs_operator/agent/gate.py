"""The gate beside the agent: peers, certificates and revocations into a running HAProxy, open associations unharmed."""

import asyncio
from pathlib import Path

from pacs_operator.agent.clock import Clock, SystemClock
from pacs_operator.agent.errors import AgentConfigError, NeighbourError
from pacs_operator.agent.gatelog import LogReader, Tally
from pacs_operator.agent.gateslots import MAPS, Entries, Plan, Rights, live_slots, make_plan, wanted_rights
from pacs_operator.agent.haproxy import BackendLoad, FileKind, HaproxySilentError, RuntimeSocket
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain import gatemaps
from pacs_operator.domain.agentconfig import AgentConfig, PeerActivity
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.names import CaName

SERVED_LEAVES = ("server-ec", "server-rsa", "orthanc-client")
USED_ROOTS = (CaName.PEERS, CaName.INTERNAL)

_END_SECONDS = 5.0
_ROUNDS = 3  # free, then fill; one more for what came in between


class SessionsRemainError(NeighbourError):
    """A removed peer's associations are still open."""

    reason = "GateSessionsRemain"


class SlotsExhaustedError(NeighbourError):
    """More peers than slots."""

    reason = "GateSlotsExhausted"
    retry = False


class ReadBackError(NeighbourError):
    """HAProxy holds something other than what was written."""

    reason = "GateReadBackDiffers"


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
        self._tally = Tally()
        self._log = LogReader(Path(config.haproxy_log_socket), self._tally, (clock or SystemClock()).now)
        self._writing = asyncio.Lock()
        self._applied: dict[str, Rights] | None = None
        self._slot_of: dict[str, str] = {}  # peer id -> slot, of the applied list
        self._opened_before: set[str] | None = None  # slots whose associations began before this agent listened

    @property
    def refused_strangers(self) -> dict[str, int]:
        """Return connections that belong to no peer, by reason, since the agent started."""
        return dict(self._tally.strangers)

    async def prepare(self, peers: LivePeers) -> None:
        """Listen for records; HAProxy reads its own files and starts with empty maps, so there is no more to do."""
        wanted_rights(peers)
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
            if CaName.PEERS in changed.crls:
                await self._commit_revocations(self._surroundings.crl(CaName.PEERS))
            for leaf in SERVED_LEAVES:
                if leaf in changed.leaves:
                    await self._commit("cert", self._surroundings.bundle(leaf))

    async def _commit(self, kind: FileKind, path: Path) -> None:
        pem = await asyncio.to_thread(path.read_text, "ascii")
        await self._socket.replace_file(kind, path, pem)

    async def _commit_revocations(self, path: Path) -> None:
        before = await self._socket.revoked_serials(path)
        await self._commit("crl-file", path)
        revoked = await self._socket.revoked_serials(path)
        earlier = self._opened_before or set()
        for slot in await self._busy_slots():
            unknown_and_new = slot in earlier and bool(revoked - before)
            if unknown_and_new or self._tally.serials.get(slot, set()) & revoked:
                await self._end_sessions(slot)
                earlier.discard(slot)
                self._tally.serials.pop(slot, None)

    async def apply_peers(self, peers: LivePeers) -> str:
        """Make the list live: first what goes, with its associations, then what comes; read back and compare.

        Raises
        ------
        NeighbourError
            Not applied; what could be removed is removed all the same.
        """
        wanted = wanted_rights(peers)
        async with self._writing:
            await self._note_earlier_sessions()
            for _ in range(_ROUNDS):
                plan = make_plan(live_slots(await self._read()), await self._busy_slots(), wanted, self._slots)
                if not plan:
                    break
                await self._carry_out(plan)
            await self._prove({name: rights for name, rights in wanted.items() if name not in plan.left_out})
        if plan.left_out:
            raise SlotsExhaustedError(
                f"the gate has {self._slots} slots, {len(plan.left_out)} of {len(wanted)} peers find none",
                action="bind fewer peers to this archive, or give several AE titles to one certificate",
            )
        return peers.revision

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
        return {name: await self._socket.read_map(name) for name in MAPS}

    async def _carry_out(self, plan: Plan) -> None:
        """Do all of it, although one peer's associations may not end: the others' changes do not wait for it."""
        remain: SessionsRemainError | None = None
        for slot in plan.free:
            try:
                await self._free(slot)
            except SessionsRemainError as error:
                remain = error
        for slot, before, after in plan.change:
            try:
                await self._change(slot, before, after)
            except SessionsRemainError as error:
                remain = error
        for slot, rights in plan.fill:
            await self._fill(slot, rights)
        if remain:
            raise remain

    async def _free(self, slot: str) -> None:
        """Let nobody in by this slot, end who is in, and only then forget whose it was."""
        entries = await self._read()
        for identity, owner in entries[gatemaps.IDENTITY]:
            if owner == slot:
                await self._socket.remove_entry(gatemaps.IDENTITY, identity)
        for key in {key for key, _ in entries[gatemaps.TITLES] if key.startswith(f"{slot}/")}:
            await self._socket.remove_entry(gatemaps.TITLES, key)
        await self._end_sessions(slot)
        for name in (gatemaps.SOURCES, gatemaps.LIMITS, gatemaps.IDS):
            if any(key == slot for key, _ in entries[name]):
                await self._socket.remove_entry(name, slot)
        self._tally.serials.pop(slot, None)

    async def _change(self, slot: str, before: Rights, after: Rights) -> None:
        for title in sorted(before.titles - after.titles):
            await self._socket.remove_entry(gatemaps.TITLES, f"{slot}/{title}")
        if after.sources != before.sources:
            await self._socket.set_entry(gatemaps.SOURCES, slot, after.sources)
        if after.limit != before.limit:
            await self._socket.set_entry(gatemaps.LIMITS, slot, after.limit)
        if after.narrows(before):
            await self._end_sessions(slot)
        for title in sorted(after.titles - before.titles):
            await self._socket.add_entry(gatemaps.TITLES, f"{slot}/{title}", "1")

    async def _fill(self, slot: str, rights: Rights) -> None:
        await self._socket.add_entry(gatemaps.IDS, slot, rights.peer)
        await self._socket.add_entry(gatemaps.LIMITS, slot, rights.limit)
        await self._socket.add_entry(gatemaps.SOURCES, slot, rights.sources)
        for title in sorted(rights.titles):
            await self._socket.add_entry(gatemaps.TITLES, f"{slot}/{title}", "1")
        await self._socket.add_entry(gatemaps.IDENTITY, rights.identity, slot)

    async def _end_sessions(self, slot: str) -> None:
        """End a slot's sessions until two looks in a row find none: one may have passed the maps just before."""
        looks_without = 0

        async def empty() -> bool:
            nonlocal looks_without
            await self._socket.end_sessions(slot)
            load = (await self._socket.loads()).get(gatemaps.backend_name(slot))
            looks_without = 0 if load and load.open_sessions else looks_without + 1
            return looks_without >= 2

        if not await self._socket.poll(empty, _END_SECONDS):
            raise SessionsRemainError(
                f"associations of slot {slot} are still open {_END_SECONDS:.0f} s after their peer went",
                action="nobody new is let in there; the agent tries again",
            )

    async def _busy_slots(self) -> frozenset[str]:
        prefix = gatemaps.BACKEND_PREFIX
        return frozenset(
            name.removeprefix(prefix)
            for name, load in (await self._socket.loads()).items()
            if name.startswith(prefix) and load.open_sessions
        )

    async def _note_earlier_sessions(self) -> None:
        """Remember once which slots had associations whose certificates this agent never saw."""
        if self._opened_before is None:
            self._opened_before = {slot for slot in await self._busy_slots() if not self._tally.serials.get(slot)}

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

    async def archive_reachable(self) -> bool:
        """Tell whether HAProxy's own check of Orthanc's DICOM port succeeds; never raises."""
        try:
            load = (await self._socket.loads()).get(gatemaps.ARCHIVE_BACKEND)
        except NeighbourError:
            return False
        return load is not None and load.up

    async def served(self) -> dict[str, str]:
        """Return the serial in use of each leaf."""
        serials = {}
        for leaf in SERVED_LEAVES:
            try:
                serial = await self._socket.serial_of(self._surroundings.bundle(leaf))
            except NeighbourError:
                return {}
            if serial:
                serials[leaf] = serial
        return serials

    async def activity(self) -> list[PeerActivity]:
        """Return what each peer of the applied list did, and what it has open."""
        try:
            loads = await self._socket.loads()
        except NeighbourError:
            return []
        return [self._activity_of(peer, slot, loads) for peer, slot in sorted(self._slot_of.items())]

    def _activity_of(self, peer: str, slot: str, loads: dict[str, BackendLoad]) -> PeerActivity:
        counts = self._tally.peers[peer]
        load = loads.get(gatemaps.backend_name(slot))
        return PeerActivity(
            id=peer,
            last_association=counts.last_association,
            last_rejection=counts.last_rejection,
            last_rejection_reason=counts.last_rejection_reason,
            rejections=counts.rejections,
            presented_not_after=counts.presented_not_after,
            open_associations=load.open_sessions if load else 0,
        )
