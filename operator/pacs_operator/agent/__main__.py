"""``pacs-agent``: ``run`` beside a server, ``init`` once before a job, ``quarantine`` and ``scrub`` for a person."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from pacs_operator.agent import quarantine, scrubcommand
from pacs_operator.agent.agent import Agent
from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.log import Event, configure, emit, emit_error
from pacs_operator.agent.neighbour import Neighbour
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import CONFIG_DIR, POD_UID, AgentConfig
from pacs_operator.domain.errors import PacsError, VaultError
from pacs_operator.domain.names import Component
from pacs_operator.vault.pods import PodVault

CONFIG_FILE = Path(CONFIG_DIR) / "agent.json"
ConfigOption = Annotated[Path, typer.Option("--config", help="agent.json, from the pod's ConfigMap")]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(scrubcommand.app, name="scrub")


def load_config(path: Path) -> AgentConfig:
    """Return the configuration.

    Raises
    ------
    AgentConfigError
        Missing, not JSON, or not of the documented form.
    """
    try:
        return AgentConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise AgentConfigError(
            f"{path}: cannot be read ({type(error).__name__})", action="mount the ConfigMap with agent.json there"
        ) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise AgentConfigError(
            f"{path}: {field}: {first['type']}",
            action="use the agent's image and the operator of one release together",
        ) from error


def neighbour_of(config: AgentConfig, surroundings: Surroundings) -> Neighbour:
    """Return what drives the server this agent stands beside; each pulls in only what it needs.

    Raises
    ------
    AgentConfigError
        The component has no server, or the configuration lacks where it is.
    """
    match config.component:
        case Component.ORTHANC:
            from pacs_operator.agent.orthanc import OrthancNeighbour

            return OrthancNeighbour(config, surroundings)
        case Component.POSTGRES:
            from pacs_operator.agent.postgres import PostgresNeighbour

            return PostgresNeighbour(config, surroundings)
        case Component.GATE:
            from pacs_operator.agent.gate import GateNeighbour

            return GateNeighbour(config, surroundings)
        case Component.CONFORMANCE | Component.IMPORTER:
            raise AgentConfigError(
                f"agent.json: component {config.component} has no server to stand beside", action="use pacs-agent init"
            )


async def _run(config: AgentConfig) -> None:
    surroundings = Surroundings()
    vault = PodVault(config.vault)
    uid = os.environ.get(POD_UID, "")
    context = Context(config, surroundings, vault, SystemClock(), data_keys=vault, pod_uid=uid)
    agent = asyncio.ensure_future(Agent(context, neighbour_of(config, surroundings)).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.cancel)
    try:
        await agent
    except asyncio.CancelledError:
        return


async def _init(config: AgentConfig, deadline_seconds: float) -> None:
    context = Context(config, Surroundings(), PodVault(config.vault), SystemClock())
    keeper = Keeper(context, lambda _: None)
    try:
        async with asyncio.timeout(deadline_seconds):
            await keeper.obtain_all()
    except TimeoutError as error:
        reason = context.problems.newest_reason() or "VaultTimeout"
        raise VaultError(
            f"not all certificates came within {deadline_seconds:g} s",
            action="see the problems logged above",
            reason=reason,
        ) from error
    finally:
        keeper.close()
    emit(Event.STARTED, component=config.component.value)


def _end(code: int) -> None:
    """Leave at once: a Vault call that hangs in its thread must not hold the pod's end."""
    sys.stdout.flush()
    os._exit(code)


def _report(work: BaseException) -> None:
    """Log what ended the agent: typed errors in full, others by their kind, because their text may hold anything."""
    if isinstance(work, BaseExceptionGroup):
        for part in work.exceptions:
            _report(part)
    elif isinstance(work, PacsError):
        emit_error(Event.FAILED, work)
    else:
        emit(Event.FAILED, reason="InternalError", message=type(work).__name__)


@app.command()
def run(config: ConfigOption = CONFIG_FILE) -> None:
    """Keep certificates and peers of the server in this pod up to date until stopped."""
    configure()
    try:
        asyncio.run(_run(load_config(config)))
    except Exception as error:  # the process' last resort: say what happened and end
        _report(error)
        _end(1)
    _end(0)


@app.command()
def init(
    config: ConfigOption = CONFIG_FILE,
    deadline_seconds: Annotated[float, typer.Option(min=1, help="give up after so long")] = 180,
) -> None:
    """Put all certificates, keys, roots and revocation lists into /tls, then end."""
    configure()
    try:
        asyncio.run(_init(load_config(config), deadline_seconds))
    except Exception as error:  # the process' last resort: say what happened and end
        _report(error)
        _end(1)
    _end(0)


def main() -> None:
    """Entry point of ``pacs-agent``."""
    app()


if __name__ == "__main__":
    main()
