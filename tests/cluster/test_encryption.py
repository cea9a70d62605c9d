"""Images at rest on the node's disk, and what happens while the keys cannot be had."""

import json
import re
from pathlib import Path

from pacs_operator.probes.canary import PATIENT
from tests.storage.volume import PART10

from .support import STATE, TESTBED, WORK, Cluster, Modality, folder_of, new_study, run, until

PATIENTS = (b"CompressedSamples", b"Yamada", b"Hong^Gildong", b"PACSPROBE-", b"Storm^Test", PATIENT.encode())
ZONE = "radiology-archive"
ORTHANC = ("-n", ZONE, "-l", "pacs-operator.io/component=orthanc")


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_no_image_lies_in_clear_and_no_key_lies_on_a_disk(archive: Cluster) -> None:
    volume = folder_of(archive, ZONE, "images")
    contents = {path: path.read_bytes() for path in files_of(volume)}
    images = [content for content in contents.values() if content[:4] == b"PACE"]
    sent = json.loads((WORK / "exchange.json").read_text())["objects"]
    assert len(images) >= len(sent), "the search cannot have looked at the right place"
    [ring] = (STATE / "kubelet" / "pods").glob("*/volumes/kubernetes.io~empty-dir/run/storage.keys")
    keys = [bytes.fromhex(line.split()[2]) for line in ring.read_text().splitlines() if line.startswith("key ")]
    assert keys and all(len(key) == 32 for key in keys)
    assert run("findmnt", "-no", "FSTYPE", "--target", ring).strip() == "tmpfs"
    for path, content in contents.items():
        assert PART10 not in content, path
        assert not [name for name in PATIENTS if name in content], path
        assert not [key for key in keys if key in content or key.hex().encode() in content], path
    everything = archive.kubectl("get", "secrets,configmaps,events,pacsarchives", "-A", "-o", "yaml")
    assert not [key for key in keys if key.hex() in everything]


def test_it_is_verified_and_the_status_says_when(archive: Cluster) -> None:
    condition = archive.condition("ImagesEncrypted")
    assert (condition["status"], condition["reason"]) == ("True", "Verified")
    told = archive.archive()["status"]["encryption"]
    assert told["activeDataKey"] == told["dataKeys"] >= 1
    assert re.fullmatch(r"pacs/[0-9a-f]{32}/data/radiology-archive\.orthanc", told["transitKey"])
    assert told["verified"]


def test_the_mode_cannot_be_taken_back_and_nothing_running_is_harmed(archive: Cluster, ct1: Modality) -> None:
    before = archive.archive_pods()
    other = {"spec": {"encryption": {"mode": "None", "reason": "somebody thought it slow"}}}
    archive.kubectl("patch", "pacsarchive", "radiology", "--type=merge", "-p", json.dumps(other))
    try:
        until("it is refused", lambda: archive.condition("Stalled")["reason"] == "EncryptionChanged", 60)
        assert ct1.echo()
    finally:
        back = {"spec": {"encryption": {"mode": "Transit", "reason": None}}}
        archive.kubectl("patch", "pacsarchive", "radiology", "--type=merge", "-p", json.dumps(back))
    archive.wait_ready()
    assert archive.archive_pods() == before


def test_vault_away_what_runs_serves_on_and_what_starts_waits(archive: Cluster, ct1: Modality, tmp_path: Path) -> None:
    study, first, second = new_study(), tmp_path / "first.json", tmp_path / "second.json"
    run(*ct1.storm("store", study, first, count=3))
    stored = json.loads(first.read_text())["acknowledged"]
    run(TESTBED, "openbao", "seal")
    try:
        assert ct1.all_whole(study, stored, tmp_path), "a running archive reads on"
        other = new_study()
        run(*ct1.storm("store", other, second, count=3))
        more = json.loads(second.read_text())["acknowledged"]
        assert len(more) == 3, "and stores on"
        archive.kubectl("delete", "pod", *ORTHANC)

        def waits() -> bool:
            log = archive.kubectl("logs", *ORTHANC, "-c", "agent", "--tail=-1", check=False)
            return "VaultSealed" in log

        until("the agent says what it waits for", waits, 90, every=2)
        assert not ct1.echo(), "nothing serves without its keys"
    finally:
        run(TESTBED, "openbao", "unseal")
    until("it starts by itself", ct1.echo, 180, every=2)
    assert ct1.all_whole(study, stored, tmp_path)
    assert ct1.all_whole(other, more, tmp_path)
