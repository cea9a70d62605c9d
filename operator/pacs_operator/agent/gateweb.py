"""DICOMweb at the gate: what its maps hold beside those of DICOM, and whose requests are under way."""

from collections.abc import Iterable

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.haproxy import BackendLoad, RuntimeSocket
from pacs_operator.domain import gatemaps
from pacs_operator.domain.dicomweb import RIGHT_OF
from pacs_operator.domain.peer import Right


def services(rights: Iterable[Right]) -> str:
    """Return the rights that DICOMweb knows, as the gate's map has them."""
    return "+".join(sorted(set(RIGHT_OF.values()) & set(rights))) or gatemaps.NO_SERVICES


class Web:
    """DICOMweb in one HAProxy; where it is off, there is nothing to do.

    Parameters
    ----------
    socket
        HAProxy's runtime socket.
    on
        Whether the gate's configuration has it.
    """

    def __init__(self, socket: RuntimeSocket, *, on: bool) -> None:
        self._socket = socket
        self.on = on

    def busy(self, loads: dict[str, BackendLoad]) -> frozenset[str]:
        """Return the slots with requests under way."""
        prefix = gatemaps.WEB_PREFIX
        slots = ((name.removeprefix(prefix), load) for name, load in loads.items() if name.startswith(prefix))
        return frozenset(slot for slot, load in slots if slot.isdecimal() and load.open_sessions)

    async def serve(self, slot: str, services: str, *, known: bool) -> None:
        """Say what a slot may use; ``known`` when something was said before."""
        write = self._socket.set_entry if known else self._socket.add_entry
        await write(gatemaps.SERVICES, slot, services)

    async def end_requests(self, slot: str) -> None:
        """End all requests of a slot; a connection without one has its next request judged anew."""
        if self.on:
            await self._socket.end_connections(gatemaps.web_backend(slot), gatemaps.SERVER)

    async def forget_rate(self, slot: str) -> None:
        """Begin a slot's minute anew."""
        if self.on:
            await self._socket.forget_rate(slot, gatemaps.WEB_COUNTS_TABLE)

    async def revoke(self, serials: frozenset[str]) -> None:
        """Refuse requests by these certificates, also over connections that were opened before.

        Raises
        ------
        NeighbourError
            HAProxy did not take them.
        """
        if not self.on:
            return
        held = {serial for serial, _ in await self._socket.read_map(gatemaps.REVOKED)}
        for serial in sorted(serials - held):
            await self._socket.add_entry(gatemaps.REVOKED, serial, "1")
        for serial in sorted(held - serials):
            await self._socket.remove_entry(gatemaps.REVOKED, serial)
        if {serial for serial, _ in await self._socket.read_map(gatemaps.REVOKED)} != serials:
            raise NeighbourError(
                "HAProxy's map of revoked serials differs from the list after it was written",
                action="the agent tries again; look for somebody else who uses the runtime socket",
                reason="GateReadBackDiffers",
            )

    async def list_ends(self, end: int) -> None:
        """Say until when requests are judged by the revocation list in use, seconds since the epoch.

        Raises
        ------
        NeighbourError
            HAProxy did not take it.
        """
        if not self.on:
            return
        held = dict(await self._socket.read_map(gatemaps.LIST_END)).get(gatemaps.ALL)
        if held is None:
            await self._socket.add_entry(gatemaps.LIST_END, gatemaps.ALL, str(end))
        elif held != str(end):
            await self._socket.set_entry(gatemaps.LIST_END, gatemaps.ALL, str(end))

    async def slots_using(self, serials: frozenset[str]) -> frozenset[str]:
        """Return the slots that have requests under way by any of these certificates."""
        if not self.on or not serials:
            return frozenset()
        keys = await self._socket.counted_keys(gatemaps.WEB_CERTIFICATES_TABLE)
        shown = (key.partition("/")[::2] for key in keys)
        return frozenset(slot for slot, serial in shown if serial in serials)
