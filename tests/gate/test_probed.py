"""The conformance pod's own attacks on a real gate: each refused beside its twin, and each seen without its measure."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacs_operator.domain.checks import Check, Layer
from pacs_operator.domain.conformanceconfig import ConformanceConfig
from pacs_operator.domain.probepeers import probe_dns_name, probe_peers
from pacs_operator.probes import crowding, resumption
from pacs_operator.probes.gatechecks import ATTACKS, refused
from pacs_operator.probes.setting import Setting, prepared
from pacs_operator.probes.verdict import Verdict
from pacs_operator.probes.wire import Endpoint

from .pki import Authority
from .process import Gate, Site, running_gate, wait_for

# What HAProxy says, by layer and code; where its version decides between alert and close, the layer alone.
REFUSALS = {
    Check.PLAINTEXT_REFUSED: ("tls", None),
    Check.OLD_TLS_REFUSED: ("tls", "alert-protocol-version"),
    Check.STATIC_RSA_REFUSED: ("tls", "alert-handshake-failure"),
    Check.CBC_SUITES_REFUSED: ("tls", "alert-handshake-failure"),
    Check.NO_CERTIFICATE_REFUSED: ("tls", None),
    Check.FOREIGN_CERTIFICATE_REFUSED: ("tls", None),
    Check.IMITATED_AUTHORITY_REFUSED: ("tls", None),
    Check.PADDED_CHAIN_REFUSED: ("tls", None),
    Check.SERVER_CERTIFICATE_REFUSED: ("tls", None),
    Check.EXPIRED_CERTIFICATE_REFUSED: ("tls", None),
    Check.BORROWED_AE_TITLE_REFUSED: ("gate", "rj-1-1-3"),
    Check.UNKNOWN_AE_TITLE_REFUSED: ("gate", "rj-1-1-3"),
    Check.WRONG_CALLED_AE_TITLE_REFUSED: ("gate", "rj-1-1-7"),
    Check.CALLED_AE_TITLE_CASE_REFUSED: ("gate", "rj-1-1-7"),
}


def leaves(site: Site, folder: Path) -> None:
    """Write the probe's certificates as its agent does."""
    good, store = (probe_dns_name("radiology", store_only=each) for each in (False, True))
    control = Authority("control")
    for name, leaf in {
        "peer": site.peers.issue(good),
        "store-only": site.peers.issue(store),
        "server-only": site.peers.issue(good, server=True),
        "expired": site.peers.issue(good, days=-0.01),
        "cleanup": control.issue("conformance.radiology-ops.svc"),
    }.items():
        pem = leaf.write(folder, name).read_bytes()
        certificate = pem.index(b"-----BEGIN CERTIFICATE")
        (folder / f"{name}.key").write_bytes(pem[:certificate])
        (folder / f"{name}.crt").write_bytes(pem[certificate:])
    (folder / "ca-peers.pem").write_bytes(site.peers.root_pem())
    (folder / "ca-control.pem").write_bytes(control.root_pem())


@contextlib.contextmanager
def probed(site: Site, gate: Gate, folder: Path) -> Iterator[tuple[Setting, Endpoint]]:
    """Let the probes in, and return what they work with."""
    folder.mkdir(exist_ok=True)
    leaves(site, folder)
    gate.put(*probe_peers("radiology"))
    config = ConformanceConfig(
        run="r1",
        archive_ae_title="RADIOLOGY",
        gate_host="gate.radiology-edge.svc",
        gate_replicas_host="127.0.0.1",
        gate_replicas=1,
        gate_port=gate.port,
        orthanc_host="127.0.0.1",
        postgres_host=None,
        tls_dir=str(folder),
        peers_ca_file=str(folder / "ca-peers.pem"),
        control_ca_file=str(folder / "ca-control.pem"),
    )
    with prepared(config) as setting:
        yield setting, Endpoint("127.0.0.1", gate.port)


def test_every_attack_is_refused_beside_its_twin(site: Site, gate: Gate, tmp_path: Path) -> None:
    with probed(site, gate, tmp_path / "tls") as (setting, replica):
        verdicts = {check: refused(setting, check, replica) for check in ATTACKS}
    assert {check: each for check, each in verdicts.items() if each.outcome != "Passed"} == {}
    for check, (layer, code) in REFUSALS.items():
        assert verdicts[check].layer == layer, check
        assert code is None or verdicts[check].code == code, check
    assert set(REFUSALS) == set(ATTACKS)


def test_nothing_is_resumed_and_a_crowd_harms_nobody(site: Site, gate: Gate, tmp_path: Path) -> None:
    with probed(site, gate, tmp_path / "tls") as (setting, replica):
        assert resumption.resumption_refused(setting, replica).code == "full-handshake"
        assert crowding.idle_harmless(setting, replica) == Verdict("Passed", Layer.GATE, "held-10", "Served")
        assert crowding.slow_harmless(setting, replica) == Verdict("Passed", Layer.GATE, "held-5", "Served")
        assert crowding.limit_held(setting, replica) == Verdict("Passed", Layer.GATE, "rj-2-3-1", "Served")


def edited(pattern: str, by: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        text, count = re.subn(pattern, by, text, flags=re.MULTILINE)
        assert count, pattern
        return text

    return edit


def _resumes(text: str) -> str:
    return edited(r"^  tune\.ssl\.cachesize 0$", "")(edited(" no-tls-tickets", "")(text))


def _any_suite(text: str) -> str:
    """Both: the suites at the handshake, and the rule that holds each peer to the modern ones."""
    suites = edited(r"(ssl-default-bind-ciphers) .*$", r"\1 ALL:@SECLEVEL=0")(text)
    return edited(r"str\(TlsExceptionNeeded\) if ", "str(TlsExceptionNeeded) if FALSE ")(suites)


IGNORED = r"ca-ignore-err 12 crt-ignore-err 12"
SABOTAGES: dict[str, tuple[Callable[[str], str], Check]] = {
    "purpose ignored": (
        edited(IGNORED, "ca-ignore-err 12,26 crt-ignore-err 12,26"),
        Check.SERVER_CERTIFICATE_REFUSED,
    ),
    "date ignored": (
        edited(IGNORED, "ca-ignore-err 10,12 crt-ignore-err 10,12"),
        Check.EXPIRED_CERTIFICATE_REFUSED,
    ),
    "key exchange by RSA": (_any_suite, Check.STATIC_RSA_REFUSED),
    "suites with CBC": (_any_suite, Check.CBC_SUITES_REFUSED),
    "issuer ignored": (
        edited(IGNORED, "ca-ignore-err all crt-ignore-err all"),
        Check.IMITATED_AUTHORITY_REFUSED,
    ),
    "root of the chain ignored": (
        edited(IGNORED, "ca-ignore-err all crt-ignore-err all"),
        Check.PADDED_CHAIN_REFUSED,
    ),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_without_its_measure_the_attack_succeeds(site: Site, tmp_path: Path, name: str) -> None:
    edit, check = SABOTAGES[name]
    with running_gate(site, tmp_path / "run", edit) as gate:
        wait_for(gate.archive_reachable, "archive up")
        with probed(site, gate, tmp_path / "tls") as (setting, replica):
            found = refused(setting, check, replica)
    assert (found.outcome, found.code) == ("Failed", "accepted")


def test_a_gate_that_resumes_is_found(site: Site, tmp_path: Path) -> None:
    with running_gate(site, tmp_path / "run", _resumes) as gate:
        wait_for(gate.archive_reachable, "archive up")
        with probed(site, gate, tmp_path / "tls") as (setting, replica):
            found = resumption.resumption_refused(setting, replica)
    assert (found.outcome, found.code) == ("Failed", "resumed")
