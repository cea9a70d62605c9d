"""An import by C-MOVE with the real parts: the old Orthanc sends through the gate, over TLS, as the peer that it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pacs_operator.domain.importing import Stop
from pacs_operator.domain.peer import Right
from pacs_operator.domain.probepeers import import_peer

from .conftest import Image
from .hospital import Hospital
from .orthanc_server import Orthanc, instance, orthanc
from .test_import import Bringing, bringing, hospital, put, study
from .test_quarantine import folder_for

__all__ = ["bringing", "hospital"]

MOVE: dict[str, Any] = {
    "source": {
        "address": "198.18.10.30", "port": 104, "calledAETitle": "OLDPACS", "callingAETitle": "IMPORT",
        "tls": {"mode": "Plaintext", "reason": "on loopback, in a test"},
        "retrieve": "Move", "moveDestination": "RADIOLOGY",
    }
}  # fmt: skip


@pytest.fixture(scope="module")
def source(
    image: Callable[[str], Image], hospital: Hospital, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    folder = folder_for(tmp_path_factory.mktemp("source"))
    etc, peers = folder / "etc", hospital.gate.site.peers
    etc.mkdir(exist_ok=True)
    peers.issue("oldpacs.imaging.example").write(etc, "oldpacs")
    (etc / "ca.pem").write_bytes(peers.root_pem())
    for file in etc.iterdir():
        file.chmod(0o644)
    gate = {"AET": "RADIOLOGY", "Host": "127.0.0.1", "Port": hospital.gate.port, "UseDicomTls": True}
    known = {"import": {"AET": "IMPORT", "Host": "127.0.0.1", "Port": 104, "AllowMove": True}, "gate": gate}
    tls = dict.fromkeys(("DicomTlsCertificate", "DicomTlsPrivateKey"), "/etc/orthanc/oldpacs.pem")
    # Without the plugin of our archives, which sends only where a DicomPeer says.
    more: dict[str, Any] = {
        **tls,
        "DicomTlsTrustedCertificates": "/etc/orthanc/ca.pem",
        "DicomAlwaysAllowFind": True,
        "Plugins": [],
    }
    with orthanc(image("archive"), folder, DicomAet="OLDPACS", DicomModalities=known, **more) as server:
        yield server


@pytest.fixture
def listed(hospital: Hospital) -> Iterator[None]:
    hospital.apply(import_peer("radiology"), hospital.device("OLDPACS", Right.STORE, receives=False))
    yield
    hospital.apply(import_peer("radiology"))


def test_an_old_archive_sends_all_and_a_second_import_finds_it_present(bringing: Bringing, listed: None) -> None:
    objects = put(bringing.source, *study(1, 3), *study(2, 30))
    result = bringing.slice(**MOVE)
    assert (result.stop, result.codes, result.counts.imported) == (Stop.DONE, {}, len(objects))
    assert (result.counts.studies, result.counts.hashed) == (2, 0)
    for dataset in objects:
        assert bringing.hospital.server.stored(str(dataset.SOPInstanceUID))
    again = bringing.slice(importUid="u2", **MOVE)
    assert (again.stop, again.counts.present, again.counts.imported) == (Stop.DONE, len(objects), 0)


def test_what_the_archive_has_otherwise_is_held_in_quarantine_and_not_called_compared(
    bringing: Bringing, listed: None
) -> None:
    first, *_ = put(bringing.source, *study(3))
    other = instance(str(first.SOPInstanceUID), study=str(first.StudyInstanceUID), pixels=b"\7" * 16)
    put(bringing.hospital.server, other)
    result = bringing.slice(**MOVE)
    # Orthanc counts an object that was refused with 0x0111 as sent: the quarantine alone tells.
    assert (result.stop, result.codes, result.counts.hashed) == (Stop.DONE, {}, 0)
    assert (result.counts.imported, result.counts.present) == (2, 1)
    assert len(bringing.hospital.server.rest("GET", "/pacs/quarantine").json()) == 1


def test_a_source_that_is_no_peer_is_refused_by_the_gate_and_blamed_for_nothing(
    bringing: Bringing, hospital: Hospital
) -> None:
    put(bringing.source, *study(4), *study(5), *study(6), *study(7))
    for _ in range(2):
        result = bringing.slice(**MOVE)
        assert result.stop in (Stop.MOVE_FAILS, Stop.MOVE_DESTINATION_UNKNOWN)
        assert (result.counts.failed, result.moved) == (0, 0)
    hospital.apply(import_peer("radiology"), hospital.device("OLDPACS", Right.STORE, receives=False))
    try:
        result = bringing.slice(**MOVE)
        assert (result.stop, result.counts.imported) == (Stop.DONE, 12)
    finally:
        hospital.apply(import_peer("radiology"))
