"""An object larger than the archive takes is refused by every way in, and the next one is served."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from tests.machine import enterable

from .conftest import Image
from .orthanc_server import PYTHON, SECTION, WEB, instance, orthanc, part10

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
LIMIT = 100_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that the image's user may enter."""
    return enterable(tmp_path)


def test_too_large_is_refused_before_it_is_stored(image: Callable[[str], Image], folder: Path) -> None:
    archive: Image = image("archive")
    section = {**SECTION, "MaxObjectBytes": LIMIT}
    large, small = (instance(generate_uid(), pixels=bytes(size)) for size in (LIMIT, LIMIT - 5000))
    with orthanc(archive, folder, Plugins=[PYTHON, WEB], PacsArchive=section) as server:
        assert server.store("CT1", large) == OUT_OF_RESOURCES
        assert server.upload(part10(large)) == 400
        assert server.stow(part10(large)).status_code != 200
        assert server.instances(large.SOPInstanceUID) == []
        assert server.metric("pacs_store_refused_object_too_large") == 3
        assert server.store("CT1", small) == SUCCESS
        assert server.upload(part10(instance(generate_uid(), pixels=bytes(LIMIT - 5000)))) == 200
    with orthanc(archive, folder, PacsArchive=SECTION) as server:
        assert server.store("CT1", large) == SUCCESS, "without a limit"


def test_a_limit_that_is_no_number_stops_orthanc(image: Callable[[str], Image], folder: Path) -> None:
    section = {**SECTION, "MaxObjectBytes": "1"}
    with pytest.raises(AssertionError, match="MaxObjectBytes"), orthanc(image("archive"), folder, PacsArchive=section):
        pass
