"""The conformance checks of DICOMweb: green on a real gate and Orthanc, red where nothing is refused."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, build_context

from pacs_operator.domain.checks import WEB_CHECKS, Check, Layer
from pacs_operator.domain.conformanceconfig import ConformanceConfig
from pacs_operator.domain.names import PROBE_AE_TITLE, PROBE_PATIENT_PREFIX, PROBE_UID_ROOT
from pacs_operator.domain.peer import Right
from pacs_operator.domain.probepeers import probe_dns_name, probe_peers
from pacs_operator.probes import bombs, preambles, webchecks
from pacs_operator.probes.client import Session
from pacs_operator.probes.objects import ProbeObjects
from pacs_operator.probes.servicechecks import Exchange
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Credentials, Trust
from pacs_operator.probes.verdict import Verdict
from pacs_operator.probes.wire import Endpoint
from tests.gate.pki import Authority, Leaf, key_pem
from tests.gate.process import peer
from tests.gate.web import GATE_NAME, Upstream, running_upstream

from .conftest import Image
from .webarchive import WebArchive, running_archive


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebArchive]:
    with running_archive(image("archive"), tmp_path_factory.mktemp("probes")) as running:
        running.stage.gate.apply({peer.id: peer for peer in probe_peers("radiology")})
        yield running


def credentials(folder: Path, name: str, leaf: Leaf) -> Credentials:
    made = Credentials.of_leaf(str(folder), name)
    pem = leaf.pem()
    made.key.write_bytes(key_pem(leaf.key))
    made.certificate.write_bytes(pem[len(key_pem(leaf.key)) :])
    return made


def setting(folder: Path, peers: Authority, web_port: int) -> Setting:
    """Return what the web checks need of a run's setting."""
    config = ConformanceConfig(
        run="w1", archive_ae_title="RADIOLOGY", gate_host=GATE_NAME, gate_replicas_host=GATE_NAME, gate_replicas=1,
        gate_web_port=web_port, orthanc_host="localhost", postgres_host=None,
    )  # fmt: skip
    names = [probe_dns_name("radiology", store_only=only) for only in (False, True)]
    unused: Any = None
    return Setting(
        config=config,
        peer=credentials(folder, "peer", peers.issue(names[0])),
        store_only=credentials(folder, "store-only", peers.issue(names[1])),
        cleanup=unused,
        foreign=credentials(folder, "foreign", Authority("foreign").issue(names[0])),
        gate_trust=Trust(peers.root_pem().decode(), GATE_NAME),
        **{
            name: unused
            for name in Setting.__dataclass_fields__
            if name not in ("config", "peer", "store_only", "cleanup", "foreign", "gate_trust")
        },
    )


def stored(archive: WebArchive) -> Exchange:
    """Store the objects of a run by C-STORE, as the probe does."""
    objects = ProbeObjects("w1", PROBE_PATIENT_PREFIX, PROBE_UID_ROOT)
    exchange = Exchange(objects, objects.all())
    ae = AE(ae_title=PROBE_AE_TITLE)
    ae.requested_contexts = [
        build_context(kind, syntax)
        for kind, syntax in sorted({(each.sop_class, each.transfer_syntax) for each in exchange.sent})
    ]
    association = ae.associate("127.0.0.1", archive.server.dicom, ae_title="ARCHIVE")
    assert association.is_established
    for each in exchange.sent:
        exchange.statuses[each.uid] = association.send_c_store(each.dataset).Status
    association.release()
    assert len(exchange.stored) == len(exchange.sent)
    return exchange


def test_every_check_passes_at_a_real_gate(archive: WebArchive, tmp_path: Path) -> None:
    world = setting(tmp_path, archive.stage.site.peers, archive.stage.port)
    replica, exchange = Endpoint("127.0.0.1", archive.stage.port), stored(archive)
    verdicts = {
        Check.WEB_QUERY: webchecks.query(world, replica, exchange),
        Check.WEB_RETRIEVE_EQUAL: webchecks.retrieve(world, replica, exchange),
        **{check: webchecks.refused(world, check, replica) for check in webchecks.ATTACKS},
    }
    assert set(verdicts) == WEB_CHECKS
    assert {check: (verdict.outcome, verdict.code) for check, verdict in verdicts.items()} == {
        Check.WEB_QUERY: ("Passed", None),
        Check.WEB_RETRIEVE_EQUAL: ("Passed", None),
        Check.WEB_NO_CERTIFICATE_REFUSED: ("Passed", "alert-certificate-required"),
        Check.WEB_FOREIGN_CERTIFICATE_REFUSED: ("Passed", "alert-unknown-ca"),
        Check.WEB_UNGRANTED_REFUSED: ("Passed", "http-403"),
        Check.WEB_ROUTE_REFUSED: ("Passed", "http-403"),
        Check.WEB_METHOD_REFUSED: ("Passed", "http-405"),
    }


def test_what_was_not_stored_and_what_was_altered_is_found(archive: WebArchive, tmp_path: Path) -> None:
    world = setting(tmp_path, archive.stage.site.peers, archive.stage.port)
    replica, exchange = Endpoint("127.0.0.1", archive.stage.port), stored(archive)
    gone, *rest = exchange.sent
    shorter = replace(exchange, sent=rest)
    assert webchecks.query(world, replica, shorter).code == "unexpected"
    exchange.sent[0].dataset.PatientComments = "added afterwards"
    assert webchecks.retrieve(world, replica, exchange).code == "differs"
    del gone


def test_a_programs_head_is_blanked_and_the_image_comes_back(archive: WebArchive, tmp_path: Path) -> None:
    world = device(tmp_path, archive)
    verdict = preambles.blanked(world, Endpoint("127.0.0.1", archive.stage.port))
    assert verdict == Verdict("Passed", Layer.DICOM, "blanked", "Served")


def device(folder: Path, archive: WebArchive) -> Setting:
    """Return what a device of the archive works with; from a probe, reserved identifiers come by C-STORE alone."""
    name = "attacker.imaging.example"
    archive.stage.gate.put(peer("attacker", name, "ATTACKER", rights=(Right.STORE, Right.FIND, Right.GET)))
    world = setting(folder, archive.stage.site.peers, archive.stage.port)
    return replace(world, peer=credentials(folder, "attacker", archive.stage.site.peers.issue(name)))


def test_an_archive_that_keeps_the_head_is_found(archive: WebArchive, tmp_path: Path, monkeypatch: Any) -> None:
    """As Orthanc alone does: what was sent comes back as it was."""
    sent: list[bytes] = []

    def kept(_setting: Setting, _replica: Endpoint, request: webchecks.Request) -> webchecks.Reply:
        if request.body is not None:
            sent.append(request.body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--pacs-probe--")[0])
            return webchecks.Reply(Layer.GATE, "http-200", 200)
        body = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + sent[-1] + b"\r\n--cut--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=cut'
        return webchecks.Reply(Layer.GATE, "http-200", 200, body, kind)

    for module in (preambles, webchecks):
        monkeypatch.setattr(module, "ask", kept)
    verdict = preambles.blanked(device(tmp_path, archive), Endpoint("127.0.0.1", archive.stage.port))
    assert verdict == Verdict("Failed", Layer.DICOM, "accepted", "Served")


def test_a_device_that_may_not_store_proves_nothing(archive: WebArchive, tmp_path: Path) -> None:
    world = device(tmp_path, archive)
    archive.stage.gate.put(peer("attacker", "attacker.imaging.example", "ATTACKER", rights=(Right.FIND, Right.GET)))
    verdict = preambles.blanked(world, Endpoint("127.0.0.1", archive.stage.port))
    assert (verdict.outcome, verdict.twin) == ("NotRun", "NotServed")


def behind(archive: WebArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device's C-STORE go where the gate would pass it on; a gate for DICOM is no part of this file."""
    inside = Session(Endpoint("127.0.0.1", archive.server.dicom), "ATTACKER", "ARCHIVE", None, "")
    monkeypatch.setattr(Setting, "session", lambda *_: inside)


def test_bombs_are_refused_and_honest_images_still_stored(
    archive: WebArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = device(tmp_path, archive)
    behind(archive, monkeypatch)
    verdict = bombs.refused(world, Endpoint("127.0.0.1", archive.stage.port))
    assert verdict == Verdict("Passed", Layer.DICOM, "status-a700", "Served")


def test_an_archive_that_keeps_a_bomb_is_found(
    archive: WebArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is claimed is no more than an archive may take, so it is kept."""
    world = device(tmp_path, archive)
    behind(archive, monkeypatch)
    monkeypatch.setattr(bombs, "CLAIMED", 64)
    verdict = bombs.refused(world, Endpoint("127.0.0.1", archive.stage.port))
    assert verdict == Verdict("Failed", Layer.DICOM, "accepted", "Served")


@pytest.fixture
def weak(tmp_path: Path) -> Iterator[tuple[Setting, Upstream]]:
    """Return a server that asks for no certificate and answers everything with success."""
    peers = Authority("peers")
    with running_upstream() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(peers.issue(GATE_NAME, server=True).write(tmp_path, "weak"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield setting(tmp_path, peers, server.port), server


@pytest.mark.parametrize("check", webchecks.ATTACKS)
def test_each_attack_is_seen_to_succeed_where_nothing_refuses_it(check: Check, weak: tuple[Setting, Upstream]) -> None:
    world, server = weak
    verdict = webchecks.refused(world, check, Endpoint("127.0.0.1", server.port))
    assert (verdict.outcome, verdict.code, verdict.twin) == ("Failed", "http-200", "Served")


@pytest.mark.parametrize("check", webchecks.ATTACKS)
def test_a_port_where_nobody_answers_proves_nothing(check: Check, tmp_path: Path) -> None:
    world = setting(tmp_path, Authority("peers"), 9)
    assert webchecks.refused(world, check, Endpoint("127.0.0.1", 9)).outcome == "NotRun"
