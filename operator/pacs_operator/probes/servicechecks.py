"""What a modality does all day: store, find at four levels, get; everything must come back as it was sent."""

from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import UID

from pacs_operator.domain.checks import Check, Layer
from pacs_operator.probes.client import SUCCESS, Session, find, get, store
from pacs_operator.probes.compare import decode, differences, encode
from pacs_operator.probes.objects import ProbeObject, ProbeObjects
from pacs_operator.probes.verdict import PASSED, Verdict, failed, not_run

# Query/Retrieve information models (PS3.4 C.6).
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"


@dataclass
class Exchange:
    """One run's objects and what became of them."""

    objects: ProbeObjects
    sent: list[ProbeObject]
    statuses: dict[str, int | None] = field(default_factory=dict)

    @property
    def stored(self) -> list[ProbeObject]:
        """Return the objects that the archive acknowledged."""
        return [each for each in self.sent if self.statuses.get(each.uid) == SUCCESS]


def store_kind(session: Session, exchange: Exchange, check: Check) -> Verdict:
    """Store the objects of one check."""
    mine = [each for each in exchange.sent if each.check is check]
    exchange.statuses |= store(
        session, [(each.uid, each.sop_class, each.transfer_syntax, each.dataset) for each in mine]
    )
    for each in mine:
        if exchange.statuses[each.uid] != SUCCESS:
            return failed(Layer.DICOM, status_code(exchange.statuses[each.uid]))
    return PASSED


def status_code(status: int | None) -> str:
    """Return the code of a DIMSE status; None is an association that ended without one."""
    return "closed-after-request" if status is None else f"status-{status:04x}"


def find_level(session: Session, exchange: Exchange, check: Check) -> Verdict:
    """Query one level and compare the set of identifiers found with the set stored."""
    if not exchange.stored:
        return not_run("nothing-stored")
    for model, identifier, expected in _QUERIES[check](exchange):
        (outcome,) = find(session, model, identifier)
        if outcome.status != SUCCESS:
            return failed(Layer.DICOM, status_code(outcome.status))
        keyword = _KEY_OF_LEVEL[identifier.QueryRetrieveLevel]
        found = [str(match.get(keyword, "")) for match in outcome.matches]
        if set(found) != expected:
            return failed(Layer.DICOM, "missing" if expected - set(found) else "unexpected")
        if len(found) != len(expected):
            return failed(Layer.DICOM, "unexpected")
    return PASSED


_KEY_OF_LEVEL = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_Queries = list[tuple[str, Dataset, set[str]]]


def query(level: str, **keys: str) -> Dataset:
    """Return a C-FIND or C-GET identifier; the level's own key is always asked for."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    setattr(identifier, _KEY_OF_LEVEL[level], "")
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _patient(exchange: Exchange) -> _Queries:
    patient = exchange.objects.patient_id
    return [(PATIENT_ROOT, query("PATIENT", PatientID=patient, PatientName=""), {patient})]


def _study(exchange: Exchange) -> _Queries:
    patient, study = exchange.objects.patient_id, str(exchange.objects.study_uid)
    return [
        (PATIENT_ROOT, query("STUDY", PatientID=patient), {study}),
        (STUDY_ROOT, query("STUDY", PatientID=patient, StudyDate=""), {study}),
        (STUDY_ROOT, query("STUDY", StudyInstanceUID=study), {study}),
    ]


def _series(exchange: Exchange) -> _Queries:
    patient, study = exchange.objects.patient_id, str(exchange.objects.study_uid)
    expected = {str(each.dataset.SeriesInstanceUID) for each in exchange.stored}
    return [
        (PATIENT_ROOT, query("SERIES", PatientID=patient, StudyInstanceUID=study), expected),
        (STUDY_ROOT, query("SERIES", StudyInstanceUID=study, Modality=""), expected),
    ]


def _image(exchange: Exchange) -> _Queries:
    patient, study = exchange.objects.patient_id, str(exchange.objects.study_uid)
    queries: _Queries = []
    for series in sorted({str(each.dataset.SeriesInstanceUID) for each in exchange.stored}):
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
        expected = {each.uid for each in exchange.stored if each.dataset.SeriesInstanceUID == series}
        queries.append((STUDY_ROOT, query("IMAGE", **keys), expected))
        if not queries[1:]:  # once by the other root is enough
            queries.append((PATIENT_ROOT, query("IMAGE", PatientID=patient, **keys), expected))
    return queries


_QUERIES = {
    Check.FIND_PATIENT: _patient,
    Check.FIND_STUDY: _study,
    Check.FIND_SERIES: _series,
    Check.FIND_IMAGE: _image,
}


def get_equal(session: Session, exchange: Exchange) -> Verdict:
    """Retrieve the study and compare every object, whole."""
    stored = {each.uid: each for each in exchange.stored}
    if not stored:
        return not_run("nothing-stored")
    kinds = {(each.sop_class, each.transfer_syntax) for each in stored.values()}
    identifier = query("STUDY", StudyInstanceUID=str(exchange.objects.study_uid))
    fetched = get(session, STUDY_ROOT_GET, [identifier], kinds)
    received = {each.sop_instance_uid: each for each in fetched.objects}
    if stored.keys() - received.keys():
        return failed(Layer.DICOM, status_code(fetched.status) if fetched.status != SUCCESS else "missing")
    if received.keys() - stored.keys():
        return failed(Layer.DICOM, "unexpected")
    for uid, each in stored.items():
        back = received[uid]
        syntax = UID(back.transfer_syntax)
        sent = decode(encode(each.dataset, each.transfer_syntax), each.transfer_syntax)
        if syntax != each.transfer_syntax or differences(sent, decode(back.encoded, syntax)):
            return failed(Layer.DICOM, "differs")
    return PASSED if fetched.status == SUCCESS else failed(Layer.DICOM, status_code(fetched.status))
