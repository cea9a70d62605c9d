"""Times as the API writes them: RFC 3339, UTC, whole seconds."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Return an aware moment as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time, aware.

    Raises
    ------
    ValueError
        It is none, or tells no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:  # it could be compared with no other, and local time would be guessed
        raise ValueError("a time without its offset from UTC")
    return moment
