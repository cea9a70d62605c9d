"""The gate's check of a real Orthanc: seen by nobody who reads the log, and true."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pacs_operator.agent.orthanc_entries import entries_of
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.probepeers import probe_peers
from pacs_operator.render.orthanc_config import TLS12_SUITES
from tests.gate.archive import ORTHANC_FQDN, ORTHANC_NAME, resolver
from tests.gate.device import PDU_AC, ask, associate_rq, client_context
from tests.gate.pki import Authority
from tests.gate.process import Gate, Site, peer, running_gate

from .conftest import Image, wait_for
from .orthanc_server import Orthanc, orthanc

CT1 = peer("ct1", "ct1.imaging.example", "CT1")
SERVICES = ("Echo", "Store", "Find", "FindWorklist", "Get", "Move")


def as_if_unchecked(configuration: str) -> str:
    """Return the configuration with a check that only shakes hands, as HAProxy does when it is told nothing else."""
    without, removed = re.subn(r"  (option tcp-check|tcp-check .*)\n", "", configuration)
    assert removed == 5
    return without


@contextmanager
def gate_and_orthanc(
    image: Image, folder: Path, edit: Callable[[str], str] = str, known: bool = True
) -> Iterator[tuple[Gate, Orthanc]]:
    """Run both, TLS between them; ``known`` tells whether Orthanc knows the archive's own probes."""
    for parent in (folder.parent, folder):
        parent.chmod(0o755)
    internal, etc = Authority("internal"), folder / "etc"
    etc.mkdir()
    leaf = internal.issue(ORTHANC_NAME, server=True)
    leaf.write(etc, "server")
    (etc / "ca.pem").write_bytes(internal.root_pem())
    for file in etc.iterdir():
        file.chmod(0o644)
    peers = LivePeers(revision="r", peers=[*(probe_peers("radiology") if known else ()), CT1])
    tls = {
        "DicomTlsEnabled": True, "DicomTlsRemoteCertificateRequired": True, "DicomTlsMinimumProtocolVersion": 4,
        "DicomTlsCertificate": "/etc/orthanc/server.pem", "DicomTlsPrivateKey": "/etc/orthanc/server.pem",
        "DicomTlsTrustedCertificates": "/etc/orthanc/ca.pem", "DicomTlsCiphersAccepted": list(TLS12_SUITES),
    }  # fmt: skip
    rights = {f"DicomAlwaysAllow{service}": False for service in SERVICES}
    settings: dict[str, Any] = {**tls, **rights, "DicomAet": "RADIOLOGY", "DicomModalities": entries_of(peers)}
    settings |= {"StrictAetComparison": True, "DicomCheckModalityHost": False}
    with orthanc(image, folder, **settings) as server, resolver() as names:
        names.names[ORTHANC_FQDN] = "127.0.0.1"
        site = Site(folder, Authority("peers"), internal, SimpleNamespace(port=server.dicom), names)  # type: ignore[arg-type]
        server.rest("PUT", "/tools/log-level-dicom", data="verbose")
        with running_gate(site, folder / "gate", edit) as gate:
            gate.put(CT1)
            yield gate, server


def lines(server: Orthanc, level: str) -> list[str]:
    """Return what Orthanc logged of DICOM: I, W or E."""
    return [line for line in server.log().splitlines() if line.startswith(level) and " DICOM-" in line]


def up(gate: Gate) -> bool:
    return gate.archive_reachable()


def test_checks_leave_no_warning_and_no_error(image: Callable[[str], Image], tmp_path: Path) -> None:
    with gate_and_orthanc(image("archive"), tmp_path) as (gate, server):
        wait_for(lambda: len([line for line in lines(server, "I") if "PACSPROBE" in line]) >= 3, "three checks")
        assert up(gate)
        assert lines(server, "E") + lines(server, "W") == []


def test_the_twin_that_only_shakes_hands_is_an_error_each_time(image: Callable[[str], Image], tmp_path: Path) -> None:
    with gate_and_orthanc(image("archive"), tmp_path, as_if_unchecked) as (gate, server):
        wait_for(lambda: up(gate) and len(lines(server, "E")) >= 2, "two checks, each an error")


def test_an_orthanc_that_turns_everybody_away_is_not_up(image: Callable[[str], Image], tmp_path: Path) -> None:
    with gate_and_orthanc(image("archive"), tmp_path, known=False) as (gate, server):
        wait_for(lambda: sum("Rejected" in line for line in lines(server, "W")) >= 2, "two checks are turned away")
        assert not up(gate)


def test_gone_and_back(image: Callable[[str], Image], tmp_path: Path) -> None:
    """Stopped by signal, so that a check meets silence as in a hung node; then there again."""
    with gate_and_orthanc(image("archive"), tmp_path) as (gate, server):
        context = client_context(gate.site.peers, gate.site.peers.issue(CT1.identity))
        wait_for(lambda: up(gate), "up")
        assert ask(gate.port, context, associate_rq()).pdu == PDU_AC
        server.process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: not up(gate), "down", seconds=12)
            assert ask(gate.port, context, associate_rq()).rejection == (2, 3, 1)
        finally:
            server.process.send_signal(signal.SIGCONT)
        wait_for(lambda: up(gate), "up again", seconds=4)
        assert ask(gate.port, context, associate_rq()).pdu == PDU_AC
