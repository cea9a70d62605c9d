"""``PacsImport``: what another archive holds is brought into this one, once and checked.

The process that does it lives in `pacs_operator.importer`; a run of it is a Job, one slice of the whole.
"""

import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pacs_operator.domain.agentconfig import CONFIG_DIR, TLS_DIR, Count, Time
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.identifiers import check_ae_title, check_dns_name
from pacs_operator.domain.messages import packed, unpacked
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import IMPORT_AE_TITLE, Port
from pacs_operator.domain.outbound import check_destination
from pacs_operator.domain.peer import ArchiveRef

IMPORT_FILE = f"{CONFIG_DIR}/import.json"
SOURCE_CA_FILE = f"{CONFIG_DIR}/source-ca.pem"
JOURNAL_DIR = "/var/lib/pacs-import"
#: One run of the process; its counts reach the status at its end, and its certificate lives a little longer.
SLICE_SECONDS = 900

_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_MODALITY = r"^[A-Z0-9_]{2,16}$"  # PS3.5 6.2, VR CS, without spaces


class SourceTls(Model):
    """How the source is reached: mutual TLS, or in clear with a reason that stays visible."""

    mode: Literal["Mutual", "Plaintext"]
    ca_pem: Annotated[str, Field(max_length=32768)] | None = Field(None, alias="caPEM")
    server_name: Annotated[str, Field(max_length=253)] | None = None
    reason: Annotated[str, Field(min_length=10, max_length=256)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        mutual = self.mode == "Mutual"
        if mutual is not (self.ca_pem is not None and self.server_name is not None) or (
            not mutual and (self.ca_pem is not None or self.server_name is not None)
        ):
            raise InvalidSpecError(
                f"spec.source.tls: mode {self.mode} and caPEM, serverName do not fit together",
                action="with Mutual give both, so that the source can be told from others; with Plaintext give neither",
            )
        if mutual is (self.reason is not None):
            raise InvalidSpecError(
                f"spec.source.tls.reason: mode {self.mode} {'needs none' if mutual else 'needs one'}",
                action="say with Plaintext, and only there, why images travel in clear (10 to 256 characters)",
            )
        if self.server_name is not None:
            check_dns_name(self.server_name, "spec.source.tls.serverName")
        return self


class Source(Model):
    """The DICOM node that holds what is to come; it must offer C-FIND and C-GET or C-MOVE of the study root."""

    address: Annotated[str, Field(min_length=2, max_length=45)]
    port: Annotated[int, Field(ge=1, le=65535)]
    called_ae_title: Annotated[str, Field(max_length=64, alias="calledAETitle")]
    calling_ae_title: Annotated[str, Field(max_length=64, alias="callingAETitle")]
    tls: SourceTls
    query_limit: Annotated[int, Field(ge=10, le=100_000)] = 100
    retrieve: Literal["Get", "Move"] | None = None
    move_destination: Annotated[str, Field(max_length=64)] | None = None

    @property
    def moves(self) -> bool:
        """Tell whether the source sends to the archive itself (C-MOVE) instead of to the import (C-GET)."""
        return self.retrieve == "Move"

    @model_validator(mode="after")
    def _destination(self) -> Self:
        if self.moves is (self.move_destination is None):
            raise InvalidSpecError(
                f"spec.source.moveDestination: retrieve {self.retrieve or 'Get'} "
                f"{'needs one' if self.moves else 'needs none'}",
                action="give with Move, and only there, the AE title by which the source knows the archive",
            )
        if self.move_destination is not None:
            check_ae_title(self.move_destination, "spec.source.moveDestination")
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        check_destination(self.address, "spec.source.address")
        check_ae_title(self.called_ae_title, "spec.source.calledAETitle")
        check_ae_title(self.calling_ae_title, "spec.source.callingAETitle")
        return self


class StudyDates(Model):
    """Days of Study Date (0008,0020), both included."""

    first: Annotated[str, Field(pattern=_DAY, max_length=10)]
    last: Annotated[str, Field(pattern=_DAY, max_length=10)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for field, value in (("first", self.first), ("last", self.last)):
            try:
                date.fromisoformat(value)
            except ValueError:
                raise InvalidSpecError(
                    f"spec.selection.studyDates.{field}: {value!r} is no day of the calendar",
                    action="write year, month and day, for example 2019-12-31",
                ) from None
        if self.first > self.last:
            raise InvalidSpecError(
                f"spec.selection.studyDates: first ({self.first}) is after last ({self.last})",
                action="exchange the two",
            )
        return self


class Selection(Model):
    """Which part of the source comes; without it everything does."""

    study_dates: StudyDates | None = None
    modalities: (
        Annotated[list[Annotated[str, Field(pattern=_MODALITY, max_length=16)]], Field(min_length=1, max_length=32)]
        | None
    ) = None


class RateLimit(Model):
    """How much of source and archive the import may take."""

    objects_per_minute: Annotated[int, Field(ge=10, le=60_000)] | None = None
    associations: Annotated[int, Field(ge=1, le=4)] = 1


class ImportSpec(Model):
    """``PacsImport.spec``; but for ``suspend`` it never changes."""

    archive_ref: ArchiveRef
    source: Source
    selection: Selection = Selection()
    rate_limit: RateLimit = RateLimit()
    suspend: bool = False


class Stop(StrEnum):
    """Why a slice ended: the whole vocabulary, since no text leaves the pod."""

    DONE = "Done"  # nothing is left to do
    TIME = "Time"  # the slice's time was over, the next one goes on
    TERMINATED = "Terminated"  # the pod was told to end
    INCOMPLETE = "Incomplete"  # objects are left that a later try may bring
    SOURCE_UNREACHABLE = "SourceUnreachable"  # no connection, or it broke
    SOURCE_UNTRUSTED = "SourceUntrusted"  # its certificate does not verify, or it refused ours
    SOURCE_REFUSED = "SourceRefused"  # it rejected the association, or offers no C-FIND, or no C-GET or C-MOVE
    SOURCE_QUERY_FAILED = "SourceQueryFailed"  # C-FIND ended without success
    MOVE_DESTINATION_UNKNOWN = "MoveDestinationUnknown"  # C-MOVE status A801
    MOVE_FAILS = "MoveFails"  # C-MOVE fails for one unit after the other, and nothing arrives
    NOTHING_ARRIVES = "NothingArrives"  # C-MOVE ends without a failure, and nothing arrives
    ARCHIVE_UNREACHABLE = "ArchiveUnreachable"
    ARCHIVE_REFUSED = "ArchiveRefused"  # the gate rejected the association
    ARCHIVE_FULL = "ArchiveFull"  # C-STORE status A7xx again and again
    JOURNAL_UNUSABLE = "JournalUnusable"  # its volume is full or broken


class Code(StrEnum):
    """Why an object did not arrive."""

    DUPLICATE_DIFFERS = "DuplicateDiffers"  # another content under this UID: in quarantine if that has room
    NOT_ACCEPTED = "NotAccepted"  # SOP class or transfer syntax is not on the archive's list
    NOT_AUTHORIZED = "NotAuthorized"  # it bears the reserved identifiers of the archive's probes
    CANNOT_UNDERSTAND = "CannotUnderstand"  # malformed
    OUT_OF_RESOURCES = "OutOfResources"  # the archive could not take this one, though it took others
    NOT_DELIVERED = "NotDelivered"  # the source lists it and does not hand it out
    SOURCE_BREAKS = "SourceBreaks"  # the association breaks whenever it is asked for
    ARCHIVE_BREAKS = "ArchiveBreaks"  # the same at the archive
    INTERRUPTED = "Interrupted"  # the importer's pod ended three times with it in hand, as by its memory limit
    ANOTHER_OBJECT = "AnotherObject"  # what came bears another UID inside than it was announced with
    READ_BACK_DIFFERS = "ReadBackDiffers"  # the archive gives back something else
    NOT_READ_BACK = "NotReadBack"  # the archive took it and does not give it back
    NOT_LISTED = "NotListed"  # series of which the source lists fewer objects than it counts
    MOVE_FAILED = "MoveFailed"  # the source could not send it, or the archive did not take it: it tells no more
    NOT_ARRIVED = "NotArrived"  # the source says that it sent it, and the archive does not have it
    NOT_TAKEN_AGAIN = "NotTakenAgain"  # sending what the archive has failed: another content (quarantine), or not sent


class ImportCounts(Model):
    """Of the whole import so far. Every listed object is in exactly one of those from ``imported`` to ``pending``."""

    studies: Count = 0
    series: Count = 0
    objects: Count = 0
    imported: Count = 0
    identical: Count = 0
    present: Count = 0  # C-MOVE only: the archive had it, and the source sent it without a failure
    differing: Count = 0
    refused: Count = 0
    failed: Count = 0
    pending: Count = 0
    hashed: Count | None = None  # of those in the archive: compared by content; None in results of earlier releases


class SliceResult(Model):
    """What one slice leaves behind in its pod's termination message."""

    run: Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]
    stop: Stop
    counts: ImportCounts
    listed: bool  # the source was asked for everything that was selected
    undated: Literal["NotSelected", "Searched", "NotSearched"] = "NotSelected"
    ranges_at_limit: Count = 0  # shortest time ranges in which the source still answered with as much as it may
    codes: Annotated[dict[Code, Count], Field(max_length=len(Code))] = {}
    moved: Count = 0  # objects that this slice settled
    seconds: Count = 0  # how long it worked

    def to_message(self) -> str:
        """Return the termination message."""
        return packed(self.document())

    @classmethod
    def from_message(cls, message: str) -> Self:
        """Return the result that a pod left behind.

        Raises
        ------
        ValueError
            Not a result of ours: truncated, foreign, or not valid. The pod speaks to a foreign system and may have
            been taken over, so nothing else is taken from it.
        """
        try:
            return cls.model_validate(unpacked(message))
        except ValueError as error:
            raise ValueError(f"not a slice's result: {type(error).__name__}") from error


class ImportConditionType(StrEnum):
    """The conditions of a ``PacsImport``."""

    COMPLETE = "Complete"
    PROGRESSING = "Progressing"
    FAILED = "Failed"


class ImportCondition(Model):
    """One condition of a ``PacsImport``."""

    type: ImportConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int
    last_transition_time: Time


class ImportStatus(Model):
    """``PacsImport.status``; everything in it can be found again on the journal's volume."""

    observed_generation: int | None = None
    conditions: Annotated[list[ImportCondition], Field(max_length=8)] = []
    counts: ImportCounts | None = None
    codes: Annotated[dict[Code, Count], Field(max_length=len(Code))] = {}
    listed: bool | None = None
    undated: Literal["NotSelected", "Searched", "NotSearched"] | None = None
    ranges_at_limit: Count | None = None
    objects_per_minute: Count | None = None
    last_slice: Annotated[str, Field(max_length=63)] | None = None
    last_slice_time: Time | None = None
    last_stop: Annotated[str, Field(max_length=32)] | None = None
    failed_slices: Count = 0  # in a row, for the pause before the next
    started_time: Time | None = None
    completed_time: Time | None = None


class ImportConfig(Model):
    """``import.json``: all that the pod of a slice knows; it has no access to the Kubernetes API."""

    run: Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]
    import_uid: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    """Names the journal: another ``PacsImport`` of the same name has another one."""

    source: Source
    selection: Selection = Selection()
    rate_limit: RateLimit = RateLimit()
    archive_ae_title: Annotated[str, Field(min_length=1, max_length=16)]
    gate_host: str
    gate_port: Annotated[int, Field(ge=1, le=65535)] = Port.DICOM_TLS
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] = IMPORT_AE_TITLE
    leaf: str = "peer"
    tls_dir: str = TLS_DIR
    peers_ca_file: str = f"{TLS_DIR}/ca-peers.pem"
    journal_dir: str = JOURNAL_DIR
    slice_seconds: Annotated[int, Field(ge=1)] = SLICE_SECONDS
    connect_seconds: Annotated[float, Field(gt=0)] = 10
    dimse_seconds: Annotated[float, Field(gt=0)] = 60
    batch: Annotated[int, Field(ge=1, le=100)] = 25
    attempts: Annotated[int, Field(ge=1, le=10)] = 3


def run_of(job: str, prefix: str) -> str | None:
    """Return the slice that a Job is, by its name; None for another Job."""
    run = job.removeprefix(prefix)
    return run if run != job and re.fullmatch(r"[a-z0-9]{1,20}", run) else None
