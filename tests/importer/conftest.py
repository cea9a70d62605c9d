"""A source and an archive on loopback, and slices of an import between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pacs_operator.domain.importing import ImportConfig, SliceResult, Stop
from pacs_operator.importer.journal import Journal, State
from pacs_operator.importer.limits import Limits, Pace, Watch
from pacs_operator.importer.node import Node as Client
from pacs_operator.importer.run import Slice, journal_path
from pacs_operator.probes.client import Session
from pacs_operator.probes.wire import Endpoint

from .node import Node

TODAY = date(2026, 11, 20)


class Import:
    """One import between two nodes; ``slice`` does one slice as a pod would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source, self.archive = Node("OLDPACS"), Node("RADIOLOGY")
        self.settings: dict[str, Any] = {}
        self.archive_client = self.client_of(self.archive, "ARCHIVE")
        self.pace = Pace(None)
        self.on_watch: Callable[[Watch], None] = lambda _: None
        self.runs = 0

    def client_of(self, node: Node, side: str) -> Client:
        session = Session(Endpoint("127.0.0.1", node.port), "PACSPROBE-IMPORT", node.title, None, "", 3, 5)
        if side == "ARCHIVE":
            return Client(session, Stop.ARCHIVE_UNREACHABLE, Stop.ARCHIVE_REFUSED, Stop.ARCHIVE_REFUSED)
        return Client(session, Stop.SOURCE_UNREACHABLE, Stop.SOURCE_UNTRUSTED, Stop.SOURCE_REFUSED)

    @property
    def config(self) -> ImportConfig:
        source = {
            "address": "198.18.10.30", "port": 11112, "calledAETitle": "OLDPACS", "callingAETitle": "IMPORT",
            "tls": {"mode": "Plaintext", "reason": "on loopback, in a test"}, **self.settings.get("source", {}),
        }  # fmt: skip
        return ImportConfig.model_validate(
            {
                "run": f"i{self.runs}", "importUid": "u1", "archiveAeTitle": "RADIOLOGY", "gateHost": "none",
                "journalDir": str(self.folder), "sliceSeconds": 60,
                **self.settings, "source": source,
            }
        )  # fmt: skip

    def slice(self) -> SliceResult:
        self.runs += 1
        watch = Watch(self.config.slice_seconds)
        self.on_watch(watch)
        source = self.client_of(self.source, "SOURCE")
        return Slice(self.config, source, self.archive_client, Limits(watch, self.pace), TODAY).run()

    def states(self) -> dict[str, State]:
        journal = Journal(journal_path(self.config), 3)
        try:
            return {entry.uid: entry.state for entry in journal.entries(State)}
        finally:
            journal.close()

    def close(self) -> None:
        self.source.stop()
        self.archive.stop()


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Import]:
    one = Import(tmp_path)
    yield one
    one.close()
