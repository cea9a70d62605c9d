"""Which files Orthanc's index knows, study by study: small lists, since all of them together change all the time."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from pacs_operator.agent.content import Expected
from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.orthanc_rest import OrthancRest
from pacs_operator.domain.agentconfig import Told

LIST_SECONDS = 120.0
_STUDIES_AT_ONCE = 100_000
_LEVELS = ("Instance", "Series", "Study")  # the DICOMweb plugin keeps files of series
_STUDY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
_HEX = "0123456789abcdef"
T = TypeVar("T")


class _Attachment(Told):
    uuid: str = Field(alias="Uuid", pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    content_type: int = Field(alias="ContentType")
    size: int = Field(alias="CompressedSize")
    md5: str = Field(alias="CompressedMD5")


class _Resource(Told):
    id: str = Field(alias="ID")
    attachments: list[_Attachment] = Field(alias="Attachments")


_RESOURCES = TypeAdapter(list[_Resource])


@dataclass(frozen=True)
class Row:
    """One file that the index knows, and which resource of Orthanc's it belongs to."""

    expected: Expected
    level: str
    resource: str


class StoredIndex:
    """Orthanc's index, as its REST interface shows it. Every method blocks.

    Parameters
    ----------
    rest
        Orthanc in this pod.
    page
        How many resources are asked for at once, 2 or more; fewer than Orthanc's ``LimitFindInstances``.
    """

    def __init__(self, rest: OrthancRest, page: int = 10_000) -> None:
        self._rest, self._page = rest, page

    def studies(self, after: str = "") -> Iterator[str]:
        """Yield the studies' identifiers in their order, after the one that begins so; few of them are held at once.

        Raises
        ------
        NeighbourError
            Orthanc does not answer, or not as agreed.
        """
        count = int(self._answer("GET", "/statistics", "CountStudies"))
        digits = 0 if count <= _STUDIES_AT_ONCE else 1 if count <= 16 * _STUDIES_AT_ONCE else 2
        for begin in _prefixes(digits):
            if begin >= after[:digits]:
                yield from (study for study in self._beginning(begin) if study[: len(after)] > after or not after)

    def _beginning(self, prefix: str) -> list[str]:
        def ask(since: int) -> list[str]:
            page = self._rest.ask("GET", f"/studies?since={since}&limit={self._page}", seconds=LIST_SECONDS)
            if not isinstance(page, list) or not all(_STUDY.fullmatch(str(study)) for study in page):
                raise _unexpected("list of studies")
            return page

        return sorted({study for study in self._all(ask, str) if study.startswith(prefix)})

    def _all(self, ask: Callable[[int], list[T]], name: Callable[[T], str]) -> Iterator[T]:
        """Yield what a list by number holds, some of it more than once.

        Orthanc orders by identifier, so what follows a deletion moves up. Pages overlap, therefore, and after one
        that does not begin with what the page before it had, one from further back is asked for.
        """
        since, before = 0, set[str]()
        while True:
            page = ask(since)
            if since and (not page or name(page[0]) not in before):
                since = max(0, since - self._page // 2)
                continue
            yield from page
            if len(page) < self._page:
                return
            before = {name(one) for one in page}
            since += self._page - max(1, self._page // 100)

    def rows(self, study: str) -> list[Row]:
        """Return the files of one study; none when it is gone.

        Raises
        ------
        NeighbourError
            Orthanc does not answer, or not as agreed.
        """
        return [row for level in _LEVELS for row in self._of(study, level)]

    def _of(self, study: str, level: str) -> Iterator[Row]:
        resources = self._study(study) if level == "Study" else self._below(study, level)
        for resource in resources:
            for one in resource.attachments:
                yield Row(Expected(one.uuid, one.content_type, one.size, one.md5), level, resource.id)

    def _below(self, study: str, level: str) -> list[_Resource]:
        """Return a study's series or instances; Orthanc's limit of answers is above a page."""

        def ask(since: int) -> list[_Resource]:
            query = {
                "Level": level, "Query": {}, "ParentStudy": study, "ResponseContent": ["Attachments"], "Expand": True,
                "Since": since, "Limit": self._page,
            }  # fmt: skip
            return _resources(self._rest.ask("POST", "/tools/find", query, LIST_SECONDS))

        return list({resource.id: resource for resource in self._all(ask, lambda one: one.id)}.values())

    def _study(self, study: str) -> list[_Resource]:
        """Return a study's own files; Orthanc keeps none there, programs of users may."""
        path = f"/studies/{study}/attachments"
        if self._rest.call("GET", path).status_code == HTTPStatus.NOT_FOUND:
            return []  # deleted since
        infos = [self._rest.ask("GET", f"{path}/{name}/info") for name in self._rest.ask("GET", path) or []]
        return _resources([{"ID": study, "Attachments": infos}])

    def _answer(self, method: str, path: str, field: str) -> Any:
        found = self._rest.ask(method, path, seconds=LIST_SECONDS)
        if not isinstance(found, dict) or field not in found:
            raise _unexpected("statistics")
        return found[field]


def _resources(found: Any) -> list[_Resource]:
    try:
        return _RESOURCES.validate_python(found)
    except ValidationError:
        raise _unexpected("list of files") from None


def _prefixes(digits: int) -> list[str]:
    found = [""]
    for _ in range(digits):
        found = [begin + digit for begin in found for digit in _HEX]
    return found


def _unexpected(what: str) -> NeighbourError:
    return NeighbourError(
        f"Orthanc's {what} is of another form",
        action="use archive and tools images of one release",
        reason="NeighbourRefused",
    )
