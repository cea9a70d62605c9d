"""``pacs-operator``: the operator's own process."""

import asyncio
import secrets
from datetime import UTC, datetime
from threading import Lock

import structlog
import typer
from prometheus_client import CollectorRegistry

from pacs_operator import logs, render
from pacs_operator.control.client import AgentClient
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.facts import VaultSettings
from pacs_operator.handlers.health import Heartbeat, serve
from pacs_operator.handlers.process import Operator
from pacs_operator.handlers.settings import Environment, read_environment
from pacs_operator.kube.client import KubeClient, load_api_client
from pacs_operator.kube.crds import check_crds
from pacs_operator.kube.lease import Lease, LeaseName
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.reconcile.context import Ports
from pacs_operator.reconcile.metrics import Metrics
from pacs_operator.vault.client import connect
from pacs_operator.vault.port import VaultPort

main = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

log = structlog.get_logger("pacs_operator")
API_CONNECTIONS = 8


@main.callback()
def describe() -> None:
    """Run hospital picture archives, cut into zones and attacked on schedule."""


@main.command()
def run() -> None:
    """Reconcile archives until told to stop."""
    logs.configure()
    try:
        code = _run(read_environment())
    except PacsError as error:
        log.error("cannot run", reason=error.reason, message=error.message, action=error.action)
        code = 2
    raise typer.Exit(code)


def _run(environment: Environment) -> int:
    heartbeat, registry = Heartbeat(), CollectorRegistry()
    metrics = Metrics(registry)
    serve(heartbeat, environment.health_port)
    kube = KubeClient(load_api_client(API_CONNECTIONS), metrics.on_write)
    check_crds(kube)
    ports = Ports(
        kube=kube,
        vault=_Vaults(environment).get,
        agents=AgentClient(),
        renderer=render,
        clock=_utc_now,
        draw_lineage=lambda: secrets.token_hex(16),
    )
    name = LeaseName(environment.settings.cluster.operator_namespace, environment.identity)
    operator = Operator(
        ArchiveReconciler(ports, environment.settings), Lease(kube, name, _utc_now), heartbeat, registry, metrics
    )
    return asyncio.run(operator.run(environment.metrics_port))


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Vaults:
    """One client for each distinct Vault, kept for its login and credentials."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._clients: dict[VaultSettings, VaultPort] = {}
        self._lock = Lock()

    def get(self, settings: VaultSettings) -> VaultPort:
        with self._lock:
            if settings not in self._clients:
                cluster, token = self._environment.settings.cluster, self._environment.vault_token_file
                self._clients[settings] = connect(settings, cluster, token)
            return self._clients[settings]


if __name__ == "__main__":
    main()
