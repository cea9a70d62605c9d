"""Pages of Orthanc's index, while images come and go between two of them: what stays is never passed over."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_operator.agent.orthanc_rest import OrthancRest
from pacs_operator.agent.storedindex import StoredIndex


def study(number: int) -> str:
    return f"{number:08x}" + 4 * "-00000000"


class Listing(OrthancRest):
    """Orthanc's lists, ordered by identifier as it orders them; after each page something comes or goes."""

    def __init__(self, there: set[int], changes: list[tuple[set[int], set[int]]] | None = None) -> None:
        self.there, self.changes, self.asked = there, list(changes or []), 0

    def ask(self, method: str, path: str, body: Any = None, seconds: float = 0) -> Any:
        if path == "/statistics":
            return {"CountStudies": str(len(self.there))}
        self.asked += 1
        if method == "POST":
            since, limit = body["Since"], body["Limit"]
        else:
            since, limit = (int(part.partition("=")[2]) for part in path.partition("?")[2].split("&"))
        page = [study(number) for number in sorted(self.there)[since : since + limit]]
        if self.changes:
            gone, come = self.changes.pop(0)
            self.there = (self.there - gone) | come
        return [{"ID": name, "Attachments": []} for name in page] if method == "POST" else page


def listed(rest: Listing, page: int, level: str) -> list[str]:
    index = StoredIndex(rest, page)
    return list(index.studies()) if level == "Study" else sorted(one.id for one in index._below(study(0), level))


@pytest.mark.parametrize("level", ["Study", "Instance"])
@pytest.mark.parametrize("gone", [{0}, {3}, {0, 1, 2, 3}, set(range(10)), set()], ids=str)
def test_a_deletion_between_two_pages_skips_none(level: str, gone: set[int]) -> None:
    """Its twin: nothing was deleted."""
    found = listed(Listing(set(range(12)), [(gone, set())]), 4, level)
    assert {study(number) for number in set(range(12)) - gone} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 250])
def test_each_once_when_nothing_changes(count: int) -> None:
    rest = Listing(set(range(count)))
    assert listed(rest, 4, "Study") == [study(number) for number in range(count)]
    assert rest.asked <= 1 + count // 3


numbers = st.sets(st.integers(0, 400), max_size=30)


@given(st.sets(st.integers(0, 400)), st.lists(st.tuples(numbers, numbers), max_size=20), st.sampled_from([2, 5, 110]))
def test_whatever_comes_and_goes(there: set[int], changes: list[tuple[set[int], set[int]]], page: int) -> None:
    stays = there - {number for gone, _ in changes for number in gone}
    assert {study(number) for number in stays} <= set(listed(Listing(there, changes), page, "Study"))
