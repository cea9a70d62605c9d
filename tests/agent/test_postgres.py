"""Beside a real PostgreSQL with TLS: readiness, reload, and the proof of what it serves."""

import asyncio
import contextlib
import os
import pwd
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pacs_operator.agent import postgres
from pacs_operator.agent.agent import Agent
from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError, NeighbourError
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.postgres import PostgresNeighbour
from pacs_operator.agent.x509tools import serial_of
from pacs_operator.domain.agentconfig import AgentConfig
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.names import CaName, Component
from tests.agent.support import LocalVault, eventually, gate_config, give, leaf
from tests.images.conftest import Image
from tests.machine import free_port

NAME = "postgres.rad-data.svc"
DATA = "/var/lib/postgresql/data"
CHANGED = Changes(leaves=frozenset({"postgres-server"}))


def postgres_config(**changes: object) -> AgentConfig:
    base: dict[str, object] = {
        "component": Component.POSTGRES,
        "leaves": [
            leaf("postgres-server", CaName.INTERNAL, NAME),
            leaf("orthanc", CaName.INTERNAL, "orthanc.rad-archive.svc"),  # the client's, for these tests
            leaf("control", CaName.CONTROL, NAME),
        ],
        "trust": [CaName.INTERNAL, CaName.CONTROL],
    }
    return gate_config(**(base | changes))


class Beside:
    """A PostgreSQL as the pod runs it, and its agent."""

    def __init__(self, image: Image, surroundings: Surroundings, folder: Path) -> None:
        self.image, self.folder = image, folder
        self.surroundings = Surroundings(
            tls=surroundings.tls, run=surroundings.run, config=surroundings.config, peers=surroundings.peers,
            health_port=0, control_port=0, postgres_port=free_port(),
        )  # fmt: skip
        self.config = postgres_config(postgres_socket_dir=str(surroundings.run))
        vault = LocalVault(lambda: datetime.now(UTC) - timedelta(seconds=30))
        self.context = Context(self.config, self.surroundings, vault, SystemClock())
        self.neighbour = PostgresNeighbour(self.config, self.surroundings)
        self.agent = Agent(self.context, self.neighbour)
        self.process: subprocess.Popen[bytes] | None = None
        for point in ("tls", "run/pacs", "etc/pacs"):  # what a container runtime makes for mounts
            (image.root / point).mkdir(parents=True, exist_ok=True)
        self.mounts = {
            image.owned(folder / "data"): DATA,
            surroundings.tls: "/tls",
            surroundings.run: "/run/pacs",
            surroundings.config: "/etc/pacs",
        }
        self._configure()

    def _configure(self) -> None:
        # In the pod both containers have one uid; here the agent's is the tests' own.
        me = pwd.getpwuid(os.getuid()).pw_name
        files = {
            "postgresql.conf": f"""
                data_directory = '{DATA}/pgdata'
                hba_file = '/etc/pacs/pg_hba.conf'
                ident_file = '/etc/pacs/pg_ident.conf'
                port = {self.surroundings.postgres_port}
                listen_addresses = '127.0.0.1'
                unix_socket_directories = '/run/pacs'
                ssl = on
                ssl_cert_file = '/tls/postgres-server.crt'
                ssl_key_file = '/tls/postgres-server.key'
                ssl_ca_file = '/tls/ca-internal.pem'
                ssl_crl_file = '/tls/crl-internal.pem'
                ssl_min_protocol_version = 'TLSv1.3'
            """,
            "pg_hba.conf": "local all postgres peer map=agent\nhostssl orthanc orthanc all cert map=pacs\n",
            "pg_ident.conf": f"agent {me} postgres\npacs orthanc.rad-archive.svc orthanc\n",
        }
        for name, text in files.items():
            (self.surroundings.config / name).write_text(text)

    def give(self) -> None:
        give(self.image.uid, self.surroundings.tls, self.surroundings.run)

    def initialise(self) -> None:
        done = self.image.run("/opt/pacs/bin/database-init", mounts=self.mounts)
        assert done.returncode == 0, done.stderr

    async def start(self) -> None:
        self.give()
        command = [self.image.command[0], "-c", "config_file=/etc/pacs/postgresql.conf"]
        self.process = self.image.start(*command, log=self.folder / "log", mounts=self.mounts)
        await eventually(self._answers, "PostgreSQL answers", seconds=60)

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return await self.neighbour.ready()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(2)  # the image's stop signal
            self.process.wait(60)
            self.process = None

    async def as_orthanc(self, certificate: str = "orthanc") -> psycopg.AsyncConnection[tuple[object, ...]]:
        """Connect as Orthanc does: full verification, client certificate, no password."""
        return await psycopg.AsyncConnection.connect(
            host=NAME, hostaddr="127.0.0.1", port=self.surroundings.postgres_port, user="orthanc", dbname="orthanc",
            sslmode="verify-full", sslrootcert=str(self.surroundings.root(CaName.INTERNAL)),
            sslcert=str(self.surroundings.chain(certificate)), sslkey=str(self.surroundings.key(certificate)),
            connect_timeout=5, autocommit=True,
        )  # fmt: skip

    async def renew(self) -> str:
        """Replace the server's certificate on the volume; return its serial."""
        kept = self.agent.keeper.leaves["postgres-server"]
        await asyncio.to_thread(kept.renew)
        self.give()
        assert kept.credential
        return serial_of(kept.credential.certificate)


@pytest.fixture
async def beside(
    image: Callable[[str], Image], surroundings: Surroundings, tmp_path: Path, entered: None
) -> AsyncIterator[Beside]:
    made = Beside(image("database"), surroundings, tmp_path)
    await made.agent.keeper.obtain_all()
    await asyncio.to_thread(made.initialise)
    try:
        yield made
    finally:
        made.stop()
        made.agent.keeper.close()


async def test_a_renewed_certificate_is_reloaded_proven_and_cuts_nobody(beside: Beside) -> None:
    await beside.start()
    async with await beside.as_orthanc() as before:
        backend = (await (await before.execute("select pg_backend_pid()")).fetchone())  # fmt: skip
        first = await beside.neighbour.served()
        serial = await beside.renew()
        assert await beside.neighbour.served() == first and first["postgres-server"].serial != serial
        await beside.neighbour.apply_certificates(CHANGED)
        assert (await beside.neighbour.served())["postgres-server"].serial == serial
        assert await (await before.execute("select pg_backend_pid()")).fetchone() == backend
    async with await beside.as_orthanc() as after:
        assert await (await after.execute("select current_user")).fetchone() == ("orthanc",)


async def test_a_certificate_that_postgresql_does_not_take_is_not_reported_as_applied(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "RELOAD_SECONDS", 1.0)
    await beside.start()
    first = await beside.neighbour.served()
    serial = await beside.renew()
    beside.surroundings.key("postgres-server").chmod(0o644)  # PostgreSQL refuses a key that others can read
    with pytest.raises(NeighbourError) as refused:
        await beside.neighbour.apply_certificates(CHANGED)
    assert refused.value.reason == "CertificateNotServed"
    assert await beside.neighbour.served() == first and await beside.neighbour.ready()
    beside.surroundings.key("postgres-server").chmod(0o600)
    await beside.neighbour.apply_certificates(CHANGED)
    assert (await beside.neighbour.served())["postgres-server"].serial == serial


async def test_a_new_revocation_is_in_force_after_the_reload(beside: Beside) -> None:
    await beside.start()
    async with await beside.as_orthanc():
        pass
    kept = beside.agent.keeper.leaves["orthanc"]
    vault = beside.context.signer
    assert isinstance(vault, LocalVault) and kept.credential
    vault.authorities[CaName.INTERNAL].revoked.append(kept.credential.certificate.serial_number)
    changes = await asyncio.to_thread(beside.agent.keeper.trust[CaName.INTERNAL].renew)
    assert changes.crls == {CaName.INTERNAL}
    beside.give()
    await beside.neighbour.apply_certificates(changes)
    with pytest.raises(psycopg.OperationalError, match="revoked"):
        await beside.as_orthanc()
    await asyncio.to_thread(kept.renew)  # the twin: another certificate of the same name
    beside.give()
    async with await beside.as_orthanc():
        pass


async def test_readiness_follows_postgresql_and_liveness_never_restarts_a_recovery(beside: Beside) -> None:
    assert not await beside.neighbour.ready() and await beside.neighbour.alive()
    with pytest.raises(NeighbourError) as refused:
        await beside.neighbour.apply_certificates(CHANGED)
    assert refused.value.reason == "NeighbourUnavailable"
    await beside.start()
    assert await beside.neighbour.ready()
    beside.stop()
    assert not await beside.neighbour.ready() and await beside.neighbour.served() == {}


async def test_the_whole_agent_keeps_it_served_through_its_own_restart_and_a_sealed_vault(beside: Beside) -> None:
    from pacs_operator.vault.errors import VaultSealedError

    vault = beside.context.signer
    assert isinstance(vault, LocalVault)
    signed = len(vault.signed)
    for sealed in (None, VaultSealedError("sealed", action="unseal")):
        vault.failing = sealed
        agent = Agent(beside.context, PostgresNeighbour(beside.config, beside.surroundings))
        task = asyncio.create_task(agent.run())
        try:
            await eventually(agent.started, "started")
            if beside.process is None:
                await beside.start()
            await eventually(agent.ready, "ready")

            async def applied(agent: Agent = agent) -> bool:
                report = await agent.status()
                own = {one.name: (one.serial, one.served_serial) for one in report.leaves}
                serial, served = own["postgres-server"]
                return report.config_applied and serial == served

            await eventually(applied, "the status shows what is served")
            problems = (await agent.status()).problems
            assert {name for name in problems if not name.startswith("trust/")} == set()
            async with await beside.as_orthanc():
                pass
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    assert len(vault.signed) == signed


async def test_peers_do_not_reach_the_database(beside: Beside) -> None:
    assert await beside.neighbour.apply_peers(LivePeers(revision="r1", peers=[])) == "r1"
    assert await beside.neighbour.activity() == []


def test_what_the_configuration_lacks_is_named(surroundings: Surroundings) -> None:
    with pytest.raises(AgentConfigError, match="postgresSocketDir is missing"):
        PostgresNeighbour(postgres_config(), surroundings)
    other = [leaf("control", CaName.CONTROL, NAME)]
    with pytest.raises(AgentConfigError, match="leaf postgres-server is missing"):
        PostgresNeighbour(postgres_config(postgres_socket_dir="/run/pacs", leaves=other), surroundings)
