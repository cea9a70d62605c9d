"""A modality outside the cluster: sends real files, finds them, takes them back, and compares them whole."""

from dataclasses import dataclass, field
from enum import StrEnum

from pydicom.dataset import Dataset
from pydicom.uid import UID

from pacs_operator.probes.client import SUCCESS, Retrieved, Session, echo, find, get, move, store
from pacs_operator.probes.compare import decode, differences, encode
from pacs_operator.probes.samples import Sample, Samples, encapsulated_document, reserved_document
from pacs_operator.probes.servicechecks import STUDY_ROOT, STUDY_ROOT_GET, STUDY_ROOT_MOVE, query, status_code
from pacs_operator.probes.station import Station, listening
from pacs_operator.probes.web import WebArchive

FORBIDDEN = 403  # what HTTP says to who may not


class Act(StrEnum):
    """What the modality does."""

    ECHO = "echo"
    STORE = "store"
    FIND = "find"
    GET = "get"
    RESERVED = "reserved"
    EXCHANGE = "exchange"
    MOVE = "move"


class Outcome(StrEnum):
    """How far an object came: to the archive, into its index, and back."""

    NOT_TRIED = "NotTried"
    REFUSED = "Refused"
    STORED = "Stored"
    NOT_FOUND = "NotFound"
    FOUND = "Found"
    NOT_RETURNED = "NotReturned"
    DIFFERS = "Differs"
    EQUAL = "Equal"


@dataclass
class Journey:
    """One object's way to the archive and back; None: this act was not part of the visit."""

    sample: Sample
    stored: str | None = None
    found: bool | None = None
    retrieved: bool | None = None
    differences: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """Return how far the object came."""
        if self.stored not in (None, status_code(SUCCESS)):
            return Outcome.REFUSED
        if self.found is False:
            return Outcome.NOT_FOUND
        if self.retrieved is False:
            return Outcome.DIFFERS if self.differences else Outcome.NOT_RETURNED
        if self.retrieved:
            return Outcome.EQUAL
        if self.found:
            return Outcome.FOUND
        return Outcome.NOT_TRIED if self.stored is None else Outcome.STORED

    @property
    def fine(self) -> bool:
        """Tell whether every act that was tried went well."""
        return self.outcome in (Outcome.NOT_TRIED, Outcome.STORED, Outcome.FOUND, Outcome.EQUAL)


class Visit:
    """One visit of the modality to the archive.

    Parameters
    ----------
    session
        The gate, the titles and the modality's certificate.
    chosen
        The objects to send, and those that are not, with the reason.
    station
        Where it listens; only a visit that moves needs it.
    unlisted
        AE title that the archive may not send to on this device's word; only a visit that moves needs it.
    """

    def __init__(
        self, session: Session, chosen: Samples, station: Station | None = None, unlisted: str | None = None
    ) -> None:
        self._session, self._station, self._unlisted = session, station, unlisted
        self.skipped = chosen.skipped
        self.journeys = [Journey(sample) for sample in chosen.sent]
        self.echo: str | None = None
        self.reserved: str | None = None
        self.reserved_twin: str | None = None
        self.moved: str | None = None
        self.moved_to_unlisted: str | None = None
        self.stowed: int | None = None
        self.strangers = 0

    @property
    def fine(self) -> bool:
        """Tell whether everything that was tried went well."""
        good = status_code(SUCCESS)
        reserved_held = self.reserved is None or (self.reserved != good and self.reserved_twin == good)
        moved = self.moved in (None, good) and self.moved_to_unlisted != good and not self.strangers
        moved = moved and self.stowed in (None, FORBIDDEN)
        every = all(journey.fine for journey in self.journeys)
        return self.echo in (None, good) and reserved_held and moved and every

    def do(self, act: Act) -> None:
        """Do one act, or for ``exchange`` all that need no device that listens.

        Raises
        ------
        NotAssociatedError
            The gate granted no association.
        """
        acts = _EXCHANGE if act is Act.EXCHANGE else [act]
        for each in acts:
            _ACTS[each](self)

    def _echo(self) -> None:
        self.echo = status_code(echo(self._session))

    def _store(self) -> None:
        wanted = [(journey.sample.uid, *journey.sample.kind, journey.sample.dataset) for journey in self.journeys]
        statuses = store(self._session, wanted)
        for journey in self.journeys:
            journey.stored = status_code(statuses[journey.sample.uid])

    def _find(self) -> None:
        """Ask at IMAGE level for each series, in one association."""
        series = sorted(
            {
                (str(each.sample.dataset.StudyInstanceUID), str(each.sample.dataset.SeriesInstanceUID))
                for each in self.journeys
            }
        )
        queries = [query("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=own) for study, own in series]
        known = {
            str(match.get("SOPInstanceUID", ""))
            for outcome in find(self._session, STUDY_ROOT, *queries)
            for match in outcome.matches
        }
        for journey in self.journeys:
            journey.found = journey.sample.uid in known

    def _get(self) -> None:
        """Take each study back and compare object by object."""
        fetched = get(self._session, STUDY_ROOT_GET, self._studies(), self._kinds())
        self._compare(fetched.objects)

    def _move(self) -> None:
        """Have each study sent to itself and compare what arrives; then ask for the same to go to somebody else."""
        if self._station is None:
            raise ValueError("a device that moves has to listen")
        with listening(self._station, self._session.calling, self._kinds()) as inbox:
            self.moved = _worst(move(self._session, STUDY_ROOT_MOVE, self._session.calling, self._studies()))
            self._compare(inbox.objects)
            if self._unlisted is not None:
                self.moved_to_unlisted = _worst(
                    move(self._session, STUDY_ROOT_MOVE, self._unlisted, self._studies()[:1])
                )
        self.strangers = inbox.strangers

    def browse(self, archive: WebArchive) -> None:
        """Find and take back each study by DICOMweb, compare it, and try to store it, which a viewer may not.

        Raises
        ------
        requests.RequestException
            TLS failed, or the connection ended.
        """
        studies = [str(identifier.StudyInstanceUID) for identifier in self._studies()]
        known = set().union(*(archive.find(study) for study in studies))
        for journey in self.journeys:
            journey.found = journey.sample.uid in known
        self._compare([each for study in studies for each in archive.retrieve(study)])
        self.stowed = archive.store(journey.sample.dataset for journey in self.journeys)

    def _studies(self) -> list[Dataset]:
        studies = dict.fromkeys(str(journey.sample.dataset.StudyInstanceUID) for journey in self.journeys)
        return [query("STUDY", StudyInstanceUID=study) for study in studies]

    def _kinds(self) -> set[tuple[UID, UID]]:
        return {journey.sample.kind for journey in self.journeys}

    def _compare(self, objects: list[Retrieved]) -> None:
        back = {each.sop_instance_uid: each for each in objects}
        for journey in self.journeys:
            received = back.get(journey.sample.uid)
            journey.retrieved = received is not None
            if received is not None:
                journey.differences = compare(journey.sample, received.encoded, UID(received.transfer_syntax))
                journey.retrieved = not journey.differences

    def _reserved(self) -> None:
        """Try to store under the probes' reserved prefix; the twin is the same object under another PatientID."""
        for attribute, dataset in (("reserved", reserved_document()), ("reserved_twin", encapsulated_document())):
            kind = (UID(dataset.SOPClassUID), UID(dataset.file_meta.TransferSyntaxUID))
            status = store(self._session, [("document", *kind, dataset)])["document"]
            setattr(self, attribute, status_code(status))


_EXCHANGE = [Act.ECHO, Act.STORE, Act.FIND, Act.GET, Act.RESERVED]
_ACTS = {
    Act.ECHO: Visit._echo,
    Act.STORE: Visit._store,
    Act.FIND: Visit._find,
    Act.GET: Visit._get,
    Act.RESERVED: Visit._reserved,
    Act.MOVE: Visit._move,
}


def _worst(statuses: list[int | None]) -> str:
    return status_code(next((status for status in statuses if status != SUCCESS), SUCCESS))


def compare(sample: Sample, encoded: bytes, syntax: UID) -> list[str]:
    """Return where an object that came back differs from what was sent: tag names only."""
    own = sample.kind[1]
    found = [str(each) for each in differences(decode(encode(sample.dataset, own), own), decode(encoded, syntax))]
    if syntax != own:
        found.insert(0, f"transfer syntax is {syntax.name}")
    return found
