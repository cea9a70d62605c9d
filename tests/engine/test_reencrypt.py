"""Images that lie on the volume already: from None to Transit once, and anew under newer data keys on request."""

import hashlib
import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pacs_operator.domain.agentconfig import SealingTold, StorageTold
from pacs_operator.reconcile.reencrypt import ReencryptMetrics
from tests.engine.test_encryption import REASON, archive, look, stamp, wish
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, START, World

CLAIM = ("PersistentVolumeClaim", "radiology-archive", "images")
PEERS = ("ConfigMap", "radiology-archive", "peers")
ASKED = "after the incident of November"
WORD = hashlib.sha256(ASKED.encode()).hexdigest()


@pytest.fixture
def world() -> World:
    world = World()
    world.agents.storage = StorageTold(active_key=1, keys=1, verified=START.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return world


def tell(world: World, **work: Any) -> None:
    """Let Orthanc's agent tell how far it is."""
    told = {"kind": "Clear", "state": "Working", "left": 0, "left_bytes": 0, "done": 0, "done_bytes": 0}
    world.agents.storage = StorageTold(
        active_key=1,
        keys=1,
        verified=stamp(world),
        self_test="Passed",
        work=SealingTold.model_validate({**told, "failed": 0, "foreign": 0, **work}),
    )


def claimed(world: World) -> str | None:
    annotations = world.api.objects[CLAIM]["metadata"].get("annotations") or {}
    value = annotations.get("pacs-operator.io/encryption")
    return None if value is None else str(value)


def ordered(world: World) -> dict[str, Any] | None:
    text = world.api.objects[PEERS]["data"].get("sealing.json")
    return None if text is None else json.loads(text)


def template(world: World) -> Any:
    return world.api.objects["StatefulSet", "radiology-archive", "orthanc"]["spec"]["template"]


def moving(world: World) -> None:
    archive(world, mode="None", reason=REASON)
    assert (claimed(world), ordered(world)) == (None, None)
    wish(world, {"mode": "Transit"})
    world.settle(world.process)


def test_none_becomes_transit_with_progress_until_all_is_sealed(world: World) -> None:
    moving(world)
    assert (claimed(world), ordered(world)) == ("Reencrypting", {"clear": True, "miPerSecond": 50})
    assert world.condition("Stalled")["status"] == "False"
    tell(world, left=200, left_bytes=300 * 2**20, done=7)
    assert look(world, seconds=31) == ("False", "Reencrypting")
    assert world.condition("ImagesEncrypted")["message"] == (
        "200 images (300 MiB) lie in clear, 7 encrypted and compared"
    )
    assert world.condition("Ready")["status"] == "True", "no worse than before"
    before = template(world)
    tell(world, state="Done", done=207, all_sealed=True)
    look(world, seconds=31)
    assert look(world, seconds=31) == ("True", "Verified")
    assert (claimed(world), ordered(world)) == ("Transit", None)
    assert template(world) == before, "Orthanc restarted once, when encryption came"
    known = world.archive["status"]["encryption"]["reencrypt"]
    assert (known["kind"], known["state"], known["left"], known["done"]) == ("Clear", "Done", 0, 207)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ({"state": "Waiting", "failed": 3, "problem": "VolumeFull"}, "3 failed (VolumeFull) and are tried again"),
        ({"state": "Waiting", "foreign": 2, "problem": "Foreign"}, "2 files are no images: a person takes them away"),
    ],
)
def test_what_cannot_be_sealed_is_said_and_nothing_ends(world: World, work: dict[str, Any], said: str) -> None:
    moving(world)
    tell(world, left=3, **work)
    assert look(world, seconds=31) == ("False", "Reencrypting")
    assert said in world.condition("ImagesEncrypted")["message"]
    look(world, minutes=5)
    assert claimed(world) == "Reencrypting"


@pytest.mark.parametrize("offered", [True, False])
def test_a_release_that_does_not_know_the_work_is_named_and_not_ready(world: World, offered: bool) -> None:
    """Its plugin reads nothing in clear, so that every older image is away."""
    moving(world)
    tell(world, left=3)
    if not offered and world.agents.storage:
        world.agents.storage = world.agents.storage.model_copy(update={"work": None})
    assert look(world, seconds=31) == ("False", "Reencrypting" if offered else "ReencryptNotOffered")
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == (("True", "Ready") if offered else ("False", "ReencryptNotOffered"))
    assert ("spec.release.version" in ready["message"]) is not offered


@pytest.mark.parametrize(("hours", "told"), [(2, ("False", "Reencrypting")), (4, ("Unknown", "Stale"))])
def test_work_that_nobody_has_told_of_for_long_is_stale(world: World, hours: int, told: tuple[str, str]) -> None:
    moving(world)
    tell(world, left=3)
    assert look(world, seconds=31) == ("False", "Reencrypting")
    world.agents.silent = True
    assert look(world, hours=hours) == told


def test_half_way_there_is_no_way_back(world: World) -> None:
    moving(world)
    tell(world, left=3)
    wish(world, {"mode": "None", "reason": REASON})
    look(world, minutes=1)
    assert world.condition("Stalled")["reason"] == "EncryptionChanged"
    assert (claimed(world), ordered(world)) == ("Reencrypting", {"clear": True, "miPerSecond": 50})
    wish(world, {"mode": "Transit"})
    assert look(world, minutes=1) == ("False", "Reencrypting")


def test_a_word_of_an_agent_without_a_move_changes_no_claim(world: World) -> None:
    archive(world, mode="Transit")
    tell(world, state="Done", all_sealed=True)
    assert look(world, seconds=31) == ("True", "Verified")
    assert (claimed(world), ordered(world)) == ("Transit", None)


def test_counts_move_in_the_status_at_most_every_quarter_of_an_hour(world: World) -> None:
    moving(world)
    tell(world, left=200)
    look(world, seconds=31)
    writes = len(world.log.entries)
    tell(world, left=150)
    look(world, minutes=5)
    assert [entry for entry in world.log.entries[writes:] if "status" in entry] == []
    look(world, minutes=11)
    assert world.archive["status"]["encryption"]["reencrypt"]["left"] == 150


def test_files_in_clear_on_an_encrypted_volume_are_named(world: World) -> None:
    archive(world, mode="Transit")
    world.agents.problems = {"storage/clear": "ClearImagesFound"}
    assert look(world, seconds=31) == ("False", "ClearImagesFound")
    world.agents.problems = {}
    assert look(world, seconds=31) == ("True", "Verified")


def test_a_token_asks_once_for_everything_under_older_keys(world: World) -> None:
    archive(world, mode="Transit", reencryptMiPerSecond=7)

    def ask(live: dict[str, Any]) -> None:
        live["metadata"].setdefault("annotations", {})["pacs-operator.io/reencrypt-images"] = ASKED

    world.api.edit(ARCHIVE_KEY, "kubectl", ask)
    look(world, seconds=31)
    assert ordered(world) == {"clear": False, "miPerSecond": 7, "reseal": WORD}
    assert "lastHandledReencryptToken" not in world.archive["status"]
    tell(world, kind="Keys", left=9, done=1)
    assert look(world, seconds=31) == ("True", "Verified"), "all of it is encrypted, some under older keys"
    assert world.archive["status"]["encryption"]["reencrypt"]["left"] == 9
    tell(world, kind="Keys", state="Done", done=10, reseal=WORD)
    look(world, seconds=31)
    assert world.archive["status"]["lastHandledReencryptToken"] == ASKED
    tell(world, kind="None", state="Idle", reseal=WORD)
    look(world, seconds=31)
    assert world.archive["status"]["encryption"]["reencrypt"]["state"] == "Done", "of the last one"


def scrape(world: World) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(ReencryptMetrics(world.process.sealing))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_have_each_count_as_it_was_told_last_and_nothing_of_an_archive_that_is_gone(world: World) -> None:
    archive(world, mode="Transit")
    assert scrape(world) == {}, "nothing was told"
    tell(world, left=3, left_bytes=300, done=7, done_bytes=700, failed=1)
    look(world, seconds=31)
    shown = {"left": 3, "left_bytes": 300, "done": 7, "done_bytes": 700, "failed": 1}
    assert scrape(world) == {
        f'pacs_operator_reencrypt_{name}{{archive="radiology"}}': count for name, count in shown.items()
    }
    tell(world, left=2, left_bytes=200, done=8, done_bytes=800)
    look(world, seconds=31)
    assert scrape(world)['pacs_operator_reencrypt_left{archive="radiology"}'] == 2, "at once, unlike the status"
    world.api.objects.pop(ARCHIVE_KEY)
    world.process.reconcile(ARCHIVE)
    assert scrape(world) == {}
