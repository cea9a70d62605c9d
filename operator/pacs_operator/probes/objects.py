"""Synthetic objects of one run: made in memory, under the reserved patient prefix and UID root."""

import copy
import hashlib
import struct
import uuid
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

from pacs_operator.domain.checks import Check

ROWS = COLUMNS = 64
STUDY_DATE = "20000101"  # fixed: an object must not depend on the clock of the pod

# Names in several repertoires (PS3.3 C.12.1.1.2); words of the field, no people.
CHARACTER_SETS: tuple[tuple[str | list[str], str], ...] = (
    ("ISO_IR 100", "Prüfung^Gerät"),
    ("ISO_IR 144", "Проба^Архив"),
    ("ISO_IR 126", "Δοκιμή^Αρχείο"),
    (["", "ISO 2022 IR 87"], "Kensa^Kiroku=検査^記録=けんさ^きろく"),
    ("ISO_IR 192", "Probe^Archive=検査^記録=검사^기록"),
    ("GB18030", "Jiancha^Dangan=检查^档案"),
)


@dataclass(frozen=True)
class ProbeObject:
    """One object and the check that its storing answers."""

    check: Check
    dataset: Dataset

    @property
    def uid(self) -> str:
        """Return the SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def sop_class(self) -> UID:
        """Return the SOP Class UID."""
        return UID(self.dataset.SOPClassUID)

    @property
    def transfer_syntax(self) -> UID:
        """Return the transfer syntax the dataset is encoded in."""
        return UID(self.dataset.file_meta.TransferSyntaxUID)


class ProbeObjects:
    """Makes the objects of one run.

    Parameters
    ----------
    run
        Name of the run; the PatientID is prefix + run.
    patient_prefix, uid_root
        What ingest keeps for probes. UIDs are ``<root>.<number of the run>.<n>``; the number is drawn from the run's
        name, because a UID holds digits only.
    """

    def __init__(self, run: str, patient_prefix: str, uid_root: str) -> None:
        self.patient_id = patient_prefix + run
        self._base = f"{uid_root}.{_run_number(run)}"
        self._next = 0
        self.study_uid = self._uid()

    def _uid(self) -> UID:
        self._next += 1
        return UID(f"{self._base}.{self._next}")

    def all(self) -> list[ProbeObject]:
        """Return the objects of the positive checks: one study, one series per kind."""
        series = self._uid()
        images = [ProbeObject(Check.STORE_IMAGE, self._ct(series, number)) for number in (1, 2)]
        return [
            *images,
            ProbeObject(Check.STORE_REPORT, self._report()),
            ProbeObject(Check.STORE_DOCUMENT, self._document()),
            ProbeObject(Check.STORE_COMPRESSED, self.compressed()),
            *(ProbeObject(Check.STORE_CHARACTER_SETS, each) for each in self._character_sets()),
        ]

    def small(self) -> Dataset:
        """Return one more small image, in a series of its own."""
        return self._capture(self._uid(), 1, "probe")

    def _base_dataset(self, sop_class: UID, series: UID, number: int, modality: str) -> Dataset:
        dataset = Dataset()
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = self._uid()
        dataset.StudyInstanceUID = self.study_uid
        dataset.SeriesInstanceUID = series
        dataset.PatientID = self.patient_id
        dataset.PatientName = "Probe^Conformance"
        dataset.PatientBirthDate = ""
        dataset.PatientSex = "O"
        dataset.StudyDate = STUDY_DATE
        dataset.StudyTime = "000000"
        dataset.StudyID = "1"
        dataset.AccessionNumber = ""
        dataset.ReferringPhysicianName = ""
        dataset.Modality = modality
        dataset.Manufacturer = "pacs-operator"
        dataset.SeriesNumber = 1
        dataset.InstanceNumber = number
        dataset.file_meta = _file_meta(dataset, ExplicitVRLittleEndian)
        return dataset

    def _ct(self, series: UID, number: int) -> Dataset:
        dataset = self._base_dataset(CTImageStorage, series, number, "CT")
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.FrameOfReferenceUID = series
        dataset.PixelSpacing = [0.5, 0.5]
        dataset.SliceThickness = 1.25
        dataset.ImagePositionPatient = [0.0, 0.0, 1.25 * number]
        dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        dataset.RescaleIntercept = -1024
        dataset.RescaleSlope = 1
        dataset.KVP = 120
        _add_pixels(dataset, bits=16)
        return dataset

    def _capture(self, series: UID, number: int, description: str) -> Dataset:
        dataset = self._base_dataset(SecondaryCaptureImageStorage, series, number, "OT")
        dataset.ConversionType = "WSD"
        dataset.SeriesDescription = description
        _add_pixels(dataset, bits=8)
        return dataset

    def compressed(self) -> Dataset:
        """Return one more image of one compressed frame (RLE), in a series of its own."""
        dataset = self._capture(self._uid(), 1, "compressed")
        frame = get_encoder(RLELossless).encode(
            dataset.PixelData,
            rows=ROWS,
            columns=COLUMNS,
            samples_per_pixel=1,
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
        )
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = RLELossless
        return dataset

    def _report(self) -> Dataset:
        dataset = self._base_dataset(BasicTextSRStorage, self._uid(), 1, "SR")
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.ContentDate = STUDY_DATE
        dataset.ContentTime = "000000"
        dataset.CompletionFlag = "COMPLETE"
        dataset.VerificationFlag = "UNVERIFIED"
        dataset.ValueType = "CONTAINER"
        dataset.ContinuityOfContent = "SEPARATE"
        dataset.ConceptNameCodeSequence = Sequence([_code("121111", "Summary")])
        item = Dataset()
        item.RelationshipType = "CONTAINS"
        item.ValueType = "TEXT"
        item.ConceptNameCodeSequence = Sequence([_code("121106", "Comment")])
        item.TextValue = "Conformance probe: no finding, no patient. Größe 5 µm."
        dataset.ContentSequence = Sequence([item])
        return dataset

    def _document(self) -> Dataset:
        dataset = self._base_dataset(EncapsulatedPDFStorage, self._uid(), 1, "DOC")
        dataset.update(encapsulated_pdf())
        return dataset

    def _character_sets(self) -> list[Dataset]:
        series = self._uid()
        datasets = []
        for number, (character_set, name) in enumerate(CHARACTER_SETS, start=1):
            dataset = self._capture(series, number, "character sets")
            dataset.SpecificCharacterSet = character_set
            dataset.PatientName = name
            datasets.append(dataset)
        return datasets


#: What a person's device stores on a shadow; a run's own prefix is taken from no device.
SHADOW_PATIENT_PREFIX = "PACSSHADOW-"


def shadow_objects() -> ProbeObjects:
    """Return objects that nobody has stored before, under UIDs of their own (PS3.5 B.2)."""
    return ProbeObjects(uuid.uuid4().hex[:12], SHADOW_PATIENT_PREFIX, f"2.25.{uuid.uuid4().int}")


def encapsulated_pdf() -> Dataset:
    """Return the elements of an encapsulated PDF that say nothing of patient, study or identity."""
    dataset = Dataset()
    dataset.Modality = "DOC"
    dataset.ContentDate = STUDY_DATE
    dataset.ContentTime = "000000"
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "NO"
    dataset.DocumentTitle = "Sample document"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document = _pdf()
    dataset.EncapsulatedDocumentLength = len(document)
    dataset.EncapsulatedDocument = document + b"\x00" * (len(document) % 2)
    return dataset


def unreserved(reserved: Dataset, patient_id: str) -> Dataset:
    """Return the same object outside the reserved prefix: the PatientID is all that differs."""
    dataset = copy.deepcopy(reserved)
    dataset.PatientID = patient_id
    return dataset


def _run_number(run: str) -> int:
    # 13 digits: root (44), number, and a counter of five digits stay within a UID's 64 characters.
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:8]) % 10**13


def _file_meta(dataset: Dataset, syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = PYNETDICOM_IMPLEMENTATION_UID
    return meta


def _add_pixels(dataset: Dataset, bits: int) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = ROWS
    dataset.Columns = COLUMNS
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits if bits == 8 else 12
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    values = [(row * COLUMNS + column) % (1 << dataset.BitsStored) for row in range(ROWS) for column in range(COLUMNS)]
    dataset.PixelData = struct.pack(f"<{len(values)}{'B' if bits == 8 else 'H'}", *values)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = meaning
    return code


def _pdf() -> bytes:
    """Return a PDF of one empty page, with a correct cross-reference table."""
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
    )
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (len(objects) + 1, table, trailer)
