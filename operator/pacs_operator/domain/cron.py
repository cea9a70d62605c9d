"""Schedules: cron expressions of five fields, in an IANA time zone."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from pacs_operator.domain.errors import InvalidSpecError

ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)  # whether a time exists does not hang on when it is asked
_IN_FIGURES = frozenset("0123456789*,-/ ")  # no names, no drawn fields: another time at each look


def check_time_zone(field: str, name: str) -> None:
    """Refuse a name that is not in the IANA database, without listing all of it for every archive read.

    Raises
    ------
    InvalidSpecError
        With the value and the way out.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidSpecError(
            f"{field}: {name!r} is not an IANA time zone", action="use a name such as Europe/Zurich or Etc/UTC"
        ) from None


def check_schedule(field: str, schedule: str, example: str, *, in_figures: bool = False) -> None:
    """Refuse a schedule that names no time there is.

    Parameters
    ----------
    field
        Where it stands, for the message.
    schedule
        The expression.
    example
        One that is right, for the message.
    in_figures
        Whether names of days and drawn fields are refused too.

    Raises
    ------
    InvalidSpecError
        With the value and the way out.
    """
    try:
        odd = in_figures and not set(schedule) <= _IN_FIGURES
        if odd or len(schedule.split()) != 5 or not croniter.is_valid(schedule):
            raise CroniterError
        next_slot(schedule, "Etc/UTC", ANY_TIME)
    except CroniterError:
        raise InvalidSpecError(
            f"{field}: {schedule!r} is not a cron expression of five fields{', in figures,' if in_figures else ''} "
            "that names a time there is",
            action=f"write minute, hour, day, month and weekday, for example {example}",
        ) from None


def next_slot(schedule: str, time_zone: str, after: datetime) -> datetime:
    """Return the first time after another that a schedule names, in UTC."""
    slot: datetime = croniter(schedule, after.astimezone(ZoneInfo(time_zone))).get_next(datetime)
    return slot.astimezone(UTC)
