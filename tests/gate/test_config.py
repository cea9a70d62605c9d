"""The rendered configuration: what HAProxy says of it, and what follows from the archive."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pacs_operator.domain.agentconfig import AgentConfig
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.render.gate import gate_config
from tests.render.archives import SPEC, desired, live_peer

from .device import PDU_AC, ask, associate_rq, client_context
from .process import Site, haproxy_command, peer, running_gate, wait_for, write_tls

EVERYTHING = {
    "dicomweb": {},
    "peers": SPEC["peers"] | {"issuers": [], "tlsExceptions": ["Tls12EcdheCbc"], "legacy": "Allowed"},
    "dicom": SPEC["dicom"]
    | {
        "aliases": ["OLDPACS"],
        "legacyPorts": {"first": 11112, "last": 11113},
        "staffedHours": {"schedule": "0 8-16 * * 1-5", "timeZone": "Etc/UTC"},
    },
}


@pytest.mark.parametrize("spec", [{}, EVERYTHING], ids=["plain", "everything"])
def test_haproxy_has_nothing_to_say_of_the_full_configuration(site: Site, folder: Path, spec: dict) -> None:
    """All slots, with the pod's paths replaced by the test's: valid, and without one warning."""
    (folder / "tls").mkdir(parents=True)
    write_tls(site, folder / "tls")
    for name in ("ca", "crl"):
        shutil.copy(folder / "tls" / f"{name}-peers.pem", folder / "tls" / f"{name}-clients.pem")
    files = gate_config(desired(spec))
    assert ("no_stranger_in_chain" in files["gate.lua"]) is bool(spec)
    for name in files.keys() - {"haproxy.cfg"}:
        (folder / name).write_text(files[name])
    text = files["haproxy.cfg"].replace("/etc/pacs/", f"{folder}/")
    (folder / "haproxy.cfg").write_text(text.replace("/tls/", f"{folder}/tls/").replace("/run/pacs/", f"{folder}/"))
    result = check(folder)
    assert result.returncode == 0
    assert result.stdout + result.stderr == ""
    assert text.count("\nbackend slot_") == AgentConfig.model_fields["gate_slots"].default
    broken = (folder / "haproxy.cfg").read_text().replace("tune.ssl.cachesize", "tune.ssl.cashsize")
    (folder / "haproxy.cfg").write_text(broken)
    assert "cashsize" in check(folder).stderr


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [*haproxy_command(), "-c", "-f", str(folder / "haproxy.cfg")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def config(**spec: object) -> str:
    return gate_config(desired(spec))["haproxy.cfg"]


def test_what_follows_from_the_archive() -> None:
    text = config()
    assert "server orthanc orthanc.radiology-archive.svc.cluster.local:4242" in text
    assert "verifyhost orthanc.radiology-archive.svc " in text
    assert "bind 0.0.0.0:2762 ssl" in text
    assert "sc2_conn_cur gt 64 }" in text
    six = SPEC["peers"] | {"allowedCIDRs": ["198.18.0.0/16", "2001:db8::/32"]}
    assert "bind :::2762 v4v6 ssl" in config(peers=six)
    assert "sc2_conn_cur gt 3 }" in config(gate=SPEC["gate"] | {"maxAssociations": 3})
    assert "nbthread 2\n" in text
    assert "nbthread 3\n" in config(scheduling={"gate": {"cpuMilli": 2500}})
    assert "nbthread 1\n" in config(scheduling={"gate": {"cpuMilli": 100}})


def test_peers_do_not_change_the_files() -> None:
    """They come live; a file that changed would restart the pods."""
    some = LivePeers(revision="r", peers=[live_peer("imaging/ct1", ["10.0.0.0/8"])])
    assert gate_config(desired()) == gate_config(replace(desired(), peers=some))


@pytest.mark.parametrize("title", ["A", "PACS ARCHIVE 1", 'A"B', "A'B{x}", "A#B", "%[src]", "${HOME}", "{{ run }}"])
def test_titles_that_mean_something_to_haproxy(site: Site, folder: Path, title: str) -> None:
    with running_gate(site, folder, ae_title=title) as gate:
        gate.put(peer("ct1", "ct1.imaging.example", "CT1"))
        context = client_context(site.peers, site.peers.issue("ct1.imaging.example"))
        request = associate_rq(called=title.encode())
        wait_for(lambda: ask(gate.port, context, request).pdu == PDU_AC, "served under this title")
        assert ask(gate.port, context, associate_rq(called=title[:-1].encode())).rejection == (1, 1, 7)
