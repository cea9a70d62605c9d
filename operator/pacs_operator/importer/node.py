"""One DICOM node as the import uses it: C-FIND, C-GET, C-MOVE and C-STORE, every object as it is encoded."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import cast

from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from pacs_operator.domain.checks import Layer
from pacs_operator.domain.importing import Stop
from pacs_operator.domain.storable import TRANSFER_SYNTAXES
from pacs_operator.importer.limits import Halted
from pacs_operator.probes.client import PENDING, SUCCESS, NotAssociatedError, Session, associated
from pacs_operator.probes.wire import Caller, Waits, attempt

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
#: Also those that the archive does not take: a source that may choose no other would transcode silently.
SYNTAXES = tuple(sorted({*TRANSFER_SYNTAXES, *(str(syntax) for syntax in AllTransferSyntaxes)}))
_OBJECT_SECONDS = 300.0  # for one message: it is a whole object, of whatever size
_MESSAGE = 1  # an association for C-MOVE makes one request
Keep = Callable[[str, bytes, str], int]


class BrokenError(Exception):
    """The association ended in the middle."""


class NotTakenError(Exception):
    """No presentation context for the object was accepted."""


class QueryError(Exception):
    """A C-FIND ended with a failure.

    Parameters
    ----------
    truncated
        True when the node only had more answers than it gives.
    """

    def __init__(self, truncated: bool) -> None:
        super().__init__()
        self.truncated = truncated


@dataclass(frozen=True)
class Node:
    """A node and the words for what can be wrong with it."""

    session: Session
    unreachable: Stop
    untrusted: Stop
    refused: Stop

    @contextmanager
    def associated(
        self,
        contexts: Sequence[PresentationContext],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[EventHandlerType] = (),
    ) -> Iterator[Association]:
        """Open an association; `Halted` when none comes about."""
        try:
            with associated(self.session, contexts, roles, handlers) as association:
                yield association
        except NotAssociatedError:
            raise Halted(self._why_not()) from None

    def _why_not(self) -> Stop:
        session = self.session
        caller = Caller(session.calling, session.called, session.context, session.server_name)
        answer = attempt(session.endpoint, caller, Waits(session.connect_seconds, session.dimse_seconds))
        if answer.layer is Layer.DICOM or answer.code.startswith("rj-"):
            return self.refused
        told = answer.layer is Layer.TLS and answer.code.startswith(("alert-", "handshake-"))
        return self.untrusted if told or answer.layer is Layer.PROBE else self.unreachable

    @contextmanager
    def querying(self) -> Iterator["Query"]:
        """Open an association for queries."""
        with self.associated([build_context(FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]) as association:
            if not association.accepted_contexts:
                raise Halted(self.refused)
            yield Query(association)

    @contextmanager
    def retrieving(self, sop_class: str, keep: Keep) -> Iterator["Retrieval"]:
        """Open an association for C-GET of objects of one class, each in the transfer syntax that it has.

        Parameters
        ----------
        sop_class
            Its UID.
        keep
            Handed SOP Instance UID, encoded dataset and transfer syntax of each object; returns the C-STORE status.
        """

        def on_store(event: Event) -> int:
            request = cast(C_STORE, event.request)
            encoded = event.encoded_dataset(include_meta=False)
            return keep(str(request.AffectedSOPInstanceUID), encoded, str(event.context.transfer_syntax))

        contexts = [build_context(GET, [ImplicitVRLittleEndian, ExplicitVRLittleEndian]), *_storage(sop_class)]
        roles = [build_role(UID(sop_class), scp_role=True)]
        with self.associated(contexts, roles, [(evt.EVT_C_STORE, on_store)]) as association:
            if not any(context.abstract_syntax == GET for context in association.accepted_contexts):
                raise Halted(self.refused)
            association.dimse_timeout = max(self.session.dimse_seconds, _OBJECT_SECONDS)
            yield Retrieval(association)

    @contextmanager
    def moving(self) -> Iterator["Moving"]:
        """Open an association for one C-MOVE."""
        with self.associated([build_context(MOVE, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]) as association:
            if not association.accepted_contexts:
                raise Halted(self.refused)
            # A node that sends no pending answers is silent while it sends a whole object somewhere else.
            association.network_timeout = None
            association.dimse_timeout = max(self.session.dimse_seconds, _OBJECT_SECONDS)
            yield Moving(association)

    @contextmanager
    def storing(self, sop_class: str) -> Iterator["Storage"]:
        """Open an association for queries, and C-STORE of objects of one class."""
        contexts = [build_context(FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]), *_storage(sop_class)]
        with self.associated(contexts) as association:
            # pynetdicom would abort what hears nothing, while the object is on its way to us or from us.
            association.network_timeout = None
            association.dimse_timeout = max(self.session.dimse_seconds, _OBJECT_SECONDS)
            yield Storage(association, sop_class)


class Query:
    """An association for C-FIND."""

    def __init__(self, association: Association) -> None:
        self._association = association

    def find(self, level: str, **keys: object) -> Iterator[Dataset]:
        """Yield answers; one that cannot be decoded is an empty one, since whatever it named exists.

        Raises
        ------
        BrokenError
            The association ended.
        QueryError
            The node ended with a failure, or says that it left answers out.
        """
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for key, value in keys.items():
            setattr(identifier, key, value)
        try:
            for answer, match in self._association.send_c_find(identifier, FIND):
                status = int(answer.Status) if "Status" in answer else None
                if status in PENDING:
                    yield Dataset() if match is None else match
                elif status is None:
                    raise BrokenError
                elif status != SUCCESS:
                    # FE00: Orthanc's word for "more than I give"; A7xx: out of resources (PS3.4 C.4.1.1.4).
                    raise QueryError(truncated=status == 0xFE00 or status & 0xFF00 == 0xA700)
        except RuntimeError as error:  # ended before the request
            raise BrokenError from error
        except ValueError as error:  # no C-FIND on this association
            raise QueryError(truncated=False) from error


class Retrieval:
    """An association for C-GET."""

    def __init__(self, association: Association) -> None:
        self._association = association

    def get(self, study: str, series: str, uids: Sequence[str]) -> None:
        """Ask for objects of one series; what comes goes to ``keep``.

        Raises
        ------
        BrokenError
            The association ended; a final status of any kind is no error, since what counts is what came.
        """
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
        identifier.SOPInstanceUID = list(uids)
        status = None
        try:
            for answer, _ in self._association.send_c_get(identifier, GET):
                status = int(answer.Status) if "Status" in answer else None
        except RuntimeError as error:
            raise BrokenError from error
        if status is None:
            raise BrokenError


@dataclass(frozen=True)
class Moved:
    """How a C-MOVE ended (PS3.4 C.4.2.1.5-9).

    Parameters
    ----------
    status
        The last one.
    sent
        Sub-operations that ended well or with a warning; None: the node does not tell.
    failed
        Sub-operations that failed.
    failures
        SOP Instance UIDs of these, as far as the node names them.
    """

    status: int
    sent: int | None
    failed: int
    failures: frozenset[str]


class Moving:
    """An association for one C-MOVE."""

    def __init__(self, association: Association) -> None:
        self._association = association

    def move(self, destination: str, study: str, series: str, uids: Sequence[str], over: Callable[[], bool]) -> Moved:
        """Have the node send objects of one series to a destination that it knows, and wait until it has.

        Parameters
        ----------
        destination
            AE title.
        over
            True when it is to be cancelled; asked at each answer.

        Raises
        ------
        BrokenError
            The association ended.
        """
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
        identifier.SOPInstanceUID = list(uids)
        last, named, cancelled = Dataset(), None, False
        try:
            for answer in self._association.send_c_move(identifier, destination, MOVE, _MESSAGE):
                last, named = answer
                if last.get("Status") in PENDING and not cancelled and over():
                    cancelled = True
                    self._association.send_c_cancel(_MESSAGE, query_model=MOVE)
        except RuntimeError as error:
            raise BrokenError from error
        if "Status" not in last:
            raise BrokenError
        return _moved(last, named)


def _moved(last: Dataset, named: Dataset | None) -> Moved:
    counts = [last.get(f"NumberOf{word}Suboperations") for word in ("Completed", "Warning", "Failed")]
    completed, warning, failed = (int(each) if each is not None else None for each in counts)
    listed = named.get("FailedSOPInstanceUIDList") if named is not None else None
    failures = [listed] if isinstance(listed, str) else list(listed or ())
    return Moved(
        status=int(last.Status),
        sent=None if completed is None else completed + (warning or 0),
        failed=max(failed or 0, len(failures)),
        failures=frozenset(map(str, failures)),
    )


class Storage(Query):
    """An association also for C-STORE, of bytes as they came: nothing is decoded and encoded again on the way."""

    def __init__(self, association: Association, sop_class: str) -> None:
        super().__init__(association)
        self._sop_class = sop_class
        self._contexts = {
            str(each.transfer_syntax[0]): each
            for each in association.accepted_contexts
            if each.abstract_syntax == sop_class
        }
        self._sent = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the association stands."""
        return bool(self._association.is_established)

    def store(self, uid: str, encoded: bytes, syntax: str) -> int:
        """Store one object and return the status.

        Raises
        ------
        NotTakenError
            The node does not take this class in this transfer syntax.
        BrokenError
            No answer came.
        """
        context = self._contexts.get(syntax)
        if context is None or context.context_id is None:
            raise NotTakenError
        self._sent = self._sent % 0xFFFF + 1
        request = C_STORE()
        request.MessageID, request.Priority = self._sent, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UID(self._sop_class), UID(uid)
        request.DataSet = BytesIO(encoded)
        if not self._association.is_established:
            raise BrokenError
        self._association.dimse.send_msg(request, context.context_id)
        _, answer = self._association.dimse.get_msg(block=True)
        if not isinstance(answer, C_STORE) or answer.Status is None:
            raise BrokenError
        return int(answer.Status)


def _storage(sop_class: str) -> list[PresentationContext]:
    """Return one context for each transfer syntax, so that the one in which an object is can be chosen."""
    return [build_context(UID(sop_class), UID(syntax)) for syntax in SYNTAXES]
