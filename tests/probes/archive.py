"""An archive in memory (a real DICOM server by pynetdicom) with rights per AE title, and switches that break it."""

import copy
import fnmatch
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes, CTImageStorage, ExplicitVRLittleEndian, UltrasoundImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.events import Event

from pacs_operator.domain.names import PROBE_PATIENT_PREFIX
from pacs_operator.domain.peer import Right
from pacs_operator.probes.wire import Endpoint

FIND_MODELS = ("1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1")
MOVE_MODELS = ("1.2.840.10008.5.1.4.1.2.1.2", "1.2.840.10008.5.1.4.1.2.2.2")
GET_MODELS = ("1.2.840.10008.5.1.4.1.2.1.3", "1.2.840.10008.5.1.4.1.2.2.3")
VERIFICATION = "1.2.840.10008.1.1"
KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


@dataclass
class Faults:
    """What this archive does wrong; all false is an archive as it should be."""

    echo_to_anybody: bool = False
    find_for_anybody: bool = False
    get_for_anybody: bool = False
    store_anything: bool = False
    refuses_class: str | None = None
    loses_class: str | None = None
    alters: bool = False
    finds_too_much_at: str | None = None
    keeps_removed: bool = False
    moves_anywhere: bool = False
    lists_class: str | None = None
    lists_syntax: str | None = None
    takes_duplicates: bool = False
    replaces_duplicates: bool = False


@dataclass
class Archive:
    """Stores in memory; ``rights`` by calling AE title, ``probes`` are the titles confined to the reserved prefix."""

    rights: dict[str, set[Right]]
    probes: set[str]
    faults: Faults = field(default_factory=Faults)
    destinations: dict[str, tuple[str, int, ssl.SSLContext]] = field(default_factory=dict)  # by AE title

    def __post_init__(self) -> None:
        self.objects: dict[str, Dataset] = {}
        self.requests: list[str] = []
        self._lock = threading.Lock()
        ae = AE(ae_title="BEHIND")
        ae.maximum_associations = 50
        for uid in (VERIFICATION, *FIND_MODELS, *GET_MODELS, *MOVE_MODELS):
            ae.add_supported_context(uid)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax or "", AllTransferSyntaxes, scu_role=True, scp_role=True)
        if self.faults.lists_class:
            ae.add_supported_context(self.faults.lists_class)
        if self.faults.lists_syntax:
            ae.add_supported_context(CTImageStorage, self.faults.lists_syntax)
        handlers = [
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
        ]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
        assert self._server is not None
        self.endpoint = Endpoint("127.0.0.1", self._server.server_address[1])

    def close(self) -> None:
        """Stop in the background: the server's own loop looks only twice a second whether it should."""
        assert self._server is not None
        threading.Thread(target=self._server.shutdown, daemon=True).start()

    def _may(self, event: Event, right: Right) -> bool:
        title = str(event.assoc.requestor.ae_title).strip()
        self.requests.append(f"{title} {right}")
        return right in self.rights.get(title, set())

    def _echo(self, event: Event) -> int:
        if self._may(event, Right.ECHO) or self.faults.echo_to_anybody:
            return 0x0000
        event.assoc.abort()
        return 0x0122

    def _store(self, event: Event) -> int:  # one status for each rule
        if not self._may(event, Right.STORE):
            return 0x0124
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        if dataset.SOPClassUID == self.faults.refuses_class:
            return 0xA700
        title = str(event.assoc.requestor.ae_title).strip()
        reserved = str(dataset.get("PatientID", "")).startswith(PROBE_PATIENT_PREFIX)
        if (title in self.probes) != reserved and not self.faults.store_anything:
            return 0x0124
        known = self.objects.get(dataset.SOPInstanceUID)
        if known is not None and known != dataset:
            if self.faults.replaces_duplicates:
                self.objects[dataset.SOPInstanceUID] = dataset
            return 0x0000 if self.faults.takes_duplicates else 0x0111
        if dataset.SOPClassUID != self.faults.loses_class:
            with self._lock:
                self.objects[dataset.SOPInstanceUID] = dataset
        return 0x0000

    def _find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        if not self._may(event, Right.FIND) and not self.faults.find_for_anybody:
            yield 0x0122, None
            return
        identifier = event.identifier
        level = identifier.QueryRetrieveLevel
        seen = set()
        for dataset in list(self.objects.values()):
            key = str(dataset.get(KEYS[level], ""))
            asked = identifier if level != self.faults.finds_too_much_at else Dataset()
            if key not in seen and _matches(dataset, asked):
                seen.add(key)
                match = Dataset()
                match.QueryRetrieveLevel = level
                for own in KEYS.values():
                    setattr(match, own, str(dataset.get(own, "")))
                yield 0xFF00, match

    def _get(self, event: Event) -> Iterator[object]:
        if not self._may(event, Right.GET) and not self.faults.get_for_anybody:
            yield 1
            yield 0x0124, None
            return
        yield from self._found(event)

    def _found(self, event: Event) -> Iterator[object]:
        found = [each for each in list(self.objects.values()) if _matches(each, event.identifier)]
        yield len(found)
        for dataset in found:
            sent = dataset
            if self.faults.alters:
                sent = copy.deepcopy(dataset)
                sent.PatientSex = "F" if dataset.get("PatientSex") != "F" else "M"
            yield 0xFF00, sent

    def _move(self, event: Event) -> Iterator[object]:
        destination = self.destinations.get(str(event.move_destination).strip())
        if self.faults.moves_anywhere:
            destination = destination or next(iter(self.destinations.values()))
        if not self._may(event, Right.MOVE) or destination is None:
            yield None, None
            return
        address, port, context = destination
        contexts = [build_context(UltrasoundImageStorage, ExplicitVRLittleEndian)]
        yield address, port, {"contexts": contexts, "tls_args": (context, "ws1.imaging.example"), "ae_title": "WS1"}
        yield from self._found(event)

    def remove_patient(self, patient_id: str) -> int:
        doomed = [uid for uid, each in self.objects.items() if each.PatientID == patient_id]
        if not self.faults.keeps_removed:
            for uid in doomed:
                del self.objects[uid]
        return len(doomed)


def _matches(dataset: Dataset, identifier: Dataset) -> bool:
    for keyword in KEYS.values():
        wanted = str(identifier.get(keyword, "") or "")
        if wanted and not fnmatch.fnmatchcase(str(dataset.get(keyword, "")), wanted):
            return False
    return True
