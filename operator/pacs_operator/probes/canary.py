"""A study with a patient's name that nothing else bears: wherever else that name is found, something leaked."""

import hashlib

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundImageStorage
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

from pacs_operator.probes.objects import STUDY_DATE
from pacs_operator.probes.samples import Sample, Samples

PATIENT = "Canary^Nightingale"
IMAGES, EDGE = 3, 256


def ultrasound() -> Samples:
    """Return a small ultrasound study, the same at every run."""
    return Samples([Sample(f"ultrasound {number}", _image(number), EDGE * EDGE) for number in range(1, IMAGES + 1)], {})


def _image(number: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = UltrasoundImageStorage
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
        _uid(what) for what in ("study", "series", f"image {number}")
    )
    dataset.PatientName, dataset.PatientID = PATIENT, "CANARY"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = STUDY_DATE, "000000", "1", ""
    dataset.ReferringPhysicianName, dataset.Modality = "", "US"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = EDGE
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    # The name stands in the pixels too, as many ultrasound devices burn it in.
    dataset.PixelData = (PATIENT.encode() * (EDGE * EDGE // len(PATIENT) + 1))[: EDGE * EDGE]
    dataset["PixelData"].VR = "OB"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, PYNETDICOM_IMPLEMENTATION_UID
    dataset.file_meta = meta
    return dataset


def _uid(what: str) -> UID:
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(f'canary {what}'.encode()).digest()[:16])}")
