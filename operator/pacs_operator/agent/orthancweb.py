"""The HAProxy beside Orthanc, which takes DICOMweb from the gate: certificates into the running process."""

from pathlib import Path

from cryptography import x509

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.haproxy import RuntimeSocket
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.x509tools import serial_of
from pacs_operator.domain.names import CaName


class OrthancWeb:
    """Certificates of the HAProxy beside Orthanc.

    Parameters
    ----------
    socket
        Path of its runtime socket.
    leaf
        Name of the leaf that it serves.
    surroundings
        Where the certificates are.
    """

    def __init__(self, socket: Path, leaf: str, surroundings: Surroundings) -> None:
        self._socket = RuntimeSocket(socket)
        self._leaf = leaf
        self._surroundings = surroundings

    async def apply_certificates(self, changed: Changes) -> None:
        """Commit a new leaf and a new root; requests under way go on.

        Raises
        ------
        NeighbourError
            Not taken, or another certificate is in use afterwards.
        """
        if CaName.INTERNAL in changed.roots:
            root = self._surroundings.root(CaName.INTERNAL)
            await self._socket.replace_file("ca-file", root, root.read_text("ascii"))
        if self._leaf in changed.leaves:
            await self._commit_leaf(self._surroundings.bundle(self._leaf))

    async def _commit_leaf(self, path: Path) -> None:
        pem = path.read_text("ascii")
        await self._socket.replace_file("cert", path, pem)
        if await self._socket.serial_of(path) != serial_of(x509.load_pem_x509_certificates(pem.encode("ascii"))[0]):
            raise NeighbourError(
                f"the HAProxy beside Orthanc serves another certificate than the one in {path.name}",
                action="the agent tries again; look at the container web",
                reason="ReadBackDiffers",
            )
