"""Who may store what: decisions on one incoming object, without Orthanc.

The reserved PatientID prefix and UID root belong to the archive's own probes. Only probes may store under
them, and probes may store nothing else: a peer can neither hide an object among those the probes remove, nor
can a probe ever touch a patient's object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

SUCCESS = 0x0000


class Refusal(Enum):
    """Why an object is not stored; the value is the C-STORE status (PS3.7 9.1.1.1.9 and annex C)."""

    DUPLICATE_DIFFERS = ("DuplicateDiffers", 0x0111)
    """The SOP Instance UID is stored already with other content: Duplicate SOP Instance."""

    RESERVED_FOR_PROBES = ("ReservedForProbes", 0x0124)
    """A peer uses the probes' prefix or UID root: Refused, Not Authorized."""

    PROBE_OUTSIDE_RESERVED = ("ProbeOutsideReserved", 0x0124)
    """A probe sends something that is not marked as a probe's object: Refused, Not Authorized."""

    SOP_CLASS_NOT_ACCEPTED = ("SopClassNotAccepted", 0x0122)
    """The object's own SOP class is not on the archive's list: Refused, SOP Class not supported."""

    TRANSFER_SYNTAX_NOT_ACCEPTED = ("TransferSyntaxNotAccepted", 0xC000)
    """Its transfer syntax is not on the archive's list, by an upload: Cannot understand (PS3.4 B.2.3)."""

    STORE_IN_PROGRESS = ("StoreInProgress", 0xA700)
    """Another copy of this UID with other content is being stored now; a later try gets a final answer."""

    OBJECT_TOO_LARGE = ("ObjectTooLarge", 0xA700)
    """Larger than the archive takes, for whose size its memory was measured: Out of Resources."""

    CHECK_FAILED = ("CheckFailed", 0xA700)
    """The check itself failed (database away, malformed object): not stored, the sender keeps its copy."""

    def __init__(self, reason: str, status: int) -> None:
        self.reason = reason
        self.status = status


@dataclass(frozen=True)
class Reserved:
    """What belongs to the archive's own probes."""

    patient_prefix: str
    uid_root: str
    probe_aets: frozenset[str]

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object]) -> Reserved:
        """Read section ``PacsArchive`` of Orthanc's configuration.

        Parameters
        ----------
        configuration
            Orthanc's whole configuration. The section holds ``ReservedPatientPrefix`` (not empty),
            ``ReservedUidRoot`` (not empty) and ``ProbeAETitles`` (may be empty: nobody is a probe).

        Raises
        ------
        ValueError
            Something is absent or of the wrong kind. An archive without these rules must not serve.
        """
        section = configuration.get("PacsArchive")
        if not isinstance(section, Mapping):
            raise ValueError("section PacsArchive is absent from Orthanc's configuration")
        prefix, root, titles = (
            section.get(key) for key in ("ReservedPatientPrefix", "ReservedUidRoot", "ProbeAETitles")
        )
        if not isinstance(prefix, str) or not normal(prefix):
            raise ValueError("PacsArchive.ReservedPatientPrefix: a text is required")
        if not isinstance(root, str) or not root.strip("0123456789.") == "" or not root.strip("."):
            raise ValueError("PacsArchive.ReservedUidRoot: a UID is required")
        if not isinstance(titles, list) or not all(isinstance(title, str) for title in titles):
            raise ValueError("PacsArchive.ProbeAETitles: a list of AE titles is required")
        return cls(normal(prefix), root.strip("."), frozenset(title.strip() for title in titles))

    def owns_patient(self, patient_id: str) -> bool:
        """Tell whether a PatientID carries the prefix, compared as Orthanc compares identifiers."""
        return normal(patient_id).startswith(self.patient_prefix)

    def owns_uid(self, uid: str) -> bool:
        """Tell whether a UID is the reserved root or lies under it."""
        return (uid.strip(" \0") + ".").startswith(self.uid_root + ".")

    def refusal(self, calling_aet: str, patient_id: str, uids: Mapping[str, str]) -> Refusal | None:
        """Judge one object by its sender and its identifiers.

        Parameters
        ----------
        calling_aet
            AE title of the sender; the gate has bound it to the sender's certificate.
        patient_id
            PatientID (0010,0020), empty when absent.
        uids
            Study, Series and SOP Instance UID by their DICOM keywords, empty when absent.

        Returns
        -------
        Refusal or None
            None when the object may be stored.
        """
        marks = [self.owns_patient(patient_id), *(self.owns_uid(uid) for uid in uids.values())]
        if calling_aet.strip() in self.probe_aets:
            # Prefix and SOP Instance UID both: clean-up selects by the one and reports by the other.
            proper = marks[0] and self.owns_uid(uids.get("SOPInstanceUID", ""))
            return None if proper else Refusal.PROBE_OUTSIDE_RESERVED
        return Refusal.RESERVED_FOR_PROBES if any(marks) else None


def normal(identifier: str) -> str:
    """Return an identifier without its padding and in upper case, as Orthanc's index compares it."""
    return identifier.strip(" \0").upper()


def printable(aet: str) -> str:
    """Return an AE title fit for a log line: at most 16 printable ASCII characters, nothing else."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in aet.strip()[:16])
