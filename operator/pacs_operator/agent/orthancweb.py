"""The HAProxy beside Orthanc, which takes DICOMweb from the gate: certificates into the running process."""

from pathlib import Path

from cryptography import x509

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.files import PRIVATE, sweep_temporaries, write_atomic
from pacs_operator.agent.haproxy import RuntimeSocket
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.x509tools import serial_of
from pacs_operator.domain.names import CaName


class OrthancWeb:
    """Certificates of the HAProxy beside Orthanc.

    It reads what peers send, so it has folders of its own: copies of the two files that it needs, which it cannot
    write, and one for its socket. Orthanc's configuration, the data keys and the pod's other keys are in neither.

    Parameters
    ----------
    socket
        Path of its runtime socket.
    leaf
        Name of the leaf that it serves.
    surroundings
        Where the certificates and their copies are.
    """

    def __init__(self, socket: Path, leaf: str, surroundings: Surroundings) -> None:
        self._socket = RuntimeSocket(socket)
        self._leaf = leaf
        self._surroundings = surroundings

    def prepare(self) -> None:
        """Copy what it starts with.

        Raises
        ------
        NeighbourError
            Its folder cannot be written.
        """
        places = self._surroundings
        try:
            sweep_temporaries(places.web_tls)
            for path in (places.root(CaName.INTERNAL), places.bundle(self._leaf)):
                write_atomic(places.web_tls / path.name, path.read_bytes(), PRIVATE)
        except OSError as error:
            raise NeighbourError(
                f"{places.web_tls}: the certificates for the container web cannot be put there (errno {error.errno})",
                action="look at size and group of the memory volume",
                reason="RunNotWritable",
            ) from error

    async def apply_certificates(self, changed: Changes) -> None:
        """Commit a new leaf and a new root; requests under way go on.

        The copies come first: it may start again at any moment.

        Raises
        ------
        NeighbourError
            Not taken, or another certificate is in use afterwards.
        """
        if CaName.INTERNAL in changed.roots or self._leaf in changed.leaves:
            self.prepare()
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
