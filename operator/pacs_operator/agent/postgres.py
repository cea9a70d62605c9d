"""Drives PostgreSQL over its UNIX socket: readiness, reload, and proof of what it serves."""

import asyncio
import time

import psycopg
from cryptography import x509

from pacs_operator.agent.errors import AgentConfigError, NeighbourError
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.peek import peek_certificate
from pacs_operator.agent.x509tools import Served, serial_of, served_of
from pacs_operator.domain.agentconfig import AgentConfig, PeerActivity
from pacs_operator.domain.gatepeers import LivePeers

SERVER_LEAF = "postgres-server"
CONNECT_SECONDS = 3
RELOAD_SECONDS = 10.0  # a reload is a signal: new connections see it soon after
LOOK_SECONDS = 0.2


class PostgresNeighbour:
    """PostgreSQL in the same pod; peer authentication by uid, no password anywhere."""

    def __init__(self, config: AgentConfig, surroundings: Surroundings) -> None:
        if config.postgres_socket_dir is None:
            raise AgentConfigError("agent.json: postgresSocketDir is missing", action="write the socket folder")
        if all(leaf.name != SERVER_LEAF for leaf in config.leaves):
            raise AgentConfigError(f"agent.json: leaf {SERVER_LEAF} is missing", action="list it among the leaves")
        self._surroundings = surroundings
        self._socket_dir = config.postgres_socket_dir

    async def _query(self, statement: str) -> bool:
        """Run one statement and tell whether its only value is true."""
        try:
            async with await psycopg.AsyncConnection.connect(
                host=self._socket_dir,
                port=self._surroundings.postgres_port,
                user="postgres",
                dbname="postgres",
                connect_timeout=CONNECT_SECONDS,
                application_name="pacs-agent",
                options=f"-c statement_timeout={CONNECT_SECONDS}s",
                autocommit=True,
            ) as connection:
                row = await (await connection.execute(statement.encode())).fetchone()
        except (psycopg.Error, OSError) as error:
            raise NeighbourError(
                f"PostgreSQL does not answer on its socket ({type(error).__name__})",
                action="wait: it may be starting or recovering; see its log if it stays",
            ) from error
        return bool(row and row[0])

    async def prepare(self, peers: LivePeers) -> None:
        """Do nothing: PostgreSQL reads its files from the ConfigMap and ``/tls``."""

    async def apply_certificates(self, changed: Changes) -> None:
        """Reload, then see that new connections get the certificate that lies on the volume."""
        if not await self._query("select pg_reload_conf()"):
            raise NeighbourError("PostgreSQL refused to reload", action="see its log", reason="ReloadRefused")
        wanted = await asyncio.to_thread(self._serial_on_volume)
        deadline = time.monotonic() + RELOAD_SECONDS
        while (seen := (await self.served()).get(SERVER_LEAF)) is None or seen.serial != wanted:
            if time.monotonic() >= deadline:
                raise NeighbourError(
                    "PostgreSQL still presents another certificate than the one on the volume",
                    action="see its log: it keeps the old one when key and certificate cannot be loaded",
                    reason="CertificateNotServed",
                )
            await asyncio.sleep(LOOK_SECONDS)

    def _serial_on_volume(self) -> str:
        return serial_of(x509.load_pem_x509_certificate(self._surroundings.chain(SERVER_LEAF).read_bytes()))

    async def apply_peers(self, peers: LivePeers) -> str:
        """Answer that there is nothing to do: DICOM peers do not reach the database."""
        return peers.revision

    async def ready(self) -> bool:
        """Tell whether PostgreSQL answers a query."""
        try:
            return await self._query("select true")
        except NeighbourError:
            return False

    async def alive(self) -> bool:
        """Say yes: PostgreSQL recovers by itself, and restarting one that recovers makes it begin anew."""
        return True

    async def served(self) -> dict[str, Served]:
        """Look at the certificate on the TCP port."""
        certificate = await asyncio.to_thread(
            peek_certificate,
            self._surroundings.postgres_port,
            postgres=True,
        )
        return {} if certificate is None else {SERVER_LEAF: served_of(certificate)}

    async def activity(self) -> list[PeerActivity]:
        """Return nothing: the database knows no peers."""
        return []

    async def close(self) -> None:
        """Nothing runs in the background."""
