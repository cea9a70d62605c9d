"""The scrub: when every stored image is read again from the disk, and how fast.

What the agent beside Orthanc is given (``scrub.json``, in the ConfigMap that changes without a restart) is the same
model as in the spec.
"""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from pacs_operator.domain import cron
from pacs_operator.domain.model import Model

SCRUB_FILE = "scrub.json"
#: After the end of a pass that took no time, the next one has to end within two intervals of the schedule and this.
_GRACE = timedelta(hours=1)
_LONGEST = timedelta(days=60)  # that a pass is waited for


class Scrub(Model):
    """When a pass over all stored images begins, and how much it reads a second."""

    schedule: Annotated[str, Field(max_length=64)] = "40 0 * * *"
    time_zone: Annotated[str, Field(max_length=64)] = "Etc/UTC"
    max_mi_per_second: Annotated[int, Field(ge=1, le=10_000)] = 32
    suspend: bool = False


def check(scrub: Scrub) -> None:
    """Refuse a schedule that names no time there is.

    Raises
    ------
    InvalidSpecError
        With the value and the way out.
    """
    cron.check_time_zone("spec.storage.scrub.timeZone", scrub.time_zone)
    cron.check_schedule("spec.storage.scrub.schedule", scrub.schedule, "40 0 * * *", in_figures=True)


def next_slot(scrub: Scrub, after: datetime) -> datetime:
    """Return the first time after another that the schedule names, in UTC."""
    return cron.next_slot(scrub.schedule, scrub.time_zone, after)


def abandoned_at(scrub: Scrub, saved: datetime) -> datetime:
    """Return from when on a pass that halted is not gone on with: what it read is as old as two slots.

    Parameters
    ----------
    scrub
        As `check` accepts it.
    saved
        When it last came further.
    """
    return next_slot(scrub, next_slot(scrub, saved))


def stale_at(scrub: Scrub, began: datetime, ended: datetime) -> datetime:
    """Return from when on a pass proves nothing any more.

    Two later ones should have begun by then, and each may take twice as long as the last one did.

    Parameters
    ----------
    scrub
        As `check` accepts it.
    began, ended
        Of the last whole pass.
    """
    first = next_slot(scrub, ended)
    return next_slot(scrub, first) + 2 * min(ended - began, _LONGEST) + _GRACE
