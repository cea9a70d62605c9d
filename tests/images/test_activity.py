"""The archive plugin's counts by AE title, without Orthanc."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "images/archive/plugin"))

from pacs_activity import Activity
from pacs_rules import Refusal

NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z


def test_the_title_silent_for_longest_is_forgotten_when_there_are_too_many() -> None:
    activity = Activity(capacity=3)
    for aet in ("CT1", "CT2", "CT3", "CT1"):
        activity.stored(aet, NOON)
    activity.refused("CT4", Refusal.DUPLICATE_DIFFERS, NOON)
    assert set(activity.report()) == {"CT1", "CT3", "CT4"}
    assert activity.report()["CT1"]["stores"] == 2


def test_a_title_is_counted_without_its_padding() -> None:
    activity = Activity()
    activity.stored("CT1 ", NOON)
    activity.stored("CT1", NOON + 1)
    assert activity.report()["CT1"] == {
        "stores": 2, "lastStore": "2026-11-22T12:00:01Z",
        "refusedDuplicates": 0, "refusedReserved": 0, "refusedOther": 0,
    }  # fmt: skip


def test_every_refusal_is_counted_once_and_the_newest_named() -> None:
    activity = Activity()
    for second, refusal in enumerate(Refusal):
        activity.refused("CT1", refusal, NOON + second)
    seen = activity.report()["CT1"]
    counts = {key: value for key, value in seen.items() if key.startswith("refused")}
    assert counts == {"refusedDuplicates": 1, "refusedReserved": 2, "refusedOther": 5}
    assert (seen["lastRefusal"], seen["lastRefusalReason"]) == ("2026-11-22T12:00:07Z", "CheckFailed")
    assert "lastStore" not in seen


def test_threads_never_see_each_other_half_done() -> None:
    """Without the lock a title is forgotten between two looks at it, or the report meets a map that changes."""
    activity = Activity(capacity=3)

    def work(number: int) -> int:
        activity.stored(f"CT{number % 7}", NOON)
        return len(activity.report())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert max(pool.map(work, range(20_000))) == 3
    finally:
        sys.setswitchinterval(interval)
