"""What `make demo` ends with, looked at from every reader's side."""

import json

from pacs_operator.probes.canary import PATIENT

from .support import ROOT, STATE, WORK, Cluster, Modality, run


def test_every_bundled_file_came_back_whole(cluster: Cluster) -> None:
    exchange = json.loads((WORK / "exchange.json").read_text())
    objects = exchange["objects"]
    assert len(objects) >= 100
    assert [item for item in objects if not item["equal"]] == []
    assert len({item["sopClass"] for item in objects}) >= 8
    assert len({item["transferSyntax"] for item in objects}) >= 8
    assert len({item["characterSet"] for item in objects}) >= 8
    # Nobody but the archive's own probes may store under their prefix; the same object without it is welcome.
    assert exchange["reserved"] == {"attack": "status-0124", "twin": "status-0000"}


def test_what_came_without_tls_was_sent_on_with_it_and_nowhere_else(cluster: Cluster) -> None:
    legacy = json.loads((WORK / "legacy.json").read_text())
    assert [item["outcome"] for item in legacy["objects"]] == ["Stored"] * 3
    move = json.loads((WORK / "move.json").read_text())
    assert [item["outcome"] for item in move["objects"]] == ["Equal"] * 3
    assert move["moved"] == {"attack": "status-c000", "twin": "status-0000", "strangers": 0}


def test_a_viewer_got_the_same_by_dicomweb_and_may_not_store(cluster: Cluster) -> None:
    viewer = json.loads((WORK / "viewer.json").read_text())
    assert [item["outcome"] for item in viewer["objects"]] == ["Equal"] * 3
    assert viewer["stowed"] == 403


def test_the_archive_is_ready_and_says_what_was_attacked(archive: Cluster) -> None:
    status = archive.archive()["status"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert conditions["Ready"] == "True"
    assert conditions["ConformancePassed"] == "True"
    assert conditions["NetworkIsolated"] == "True"
    checks = {check["check"]: check for check in status["conformance"]["checks"]}
    assert status["conformance"]["replicas"] == 2
    assert all(check["outcome"] == "Passed" for check in checks.values())
    attacks = [check for check in checks.values() if check.get("twin", "NotNeeded") != "NotNeeded"]
    assert len(attacks) >= 8
    assert all(check["twin"] == "Served" for check in attacks)
    assert all(check.get("layer") and check.get("code") for check in attacks)


def test_the_modality_is_served_and_its_neighbours_are_not(archive: Cluster, ct1: Modality) -> None:
    assert ct1.echo()
    assert not ct1.echo(calling="CT2")
    assert not ct1.echo(called="OTHER")
    stranger = Modality("stranger", "198.18.99.11", "CT1", identity="ct1")  # the same certificate, another address
    run(ROOT / "testbed" / "testbed", "modality", "add", stranger.name, stranger.address)
    try:
        assert not stranger.echo()
        assert ct1.echo()
    finally:
        stranger.gone()


def test_no_key_and_no_patient_in_the_control_plane(archive: Cluster) -> None:
    """Secrets, ConfigMaps, events, status and the operator's log know neither keys nor patients."""
    everything = archive.kubectl("get", "secrets,configmaps,events,pacsarchives,dicompeers", "-A", "-o", "yaml")
    logs = archive.kubectl("logs", "-n", "pacs-operator-system", "deployment/pacs-operator", "--tail=-1")
    zones = ("radiology-edge", "radiology-archive", "radiology-data", "radiology-ops")
    ours = archive.kubectl("get", "secrets", "-A", "-o", "jsonpath={range .items[*]}{.metadata.namespace} {end}")
    assert not set(zones) & set(ours.split())
    for text in (everything, logs):
        assert "PRIVATE KEY" not in text
        for patient in ("CompressedSamples", "Storm^Test", "Yamada", "Hong^Gildong", "PACSPROBE-r", PATIENT):
            assert patient not in text, patient


def test_no_key_on_the_nodes_disk(archive: Cluster) -> None:
    """Kubelet's folders of emptyDir volumes on disk hold no PEM key; memory-backed ones are not on disk."""
    found = run(
        *("grep", "-rlE", "--exclude-dir=.local", "BEGIN (EC |RSA )?PRIVATE KEY", STATE / "kubelet" / "pods"),
        check=False,
    )
    mounts = run("findmnt", "-rno", "TARGET,FSTYPE", check=False)
    memory = {line.split()[0] for line in mounts.splitlines() if line.endswith(" tmpfs")}
    on_disk = [path for path in found.splitlines() if not any(path.startswith(mount) for mount in memory)]
    assert on_disk == []
    assert found, "the search found no key at all, not even in memory: it cannot have looked at the right place"
