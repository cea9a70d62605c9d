"""C-MOVE in Orthanc's hands: the callbacks, and the route by which the agent keeps the lists of destinations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import orthanc
from pacs_move import Destinations, Move, MoveRefusedError, Sender, instances_of
from pacs_routes import serve

Alert = Callable[..., None]


def _get(route: str) -> Any:
    return json.loads(orthanc.RestApiGet(route))


def _post(route: str, document: str) -> Any:
    return json.loads(orthanc.RestApiPost(route, document.encode()))


class Outbound:
    """The archive's way of moving images.

    Parameters
    ----------
    destinations
        Who may send where.
    alert
        Writes one log line of enumerated words: event, reason, AE title, cause.
    """

    def __init__(self, destinations: Destinations, alert: Alert) -> None:
        self._destinations = destinations
        self._alert = alert

    def create(self, **request: Any) -> Move:
        """Begin a C-MOVE; raises when it is refused, and then nothing leaves."""
        asking = str(request["OriginatorAET"])
        try:
            entry = self._destinations.entry(asking, str(request["TargetAET"]))
            originator = (asking, int(request["OriginatorID"]))
            move = Move(instances_of(request, _post, _get), asking, Sender(entry, originator, _post, _get))
            move.begin()
        except Exception as problem:
            self._refused(asking, problem)
            raise
        return move

    def apply(self, move: Move) -> int:
        """Do one sub-operation."""
        try:
            move.apply()
        except Exception as problem:
            self._refused(move.asking, problem)
            raise
        return orthanc.ErrorCode.SUCCESS

    def _refused(self, asking: str, problem: Exception) -> None:
        # The class alone of what is not ours: a message may quote an identifier.
        known = isinstance(problem, MoveRefusedError)
        reason = problem.reason if isinstance(problem, MoveRefusedError) else "MoveFailed"
        self._alert("move-refused", reason, asking, cause="" if known else type(problem).__name__)

    def answer(self, output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        """Answer ``GET`` and ``PUT /pacs/destinations``; HTTP listens on loopback, for the agent alone."""
        del uri
        if request["method"] == "PUT":
            try:
                self._destinations.replace(json.loads(request["body"]))
            except ValueError:
                output.SendHttpStatusCode(400)
                return
        elif request["method"] != "GET":
            output.SendMethodNotAllowed("GET,PUT")
            return
        output.AnswerBuffer(json.dumps(self._destinations.document()), "application/json")


def register(configuration: Mapping[str, Any], alert: Alert) -> None:
    """Take C-MOVE over from Orthanc, with the lists of its configuration.

    Raises
    ------
    ValueError
        The lists have another form: an archive may not guess who may send where.
    """
    outbound = Outbound(Destinations(configuration["PacsArchive"].get("MoveDestinations")), alert)
    # An error in "size" would leave the requester without any answer: it has none to raise.
    orthanc.RegisterMoveCallback2(outbound.create, Move.size, outbound.apply, lambda move: None)
    serve("/pacs/destinations", outbound.answer)
