"""DICOMweb at the gate: what may be asked, of whom, and how much.

The gate and the HAProxy beside Orthanc let the same routes through, rendered from the patterns here. They are held
against the path as it was sent: nothing is decoded or shortened before, so what is written in any other way is refused.
"""

from typing import Annotated

from pydantic import Field

from pacs_operator.domain.model import Model
from pacs_operator.domain.peer import Right

ROOT = "/dicom-web"
_UID = r"[0-9]+(?:\.[0-9]+)*"
_STUDY = f"{ROOT}/studies/{_UID}"
_SERIES = f"{_STUDY}/series/{_UID}"
_INSTANCE = f"{_SERIES}/instances/{_UID}"
_FRAMES = f"{_INSTANCE}/frames/[0-9]+(?:,[0-9]+)*"

STOW_PATH = f"^{ROOT}/studies(?:/{_UID})?$"  # PS3.18 10.5.1
QIDO_PATH = (
    f"^(?:{ROOT}/(?:studies|series|instances)|{_STUDY}/(?:series|instances)|{_SERIES}/instances)$"  # PS3.18 10.6.1
)
WADO_PATH = (  # PS3.18 10.4.1: the object, its metadata, rendered, frames, bulk data
    f"^(?:(?:{_STUDY}|{_SERIES}|{_INSTANCE})(?:/metadata|/rendered)?|{_FRAMES}(?:/rendered)?"
    f"|{_INSTANCE}/bulk(?:/[0-9A-Fa-f]+)+)$"
)
_VALUE = r"[A-Za-z0-9%._~!$()*+,;:@/?=\x27^-]*"
_ATTRIBUTE = r"[A-Z][A-Za-z0-9]{0,63}|[0-9A-Fa-f]{8}(?:\.[0-9A-Fa-f]{8})*"


def _query(names: str) -> str:
    """Return a pattern of whole queries: these names alone, and no value with an encoded control character."""
    one = f"(?:{names})={_VALUE}"
    return f"^(?!.*%[01])(?:{one}(?:&{one})*)?$"


QIDO_QUERY = _query(f"limit|offset|includefield|fuzzymatching|emptyvaluematching|accept|charset|{_ATTRIBUTE}")
# PS3.18 8.3.3 and 8.3.5: what may stand in a query instead of a header, and what rendering knows.
WADO_QUERY = _query("accept|charset|includefield|viewport|window|quality|annotation|iccprofile")

#: The right that each service needs, by the name under which the gate's records have it.
RIGHT_OF = {"Stow": Right.STORE, "Qido": Right.FIND, "Wado": Right.GET}
PATHS = {"Stow": ("POST", STOW_PATH), "Qido": ("GET", QIDO_PATH), "Wado": ("GET", WADO_PATH)}
QUERIES = {"Stow": "^$", "Qido": QIDO_QUERY, "Wado": WADO_QUERY}


class DicomWebLimits(Model):
    """What clients may take; a client's own ``limits.maxAssociations`` bounds its requests at one time, too."""

    max_body_mi: Annotated[int, Field(ge=1, le=16_384)] = 2_048
    requests_per_minute: Annotated[int, Field(ge=1, le=60_000)] = 6_000
    max_concurrent: Annotated[int, Field(ge=1, le=256)] = 32


class DicomWeb(Model):
    """STOW-RS, QIDO-RS and WADO-RS over HTTPS at the gate, for clients with certificates."""

    node_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    limits: DicomWebLimits = DicomWebLimits()
