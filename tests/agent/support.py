"""Time that tests move, an authority that signs by that time, and a server that remembers what it was told."""

import asyncio
import heapq
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.x509tools import Served
from pacs_operator.domain.agentconfig import AgentConfig, Leaf, PeerActivity, VaultAccess
from pacs_operator.domain.errors import VaultError
from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.domain.names import CaName, Component
from pacs_operator.domain.peer import Right

LINEAGE = "0123456789abcdef0123456789abcdef"
DAY = 86400
WEEK = 7 * DAY
OPERATOR_NAME = "status.pacs-system.svc"
CLEANUP_NAME = "conformance.rad-ops.svc"


class FakeClock:
    """A clock that stands until it is moved; sleepers wake when their moment comes."""

    def __init__(self, start: datetime | None = None, jitter: float = 0.0) -> None:
        self._now = start or datetime(2030, 1, 1, tzinfo=UTC)
        self._jitter = jitter
        self._order = itertools.count()
        self.busy: Callable[[], bool] = lambda: False
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def jitter(self) -> float:
        return self._jitter

    async def sleep(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), done))
        await done

    def set_back(self, seconds: float) -> None:
        """Set the wall clock right; who sleeps wakes after the time that it asked for."""
        by = timedelta(seconds=seconds)
        self._now -= by
        self._sleepers = [(due - by, number, done) for due, number, done in self._sleepers]

    async def advance(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Move time, sleeper by sleeper, letting each run before the next; stop early when ``until`` is true."""
        end = self._now + timedelta(seconds=seconds)
        while not (until and until()):
            await self._settle()
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            self._now = max(self._now, self._sleepers[0][0])
            while self._sleepers and self._sleepers[0][0] <= self._now:
                done = heapq.heappop(self._sleepers)[2]
                if not done.done():
                    done.set_result(None)
        else:
            return
        self._now = end
        await self._settle()

    async def _settle(self) -> None:
        """Let everything that can run do so, blocking calls in threads included."""
        for _ in range(4):
            await asyncio.sleep(0)
        while self.busy():
            await asyncio.sleep(0.0005)
        for _ in range(4):
            await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = 20) -> None:
    """Wait in real time until a condition holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Authority:
    """One self-signed authority whose certificates begin when the clock says."""

    def __init__(self, name: str, now: Callable[[], datetime]) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.now = now
        self.revoked: list[int] = []
        self.crl_life = timedelta(days=7)
        self.certificate = (
            self._builder(self.name, self.key.public_key(), timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
                    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip

    def _builder(self, subject: x509.Name, public_key: object, life: timedelta) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now())
            .not_valid_after(self.now() + life)
        )

    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def crl(self) -> str:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(self.now()).next_update(self.now() + self.crl_life)
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self.now()).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, names: list[str], public_key: object, life: timedelta) -> x509.Certificate:
        """Sign a leaf for servers and clients."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names[:1]])
        builder = self._builder(subject, public_key, life)
        if names:
            san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(san, critical=False)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256())


class LocalVault:
    """Signs as Vault does, by a clock that can be moved; made to fail as tests need."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.authorities = {ca: Authority(ca.value, now) for ca in CaName}
        self.failing: VaultError | None = None
        self.signed: list[str] = []
        self.attempts = 0
        self.names: list[str] | None = None
        self.life: timedelta | None = None

    def _maybe_fail(self) -> None:
        self.attempts += 1
        if self.failing is not None:
            raise self.failing

    def sign(self, leaf: Leaf, lineage_id: str, csr_pem: str) -> str:
        self._maybe_fail()
        assert lineage_id == LINEAGE
        request = x509.load_pem_x509_csr(csr_pem.encode())
        assert request.is_signature_valid
        authority = self.authorities[leaf.ca]
        life = self.life or timedelta(seconds=leaf.ttl_seconds)
        names = leaf.dns_names if self.names is None else self.names
        certificate = authority.issue(names, request.public_key(), life)
        self.signed.append(leaf.name)
        return certificate.public_bytes(serialization.Encoding.PEM).decode() + authority.pem()

    def ca_pem(self, lineage_id: str, ca: CaName) -> str:
        self._maybe_fail()
        return self.authorities[ca].pem()

    def crl_pem(self, lineage_id: str, ca: CaName) -> str:
        self._maybe_fail()
        return self.authorities[ca].crl()


class RecordingNeighbour:
    """A server that takes everything and remembers it; down when told to be."""

    def __init__(self) -> None:
        self.prepared: list[LivePeers] = []
        self.applied: list[Changes] = []
        self.peers: list[LivePeers] = []
        self.down = False
        self.is_ready = True
        self.looks = 0  # at the presented certificates
        self.presents: dict[str, Served] = {}

    def _answer(self) -> None:
        if self.down:
            raise NeighbourError("it is down", action="wait")

    async def prepare(self, peers: LivePeers) -> None:
        self.prepared.append(peers)

    async def apply_certificates(self, changed: Changes) -> None:
        self._answer()
        self.applied.append(changed)

    async def apply_peers(self, peers: LivePeers) -> str:
        self._answer()
        self.peers.append(peers)
        return peers.revision

    async def ready(self) -> bool:
        return self.is_ready and not self.down

    async def alive(self) -> bool:
        return not self.down

    async def served(self) -> dict[str, Served]:
        self.looks += 1
        return dict(self.presents)

    async def activity(self) -> list[PeerActivity]:
        return [PeerActivity(id=peer.id, stores=3) for peer in self.peers[-1].peers] if self.peers else []

    async def close(self) -> None:
        """Nothing runs."""


def leaf(name: str, ca: CaName, *names: str, key_type: str = "EC", ttl: int = WEEK) -> Leaf:
    """Return a leaf whose role is named as components' roles are."""
    return Leaf.model_validate(
        {"name": name, "ca": ca, "role": f"rad-edge.gate.{name}", "keyType": key_type, "dnsNames": list(names),
         "ttlSeconds": ttl}
    )  # fmt: skip


def gate_config(**changes: object) -> AgentConfig:
    """Return a gate-like configuration: leaves of all authorities (EC, since making RSA keys is slow), peers."""
    name = "gate.rad-edge.svc"
    base: dict[str, object] = {
        "component": Component.GATE,
        "lineage_id": LINEAGE,
        "vault": VaultAccess(address="https://127.0.0.1:1", auth_path="pacs-kubernetes", role="rad-edge.gate"),
        "leaves": [
            leaf("server-ec", CaName.PEERS, name, "rad.pacs.internal"),
            leaf("orthanc-client", CaName.INTERNAL, name),
            leaf("control", CaName.CONTROL, name),
        ],
        "trust": list(CaName),
        "control_leaf": "control",
        "control_clients": {"status": OPERATOR_NAME, "cleanup": CLEANUP_NAME},
        "ae_title": "RADIOLOGY",
    }
    return AgentConfig.model_validate(base | changes)


def peer(number: int, *titles: str, rights: tuple[Right, ...] = (Right.ECHO, Right.STORE)) -> LivePeer:
    """Return a peer with its own identity."""
    return LivePeer(
        id=f"imaging/ct{number}",
        dns_name=f"ct{number}.imaging.example",
        ae_titles=list(titles) or [f"CT{number}"],
        source_cidrs=[f"198.18.10.{number}/32"],
        rights=list(rights),
        max_associations=4,
    )


def peers(revision: str, *entries: LivePeer) -> LivePeers:
    return LivePeers(revision=revision, peers=list(entries))


def give(uid: int, *folders: Path) -> None:
    """Make files and folders belong to a server's user: in a pod, it is the agent's own."""
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, uid)
