"""Worklists are not offered: a real Orthanc that was told of a peer as the operator tells it ends such a query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from pacs_operator.agent.orthanc_entries import entries_of
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.reconcile.peers import live_peer
from tests.engine.test_acceptance import claim

from .conftest import Image
from .orthanc_server import Orthanc, orthanc

SERVICES = ("Echo", "Store", "Find", "FindWorklist", "Get", "Move")


def statuses(server: Orthanc, sop_class: str) -> list[int | None]:
    """Return the statuses of a query; None stands for an association that ended."""
    ae = AE(ae_title="CT1")
    ae.add_requested_context(sop_class)
    association = ae.associate("127.0.0.1", server.dicom, ae_title="RADIOLOGY")
    if not association.is_established:
        return [None]
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.PatientName = "*"
    found = [status.Status if status else None for status, _ in association.send_c_find(asked, sop_class)]
    if association.is_established:
        association.release()
    return found


@pytest.mark.parametrize(
    ("sop_class", "answer"),
    [(StudyRootQueryRetrieveInformationModelFind, [0x0000]), (ModalityWorklistInformationFind, [None])],
    ids=["studies", "worklist"],
)
def test_a_query_for_studies_is_served_and_one_for_a_worklist_is_not(
    image: Callable[[str], Image], tmp_path: Path, sop_class: str, answer: list[int | None]
) -> None:
    for parent in (tmp_path.parent, tmp_path):
        parent.chmod(0o755)
    peer = claim("ct1", rights=["Echo", "Find", "FindWorklist"]).peer
    assert peer is not None
    known = LivePeers(revision="r", peers=[live_peer(peer, {})])
    settings: dict[str, Any] = {f"DicomAlwaysAllow{service}": False for service in SERVICES}
    settings |= {"DicomAet": "RADIOLOGY", "DicomModalities": entries_of(known), "DicomCheckModalityHost": False}
    with orthanc(image("archive"), tmp_path, **settings) as server:
        assert statuses(server, sop_class) == answer
