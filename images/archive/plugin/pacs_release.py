"""What a person does with a quarantined object: look, release, discard. On loopback only, through the pod's agent.

Released, it becomes the one that is served; what was served under its SOP Instance UID takes its place in quarantine.
Nothing is lost on the way: each step leaves both whole, and a release that was cut off is simply asked for again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import orthanc
from pacs_ingest import Ingest, holds_same, log, md5, stored_copies
from pacs_quarantine import Outcome, Quarantine

_MOST_DIFFERENCES = 100
_SHOWN = ("PatientID", "PatientName", "StudyDate", "Modality", "AccessionNumber", "StudyInstanceUID", "SOPInstanceUID")

Tags = dict[str, object]


class RefusedActError(Exception):
    """An act that is not done; the HTTP status and a word that say why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Acts:
    """A person's acts, one at a time.

    Parameters
    ----------
    quarantine
        What is held.
    ingest
        The checks that a released object has to pass.
    """

    def __init__(self, quarantine: Quarantine, ingest: Ingest) -> None:
        self._quarantine, self._ingest = quarantine, ingest
        self._busy = threading.Lock()

    def listed(self) -> list[dict[str, object]]:
        """Return what is held, oldest first, without a word about patients."""
        return [{"id": name, **asdict(held)} for name, held in self._quarantine.items()]

    def shown(self, name: str) -> dict[str, object]:
        """Return whose object this is, whose the stored ones are, and which attributes differ (names, no values)."""
        tags = _tags(orthanc.CreateDicomInstance(self._content(name)))
        stored = [_stored_tags(copy) for copy in stored_copies(_uid(tags))]
        return {
            "held": _identity(tags),
            "stored": [{**_identity(other), "differs": _differences(tags, other)} for other in stored],
        }

    def release(self, name: str) -> dict[str, object]:
        """Serve a held object, and hold what was served in its stead."""
        with self._alone():
            data = self._content(name)
            uid, digest = _uid(_tags(orthanc.CreateDicomInstance(data))), md5(data)
            with self._ingest.released(uid, data) as alone:
                if not alone:
                    raise RefusedActError(409, "StoreInProgress")
                replaced = [copy for copy in stored_copies(uid) if not holds_same(copy, digest)]
                for copy in replaced:
                    self._set_aside(copy)
                stored = json.loads(orthanc.RestApiPost("/instances", data))["ID"]
                for copy in replaced:
                    if copy != stored:  # another patient's or study's: Orthanc knows it by another identifier
                        orthanc.RestApiDelete(f"/instances/{copy}")
                if not holds_same(stored, digest):
                    raise RefusedActError(500, "NotStored")
            self._quarantine.forget(name)
            log("released", "Released", "")
            return {"released": name, "replaced": len(replaced)}

    def discard(self, name: str) -> dict[str, object]:
        """Destroy a held object."""
        with self._alone():
            try:
                self._quarantine.forget(name)
            except KeyError:
                raise RefusedActError(404, "NotHeld") from None
            log("discarded", "Discarded", "")
            return {"discarded": name}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Do one act at a time: of two people one comes first, and the other is told."""
        if not self._busy.acquire(blocking=False):
            raise RefusedActError(409, "AnotherActInProgress")
        try:
            yield
        finally:
            self._busy.release()

    def _content(self, name: str) -> bytes:
        try:
            return self._quarantine.content(name)
        except KeyError:
            raise RefusedActError(404, "NotHeld") from None
        except OSError:
            raise RefusedActError(500, "NotReadable") from None

    def _set_aside(self, copy: str) -> None:
        data = orthanc.RestApiGet(f"/instances/{copy}/file")
        outcome = self._quarantine.keep(data, "Replaced", "", time.time())
        if outcome not in (Outcome.HELD, Outcome.KNOWN):
            raise RefusedActError(507, "QuarantineFull")


def _tags(instance: orthanc.DicomInstance) -> Tags:
    return dict(json.loads(instance.GetInstanceSimplifiedJson()))


def _stored_tags(copy: str) -> Tags:
    return dict(json.loads(orthanc.RestApiGet(f"/instances/{copy}/simplified-tags")))


def _uid(tags: Tags) -> str:
    return str(tags["SOPInstanceUID"]).strip(" \0")


def _identity(tags: Tags) -> Tags:
    return {key: tags[key] for key in _SHOWN if tags.get(key)}


def _differences(one: Tags, other: Tags) -> list[str]:
    names = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    # Pixels and other binary data are not among the values.
    return names[:_MOST_DIFFERENCES] or ["binary data"]


def routes(acts: Acts) -> dict[str, Callable[..., None]]:
    """Return the REST callbacks, by pattern of their URI."""

    def guarded(output: orthanc.RestOutput, act: Callable[[], object]) -> None:
        try:
            answer, status = act(), 200
        except RefusedActError as refused:
            answer, status = {"reason": refused.reason}, refused.status
        except Exception as problem:  # its text may quote the object
            answer, status = {"reason": "Failed", "cause": type(problem).__name__}, 500
        if status == 200:
            output.AnswerBuffer(json.dumps(answer), "application/json")
        else:
            output.SendHttpStatus(status, json.dumps(answer).encode())

    def everything(output: orthanc.RestOutput, uri: str, **request: object) -> None:
        del uri
        if request["method"] != "GET":
            output.SendMethodNotAllowed("GET")
            return
        guarded(output, acts.listed)

    def one(output: orthanc.RestOutput, uri: str, **request: object) -> None:
        name = uri.rpartition("/")[2]
        if request["method"] == "GET":
            guarded(output, lambda: acts.shown(name))
        elif request["method"] == "DELETE":
            guarded(output, lambda: acts.discard(name))
        else:
            output.SendMethodNotAllowed("GET,DELETE")

    def release(output: orthanc.RestOutput, uri: str, **request: object) -> None:
        if request["method"] != "POST":
            output.SendMethodNotAllowed("POST")
            return
        guarded(output, lambda: acts.release(uri.split("/")[-2]))

    return {
        "/pacs/quarantine": everything,
        "/pacs/quarantine/([0-9a-f-]{36})": one,
        "/pacs/quarantine/([0-9a-f-]{36})/release": release,
    }
