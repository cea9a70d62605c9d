"""Break-glass readers and the time of passes: the end of one wakes the archive, and no number of words holds it up."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest

from pacs_operator.domain.breakglass import BreakGlass, Word, opened
from tests.engine.test_breakglass import GLASS, HOUR, both, prepare, ready
from tests.engine.world import ARCHIVE, World

__all__ = ["ready"]  # a fixture


@pytest.mark.parametrize("suspend", [True, False])
def test_its_end_wakes_the_archive_whatever_else_does(ready: World, suspend: bool) -> None:
    """The agents forget it by themselves; network policy, role and status wait for the next pass."""
    prepare(ready, conformance={"suspend": suspend})
    both(ready)
    ready.settle(ready.process)
    ready.advance(4 * HOUR - 60)
    ready.settle(ready.process)
    again = ready.process.reconcile(ARCHIVE).requeue_after
    end = datetime.strptime(ready.archive["status"]["breakGlass"]["list"][0]["until"], "%Y-%m-%dT%H:%M:%S%z")
    assert again is not None
    assert again <= (end - ready.now).total_seconds()


@pytest.mark.parametrize("many", [10, 2000])
def test_whoever_approves_without_end_keeps_no_pass_waiting(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    pairs: list[object] = []

    def counted(words: list[Word], size: int) -> list[tuple[Word, ...]]:
        found = list(combinations(words, size))
        pairs.extend(found)
        return found

    monkeypatch.setattr("pacs_operator.domain.breakglass.combinations", counted)
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    reader = BreakGlass.model_validate(GLASS)
    given = [now - timedelta(seconds=number) for number in range(many)]
    words = [Word(person, at, now + timedelta(hours=6), reader) for at in given for person in ("anna", "ben")]
    (box,) = opened(words, now)[0]
    assert (box.until, set(box.approvers)) == (now + timedelta(hours=4), {"anna", "ben"})
    assert len(pairs) <= 32 * 31 / 2
