"""An import with the real parts: an old Orthanc as source, the archive's own Orthanc behind its own gate as target."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from pacs_operator.domain.importing import Code, ImportConfig, SliceResult, Stop
from pacs_operator.domain.probepeers import import_peer
from pacs_operator.importer.limits import Limits, Pace, Watch
from pacs_operator.importer.node import Node
from pacs_operator.importer.run import Slice
from pacs_operator.probes.client import Session
from pacs_operator.probes.wire import Endpoint
from tests.gate.device import client_context

from .conftest import Image
from .hospital import Hospital, running_hospital
from .orthanc_server import Orthanc, instance, orthanc, part10
from .test_quarantine import folder_for

TODAY = date(2026, 11, 20)


@pytest.fixture(scope="module")
def hospital(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with running_hospital(image("archive"), tmp_path_factory.mktemp("hospital")) as one:
        peer = import_peer("radiology")
        site = one.gate.site
        one.contexts[peer.ae_titles[0]] = client_context(site.peers, site.peers.issue(str(peer.dns_name)))
        one.apply(peer)
        yield one


@pytest.fixture(scope="module")
def source(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = folder_for(tmp_path_factory.mktemp("source"))
    known = {"import": {"AET": "IMPORT", "Host": "127.0.0.1", "Port": 104, "AllowGet": True, "AllowFind": True}}
    open_: dict[str, Any] = {"DicomAlwaysAllowGet": True, "DicomAlwaysAllowFind": True, "LimitFindResults": 20}
    with orthanc(image("archive"), folder, DicomAet="OLDPACS", DicomModalities=known, **open_) as server:
        yield server


class Bringing:
    """One import between the two."""

    def __init__(self, hospital: Hospital, source: Orthanc, folder: Path) -> None:
        self.hospital, self.source, self.folder = hospital, source, folder
        self.runs = 0

    def slice(self, **settings: Any) -> SliceResult:
        self.runs += 1
        config = ImportConfig.model_validate(
            {
                "run": f"i{self.runs}", "importUid": "u1", "archiveAeTitle": "RADIOLOGY", "gateHost": "none",
                "journalDir": str(self.folder), "sliceSeconds": 120,
                "source": {
                    "address": "198.18.10.30", "port": 104, "calledAETitle": "OLDPACS", "callingAETitle": "IMPORT",
                    "tls": {"mode": "Plaintext", "reason": "on loopback, in a test"}, "queryLimit": 20,
                },
                **settings,
            }
        )  # fmt: skip
        limits = Limits(Watch(config.slice_seconds), Pace(None))
        return Slice(
            config, self.node("IMPORT", self.source.dicom, "OLDPACS", None), self.archive(), limits, TODAY
        ).run()

    def archive(self) -> Node:
        title = import_peer("radiology").ae_titles[0]
        return self.node(title, self.hospital.gate.port, "RADIOLOGY", self.hospital.contexts[title])

    @staticmethod
    def node(calling: str, port: int, called: str, context: ssl.SSLContext | None) -> Node:
        session = Session(Endpoint("127.0.0.1", port), calling, called, context, "gate.radiology-edge.svc", 5, 20)
        if context is None:
            return Node(session, Stop.SOURCE_UNREACHABLE, Stop.SOURCE_UNTRUSTED, Stop.SOURCE_REFUSED)
        return Node(session, Stop.ARCHIVE_UNREACHABLE, Stop.ARCHIVE_REFUSED, Stop.ARCHIVE_REFUSED)


@pytest.fixture
def bringing(hospital: Hospital, source: Orthanc, tmp_path: Path) -> Iterator[Bringing]:
    yield Bringing(hospital, source, tmp_path)
    for server in (source, hospital.server):
        for patient in server.rest("GET", "/patients").json():
            assert server.rest("DELETE", f"/patients/{patient}").ok


def put(server: Orthanc, *datasets: Dataset) -> list[Dataset]:
    for dataset in datasets:
        assert server.upload(part10(dataset)) == 200
    return list(datasets)


def study(number: int, objects: int = 3, **more: Any) -> list[Dataset]:
    uid = f"1.2.826.0.1.{number}"
    made = [instance(generate_uid(), study=uid, pixels=bytes([n, number] * 8)) for n in range(objects)]
    for dataset in made:
        dataset.StudyDate, dataset.StudyTime = f"20{number % 20:02d}0115", "101500"
        for key, value in more.items():
            setattr(dataset, key, value)
    return made


def test_an_old_archive_comes_whole_and_a_second_import_finds_it_identical(bringing: Bringing) -> None:
    names = {"ISO_IR 100": "Müller^Jürgen", "ISO_IR 192": "山田^太郎", "GB18030": "王^小东", "ISO_IR 144": "Люк^Иван"}
    objects = [
        *(each for number in range(1, 26) for each in study(number, 1)),
        *(each for n, (charset, name) in enumerate(names.items(), 30)
          for each in study(n, 2, SpecificCharacterSet=charset, PatientName=name, PatientID=f"N{n}")),
    ]  # fmt: skip
    put(bringing.source, *objects)
    result = bringing.slice(rateLimit={"associations": 2})
    assert (result.stop, result.codes, result.counts.imported) == (Stop.DONE, {}, len(objects))
    assert (result.counts.studies, result.listed, result.ranges_at_limit) == (29, True, 0)
    for dataset in objects:
        uid = str(dataset.SOPInstanceUID)
        here, there = (dcmread(BytesIO(server.stored(uid))) for server in (bringing.hospital.server, bringing.source))
        assert here == there
    again = bringing.slice(importUid="u2")
    assert (again.counts.identical, again.counts.imported) == (len(objects), 0)


def test_a_differing_duplicate_goes_to_quarantine(bringing: Bringing) -> None:
    first, second, third = put(bringing.source, *study(1))
    other = instance(str(first.SOPInstanceUID), study=str(first.StudyInstanceUID), pixels=b"\7" * 16)
    put(bringing.hospital.server, other, second)
    result = bringing.slice()
    assert (result.counts.differing, result.counts.identical, result.counts.imported) == (1, 1, 1)
    assert result.codes == {Code.DUPLICATE_DIFFERS: 1}
    held = bringing.hospital.server.rest("GET", "/pacs/quarantine").json()
    assert len(held) == 1
    assert bringing.hospital.server.stored(str(third.SOPInstanceUID))


def test_an_archive_that_does_not_know_the_import_refuses_it(bringing: Bringing) -> None:
    put(bringing.source, *study(1))
    bringing.hospital.apply()
    try:
        assert bringing.slice().stop is Stop.ARCHIVE_REFUSED
    finally:
        bringing.hospital.apply(import_peer("radiology"))
    assert bringing.slice().counts.imported == 3
