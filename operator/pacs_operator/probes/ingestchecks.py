"""What must not come in: classes and encodings that nobody listed, and another image under a known identifier."""

import copy

from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import build_context

from pacs_operator.domain.checks import Check, Layer
from pacs_operator.probes.client import SUCCESS, Session, associated, get, store
from pacs_operator.probes.compare import decode, differences, encode
from pacs_operator.probes.servicechecks import STUDY_ROOT_GET, Exchange, query, status_code
from pacs_operator.probes.verdict import Verdict, judge


def unlisted(good: Session, uid_root: str, check: Check) -> Verdict:
    """Propose a context that no archive can list beside one that every archive does: the one must be refused.

    The unlisted UID lies under the probes' root, so that nobody ever gives it a meaning.
    """
    invented = UID(f"{uid_root}.0")
    of_class = check is Check.UNLISTED_SOP_CLASS_REFUSED
    attack = build_context(invented, ExplicitVRLittleEndian) if of_class else build_context(CTImageStorage, invented)
    twin = build_context(CTImageStorage, ExplicitVRLittleEndian)
    with associated(good, [attack, twin]) as association:
        granted = {(each.abstract_syntax, each.transfer_syntax[0]) for each in association.accepted_contexts}
    attacked, served = ((each.abstract_syntax, each.transfer_syntax[0]) in granted for each in (attack, twin))
    code = "accepted" if attacked else "context-refused"
    return judge(attack_succeeded=attacked, layer=Layer.DICOM, code=code, twin_served=served)


def duplicate_refused(good: Session, exchange: Exchange) -> Verdict:
    """Store another image under the same UID; twin: the very same image once more. The first must come back."""
    original = exchange.objects.small()
    other = copy.deepcopy(original)
    other.SeriesDescription = "another"
    twin = all(_store(good, original) == SUCCESS for _ in range(2))
    status = _store(good, other)
    attacked = status == SUCCESS
    if not attacked and twin and not _comes_back(good, exchange, original):
        return judge(attack_succeeded=True, layer=Layer.DICOM, code="differs", twin_served=twin)
    return judge(attack_succeeded=attacked, layer=Layer.DICOM, code=status_code(status), twin_served=twin)


def _store(session: Session, dataset: Dataset) -> int | None:
    kind = (UID(dataset.SOPClassUID), UID(dataset.file_meta.TransferSyntaxUID))
    return store(session, [("one", *kind, dataset)])["one"]


def _comes_back(session: Session, exchange: Exchange, original: Dataset) -> bool:
    syntax = UID(original.file_meta.TransferSyntaxUID)
    identifier = query(
        "IMAGE",
        StudyInstanceUID=str(exchange.objects.study_uid),
        SeriesInstanceUID=str(original.SeriesInstanceUID),
        SOPInstanceUID=str(original.SOPInstanceUID),
    )
    fetched = get(session, STUDY_ROOT_GET, [identifier], [(UID(original.SOPClassUID), syntax)])
    sent = decode(encode(original, syntax), syntax)
    found = [decode(each.encoded, UID(each.transfer_syntax)) for each in fetched.objects]
    return len(found) == 1 and not differences(sent, found[0])
