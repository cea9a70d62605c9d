"""The two ports, as their callers and as strangers meet them."""

import asyncio
import contextlib
import io
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pacs_operator.agent import webserver
from pacs_operator.agent.agent import Agent
from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import AgentStatus
from pacs_operator.domain.names import CaName
from tests.agent.conftest import MountedConfigMap
from tests.agent.support import (
    CLEANUP_NAME,
    OPERATOR_NAME,
    Authority,
    LocalVault,
    RecordingNeighbour,
    eventually,
    gate_config,
    peer,
    peers,
)

SERVER_NAME = "gate.rad-edge.svc"


def now() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=30)


class CleanableNeighbour(RecordingNeighbour):
    """Stores probe objects, too."""

    def __init__(self) -> None:
        super().__init__()
        self.cleaned: list[str] = []

    async def remove_probe_objects(self, run: str) -> int:
        self.cleaned.append(run)
        return 7


class Running:
    """An agent that runs, and clients with certificates of any kind."""

    def __init__(self, agent: Agent, vault: LocalVault, neighbour: CleanableNeighbour, folder: Path) -> None:
        self.agent, self.vault, self.neighbour, self.folder = agent, vault, neighbour, folder

    def credential(self, *names: str, authority: Authority | None = None) -> Path:
        """Return key and certificate of a caller."""
        key = ec.generate_private_key(ec.SECP256R1())
        signer = authority or self.vault.authorities[CaName.CONTROL]
        certificate = signer.issue(list(names), key.public_key(), timedelta(hours=1))
        path = self.folder / f"{'-'.join(names) or 'none'}-{certificate.serial_number}.pem"
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
        self.last_serial = certificate.serial_number
        return path

    def client_context(self, credential: Path | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.vault.authorities[CaName.CONTROL].pem())
        if credential:
            context.load_cert_chain(credential)
        return context

    async def control(self, method: str, path: str, credential: Path | None) -> tuple[int, bytes]:
        return await asyncio.to_thread(self._control, method, path, self.client_context(credential))

    def _control(self, method: str, path: str, context: ssl.SSLContext) -> tuple[int, bytes]:
        connection = _Named(SERVER_NAME, self.agent.control_port, context)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.read()

    async def health(self, path: str, method: str = "GET") -> int:
        return await asyncio.to_thread(self._health, path, method)

    def _health(self, path: str, method: str) -> int:
        connection = HTTPConnection("127.0.0.1", self.agent.health_port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path)
            return connection.getresponse().status


class _Named(HTTPSConnection):
    """Connects to loopback, verifies the server under its real name."""

    def __init__(self, name: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(name, port, timeout=10)
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


@pytest.fixture
async def running(
    surroundings: Surroundings, mounted_peers: MountedConfigMap, tmp_path: Path
) -> AsyncIterator[Running]:
    mounted_peers.put_peers(peers("r1", peer(1), peer(2)))
    vault, neighbour = LocalVault(now), CleanableNeighbour()
    agent = Agent(Context(gate_config(), surroundings, vault, SystemClock()), neighbour)
    task = asyncio.create_task(agent.run())
    try:
        await eventually(agent.started, "the agent started")
        await eventually(agent.ready, "the agent is ready")
        yield Running(agent, vault, neighbour, tmp_path)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_status_for_the_operator_and_for_nobody_else(running: Running) -> None:
    status, body = await running.control("GET", "/status", running.credential(OPERATOR_NAME))
    assert status == 200
    report = AgentStatus.model_validate_json(body)
    assert report.ready and report.peers_revision == "r1" and report.config_applied
    assert {leaf.name for leaf in report.leaves} == {"server-ec", "orthanc-client", "control"}
    assert set(report.crl_next_update) == set(CaName)
    assert [(one.id, one.stores) for one in report.peers] == [("imaging/ct1", 3), ("imaging/ct2", 3)]
    assert b"PRIVATE" not in body
    for names in ([CLEANUP_NAME], ["status.other.svc"], [OPERATOR_NAME, "other.example"], []):
        status, body = await running.control("GET", "/status", running.credential(*names))
        assert (status, body) == (403, b'{"reason": "CallerNotAllowed"}'), names


async def test_a_caller_of_another_authority_is_refused_in_tls(running: Running) -> None:
    foreign = Authority("control", now)  # the same name, another key
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await running.control("GET", "/status", running.credential(OPERATOR_NAME, authority=foreign))
    of_another_purpose = running.vault.authorities[CaName.INTERNAL]
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await running.control("GET", "/status", running.credential(OPERATOR_NAME, authority=of_another_purpose))
    assert (await running.control("GET", "/status", running.credential(OPERATOR_NAME)))[0] == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_certificate_is_told_by_a_tls_alert(running: Running, version: ssl.TLSVersion) -> None:
    for credential, refused in ((None, True), (running.credential(OPERATOR_NAME), False)):
        context = running.client_context(credential)
        context.minimum_version = context.maximum_version = version
        if refused:
            alert = "CERTIFICATE_REQUIRED" if version is ssl.TLSVersion.TLSv1_3 else "HANDSHAKE_FAILURE"
            with pytest.raises(ssl.SSLError, match=f"ALERT_{alert}"):
                await asyncio.to_thread(running._control, "GET", "/status", context)
        else:
            assert (await asyncio.to_thread(running._control, "GET", "/status", context))[0] == 200


async def test_a_revoked_caller_is_refused_at_the_next_refresh(running: Running) -> None:
    credential = running.credential(OPERATOR_NAME)
    assert (await running.control("GET", "/status", credential))[0] == 200
    running.vault.authorities[CaName.CONTROL].revoked.append(running.last_serial)
    await asyncio.to_thread(running.agent.keeper.trust[CaName.CONTROL].renew)
    assert await running.control("GET", "/status", credential) == (403, b'{"reason": "CertificateRevoked"}')


async def test_a_renewed_leaf_is_served_at_once(running: Running) -> None:
    def presented() -> bytes:
        context = running.client_context(running.credential(OPERATOR_NAME))
        plain = socket.create_connection(("127.0.0.1", running.agent.control_port), timeout=10)
        with context.wrap_socket(plain, server_hostname=SERVER_NAME) as wrapped:
            der = wrapped.getpeercert(binary_form=True)
            assert der
            return der

    before = await asyncio.to_thread(presented)
    await asyncio.to_thread(running.agent.keeper.leaves["control"].renew)
    assert await asyncio.to_thread(presented) != before


async def test_clean_up_is_the_conformance_pods_and_only_of_a_run(running: Running) -> None:
    conformance = running.credential(CLEANUP_NAME)
    assert await running.control("DELETE", "/probe-objects/abc123", conformance) == (200, b'{"removed": 7}')
    status, _ = await running.control("DELETE", "/probe-objects/abc123", running.credential(OPERATOR_NAME))
    assert status == 403
    for run in ("", "*", "ABC", "a/b", "a%2A", "a" * 21, "..", "a?x=1"):
        status, _ = await running.control("DELETE", f"/probe-objects/{run}", conformance)
        assert status == 400, run
    assert (await running.control("GET", "/probe-objects/abc123", conformance))[0] == 404
    assert running.neighbour.cleaned == ["abc123"]


async def test_health_says_yes_or_no_and_nothing_else(running: Running) -> None:
    for path in ("/startupz", "/livez", "/readyz", "/neighbour-livez", "/neighbour-startupz"):
        assert await running.health(path) == 200
    for path in ("/status", "/", "/probe-objects/abc123", "/readyz/x"):
        assert await running.health(path) == 404
    assert await running.health("/probe-objects/abc123", "DELETE") == 404
    running.neighbour.down = True

    async def unready() -> bool:
        return await running.health("/readyz") == 503 and await running.health("/neighbour-livez") == 503

    await eventually(unready, "the neighbour's end shows")
    assert await running.health("/livez") == 200 and await running.health("/startupz") == 200


async def test_before_the_first_look_a_neighbour_is_neither_dead_nor_started(surroundings: Surroundings) -> None:
    context = Context(gate_config(), surroundings, LocalVault(now), SystemClock())
    agent = Agent(context, RecordingNeighbour())
    assert agent.neighbour_live() and not agent.neighbour_started() and not agent.ready()
    await agent._observer.look()
    assert agent.neighbour_live() and agent.neighbour_started()
    agent.keeper.close()


async def test_silent_and_slow_connections_hold_nobody_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webserver, "READ_SECONDS", 1.0)
    for port in (running.agent.health_port, running.agent.control_port):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        begun = time.monotonic()
        assert await running.health("/readyz") == 200
        assert (await running.control("GET", "/status", running.credential(OPERATOR_NAME)))[0] == 200
        assert time.monotonic() - begun < 5
        for connection in silent:  # and they are shown the door
            connection.settimeout(10)
            assert await asyncio.to_thread(connection.recv, 1) == b""
            connection.close()


async def test_a_dribbled_request_is_cut_off(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webserver, "READ_SECONDS", 1.0)

    def dribble() -> float:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", running.agent.health_port), timeout=10) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\n")
            connection.settimeout(0.3)
            while time.monotonic() - begun < 20:
                try:
                    connection.sendall(b"X: y\r\n")
                    if connection.recv(1) == b"":
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
        return time.monotonic() - begun

    assert 1.5 < await asyncio.to_thread(dribble) < 10


async def test_more_connections_than_places_close_without_harm(running: Running) -> None:
    crowd = [
        socket.create_connection(("127.0.0.1", running.agent.health_port))
        for _ in range(webserver.MAX_CONNECTIONS + 10)
    ]
    crowd[-1].settimeout(10)
    assert await asyncio.to_thread(crowd[-1].recv, 1) == b""
    for connection in crowd:
        connection.close()

    async def served() -> bool:
        with contextlib.suppress(OSError):
            return await running.health("/livez") == 200
        return False

    await eventually(served, "places are free again")


async def test_the_log_tells_refusals_by_kind_and_nothing_a_stranger_wrote(running: Running, log: io.StringIO) -> None:
    await running.control("GET", "/status", running.credential("evil-marker.example"))
    await running.control("GET", "/evil-marker", running.credential(OPERATOR_NAME))
    await running.health("/evil-marker")
    assert '"reason": "CallerNotAllowed"' in log.getvalue()
    assert "evil-marker" not in log.getvalue()
