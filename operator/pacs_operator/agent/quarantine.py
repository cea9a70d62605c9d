"""``pacs-agent quarantine``: what a person decides about objects that came under a known SOP Instance UID.

Run in the pod of Orthanc; what it shows of patients goes to the person's terminal and into no log.
"""

import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from pacs_operator.agent.errors import AgentConfigError, NeighbourError
from pacs_operator.agent.orthanc_rest import OrthancRest
from pacs_operator.domain.agentconfig import CONFIG_DIR, AgentConfig

#: Reading, storing and reading back an object of gigabytes.
ACT_SECONDS = 600.0
_IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_ACTIONS = {
    "NotHeld": "nothing is held under this identifier; pacs-agent quarantine list shows what is",
    "NotReadable": "the file is not what was written; copy it off the volume before anything else",
    "StoreInProgress": "another object with this SOP Instance UID is just being stored; try again",
    "AnotherActInProgress": "somebody else releases or discards just now; look at the list, then try again",
    "QuarantineFull": "what is served now would have no place; discard something, or raise spec.storage.quarantine",
}

app = typer.Typer(no_args_is_help=True, help="Objects that came under a known SOP Instance UID with other content.")
ConfigOption = Annotated[Path, typer.Option("--config", help="agent.json, from the pod's ConfigMap")]
CONFIG_FILE = Path(CONFIG_DIR) / "agent.json"
Identifier = Annotated[str, typer.Argument(help="a UUID, as the list shows it")]


def ask(config: Path, method: str, path: str) -> Any:
    """Return what Orthanc's plugin answers to an act.

    Raises
    ------
    AgentConfigError
        This is not Orthanc's pod.
    NeighbourError
        The act was refused, with the way out, or Orthanc does not answer.
    """
    url = AgentConfig.model_validate_json(config.read_bytes()).orthanc_url
    if url is None:
        raise AgentConfigError("this pod has no Orthanc", action="run it in the pod orthanc-0")
    answer = OrthancRest(url).call(method, f"/pacs/quarantine{path}", seconds=ACT_SECONDS)
    if answer.status_code == HTTPStatus.OK:
        return answer.json()
    try:
        reason = str(answer.json()["reason"])
    except (ValueError, KeyError, TypeError):
        reason = "NeighbourRefused"
    raise NeighbourError(
        f"refused: {reason}", action=_ACTIONS.get(reason, "see Orthanc's log"), reason="NeighbourRefused"
    )


def _show(config: Path, method: str, path: str) -> None:
    try:
        answer = ask(config, method, path)
    except (AgentConfigError, NeighbourError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _path(identifier: str) -> str:
    if not _IDENTIFIER.fullmatch(identifier):
        raise typer.BadParameter("a UUID, as pacs-agent quarantine list shows it")
    return f"/{identifier}"


@app.command("list")
def show_all(config: ConfigOption = CONFIG_FILE) -> None:
    """Show what is held, oldest first: identifier, since when, by which way, of which AE title; nothing of patients."""
    _show(config, "GET", "")


@app.command("show")
def show_one(identifier: Identifier, config: ConfigOption = CONFIG_FILE) -> None:
    """Show whose object it is, whose the stored one is, and which attributes differ. Shows patients' names."""
    _show(config, "GET", _path(identifier))


@app.command()
def release(identifier: Identifier, config: ConfigOption = CONFIG_FILE) -> None:
    """Serve this object; what is served now under its SOP Instance UID is held in its stead."""
    _show(config, "POST", f"{_path(identifier)}/release")


@app.command()
def discard(
    identifier: Identifier,
    yes: Annotated[bool, typer.Option("--yes", help="this object is destroyed for good")] = False,
    config: ConfigOption = CONFIG_FILE,
) -> None:
    """Destroy this object; what is stored stays as it is."""
    if not yes:
        raise typer.BadParameter("say --yes: the object is destroyed for good")
    _show(config, "DELETE", _path(identifier))
