"""The configuration of a process that runs once, from its ConfigMap."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.model import Model

M = TypeVar("M", bound=Model)


def read_config(path: Path, model: type[M], problem: type[PacsError]) -> M:
    """Return the configuration.

    Parameters
    ----------
    path
        Where it is mounted.
    model
        What it should be.
    problem
        What is raised where it is absent, or not valid.
    """
    action = "compare the ConfigMap with the operator's version"
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise problem(f"{path} cannot be read: {type(error).__name__}", action=action) from error
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, each["loc"])) or "document" for each in error.errors())
        raise problem(f"{path} is not valid: {fields}", action=action, retry=False) from error
