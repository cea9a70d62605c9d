"""When to renew, how long to wait."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_operator.agent.clock import sleep_until
from pacs_operator.agent.schedule import BACKOFF_LIMIT_SECONDS, backoff_seconds, renewal_due

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
jitters = st.floats(0, 1, exclude_max=True)
lives = st.integers(60, 90 * 86400)


def test_at_two_thirds_of_life() -> None:
    due = renewal_due(BEGIN, BEGIN + timedelta(days=6), BEGIN, jitter=0)
    assert due == BEGIN + timedelta(days=4)


@given(life=lives, jitter=jitters)
def test_jitter_only_makes_it_earlier_and_by_a_twentieth_at_most(life: int, jitter: float) -> None:
    due = renewal_due(BEGIN, BEGIN + timedelta(seconds=life), None, jitter)
    share = (due - BEGIN).total_seconds() / life
    assert 2 / 3 - 0.05 - 1e-6 <= share <= 2 / 3 + 1e-6


@given(life=lives, jitter=jitters, ahead=st.integers(0, 400 * 86400))
def test_a_clock_ahead_of_vault_never_issues_in_a_loop(life: int, jitter: float, ahead: int) -> None:
    obtained = BEGIN + timedelta(seconds=ahead)
    due = renewal_due(BEGIN, BEGIN + timedelta(seconds=life), obtained, jitter)
    assert due - obtained >= min(timedelta(seconds=life) / 3, timedelta(seconds=60)) or due > obtained + timedelta(
        seconds=0.6 * life
    )


def test_a_found_certificate_past_two_thirds_is_due_at_once() -> None:
    now = BEGIN + timedelta(days=5)
    assert renewal_due(BEGIN, BEGIN + timedelta(days=6), None, jitter=0) < now


@given(failures=st.integers(1, 10_000), jitter=jitters)
def test_backoff_grows_to_its_limit_and_is_never_less_than_half(failures: int, jitter: float) -> None:
    wait = backoff_seconds(failures, jitter)
    ceiling = min(BACKOFF_LIMIT_SECONDS, 2.0 ** (min(failures, 20) - 1))
    assert ceiling / 2 <= wait <= ceiling


class Corrected:
    """A clock that is set, once, while somebody sleeps."""

    def __init__(self, by: timedelta) -> None:
        self._now, self._by, self.slept = BEGIN, by, timedelta()

    def now(self) -> datetime:
        return self._now

    def jitter(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept += timedelta(seconds=seconds)
        self._now += timedelta(seconds=seconds) + self._by
        self._by = timedelta()


@pytest.mark.parametrize(
    ("by", "slept"),
    [
        (timedelta(), timedelta(hours=1)),
        (-timedelta(days=6), timedelta(hours=1)),  # it ran ahead: revocations do not wait for six days more
        (timedelta(days=6), timedelta(minutes=10)),  # it was behind, or the machine slept: due at the next look
    ],
)
async def test_a_clock_that_is_set_makes_no_wait_longer(by: timedelta, slept: timedelta) -> None:
    clock = Corrected(by)
    await sleep_until(clock, BEGIN + timedelta(hours=1))
    assert clock.slept == slept
