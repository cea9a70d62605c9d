"""Staffed hours: what closes for good closes when somebody is there who can act."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.legacy import StaffedHours

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)  # whether an hour exists does not hang on when it is asked


def check(hours: StaffedHours) -> None:
    """Refuse hours that name no time there is.

    Raises
    ------
    InvalidSpecError
        With the value and the way out.
    """
    try:
        ZoneInfo(hours.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidSpecError(
            f"spec.dicom.staffedHours.timeZone: {hours.time_zone!r} is not an IANA time zone",
            action="use a name such as Europe/Zurich or Etc/UTC",
        ) from None
    try:
        if len(hours.schedule.split()) != 5 or not croniter.is_valid(hours.schedule):
            raise CroniterError
        closing_time(hours, _ANY_TIME)
    except CroniterError:
        raise InvalidSpecError(
            f"spec.dicom.staffedHours.schedule: {hours.schedule!r} is not a cron expression of five fields that names "
            "a time there is",
            action="write minute, hour, day, month and weekday, for example 0 8-16 * * 1-5",
        ) from None


def closing_time(hours: StaffedHours, end: datetime) -> datetime:
    """Return the first begin of a staffed hour at or after an end, in UTC.

    Parameters
    ----------
    hours
        As `check` accepts them.
    end
        When something expires.
    """
    just_before = (end - timedelta(seconds=1)).astimezone(ZoneInfo(hours.time_zone))
    slot: datetime = croniter(hours.schedule, just_before).get_next(datetime)
    return slot.astimezone(UTC)
