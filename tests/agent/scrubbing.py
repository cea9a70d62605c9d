"""A volume and an index that tests make differ, and the scrub beside them."""

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pacs_operator.agent.content import (
    CHUNK,
    Expected,
)
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.scrub import ScrubFeed
from pacs_operator.agent.storedindex import Row, StoredIndex
from pacs_operator.domain.agentconfig import AgentConfig, ScrubPass, StorageKeyring
from pacs_operator.domain.names import CaName, Component
from tests.agent.support import LINEAGE, FakeClock, LocalVault, gate_config, leaf

KEY = bytes(range(32))
STUDIES = [f"{digit * 8}-{digit * 8}-{digit * 8}-{digit * 8}-{digit * 8}" for digit in "0af"]
HOUR = 3600
GOOD = {"changed": 0, "unreadable": 0, "file_missing": 0, "row_missing": 0}


def seal(uuid: str, data: bytes, number: int = 1, kind: int = 1) -> bytes:
    """Encrypt as images/archive/storage/format.h says."""
    salt = secrets.token_bytes(32)
    header = b"PACE\x01\x01" + kind.to_bytes(2) + number.to_bytes(4) + bytes(4) + len(data).to_bytes(8) + salt
    info = b"\0".join((b"pacs-operator storage 1", LINEAGE.encode(), uuid.encode(), str(kind).encode()))
    cipher = AESGCM(HKDF(SHA256(), 32, salt=salt, info=info).derive(KEY))
    count = max(1, -(-len(data) // CHUNK))
    chunks = [
        cipher.encrypt(bytes(7) + n.to_bytes(4) + bytes([n == count - 1]), data[n * CHUNK : (n + 1) * CHUNK], header)
        for n in range(count)
    ]
    return header + b"".join(chunks)


@dataclass
class Archive:
    """A volume and an index, which tests make differ."""

    images: Path
    sealed: bool
    rows: dict[str, list[Row]] = field(default_factory=lambda: {study: [] for study in STUDIES})
    away: bool = False
    asked: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.images / "sealed" / "id" if self.sealed else self.images

    def path(self, uuid: str) -> Path:
        return self.root / uuid[:2] / uuid[2:4] / uuid

    def write(self, uuid: str, data: bytes) -> None:
        self.path(uuid).parent.mkdir(parents=True, exist_ok=True)
        self.path(uuid).write_bytes(seal(uuid, data) if self.sealed else data)

    def store(self, study: int, data: bytes) -> str:
        uuid = f"{secrets.token_hex(4)}-0000-4000-8000-{secrets.token_hex(6)}"
        self.write(uuid, data)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.rows[STUDIES[study]].append(Row(Expected(uuid, 1, len(data), md5), "Instance", "x"))
        return uuid

    def forget(self, uuid: str) -> None:
        for study, rows in self.rows.items():
            self.rows[study] = [row for row in rows if row.expected.uuid != uuid]


class Index(StoredIndex):
    """What `StoredIndex` answers, from the test's rows."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def studies(self, after: str = "") -> Iterator[str]:
        yield from (study for study in STUDIES if study[: len(after)] > after or not after)

    def rows(self, study: str) -> list[Row]:
        if self.archive.away:
            raise NeighbourError("it is down", action="wait")
        self.archive.asked.append(study)
        return list(self.archive.rows[study])


@dataclass
class Scrubbing:
    archive: Archive
    place: Surroundings
    clock: FakeClock
    context: Context
    feed: ScrubFeed

    def order(self, **fields: object) -> None:
        path = self.place.peers / "scrub.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"schedule": "40 * * * *", "maxMiPerSecond": 1000, **fields}))
        fresh.replace(path)

    async def hour(self) -> ScrubPass:
        """Let an hour go by; return its pass."""
        await self.clock.advance(HOUR)
        told = self.feed.told
        assert told is not None and told.running is None and told.last is not None
        return told.last

    def counts(self, result: ScrubPass) -> dict[str, int]:
        return {name: getattr(result, name) for name in GOOD}


def config(sealed: bool) -> AgentConfig:
    return gate_config(
        component=Component.ORTHANC,
        leaves=[leaf("control", CaName.CONTROL, "orthanc.rad-archive.svc")],
        trust=[CaName.CONTROL],
        orthanc_url="http://127.0.0.1:1",
        storage=StorageKeyring(transit_key="rad-archive.orthanc", max_age_days=90) if sealed else None,
    )


def build(archive: Archive, surroundings: Surroundings, clock: FakeClock) -> Scrubbing:
    for folder in (surroundings.run, surroundings.peers):
        folder.mkdir(parents=True, exist_ok=True)
    place = Surroundings(
        tls=surroundings.tls, run=surroundings.run, config=surroundings.config, peers=surroundings.peers,
        images=archive.images,
    )  # fmt: skip
    lines = ["pacs-keys 1", f"lineage {LINEAGE}", "active 1", f"key 1 {KEY.hex()}", "end", ""]
    place.ring.write_text("\n".join(lines))
    context = Context(config(archive.sealed), place, LocalVault(clock.now), clock)
    feed = ScrubFeed(context, Index(archive))
    clock.busy = lambda: feed.busy > 0
    return Scrubbing(archive, place, clock, context, feed)


@contextlib.asynccontextmanager
async def working(scrubbing: Scrubbing) -> AsyncIterator[Scrubbing]:
    task = asyncio.create_task(scrubbing.feed.run())
    try:
        await scrubbing.clock.advance(0)
        yield scrubbing
        assert not task.done(), "it never ends by itself"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        scrubbing.feed.close()
