"""One operator process under its real rights and the chart's admission, over a real API server without kubelet."""

from datetime import UTC, datetime
from typing import Any

from kubernetes import client

from pacs_operator import render
from pacs_operator.domain.errors import PacsError
from pacs_operator.kube.client import KubeClient
from pacs_operator.kube.inventory import ARCHIVE
from pacs_operator.kube.port import Manifest
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.reconcile.context import Ports
from tests.engine.recordingvault import RecordingVault
from tests.engine.simapi import WriteLog
from tests.engine.world import SETTINGS, World

from .conftest import OPERATOR, as_user


class Operating:
    """The operator, one archive of its, and an administrator."""

    def __init__(self, api: client.ApiClient, name: str, lineage: str) -> None:
        self.name, self.person, self.core = name, KubeClient(api), client.CoreV1Api(api)
        vault = RecordingVault(WriteLog())
        ports = Ports(
            kube=KubeClient(as_user(api, OPERATOR)),
            vault=lambda _settings: vault,
            agents=World().agents,
            renderer=render,
            clock=lambda: datetime.now(UTC),
            draw_lineage=lambda: lineage,
        )
        self.reconciler = ArchiveReconciler(ports, SETTINGS)

    def apply(self, manifest: Manifest) -> None:
        """Make the archive, or give it another spec."""
        live = self.person.get(ARCHIVE, self.name)
        if live is None:
            self.person.create({**manifest, "metadata": {"name": self.name}})
        else:
            self.person.replace({**live, "spec": manifest["spec"]})

    def settle(self) -> None:
        """Reconcile as often as a healthy start takes; what asks to be tried again is."""
        for _ in range(4):
            try:
                self.reconciler.reconcile(self.name)
            except PacsError as error:
                assert error.retry, error

    def condition(self, kind: str) -> dict[str, Any]:
        live = self.person.get(ARCHIVE, self.name) or {}
        return next(item for item in live["status"]["conditions"] if item["type"] == kind)
