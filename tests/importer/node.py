"""A DICOM node in memory: answers C-FIND, C-GET, C-MOVE and C-STORE, and fails as a test asks it to."""

from __future__ import annotations

import copy
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage
from pynetdicom import AE, build_context, evt
from pynetdicom.dsutils import decode

from pacs_operator.importer.node import FIND, GET, MOVE, SYNTAXES
from tests.images.orthanc_server import instance

_KEYS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
SUCCESS = 0x0000
_CLASSES = [CTImageStorage]


@dataclass
class Faults:
    """What this node does wrong; nothing by default."""

    most_answers: int | None = None  # of one query
    says_so: bool = True  # by a final status, when it leaves answers out
    dies_after: int | None = None  # objects sent; then the association is aborted, and all later ones are refused
    breaks_on: set[str] = field(default_factory=set)  # objects at which the association is aborted
    keeps: set[str] = field(default_factory=set)  # objects that are listed and not handed out
    unlisted: set[str] = field(default_factory=set)  # objects that are counted and not listed
    status_of: Callable[[str], int] = lambda _: SUCCESS  # of a C-STORE
    mangles: set[str] = field(default_factory=set)  # objects that are given out otherwise than they were stored
    query_status: int | None = None
    forgets: set[str] = field(default_factory=set)  # objects that it says it stored


class Node:
    """The node; ``objects`` is what it holds, by SOP Instance UID."""

    def __init__(self, title: str, *datasets: Dataset, tls: ssl.SSLContext | None = None) -> None:
        self.title, self.tls = title, tls
        self.objects: dict[str, Dataset] = {str(dataset.SOPInstanceUID): dataset for dataset in datasets}
        self.faults = Faults()
        self.sent: list[str] = []
        self.received: list[str] = []
        self.queries: list[Dataset] = []
        self.on_sent: Callable[[str], None] = lambda _: None
        self.down = False
        self.destinations: dict[str, Node] = {}  # of C-MOVE, by AE title
        self.models = [FIND, GET, MOVE]
        self._lock = threading.Lock()
        self._server: Any = None
        self.port = 0
        self.start()

    def start(self) -> None:
        ae = AE(ae_title=self.title)
        ae.require_called_aet = True
        ae.dimse_timeout = ae.network_timeout = 20
        for model in self.models:
            ae.add_supported_context(model)
        for sop_class in _CLASSES:
            ae.add_supported_context(sop_class, list(SYNTAXES), scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REQUESTED, self._requested),
        ]
        where = ("127.0.0.1", self.port)
        self._server = ae.start_server(where, block=False, ssl_context=self.tls, evt_handlers=handlers)
        self.port = int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        self._server.shutdown()

    def _requested(self, event: evt.Event) -> None:
        if self.down:
            event.assoc.abort()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        wanted = event.identifier
        self.queries.append(wanted)
        if self.faults.query_status is not None:
            yield self.faults.query_status, None
            return
        answers = list(self._answers(wanted))
        most = self.faults.most_answers
        for answer in answers[:most]:
            yield 0xFF00, answer
        if most is not None and len(answers) > most and self.faults.says_so:
            yield 0xFE00, None

    def _answers(self, wanted: Dataset) -> Iterator[Dataset]:
        level = wanted.QueryRetrieveLevel
        key, seen = _KEYS[level], set()
        for uid, dataset in sorted(self.objects.items()):
            if level == "IMAGE" and uid in self.faults.unlisted:
                continue
            if _matches(dataset, wanted) and (value := str(dataset.get(key))) not in seen:
                seen.add(value)
                yield self._answer(dataset, wanted)

    def _answer(self, dataset: Dataset, wanted: Dataset) -> Dataset:
        answer = Dataset()
        for element in wanted:
            if element.keyword == "NumberOfSeriesRelatedInstances":
                series = dataset.SeriesInstanceUID
                same = sum(other.SeriesInstanceUID == series for other in self.objects.values())
                answer.NumberOfSeriesRelatedInstances = same
            elif element.keyword == "QueryRetrieveLevel":
                answer.QueryRetrieveLevel = element.value
            else:
                setattr(answer, element.keyword, dataset.get(element.keyword, ""))
        return answer

    def _move(self, event: evt.Event) -> Iterator[Any]:
        target = self.destinations.get(str(event.request.MoveDestination))  # type: ignore[union-attr]
        if target is None:
            yield None, None
            return
        contexts = [build_context(sop_class, syntax) for sop_class in _CLASSES for syntax in SYNTAXES]
        yield "127.0.0.1", target.port, {"contexts": contexts, "ae_title": target.title}
        yield from self._get(event)

    def _get(self, event: evt.Event) -> Iterator[Any]:
        wanted = [self.objects[uid] for uid in _listed(event.identifier.SOPInstanceUID) if uid in self.objects]
        given = [dataset for dataset in wanted if str(dataset.SOPInstanceUID) not in self.faults.keeps]
        yield len(given)
        for dataset in given:
            uid = str(dataset.SOPInstanceUID)
            if uid in self.faults.breaks_on or len(self.sent) == self.faults.dies_after:
                self.down = len(self.sent) == self.faults.dies_after
                event.assoc.abort()
                return
            if event.is_cancelled:
                yield 0xFE00, None
                return
            self.sent.append(uid)
            yield 0xFF00, _mangled(dataset) if uid in self.faults.mangles else dataset
            self.on_sent(uid)

    def _store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        self.received.append(uid)
        if (status := self.faults.status_of(uid)) != SUCCESS:
            return status
        syntax = UID(event.context.transfer_syntax)
        dataset = decode(event.request.DataSet, syntax.is_implicit_VR, syntax.is_little_endian)  # type: ignore[union-attr, arg-type]
        dataset.file_meta = event.file_meta
        if uid in self.faults.forgets:
            return SUCCESS
        with self._lock:
            before = self.objects.get(uid)
            if before is not None and before != dataset:
                return 0x0111
            self.objects[uid] = dataset
        return SUCCESS


def _mangled(dataset: Dataset) -> Dataset:
    other = copy.deepcopy(dataset)
    other.PatientComments = "somebody wrote here"
    return other


def _listed(value: Any) -> list[str]:
    return [str(value)] if isinstance(value, str) else [str(each) for each in value]


def _matches(dataset: Dataset, wanted: Dataset) -> bool:
    for element in wanted:
        if element.keyword in ("QueryRetrieveLevel", "NumberOfSeriesRelatedInstances") or not element.value:
            continue
        have = str(dataset.get(element.keyword, ""))
        if element.keyword in ("StudyDate", "StudyTime"):
            first, _, last = str(element.value).partition("-")
            if not have or not first <= have <= last:
                return False
        elif have not in _listed(element.value):
            return False
    return True


def image(uid: str, study: str, *, day: str = "20200115", time: str = "101500", **more: Any) -> Dataset:
    """Return a small CT image of a study that has a date."""
    dataset = instance(uid, study=study, pixels=uid.encode().ljust(16, b"\0")[-16:])
    dataset.StudyDate, dataset.StudyTime = day, time
    for key, value in more.items():
        setattr(dataset, key, value)
    return dataset
