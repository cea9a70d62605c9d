"""Staffed hours: what closes for good closes when somebody is there who can act."""

from datetime import datetime, timedelta

from pacs_operator.domain import cron
from pacs_operator.domain.legacy import StaffedHours


def check(hours: StaffedHours) -> None:
    """Refuse hours that name no time there is.

    Raises
    ------
    InvalidSpecError
        With the value and the way out.
    """
    cron.check_time_zone("spec.dicom.staffedHours.timeZone", hours.time_zone)
    cron.check_schedule("spec.dicom.staffedHours.schedule", hours.schedule, "0 8-16 * * 1-5")


def closing_time(hours: StaffedHours, end: datetime) -> datetime:
    """Return the first begin of a staffed hour at or after an end, in UTC.

    Parameters
    ----------
    hours
        As `check` accepts them.
    end
        When something expires.
    """
    return cron.next_slot(hours.schedule, hours.time_zone, end - timedelta(seconds=1))
