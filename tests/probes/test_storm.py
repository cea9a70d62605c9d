"""The checker that the cluster's tests of loss rely on tells what came back whole, altered, or not at all."""

import json
import sys
from pathlib import Path

import pytest

from pacs_operator.domain.names import PROBE_AE_TITLE
from pacs_operator.domain.peer import Right
from tests.cluster import storm
from tests.probes.archive import Archive
from tests.probes.conftest import World
from tests.probes.gate import Gate, Rules

NAME, STUDY, COUNT = "radiology.pacs.internal", "1.2.3.4", 8


def test_the_checker_tells_altered_and_lost_images(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = world.peers_ca.issue("ct1", ["ct1.imaging.example"])
    archive = Archive({"CT1": {Right.STORE, Right.GET}}, {PROBE_AE_TITLE})
    world.stack.callback(archive.close)
    server = world.peers_ca.issue("gate", [NAME])
    rules = Rules("RADIOLOGY", {"ct1.imaging.example": {"CT1"}}, server, world.peers_ca.ca_pem)
    gate = Gate(rules, archive.endpoint)
    world.stack.callback(gate.close)
    out = tmp_path / "out.json"
    words = ["--study", STUDY, "--out", str(out), "--count", str(COUNT), "--host", gate.endpoint.address]
    words += ["--port", str(gate.endpoint.port), "--server-name", NAME, "--called", "RADIOLOGY", "--calling", "CT1"]
    words += ["--cert", str(own.certificate), "--key", str(own.key), "--ca", str(world.folder / "ca-peers.pem")]

    def act(verb: str) -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", ["storm", verb, *words])
        assert storm.main() == 0
        result: dict[str, object] = json.loads(out.read_text())
        return result

    uids = {storm.uid_of(STUDY, number) for number in range(COUNT)}
    assert len(uids) == COUNT
    assert act("store") == {"acknowledged": [storm.uid_of(STUDY, n) for n in range(COUNT)], "refused": [], "left": []}
    all_back = act("retrieve")
    assert (all_back["status"], all_back["damaged"]) == ("0000", {})
    assert set(all_back["whole"]) == uids  # type: ignore[call-overload]
    altered, lost = sorted(archive.objects)[:2]
    pixels = bytearray(archive.objects[altered].PixelData)
    pixels[-1] ^= 1
    archive.objects[altered].PixelData = bytes(pixels)
    del archive.objects[lost]
    some_back = act("retrieve")
    assert some_back["damaged"] == {altered: ["(7FE0,0010) PixelData has another value"]}
    assert set(some_back["whole"]) == uids - {altered, lost}  # type: ignore[call-overload]
