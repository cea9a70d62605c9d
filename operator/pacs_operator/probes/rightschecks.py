"""Peers that do what they were not granted: the association stands, the request must come to nothing."""

from dataclasses import dataclass

from pydicom.uid import UID

from pacs_operator.domain.checks import Check, Layer
from pacs_operator.probes.client import PENDING, SUCCESS, NotAssociatedError, Session, echo, find, get, store
from pacs_operator.probes.objects import unreserved
from pacs_operator.probes.servicechecks import STUDY_ROOT, STUDY_ROOT_GET, Exchange, query, status_code
from pacs_operator.probes.verdict import Verdict, judge, not_run


@dataclass(frozen=True)
class Act:
    """What came of one request: ``granted`` when the archive did, even in part, what was asked."""

    granted: bool
    code: str


def _echo(session: Session, exchange: Exchange) -> Act:
    del exchange
    status = echo(session)
    return Act(status == SUCCESS, status_code(status))


def _find(session: Session, exchange: Exchange) -> Act:
    (found,) = find(session, STUDY_ROOT, query("STUDY", PatientID=exchange.objects.patient_id))
    granted = bool(found.matches) or found.status == SUCCESS or found.status in PENDING
    return Act(granted, f"matches-{len(found.matches)}" if found.matches else status_code(found.status))


def _get(session: Session, exchange: Exchange) -> Act:
    kinds = {(each.sop_class, each.transfer_syntax) for each in exchange.stored}
    identifier = query("STUDY", StudyInstanceUID=str(exchange.objects.study_uid))
    fetched = get(session, STUDY_ROOT_GET, [identifier], kinds)
    granted = bool(fetched.objects) or fetched.status == SUCCESS
    return Act(granted, f"matches-{len(fetched.objects)}" if fetched.objects else status_code(fetched.status))


_ACTS = {
    Check.UNGRANTED_ECHO_REFUSED: _echo,
    Check.UNGRANTED_FIND_REFUSED: _find,
    Check.UNGRANTED_GET_REFUSED: _get,
}


def ungranted(good: Session, store_only: Session, exchange: Exchange, check: Check) -> Verdict:
    """Let the store-only peer ask for more; twins: its own C-STORE, and the same request by a peer with the right."""
    if not exchange.stored:
        return not_run("nothing-stored")
    act = _ACTS[check]
    try:
        attack = act(store_only, exchange)
    except NotAssociatedError:
        # Without an association its rights were not put to the test.
        return not_run("not-reached")
    twin_served = stores(store_only, exchange) is None and act(good, exchange).granted
    return judge(attack_succeeded=attack.granted, layer=Layer.DICOM, code=attack.code, twin_served=twin_served)


def stores(session: Session, exchange: Exchange) -> str | None:
    """Store one small object, and return the code of what went wrong."""
    dataset = exchange.objects.small()
    kind = (UID(dataset.SOPClassUID), UID(dataset.file_meta.TransferSyntaxUID))
    status = store(session, [("small", *kind, dataset)])["small"]
    return None if status == SUCCESS else status_code(status)


def probe_confined(good: Session, exchange: Exchange) -> Verdict:
    """Let the probe store an object whose PatientID alone is outside its prefix; twin: the same object inside it.

    Were the attack to succeed, the object would stay, as removal is limited to the prefix: it lies under the probes'
    UID root, so that a person can tell it from a patient's.
    """
    dataset = exchange.objects.small()
    outside = unreserved(dataset, f"UNRESERVED-{exchange.objects.patient_id}")
    kind = (UID(dataset.SOPClassUID), UID(dataset.file_meta.TransferSyntaxUID))
    status = store(good, [("outside", *kind, outside)])["outside"]
    twin = store(good, [("inside", *kind, dataset)])["inside"]
    attacked = status == SUCCESS
    return judge(attack_succeeded=attacked, layer=Layer.DICOM, code=status_code(status), twin_served=twin == SUCCESS)
