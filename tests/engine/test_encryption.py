"""What the archive says of its images at rest: Verified only while an agent tells of a test, never otherwise."""

from datetime import timedelta
from typing import Any

import pytest

from pacs_operator.domain.agentconfig import StorageTold
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, START, World, archive_manifest

REASON = "the volumes are encrypted by the storage system"


def stamp(world: World, **back: float) -> str:
    return (world.now - timedelta(**back)).strftime("%Y-%m-%dT%H:%M:%SZ")


def archive(world: World, **encryption: Any) -> dict[str, Any]:
    world.api.put(archive_manifest(encryption=encryption))
    world.process = world.operator()
    world.settle(world.process)
    return world.archive["status"]


@pytest.fixture
def world() -> World:
    world = World()
    world.agents.storage = StorageTold(active_key=1, keys=1, verified=START.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return world


def wish(world: World, encryption: dict[str, Any]) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(encryption=encryption))


def look(world: World, **later: float) -> tuple[str, str]:
    world.now += timedelta(**later)
    world.advance(0)
    world.process.reconcile(ARCHIVE)
    condition = world.condition("ImagesEncrypted")
    return condition["status"], condition["reason"]


def test_verified_with_the_time_once_the_agent_tells(world: World) -> None:
    status = archive(world, mode="Transit")
    assert world.condition("ImagesEncrypted")["status"] == "True"
    assert world.condition("Ready")["status"] == "True"
    assert status["encryption"] == {
        "transitKey": f"pacs/{status['lineageID']}/data/radiology-archive.orthanc",
        "activeDataKey": 1,
        "dataKeys": 1,
        "verified": "2026-11-20T08:00:00Z",
        "index": {"declared": "Nothing", "observed": "NothingSaid", "storageClass": "hostpath"},
    }
    assert status["effective"]["encryption"] == "Transit: a new data key every 90 days; index: nothing declared"


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"mode": "StorageClass"}, "index: by StorageClass hostpath, as declared"),
        ({"mode": "None", "reason": "one more year on old disks"}, "index: not encrypted: one more year on old disks"),
    ],
)
def test_what_is_declared_of_the_index_is_shown_as_declared(world: World, index: dict[str, str], said: str) -> None:
    status = archive(world, mode="Transit", index=index)
    assert status["effective"]["encryption"].endswith(said)


def test_without_a_test_nothing_is_verified_and_nothing_ready(world: World) -> None:
    world.agents.storage = StorageTold(active_key=1, keys=1)
    archive(world, mode="Transit")
    assert look(world) == ("Unknown", "NotProbed")
    assert world.condition("Ready")["status"] == "False"
    world.agents.storage = StorageTold(active_key=1, keys=1, verified=stamp(world))
    assert look(world, seconds=31) == ("True", "Verified")
    assert world.condition("Ready")["status"] == "True"


def test_what_is_told_of_the_future_is_not_taken_over(world: World) -> None:
    world.agents.storage = StorageTold(active_key=1, keys=1, verified="2031-01-01T00:00:00Z")
    archive(world, mode="Transit")
    assert look(world) == ("Unknown", "NotProbed")


def test_mode_none_is_shown_with_its_reason_and_never_verified(world: World) -> None:
    status = archive(world, mode="None", reason=REASON)
    condition = world.condition("ImagesEncrypted")
    assert (condition["status"], condition["reason"]) == ("False", "NotEncrypted")
    assert REASON in condition["message"]
    assert status["encryption"].keys() == {"index"}
    assert world.condition("Ready")["status"] == "True", "a person decided so"


def test_the_time_moves_at_most_once_an_hour(world: World) -> None:
    archive(world, mode="Transit")
    world.agents.storage = StorageTold(active_key=1, keys=1, verified=stamp(world, minutes=-40))
    writes = len(world.log.entries)
    look(world, minutes=40)
    assert world.log.entries[writes:] == []
    world.agents.storage = StorageTold(active_key=1, keys=1, verified=stamp(world, minutes=-21))
    look(world, minutes=21)
    assert world.archive["status"]["encryption"]["verified"] == world.agents.storage.verified


def test_a_verification_grows_old_also_while_suspended(world: World) -> None:
    archive(world, mode="Transit")
    assert look(world, hours=2) == ("True", "Verified")
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(suspend=True))
    assert look(world, minutes=59) == ("True", "Verified")
    assert look(world, minutes=2) == ("Unknown", "Stale")


def test_data_keys_that_cannot_be_had_are_named(world: World) -> None:
    archive(world, mode="Transit")
    world.agents.problems = {"storage/keys": "VaultForbidden"}
    assert look(world, seconds=31) == ("False", "DataKeysUnavailable")
    assert "VaultForbidden" in world.condition("ImagesEncrypted")["message"]


def test_a_data_key_that_is_due_and_has_no_room_is_told(world: World) -> None:
    archive(world, mode="Transit")
    world.agents.problems = {"storage/room": "StorageKeysFull"}
    assert look(world, seconds=31) == ("False", "DataKeysFull")
    assert world.condition("Ready")["reason"] == "DataKeysFull", "a promise is not kept, and only a person helps"
    world.agents.problems = {}
    assert look(world, seconds=31) == ("True", "Verified")


def test_a_failed_test_of_the_storage_is_named(world: World) -> None:
    archive(world, mode="Transit")
    world.agents.storage = StorageTold(active_key=1, keys=1, self_test="VolumeFull", verified=stamp(world))
    assert look(world, seconds=31) == ("False", "SelfTestFailed")
    assert "VolumeFull" in world.condition("ImagesEncrypted")["message"]
    world.agents.storage = StorageTold(active_key=1, keys=1, self_test="Passed", verified=stamp(world))
    assert look(world, seconds=31) == ("True", "Verified")


def test_a_new_data_key_is_seen_at_once(world: World) -> None:
    archive(world, mode="Transit")
    world.agents.storage = StorageTold(active_key=2, keys=2, verified=stamp(world))
    look(world, seconds=31)
    assert world.archive["status"]["encryption"]["activeDataKey"] == 2
    assert "2 data keys" in world.condition("ImagesEncrypted")["message"]


def test_encryption_stays_once_the_volume_is_encrypted(world: World) -> None:
    before, after = {"mode": "Transit"}, {"mode": "None", "reason": REASON}
    archive(world, **before)
    writes = len(world.log.entries)
    wish(world, after)
    look(world, minutes=1)
    assert world.condition("Stalled")["reason"] == "EncryptionChanged"
    assert "volume claim radiology-archive/images" in world.condition("Stalled")["message"]
    touched = " ".join(world.log.entries[writes:])
    assert not any(kind in touched for kind in ("StatefulSet", "ConfigMap", "PersistentVolumeClaim")), touched
    wish(world, before)
    look(world, minutes=1)
    assert world.condition("Stalled")["status"] == "False"
    assert world.condition("Ready")["status"] == "True"


@pytest.mark.parametrize(
    ("parameters", "observed"),
    [
        ({}, "NothingSaid"),
        ({"type": "gp3"}, "NothingSaid"),
        ({"kmsKeyId": ""}, "NothingSaid"),
        ({"encrypted": "true"}, "AskedFor"),
        ({"Encrypted": " True "}, "AskedFor"),
        ({"kmsKeyId": "some-key"}, "AskedFor"),
        ({"disk-encryption-kms-key": "some-key"}, "AskedFor"),
        ({"diskEncryptionSetID": "some-set"}, "AskedFor"),
        ({"encrypted": "false"}, "NotAskedFor"),
        ({"encrypted": "false", "kmsKeyId": "some-key"}, "NotAskedFor"),
        ({"encrypted": "perhaps"}, "NothingSaid"),
    ],
)
@pytest.mark.parametrize("mode", ["Transit", "None"])
def test_what_the_storage_class_of_the_index_asks_for_is_shown_beside_what_was_declared(
    world: World, parameters: dict[str, str], observed: str, mode: str
) -> None:
    stored: Any = {"provisioner": "disks.example.org", "parameters": parameters}
    world.api.edit(("StorageClass", "", "hostpath"), "admin", lambda live: live.update(stored))
    reason = {} if mode == "Transit" else {"reason": REASON}
    status = archive(world, mode=mode, index={"mode": "StorageClass"}, **reason)
    assert status["encryption"]["index"] == {
        "declared": "StorageClass",
        "observed": observed,
        "storageClass": "hostpath",
        "provisioner": "disks.example.org",
    }
    assert "some-key" not in str(status), "whose key it is, is nobody's business"
    assert ("transitKey" in status["encryption"]) is (mode == "Transit")
