"""Documents from the API turned into models, with errors that a person can act on."""

from typing import Any, TypeVar

from pydantic import ValidationError

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model

M = TypeVar("M", bound=Model)

_ACTIONS = {
    "missing": "add the field",
    "extra_forbidden": "remove the field or correct its spelling",
    "literal_error": "use one of the values that the rule lists",
    "enum": "use one of the values that the rule lists",
}
_SHOWN = 64


def parse(model: type[M], document: Any, root: str) -> M:
    """Return the typed document.

    Parameters
    ----------
    model
        What it should be.
    document
        As read from the API.
    root
        Path of the document inside its object, for messages, such as ``spec``.

    Raises
    ------
    InvalidSpecError
        Names the first wrong field with its value, the rule and the way out, and how many more there are.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise _translate(found, root) from None


def _translate(found: list[Any], root: str) -> InvalidSpecError:
    first = found[0]
    more = f"; {len(found) - 1} more field(s) are wrong" if len(found) > 1 else ""
    kind = str(first["type"])
    path = _path(root, first["loc"])
    if kind == "missing":
        text = f"{path}: missing"
    elif kind == "extra_forbidden":
        text = f"{path}: unknown field"
    else:
        text = f"{path}: {_value(first['input'])}: {str(first['msg'])[:1].lower()}{str(first['msg'])[1:]}"
    reason = "UnknownField" if kind == "extra_forbidden" else None
    action = _ACTIONS.get(kind, "correct the value; kubectl explain shows the field's rules")
    return InvalidSpecError(text + more, action=action, reason=reason)


def _path(root: str, location: tuple[str | int, ...]) -> str:
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
