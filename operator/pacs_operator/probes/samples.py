"""Real DICOM files that come inside the pydicom package, and one PDF object made here, as none is among them."""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, EncapsulatedPDFStorage, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from pacs_operator.domain.names import PROBE_PATIENT_PREFIX
from pacs_operator.probes.objects import encapsulated_pdf

FOLDERS = ("test_files", "charset_files")
# Broken on purpose, as their names or pydicom's notes say: nobody may archive them.
BROKEN = {
    "MR_truncated.dcm": "its pixel data end early, on purpose",
    "rtplan_truncated.dcm": "it ends in the middle, on purpose",
    "badVR.dcm": "it names wrong value representations, on purpose",
}
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
NEW_UID = "SOP Instance UID replaced: another bundled file carries the same one with other content"
PDF_NAME = "(made here) encapsulated.pdf"
PDF_PATIENT = "SAMPLE-DOCUMENT"


@dataclass
class Sample:
    """One object to send; ``alterations`` says what was changed and why, and is empty for nearly all."""

    name: str
    dataset: Dataset
    size: int
    alterations: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """Return the SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def kind(self) -> tuple[UID, UID]:
        """Return SOP class and transfer syntax."""
        return UID(self.dataset.SOPClassUID), UID(self.dataset.file_meta.TransferSyntaxUID)


@dataclass
class Samples:
    """What is sent, and what is not, with the reason."""

    sent: list[Sample]
    skipped: dict[str, str]


def samples() -> Samples:
    """Return every bundled file that may be stored, in a stable order, each SOP Instance UID once."""
    chosen, skipped = Samples([], {}), {}
    contents: dict[str, set[bytes]] = {}
    for name, data in _files():
        try:
            dataset = pydicom.dcmread(BytesIO(data))
        except InvalidDicomError:
            skipped[name] = "no DICOM file: preamble or file meta information is absent (PS3.10)"
            continue
        reason = BROKEN.get(Path(name).name) or _unfit(dataset)
        content = hashlib.sha256(data).digest()
        known = contents.setdefault(str(dataset.get("SOPInstanceUID", "")), set())
        if reason is None and content in known:
            reason = "the very same file comes under another name"
        if reason is not None:
            skipped[name] = reason
            continue
        sample = Sample(name, dataset, len(data))
        if known:
            _renew_uid(sample, content)
        known.add(content)
        chosen.sent.append(sample)
    document = encapsulated_document()
    chosen.sent.append(Sample(PDF_NAME, document, len(document.EncapsulatedDocument)))
    chosen.skipped = skipped
    return chosen


def _files() -> Iterator[tuple[str, bytes]]:
    """Return name and content of each bundled file; what is packed with gzip is unpacked."""
    base = Path(pydicom.__file__).parent / "data"
    for folder in FOLDERS:
        for path in sorted((base / folder).rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                yield str(path.relative_to(base)), gzip.decompress(data) if path.suffix == ".gz" else data


def _unfit(dataset: FileDataset) -> str | None:
    """Return why an object is not to be stored, or None."""
    meta = dataset.file_meta
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return "a DICOMDIR indexes media; it is not stored (PS3.10 8.6)"
    if not meta.get("TransferSyntaxUID"):
        return "its transfer syntax is not stated"
    absent = [keyword for keyword in REQUIRED if not dataset.get(keyword)]
    if absent:
        return f"no composite object: {', '.join(absent)} absent"
    if not UID(meta.TransferSyntaxUID).is_implicit_VR and not _names_every_vr(dataset):
        return "its transfer syntax says explicit VR, but its elements name none"
    return "its SOP class is private" if UID(dataset.SOPClassUID).is_private else None


def _names_every_vr(dataset: FileDataset) -> bool:
    raw = (dataset.get_item(tag) for tag in list(dataset.keys()))
    return all(element is not None and element.VR is not None for element in raw)


def _renew_uid(sample: Sample, content: bytes) -> None:
    """Give a UID drawn from the content, the same at every run, so that a second demo finds its objects again."""
    uid = UID(f"2.25.{int.from_bytes(content[:16])}")
    sample.dataset.SOPInstanceUID = uid
    sample.dataset.file_meta.MediaStorageSOPInstanceUID = uid
    sample.alterations.append(NEW_UID)


def encapsulated_document(patient_id: str = PDF_PATIENT) -> Dataset:
    """Return the PDF object, the same at every run."""
    dataset = encapsulated_pdf()
    dataset.PatientID = patient_id
    dataset.PatientName = "Sample^Document"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    for number, keyword in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), start=1):
        digest = hashlib.sha256(f"{PDF_NAME} {number}".encode()).digest()
        setattr(dataset, keyword, UID(f"2.25.{int.from_bytes(digest[:16])}"))
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.file_meta = _meta(dataset)
    return dataset


def reserved_document() -> Dataset:
    """Return the PDF object under the probes' reserved PatientID prefix: that is all that differs."""
    return encapsulated_document(f"{PROBE_PATIENT_PREFIX}modality")


def _meta(dataset: Dataset) -> pydicom.dataset.FileMetaDataset:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta
