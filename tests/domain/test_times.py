"""Times of the API: read with their offset from UTC or not at all."""

from datetime import UTC, datetime

import pytest

from pacs_operator.domain.times import parse_time, rfc3339

NINE = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-23T09:00:00Z", "2026-11-23T09:00:00.000000Z", "2026-11-23T10:00:00+01:00"])
def test_a_time_is_read_with_its_offset_and_written_in_utc(text: str) -> None:
    assert parse_time(text) == NINE
    assert rfc3339(parse_time(text)) == "2026-11-23T09:00:00Z"


@pytest.mark.parametrize("text", ["2026-11-23T09:00:00", "2026-11-23", "tomorrow", ""])
def test_what_tells_no_moment_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"offset|isoformat"):
        parse_time(text)
