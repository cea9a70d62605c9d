"""What a scrub remembers beyond a restart: small, and nothing of a patient."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from pacs_operator.agent.files import PRIVATE, read_if_there, write_atomic
from pacs_operator.domain.agentconfig import MAX_FOUND, ScrubFound, ScrubKind, ScrubPass, Time, Told

STATE_FILE = "scrub/state.json"  # on the images' volume
#: How much of a study's identifier is kept: it is a hash of UIDs, of which 12 digits are enough to go on from.
POSITION_DIGITS = 13
_FIELDS: dict[ScrubKind, str] = {
    "Changed": "changed",
    "Unreadable": "unreadable",
    "FileMissing": "file_missing",
    "RowMissing": "row_missing",
}


class Position(Told):
    """How far a pass has come."""

    study: Annotated[str, Field(pattern=r"^[0-9a-f-]{0,64}$")] = ""  # the last one that was read whole
    files: bool = True  # the index's files are being read; afterwards the volume is looked through


class ScrubState(Told):
    """The last whole pass, the one under way, and since when there is a scrub at all."""

    since: Time
    saved: Time | None = None  # when the pass under way last came further
    last: ScrubPass | None = None
    running: ScrubPass | None = None
    position: Position = Position()


def load(folder: Path) -> ScrubState | None:
    """Return what was remembered; None when there is nothing, or nothing legible: then a pass begins anew.

    Raises
    ------
    OSError
        The volume cannot be read.
    """
    content = read_if_there(folder / STATE_FILE)
    try:
        return None if content is None else ScrubState.model_validate_json(content)
    except ValidationError:
        return None


def save(folder: Path, state: ScrubState) -> None:
    """Remember a state.

    Raises
    ------
    OSError
        The volume takes no file.
    """
    path = folder / STATE_FILE
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(path, state.model_dump_json(by_alias=True, exclude_none=True).encode(), PRIVATE)


def with_found(result: ScrubPass, kind: ScrubKind, uuid: str) -> ScrubPass:
    """Return a pass's result with one more object that is not as it should be; the first few are named."""
    field = _FIELDS[kind]
    found = [*result.found, ScrubFound(kind=kind, object=uuid)][:MAX_FOUND]
    return result.model_copy(update={field: getattr(result, field) + 1, "found": found})
