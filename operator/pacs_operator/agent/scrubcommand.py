"""``pacs-agent scrub``: what a person asks of the stored files, in the pod of Orthanc.

What it shows of patients goes to the person's terminal and into no log.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from pacs_operator.agent import scrubstate
from pacs_operator.agent.content import AlteredError, KeyMissingError
from pacs_operator.agent.errors import AgentConfigError, AgentError, NeighbourError
from pacs_operator.agent.orthanc_rest import OrthancRest
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.storedindex import Row, StoredIndex
from pacs_operator.agent.volume import NAME, Volume, kind_of, volume_of
from pacs_operator.domain.agentconfig import CONFIG_DIR, AgentConfig, ScrubKind, ScrubTold

CONFIG_FILE = Path(CONFIG_DIR) / "agent.json"
ConfigOption = Annotated[Path, typer.Option("--config", help="agent.json, from the pod's ConfigMap")]
_TAGS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

app = typer.Typer(no_args_is_help=True, help="Stored files that are not as they were stored, or one of them again.")


class Desk:
    """Index and volume of this pod's archive.

    Parameters
    ----------
    rest
        Orthanc.
    volume
        Its files.
    images
        The volume's folder, where the scrub remembers what it found.
    """

    def __init__(self, rest: OrthancRest, volume: Volume, images: Path) -> None:
        self._rest, self._volume, self._images = rest, volume, images
        self._index = StoredIndex(rest)

    def show(self) -> list[dict[str, str]]:
        """Return what the scrub found, and which images these files are."""
        state = scrubstate.load(self._images)
        told = ScrubTold(last=state.last, running=state.running) if state else ScrubTold()
        found = {one.object: one.kind for part in (told.last, told.running) if part for one in part.found}
        rows = self.rows(found)
        return [
            {"object": name, "kind": kind, **(self._whose(rows[name]) if name in rows else {})}
            for name, kind in found.items()
        ]

    def rows(self, names: Iterable[str]) -> dict[str, Row]:
        """Return the index's rows of some files; looks through the index until it has them all."""
        wanted, found = set(names), dict[str, Row]()
        for study in self._index.studies() if wanted else ():
            found.update((row.expected.uuid, row) for row in self._index.rows(study) if row.expected.uuid in wanted)
            if len(found) == len(wanted):
                break
        return found

    def check(self, name: str) -> ScrubKind | None:
        """Return what is wrong with one file now; None when it is as it was stored.

        Raises
        ------
        NeighbourError
            There is no such file, and no row for it.
        """
        row = self.rows([name]).get(name)
        if row is None and not self._volume.path(name).exists():
            raise NeighbourError("neither index nor volume has it", action="see pacs-agent scrub show", retry=False)
        if row is None:
            return "RowMissing"
        try:
            self._volume.read_keys()
            for _ in self._volume.steps(row.expected):
                pass
        except (AlteredError, KeyMissingError, OSError) as error:
            return kind_of(error)
        return None

    def _whose(self, row: Row) -> dict[str, str]:
        """Return whose image a file is, as far down as the resource goes."""
        if row.level != "Instance":
            return {"resource": row.resource, "level": row.level}
        found = {"resource": row.resource, "level": row.level}
        for level in ("patient", "study", "series"):
            found |= self._tags(f"/instances/{row.resource}/{level}")
        return found | self._tags(f"/instances/{row.resource}")

    def _tags(self, path: str) -> dict[str, str]:
        """Return identifiers as the index has them: the file itself is what cannot be read."""
        tags = (self._rest.ask("GET", path) or {}).get("MainDicomTags", {})
        return {tag: str(tags[tag]) for tag in _TAGS if tag in tags}


def _desk(config_file: Path) -> Desk:
    config = AgentConfig.model_validate_json(config_file.read_bytes())
    if config.orthanc_url is None:
        raise AgentConfigError("this pod has no Orthanc", action="run it in the pod orthanc-0")
    places = Surroundings()
    return Desk(OrthancRest(config.orthanc_url), volume_of(config, places), places.images)


@app.command()
def show(config: ConfigOption = CONFIG_FILE) -> None:
    """Show what was found, and which images these files are. Shows patients' identifiers."""
    try:
        found = _desk(config).show()
    except (AgentError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="of a file, as the list shows it")], config: ConfigOption = CONFIG_FILE
) -> None:
    """Read one file from the disk now and say whether it is as it was stored; ends with 1 when it is not."""
    if not NAME.fullmatch(name):
        raise typer.BadParameter("a UUID, as pacs-agent scrub show shows it")
    try:
        found = _desk(config).check(name)
    except (AgentError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(found or "Intact")
    raise typer.Exit(0 if found is None else 1)
