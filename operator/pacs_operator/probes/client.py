"""DICOM as a good modality speaks it, over mutual TLS: store, find, get."""

import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from pacs_operator.probes.wire import VERIFICATION, Endpoint

MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers from 1 to 255
PENDING = (0xFF00, 0xFF01)
SUCCESS = 0x0000


class NotAssociatedError(Exception):
    """No association came about, so no DIMSE request was made."""


@dataclass(frozen=True)
class Session:
    """Everything needed to open an association."""

    endpoint: Endpoint
    calling: str
    called: str
    context: ssl.SSLContext | None
    """None: in clear, as an import asks its source, and a device without TLS the archive."""
    server_name: str
    connect_seconds: float = 5.0
    dimse_seconds: float = 30.0


@dataclass
class Retrieved:
    """One object as it came back: the encoded dataset and the transfer syntax it is encoded in."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax: str
    encoded: bytes


@dataclass
class Fetched:
    """The outcome of a C-GET."""

    status: int | None = None
    objects: list[Retrieved] = field(default_factory=list)


@contextmanager
def associated(
    session: Session,
    contexts: Sequence[PresentationContext],
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """Open an association and release it at the end.

    Raises
    ------
    NotAssociatedError
        The network, TLS or the peer refused.
    """
    ae = AE(ae_title=session.calling)
    ae.connection_timeout = session.connect_seconds
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = session.dimse_seconds
    association = ae.associate(
        session.endpoint.address,
        session.endpoint.port,
        contexts=list(contexts),
        ae_title=session.called,
        ext_neg=list(roles),
        tls_args=(session.context, session.server_name) if session.context is not None else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay), *handlers],
        max_pdu=0,
    )
    try:
        if not association.is_established:
            raise NotAssociatedError
        keep_answers(association)
        yield association
    finally:
        if association.is_established:
            association.release()


def keep_answers(association: Association) -> None:
    """Let nobody but the requests themselves take answers off the queue.

    pynetdicom's reactor thread may pass its checkpoint just before a request closes it, while it still counts as
    paused; it then takes the answer, and the request waits for its time-out (seen about once in 2,000 stores with
    3.0.4). We only ever request, so the reactor has nothing to take.
    """
    take = association.dimse.get_msg

    def take_if_waited_for(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    association.dimse.get_msg = take_if_waited_for  # type: ignore[method-assign]


def _no_delay(event: Event) -> None:
    """Turn Nagle's algorithm off: with delayed acknowledgements it costs 40 ms for each object stored."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def echo(session: Session) -> int | None:
    """Return the status of a C-ECHO; None: the association ended without one, or the context was refused."""
    with associated(session, [build_context(VERIFICATION)]) as association:
        return _status(association.send_c_echo()) if association.accepted_contexts else None


def store(session: Session, objects: Iterable[tuple[str, UID, UID, Dataset | Path]]) -> dict[str, int | None]:
    """Store objects in one association and return the status for each; None: no answer, or context refused.

    Parameters
    ----------
    objects
        Key, SOP class, transfer syntax, and the dataset or the file it is sent from.
    """
    wanted = list(objects)
    pairs = sorted({(sop_class, syntax) for _, sop_class, syntax, _ in wanted})
    contexts = _contexts(pairs)
    statuses: dict[str, int | None] = {}
    with associated(session, contexts) as association:
        for key, _, _, item in wanted:
            statuses[key] = _store_one(association, item)
    return statuses


def _store_one(association: Association, item: Dataset | Path) -> int | None:
    if not association.is_established:
        return None
    try:
        return _status(association.send_c_store(item))
    except ValueError:  # no accepted presentation context
        return None
    except RuntimeError:  # the peer ended the association meanwhile
        return None


@dataclass
class Found:
    """The outcome of a C-FIND; status None: the association ended without one, or the context was refused."""

    matches: list[Dataset] = field(default_factory=list)
    status: int | None = None


def find(session: Session, model: str, *identifiers: Dataset) -> list[Found]:
    """Make queries in one association, and return an outcome for each."""
    outcomes = [Found() for _ in identifiers]
    with associated(session, [build_context(model, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]) as association:
        for identifier, found in zip(identifiers, outcomes, strict=True):
            if association.accepted_contexts and association.is_established:
                _find_one(association, model, identifier, found)
    return outcomes


def _find_one(association: Association, model: str, identifier: Dataset, found: Found) -> None:
    for answer, match in association.send_c_find(identifier, model):
        found.status = _status(answer)
        if found.status in PENDING and match is not None:
            found.matches.append(match)


def get(session: Session, model: str, identifiers: Sequence[Dataset], storage: Iterable[tuple[UID, UID]]) -> Fetched:
    """Retrieve by C-GET in one association, every object in the transfer syntax it has in the archive.

    Parameters
    ----------
    identifiers
        One request each; the outcome's status is the first that is no success, if any.
    storage
        (SOP class, transfer syntax) pairs that may come back, each with a presentation context of its own, so that
        the archive never has a reason to transcode.
    """
    fetched = Fetched()

    def keep(event: Event) -> int:
        fetched.objects.append(retrieved(event))
        return SUCCESS

    pairs = sorted(set(storage))
    contexts = _contexts([(UID(model), ImplicitVRLittleEndian), *pairs])
    roles = [build_role(sop_class, scp_role=True) for sop_class in sorted({pair[0] for pair in pairs})]
    with associated(session, contexts, roles, [(evt.EVT_C_STORE, keep)]) as association:
        statuses = [_get_one(association, model, identifier) for identifier in identifiers]
    fetched.status = next((status for status in statuses if status != SUCCESS), SUCCESS)
    return fetched


def _get_one(association: Association, model: str, identifier: Dataset) -> int | None:
    status = None
    try:
        for answer, _ in association.send_c_get(identifier, model):
            status = _status(answer)
    except (ValueError, RuntimeError):  # context refused; association ended meanwhile
        return None
    return status


def move(session: Session, model: str, destination: str, identifiers: Iterable[Dataset]) -> list[int | None]:
    """Have objects sent to an AE title and return the final status of each request; None: none came.

    Parameters
    ----------
    destination
        AE title that the archive knows the receiving device by.
    identifiers
        One request each, all in one association.
    """
    statuses: list[int | None] = []
    with associated(session, [build_context(model, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]) as association:
        for identifier in identifiers:
            status = None
            if association.accepted_contexts and association.is_established:
                for answer, _ in association.send_c_move(identifier, destination, model):
                    status = _status(answer)
            statuses.append(status)
    return statuses


def commit(session: Session, transaction: str, references: Iterable[tuple[UID, str]]) -> int | None:
    """Ask for storage commitment and return the status of the request; None: no answer, or context refused.

    Parameters
    ----------
    transaction
        UID that the report will bear (PS3.4 J.3.2).
    references
        (SOP class, SOP Instance UID) of each object.
    """
    request = Dataset()
    request.TransactionUID, request.ReferencedSOPSequence = transaction, []
    for sop_class, uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        request.ReferencedSOPSequence.append(item)
    role = build_role(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    with associated(session, [build_context(StorageCommitmentPushModel)], [role]) as association:
        if not association.accepted_contexts:
            return None
        kind, well_known = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        answer, _ = association.send_n_action(request, 1, kind, well_known)
        return _status(answer)


def retrieved(event: Event) -> Retrieved:
    """Return the object of a C-STORE as it came."""
    request = cast(C_STORE, event.request)
    return Retrieved(
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        sop_class_uid=str(request.AffectedSOPClassUID),
        transfer_syntax=str(event.context.transfer_syntax),
        encoded=event.encoded_dataset(include_meta=False),
    )


def _contexts(pairs: Sequence[tuple[UID, UID]]) -> list[PresentationContext]:
    if len(pairs) > MAX_CONTEXTS:
        raise ValueError(f"{len(pairs)} presentation contexts; an association has at most {MAX_CONTEXTS}")
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


def _status(answer: Dataset) -> int | None:
    """Return the DIMSE status; an empty dataset (pynetdicom's sign for a lost association) has none."""
    return int(answer.Status) if "Status" in answer else None
