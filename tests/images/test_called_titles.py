"""Called AE titles at the real Orthanc: what the switch that aliases turn off means there."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from .conftest import Image
from .orthanc_server import orthanc


def accepted(port: int, called: str) -> bool:
    entity = AE(ae_title="CT1")
    entity.add_requested_context(CTImageStorage)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    try:
        return bool(association.is_established)
    finally:
        if association.is_established:
            association.release()


@pytest.mark.parametrize("check", [True, False])
def test_orthanc_knows_one_title_or_takes_all(image: Callable[[str], Image], tmp_path: Path, check: bool) -> None:
    with orthanc(image("archive"), tmp_path, DicomCheckCalledAet=check, StrictAetComparison=True) as server:
        assert accepted(server.dicom, "ARCHIVE")
        assert accepted(server.dicom, "OLDPACS") is not check
