"""Orthanc with the encrypting storage area, on a volume at ``/srv``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.filewriter import dcmwrite

from tests.images.conftest import Image
from tests.images.orthanc_server import PYTHON, SECTION, Orthanc, instance, orthanc

PLUGIN = "/opt/pacs/storage/libpacs-storage.so"
TRANSIT = {"Plugins": [PLUGIN, PYTHON], "PacsArchive": {**SECTION, "StorageEncryption": "Transit"}}
ENVIRONMENT = {
    "PACS_STORAGE_ROOT": "/srv/encrypted",
    "PACS_STORAGE_KEYS": "/etc/orthanc/keys",
    "SQLITE_TMPDIR": "/var/lib/orthanc",  # to remove objects; the index of the product is another
}
CANARY = "Canary^Patient"


def keys_of(folder: Path) -> Path:
    """Return where the list of keys lies that Orthanc in this folder reads."""
    (folder / "etc").mkdir(exist_ok=True)
    return folder / "etc" / "keys"


def volume_of(image: Image, folder: Path) -> Path:
    return image.owned(folder / "volume")


@contextmanager
def encrypted(
    image: Image, folder: Path, volume: Path | None = None, env: dict[str, str] | None = None, **more: Any
) -> Iterator[Orthanc]:
    """Run Orthanc with its images encrypted, its index elsewhere."""
    place = volume or volume_of(image, folder)
    with orthanc(
        image, folder, mounts={place: "/srv"}, env={**ENVIRONMENT, **(env or {})}, **{**TRANSIT, **more}
    ) as server:
        yield server


def image_of(uid: str, size: int = 200_000, seed: int = 0) -> Dataset:
    """Return an image whose file has some chunks and holds the canary."""
    pixels = b"".join((seed * 1_000_003 + n).to_bytes(8, "little") for n in range(size // 8))
    dataset = instance(uid, pixels=pixels)
    dataset.PatientName = CANARY
    dataset.Rows, dataset.Columns = len(pixels) // 1000, 500
    return dataset


def as_file(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def upload(server: Orthanc, dataset: Dataset) -> int:
    return server.rest("POST", "/instances", data=as_file(dataset)).status_code


def attachment(server: Orthanc, uid: str) -> str:
    """Return the name of an object's file."""
    (one,) = server.instances(uid)
    return str(server.rest("GET", f"/instances/{one}/attachments/dicom/info").json()["Uuid"])
