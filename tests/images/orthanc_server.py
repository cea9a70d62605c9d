"""A real Orthanc with the plugin, and the few things a modality does with it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from pacs_operator.domain.storable import SOP_CLASSES, TRANSFER_SYNTAXES
from tests.machine import free_port

from .conftest import Image, wait_for

PREFIX, ROOT = "PACSPROBE-", "2.25.165380477124072533651147298639174204053"
SECTION = {
    "ReservedPatientPrefix": PREFIX, "ReservedUidRoot": ROOT, "ProbeAETitles": ["PACSPROBE"],
    "Quarantine": {"MaxObjects": 1000, "MaxBytes": 2**30},
}  # fmt: skip
WEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
PYTHON = "/usr/share/orthanc/plugins/libOrthancPython.so"


class Orthanc:
    """One running Orthanc."""

    def __init__(self, process: subprocess.Popen[bytes], http: int, dicom: int, data: Path, log: Path) -> None:
        self.process, self.http, self.dicom, self.data, self._log = process, http, dicom, data, log
        self.session = requests.Session()
        self.session.trust_env = False

    def rest(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return self.session.request(method, f"http://127.0.0.1:{self.http}{path}", timeout=30, **arguments)

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"Orthanc ended with {self.process.returncode}:\n{self.log()}")
        try:
            return self.rest("GET", "/system").ok
        except requests.ConnectionError:
            return False

    def log(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, str]]:
        """Return the plugin's log lines of one kind."""
        marked = [line[line.index('{"event"') :] for line in self.log().splitlines() if '{"event"' in line]
        return [event for event in map(json.loads, marked) if event["event"] == name]

    def metric(self, name: str) -> float:
        lines = self.rest("GET", "/tools/metrics-prometheus").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    def instances(self, uid: str) -> list[str]:
        found = self.rest("POST", "/tools/lookup", data=uid).json()
        return [entry["ID"] for entry in found if entry["Type"] == "Instance"]

    def stored(self, uid: str) -> bytes:
        (instance,) = self.instances(uid)
        return self.rest("GET", f"/instances/{instance}/file").content

    def upload(self, data: bytes) -> int:
        """Send one object to Orthanc's REST interface; the HTTP status."""
        return self.rest("POST", "/instances", data=data).status_code

    def stow(self, *objects: bytes) -> requests.Response:
        """Send objects by STOW-RS."""
        parts = [b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in objects]
        kind = 'multipart/related; type="application/dicom"; boundary=cut'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        return self.rest("POST", "/dicom-web/studies", data=b"".join(parts) + b"--cut--\r\n", headers=headers)

    def store(self, aet: str, dataset: Dataset) -> int | None:
        """Send one object; None when the archive gave no status."""
        entity = AE(ae_title=aet)
        entity.add_requested_context(dataset.SOPClassUID, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", self.dicom, ae_title="ARCHIVE")
        assert association.is_established
        try:
            status = association.send_c_store(dataset)
            return int(status.Status) if "Status" in status else None
        finally:
            association.release()


def instance(uid: str, *, patient: str = "P1", pixels: bytes = b"\1\2" * 8, study: str = "1.2.3") -> Dataset:
    """Return a small CT image."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(uid)
    dataset.PatientID, dataset.PatientName = patient, "Surname^Given"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
    dataset.Modality, dataset.Rows, dataset.Columns = "CT", 2, 4
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = pixels
    return dataset


def part10(dataset: Dataset, preamble: bytes = bytes(128)) -> bytes:
    """Return an object as a file (PS3.10)."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return preamble + buffer.getvalue()[128:]


def configuration(http: int, dicom: int, **more: Any) -> dict[str, Any]:
    """Return a configuration that guards as the archive's does, on SQLite and without TLS."""
    return {
        "StorageDirectory": "/var/lib/orthanc", "IndexDirectory": "/var/lib/orthanc",
        "HttpPort": http, "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": dicom, "DicomAet": "ARCHIVE", "DicomCheckCalledAet": True, "DicomAlwaysAllowStore": True,
        "OverwriteInstances": "IfChanged", "MaximumStorageCacheSize": 0, "StorageCompression": False,
        "AcceptedSopClasses": list(SOP_CLASSES), "AcceptedTransferSyntaxes": list(TRANSFER_SYNTAXES),
        "Plugins": [PYTHON], "PythonScript": "/opt/pacs/plugin/pacs_archive.py", "PacsArchive": SECTION, **more,
    }  # fmt: skip


@contextmanager
def orthanc(
    image: Image,
    folder: Path,
    mounts: dict[Path, str] | None = None,
    env: dict[str, str] | None = None,
    **more: Any,
) -> Iterator[Orthanc]:
    """Run the archive image's Orthanc on loopback ports until the block ends."""
    data, etc = image.owned(folder / "data"), folder / "etc"
    etc.mkdir(exist_ok=True)
    http, dicom = free_port(), free_port()
    wanted = {key: value for key, value in configuration(http, dicom, **more).items() if value is not None}
    (etc / "orthanc.json").write_text(json.dumps(wanted))
    log = folder / "log"
    places = {data: "/var/lib/orthanc", etc: "/etc/orthanc", **(mounts or {})}
    # Removals need a place for SQLite's own files; the archive's index is PostgreSQL.
    variables = {"SQLITE_TMPDIR": "/var/lib/orthanc", **(env or {})}
    process = image.start(*image.command, log=log, mounts=places, env=variables)
    server = Orthanc(process, http, dicom, data, log)
    try:
        wait_for(server.ready, "Orthanc answers")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
