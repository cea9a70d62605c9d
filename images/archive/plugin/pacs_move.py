"""C-MOVE: who may have images sent where, and the sending.

Orthanc sends to every device it knows, whoever asks. Here the asking AE title has its own list, which the agent
keeps (``PUT /pacs/destinations``, and section ``PacsArchive`` of the configuration for the start); whoever is not on
it may have nothing sent anywhere. Orthanc answers 0xC000 (unable to process) for whatever a plugin refuses: it has no
way to say 0xA801 (move destination unknown).
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

Rest = Callable[[str, str], Any]  # route, document -> JSON answer
Get = Callable[[str], Any]

_LEVELS = {
    "PATIENT": (("PatientID",), "Patient"),
    "STUDY": (("AccessionNumber", "StudyInstanceUID"), "Study"),
    "SERIES": (("SeriesInstanceUID",), "Series"),
    "INSTANCE": (("SOPInstanceUID",), "Instance"),
    "IMAGE": (("SOPInstanceUID",), "Instance"),
}
_FOLDERS = {"Patient": "patients", "Study": "studies", "Series": "series"}

_FIRST_BATCH, _LARGEST_BATCH = 4, 64
_BATCH_SECONDS = 2.0  # a requester hears of progress about that often
_SHORTEST_LOOK, _LONGEST_LOOK = 0.01, 0.2  # seconds between looks at a job
_ENDS = ("Success", "Failure", "Paused")
_GIVE_UP_AFTER = 3  # failures in a row: the device is gone, not picky


class MoveRefusedError(Exception):
    """Nothing is sent; the reason is an enumerated word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Destinations:
    """Which AE title may have images sent to which, and by which of Orthanc's entries."""

    def __init__(self, document: object = None) -> None:
        self._lock = threading.Lock()
        self._lists: dict[str, dict[str, str]] = {}
        self.replace({} if document is None else document)

    def replace(self, document: object) -> None:
        """Take over a whole new list.

        Parameters
        ----------
        document
            ``{asking title: {destination's title: name of Orthanc's entry}}``.

        Raises
        ------
        ValueError
            Another form; the list before stays.
        """
        if not isinstance(document, Mapping) or not all(map(_is_list, document.values())):
            raise ValueError("destinations: a map of maps of texts is required")
        lists = {str(asking): dict(entries) for asking, entries in document.items()}
        with self._lock:
            self._lists = lists

    def document(self) -> dict[str, dict[str, str]]:
        """Return the list in the form that `replace` takes."""
        with self._lock:
            return {asking: dict(entries) for asking, entries in self._lists.items()}

    def entry(self, asking: str, destination: str) -> str:
        """Return the entry by which a destination is reached.

        Raises
        ------
        MoveRefusedError
            The destination is not on the asking title's list.
        """
        with self._lock:
            found = self._lists.get(asking.strip(), {}).get(destination.strip())
        if found is None:
            raise MoveRefusedError("DestinationNotListed")
        return found


def _is_list(entries: object) -> bool:
    return isinstance(entries, Mapping) and all(isinstance(part, str) for item in entries.items() for part in item)


def instances_of(request: Mapping[str, Any], post: Rest, get: Get) -> list[str]:
    """Return Orthanc's identifiers of all instances that a C-MOVE asks for.

    Parameters
    ----------
    request
        Level and identifiers as Orthanc hands them over; several are separated by backslashes (PS3.4 C.4.2.1.4.1).
    post, get
        Orthanc's REST interface, JSON in and out.

    Raises
    ------
    MoveRefusedError
        No identifier, or nothing stored has it.
    """
    keys, kind = _LEVELS.get(str(request["Level"]).upper(), ((), ""))
    text = next((value for key in keys if (value := str(request[key]).strip(" \0"))), "")
    if not text:
        raise MoveRefusedError("NoIdentifier")
    found: dict[str, None] = {}  # in the order of the request, each once
    for identifier in filter(None, (part.strip(" \0") for part in text.split("\\"))):
        matching = [entry["ID"] for entry in post("/tools/lookup", identifier) if entry["Type"] == kind]
        for resource in matching:
            inside = [resource] if kind == "Instance" else get(f"/{_FOLDERS[kind]}/{resource}/instances?expand=false")
            found.update(dict.fromkeys(inside))
    if not found:
        raise MoveRefusedError("NothingStored")
    return list(found)


class Sender:
    """Has Orthanc send instances over one association, and waits without keeping Python to itself.

    A call of Orthanc's REST interface holds Python's lock until it returns; with one that waits for a slow device,
    no modality could store. So a job does the sending, and looks at it are short.

    Parameters
    ----------
    entry
        Orthanc's entry of the destination.
    originator
        Asking AE title and message id, for Move Originator (PS3.7 9.1.1.1).
    post, get
        Orthanc's REST interface, JSON in and out.
    sleep
        Waits for some seconds.
    """

    def __init__(
        self, entry: str, originator: tuple[str, int], post: Rest, get: Get, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._route = f"/modalities/{entry}/store"
        self._originator = originator
        self._post, self._get, self._sleep = post, get, sleep

    def __call__(self, instances: list[str]) -> bool:
        """Tell whether the destination took all of these."""
        asking, message = self._originator
        order = {
            "Resources": instances,
            "Asynchronous": True,
            "Permissive": False,
            "MoveOriginatorAet": asking,
            "MoveOriginatorID": message,
        }
        try:
            job = f"/jobs/{self._post(self._route, json.dumps(order))['ID']}"
            pause = _SHORTEST_LOOK
            while (state := self._get(job)["State"]) not in _ENDS:
                self._sleep(pause)
                pause = min(_LONGEST_LOOK, pause * 1.5)
        except Exception:  # Orthanc's own class, whose message may name the object; also a job that is forgotten
            return False
        return bool(state == "Success")


class Move:
    """One C-MOVE; Orthanc asks for its size, then for one sub-operation after the other.

    Several instances share an association: one each would cost two TLS handshakes an image. Orthanc ends a move at the
    first sub-operation that fails, so failures are told last, when everything that can be delivered is.

    Parameters
    ----------
    instances
        What to send, at least one.
    asking
        AE title of whoever asks.
    send
        Sends some instances, and tells whether all of them were taken.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        instances: list[str],
        asking: str,
        send: Callable[[list[str]], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asking = asking
        self._count = len(instances)
        self._left = deque(instances)
        self._send, self._clock = send, clock
        self._batch = _FIRST_BATCH
        self._delivered = 0
        self._failures_in_a_row = 0

    def begin(self) -> None:
        """Send the first images.

        Raises
        ------
        MoveRefusedError
            Not one could be delivered: the move fails as a whole.
        """
        self._advance()
        if not self._delivered:
            raise MoveRefusedError("DestinationUnreachable")

    def size(self) -> int:
        """Return the number of sub-operations."""
        return self._count

    def apply(self) -> None:
        """Account for one delivered instance.

        Raises
        ------
        MoveRefusedError
            All that could be delivered is; this one and those left could not.
        """
        while not self._delivered and self._left:
            self._advance()
        if not self._delivered:
            raise MoveRefusedError("SubOperationFailed")
        self._delivered -= 1

    def _advance(self) -> None:
        """Send some of what is left, until something is delivered."""
        while self._left and not self._delivered:
            batch = [self._left.popleft() for _ in range(min(self._batch, len(self._left)))]
            begun = self._clock()
            if self._send(batch):
                self._delivered += len(batch)
                took = self._clock() - begun
                grown = self._batch * 2 if took < _BATCH_SECONDS else self._batch // 2
                self._batch = max(1, min(_LARGEST_BATCH, grown))
            else:
                self._one_by_one(batch)

    def _one_by_one(self, batch: list[str]) -> None:
        """Find out which of a batch the destination takes; a copy more is no harm there."""
        for instance in batch:
            if self._send([instance]):
                self._delivered += 1
                self._failures_in_a_row = 0
                continue
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= _GIVE_UP_AFTER:
                self._left.clear()
                return
