"""Imports: one at a time, slice by slice, and what each status says of it."""

from collections.abc import Callable
from typing import Any

import pytest

from pacs_operator.domain.importing import Stop
from pacs_operator.kube.port import Manifest
from pacs_operator.vault.errors import VaultForbiddenError
from tests.engine.importing import import_manifest
from tests.engine.simapi import Key, Killed
from tests.engine.world import ARCHIVE_KEY, World, archive_manifest

KEY: Key = ("PacsImport", "radiology-ops", "old-pacs")
COUNTS = {"studies": 2, "series": 2, "objects": 6, "imported": 4, "pending": 2}
ALL = {"studies": 2, "series": 2, "objects": 6, "imported": 6}


def told(stop: Stop = Stop.TIME, moved: int = 4, **more: Any) -> dict[str, Any]:
    return {"stop": stop, "counts": COUNTS, "listed": False, "moved": moved, "seconds": 60, **more}


DONE = told(Stop.DONE, counts=ALL, listed=True, undated="Searched")
NOTHING = told(Stop.SOURCE_UNREACHABLE, moved=0, counts={})


@pytest.fixture
def ready() -> World:
    world = World()
    world.api.put(archive_manifest())
    world.process = world.operator()
    world.settle(world.process)
    return world


def add(world: World, *imports: Manifest) -> None:
    for each in imports or (import_manifest(),):
        world.api.put(each)
    world.settle(world.process)


def condition(world: World, kind: str = "Progressing", key: Key = KEY) -> tuple[str, str]:
    (found,) = [each for each in world.api.objects[key]["status"]["conditions"] if each["type"] == kind]
    return found["status"], found["reason"]


def jobs(world: World) -> list[str]:
    return [key[2] for key in world.api.objects if key[0] == "Job" and key[2].startswith("import-")]


def suspend(world: World, value: bool) -> None:
    world.api.edit(KEY, "kubectl", lambda live: live["spec"].update(suspend=value))
    world.settle(world.process)


def test_without_an_import_nothing_of_it_is_there(ready: World):
    assert not [key for key in ready.api.objects if "import" in key[2]]
    assert "probe/import" not in {peer.id for peer in ready.live_peers().peers}
    assert ready.api.objects["ResourceQuota", "radiology-ops", "zone"]["spec"]["hard"]["persistentvolumeclaims"] == "0"


def test_an_import_is_a_peer_with_a_way_to_its_source_and_a_job(ready: World):
    add(ready)
    (job,) = jobs(ready)
    assert condition(ready) == ("True", "Importing")
    assert condition(ready, "Complete") == ("False", "InProgress")
    peer = next(peer for peer in ready.live_peers().peers if peer.id == "probe/import")
    assert (peer.dns_name, sorted(peer.rights)) == ("importer.radiology-ops.svc", ["Echo", "Find", "Get", "Store"])
    egress = ready.api.objects["NetworkPolicy", "radiology-ops", "importer-egress"]["spec"]["egress"]
    assert {"to": [{"ipBlock": {"cidr": "198.18.10.30/32"}}], "ports": [{"protocol": "TCP", "port": 11112}]} in egress
    config = ready.api.objects["ConfigMap", "radiology-ops", job]["data"]["import.json"]
    assert '"calledAETitle": "OLDPACS"' in config
    claim = ready.api.objects["PersistentVolumeClaim", "radiology-ops", "imports"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    pod = ready.api.objects["Job", "radiology-ops", job]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False


def test_slices_follow_each_other_until_nothing_is_left(ready: World):
    ready.slices = [told(), told(), DONE]
    add(ready)
    status = ready.api.objects[KEY]["status"]
    assert condition(ready, "Complete") == ("True", "AllThere")
    assert condition(ready) == ("False", "Finished")
    assert (status["counts"]["imported"], status["listed"], status["undated"]) == (6, True, "Searched")
    assert (status["objectsPerMinute"], status["lastStop"]) == (4, "Done")
    assert len(set(ready.slices_run)) == 3
    assert "probe/import" not in {peer.id for peer in ready.live_peers().peers}, "its right ends with its work"
    assert ("NetworkPolicy", "radiology-ops", "importer-egress") not in ready.api.objects
    assert ("PersistentVolumeClaim", "radiology-ops", "imports") in ready.api.objects, "the report stays"
    assert len(jobs(ready)) <= 2


def test_what_differs_is_said_with_counts_and_no_more(ready: World):
    ready.slices = [
        told(
            Stop.DONE, counts={**ALL, "imported": 4, "differing": 1, "failed": 1}, listed=True, undated="NotSearched",
            codes={"DuplicateDiffers": 1, "NotDelivered": 1},
        )
    ]  # fmt: skip
    add(ready)
    assert condition(ready, "Complete") == ("True", "Differences")
    message = ready.api.objects[KEY]["status"]["conditions"][0]["message"]
    for words in ("1 differing", "1 failed", "NotDelivered 1", "without a date", "docs/import.md"):
        assert words in message


def test_pauses_grow_while_nothing_moves_and_end_when_something_does(ready: World):
    ready.slices = [NOTHING]
    add(ready)
    assert condition(ready) == ("False", "SourceUnreachable")
    ready.settle(ready.process)
    assert len(ready.slices_run) == 1, "not before a minute is over"
    ready.slices = [NOTHING]
    ready.advance(61)
    ready.settle(ready.process)
    assert ready.api.objects[KEY]["status"]["failedSlices"] == 2
    ready.advance(61)
    ready.settle(ready.process)
    assert len(ready.slices_run) == 2, "the second pause has two minutes"
    ready.slices = [told(Stop.SOURCE_UNREACHABLE, moved=1), told()]
    ready.advance(60)
    ready.settle(ready.process)
    assert len(ready.slices_run) == 4
    assert ready.api.objects[KEY]["status"]["failedSlices"] == 0
    assert condition(ready) == ("True", "Importing")


@pytest.mark.parametrize(("end", "word"), [("Error", "NoResult"), ("OOMKilled", "OutOfMemory")])
def test_a_pod_that_leaves_no_word_is_followed_by_another(ready: World, end: str, word: str):
    ready.slices = [told(), end]
    add(ready)
    status = ready.api.objects[KEY]["status"]
    assert (condition(ready), status["lastStop"]) == (("False", word), word)
    assert status["counts"]["imported"] == 4, "what was known stays"
    ready.slices = [DONE]
    ready.advance(61)
    ready.settle(ready.process)
    assert condition(ready, "Complete") == ("True", "AllThere")


def test_a_word_of_somebody_else_is_none(ready: World):
    ready.slices = [{**told(), "run": "another"}]
    add(ready)
    assert condition(ready) == ("False", "NoResult")
    assert "counts" not in ready.api.objects[KEY]["status"]


def test_suspended_it_stops_and_goes_on(ready: World):
    add(ready)
    assert jobs(ready)
    suspend(ready, True)
    assert jobs(ready) == []
    assert condition(ready) == ("False", "Paused")
    assert "probe/import" not in {peer.id for peer in ready.live_peers().peers}
    suspend(ready, False)
    assert condition(ready) == ("True", "Importing")
    assert len(jobs(ready)) == 1


def test_deleted_it_leaves_no_job_no_peer_and_no_way_out(ready: World):
    add(ready)
    ready.api.remove(KEY)
    ready.settle(ready.process)
    assert jobs(ready) == []
    assert "probe/import" not in {peer.id for peer in ready.live_peers().peers}
    assert not [key for key in ready.api.objects if key[0] != "PersistentVolumeClaim" and "import" in key[2]]


def test_one_works_at_a_time_the_oldest_first(ready: World):
    add(ready)
    ready.advance(5)
    add(ready, import_manifest("second", source={"address": "198.18.10.31"}))
    second: Key = ("PacsImport", "radiology-ops", "second")
    assert condition(ready, key=second) == ("False", "NotItsTurn")
    assert len(jobs(ready)) == 1
    ready.slices = [DONE]
    ready.settle(ready.process)
    assert condition(ready, "Complete") == ("True", "AllThere")
    assert condition(ready, key=second) == ("True", "Importing")
    egress = repr(ready.api.objects["NetworkPolicy", "radiology-ops", "importer-egress"]["spec"])
    assert "198.18.10.31/32" in egress
    assert "198.18.10.30/32" not in egress


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"source": {"address": "203.0.113.7"}}, "ImportSourceNotAllowed", "lies outside the archive's allowedCIDRs"),
        ({"source": {"address": "127.0.0.1"}}, "InvalidAddress", "no address of one device"),
        ({"source": {"tls": {"mode": "Mutual"}}}, "InvalidSpec", "caPEM"),
        ({"source": {"tls": {"mode": "Plaintext"}}}, "InvalidSpec", "spec.source.tls.reason"),
        ({"source": {"retrieve": "Move"}}, "InvalidSpec", "spec.source.moveDestination: retrieve Move needs one"),
        ({"source": {"moveDestination": "RADIOLOGY"}}, "InvalidSpec", "retrieve Get needs none"),
        ({"selection": {"studyDates": {"first": "2020-02-30", "last": "2021-01-01"}}}, "InvalidSpec", "no day"),
        ({"selection": {"studyDates": {"first": "2021-02-01", "last": "2020-01-01"}}}, "InvalidSpec", "exchange"),
    ],
)
def test_what_cannot_be_is_refused_and_keeps_no_other_back(
    ready: World, change: dict[str, Any], reason: str, words: str
):
    add(ready, import_manifest(**change))
    assert condition(ready, "Failed") == ("True", reason)
    assert words in ready.api.objects[KEY]["status"]["conditions"][2]["message"]
    assert jobs(ready) == []
    ready.advance(5)
    add(ready, import_manifest("good"))
    assert condition(ready, key=("PacsImport", "radiology-ops", "good")) == ("True", "Importing")


@pytest.mark.parametrize("lacking", ["Store", "Find", "Get", "Echo"])  # the last is the allowed twin
def test_an_import_is_no_more_than_any_peer_may_be(ready: World, lacking: str):
    def most(*rights: str) -> None:
        ready.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"]["peers"].update(maxRights=[*rights]))
        ready.settle(ready.process)

    add(ready)
    most(*({"Echo", "Store", "Find", "Get"} - {lacking}))
    in_the_list = "probe/import" in {peer.id for peer in ready.live_peers().peers}
    if lacking == "Echo":
        assert (condition(ready), in_the_list) == (("True", "Importing"), True)
        return
    assert (condition(ready), in_the_list, jobs(ready)) == (("False", "ImportRightsNotAllowed"), False, [])
    message = ready.api.objects[KEY]["status"]["conditions"][1]["message"]
    assert f"needs {lacking}," in message
    assert "spec.peers.maxRights" in message
    most("Echo", "Store", "Find", "Get")
    assert condition(ready) == ("True", "Importing")


def test_rights_that_end_with_the_import_change_nothing_of_it(ready: World):
    ready.slices = [DONE]
    add(ready)
    ready.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"]["peers"].update(maxRights=["Echo", "Store"]))
    ready.settle(ready.process)
    assert condition(ready) == ("False", "Finished")


def test_an_import_for_another_archive_is_none_of_ours(ready: World):
    add(ready, import_manifest(archive="cardiology"))
    assert jobs(ready) == []
    assert "status" not in ready.api.objects[KEY]


def test_a_contained_archive_imports_nothing(ready: World):
    add(ready)
    contained = {"mode": "Isolated", "reason": "ransomware on a workstation"}
    ready.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(containment=contained))
    ready.settle(ready.process)
    assert jobs(ready) == []
    assert condition(ready) == ("False", "ArchiveContained")
    ready.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].pop("containment"))
    ready.settle(ready.process)
    assert condition(ready) == ("True", "Importing")


def test_a_status_that_is_lost_is_found_again(ready: World):
    ready.slices = [told(), told(Stop.DONE, counts=ALL, listed=True)]
    add(ready)
    before = ready.api.objects[KEY]["status"]
    ready.api.set_status(KEY, {})
    ready.settle(ready.operator())
    after = ready.api.objects[KEY]["status"]
    assert (after["counts"], after["lastStop"]) == (before["counts"], before["lastStop"])
    assert len(ready.slices_run) == 2


def test_quiet_when_nothing_changes(ready: World):
    add(ready)
    ready.log.entries.clear()
    for _ in range(3):
        ready.advance(130)
        ready.process.reconcile("radiology")
    assert [entry for entry in ready.log.entries if "import" in entry.lower()] == []


def test_a_process_that_ends_at_any_write_makes_no_second_job(ready: World):
    def finish(world: World) -> list[str]:
        world.slices = [told(), DONE]
        world.api.put(import_manifest())
        world.settle(world.operator())
        return world.slices_run

    runs = finish(ready)
    for number in range(60):
        world = World()
        world.api.put(archive_manifest())
        world.settle(world.operator())
        world.slices = [told(), DONE]
        world.api.put(import_manifest())
        world.log.faults.kill_after = len(world.log.entries) + number
        try:
            world.settle(world.operator())
        except Killed:
            world.settle(world.operator())
        else:
            break
        assert len(world.slices_run) == len(runs)
        assert condition(world, "Complete") == ("True", "AllThere")
    assert number > 5


def test_policies_of_an_earlier_release_hold_up_the_import_alone(ready: World):
    ready.vault.import_error = VaultForbiddenError("Vault denies role pacs-operator the path", action="run bootstrap")
    add(ready)
    assert condition(ready) == ("False", "VaultForbidden")
    assert jobs(ready) == []
    assert (ready.condition("VaultReady")["status"], ready.condition("Ready")["status"]) == ("True", "True")
    ready.vault.import_error = None
    ready.settle(ready.process)
    assert condition(ready) == ("True", "Importing")
    assert [path for path in ready.vault.paths if path.endswith("/importer")]


def test_vault_hears_of_no_import_before_there_is_one(ready: World):
    assert not [path for path in ready.vault.paths if path.endswith("/importer")]


STALLED = {"catalog": "stable", "version": "1999.1.0"}


@pytest.mark.parametrize(
    ("act", "goes_on"),
    [
        (lambda world: world.api.remove(KEY), False),
        (lambda world: world.api.edit(KEY, "kubectl", lambda live: live["spec"].update(suspend=True)), False),
        (
            lambda world: world.api.edit(
                ARCHIVE_KEY, "kubectl", lambda live: live["spec"]["peers"].update(allowedCIDRs=["198.18.20.0/24"])
            ),
            False,
        ),
        (lambda world: None, True),
    ],
    ids=["deleted", "suspended", "source no longer allowed", "nothing"],
)
def test_a_stalled_archive_ends_an_import_that_may_not_be(ready: World, act: Callable[[World], object], goes_on: bool):
    add(ready)
    ready.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(release=STALLED))
    ready.settle(ready.process)
    assert ready.condition("Stalled")["reason"] == "UnknownRelease"
    assert len(jobs(ready)) == 1
    act(ready)
    ready.settle(ready.process)
    in_the_list = "probe/import" in {peer.id for peer in ready.live_peers().peers}
    assert (len(jobs(ready)) == 1, in_the_list) == (goes_on, goes_on)
