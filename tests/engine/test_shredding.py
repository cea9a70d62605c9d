"""The end of an encrypted archive: consent to shred, the key seen to be gone, and a process that dies at any write."""

import copy

import pytest

from pacs_operator.vault.errors import VaultSealedError
from tests.engine.destroying import (
    HOUR,
    IMAGES,
    ZONES,
    approve,
    blocked,
    change,
    deleted,
    everything_stands,
    finish,
    record,
    zones,
)
from tests.engine.simapi import Killed
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World

TRANSIT = {"encryption": {"mode": "Transit"}}


def shredding() -> World:
    """Return a world with an encrypted archive, everybody's consent and the grace over."""
    world = deleted(**TRANSIT)
    for person in ("anna", "ben"):
        approve(world, person)
        approve(world, person, "Shred")
    world.settle()
    assert blocked(world) == "True/GracePeriod"
    world.advance(25 * HOUR)
    world.settle()
    return world


def test_an_encrypted_archive_needs_consent_to_shred():
    world = deleted(**TRANSIT)
    for person in ("anna", "ben"):
        approve(world, person)
    world.settle()
    assert blocked(world) == "True/ApprovalsMissing"
    assert "Shred has 0 of 2" in world.condition("DeletionBlocked")["message"]
    assert everything_stands(world)


def test_volumes_stay_until_the_key_is_seen_to_be_gone():
    world = shredding()
    assert blocked(world) == "True/ShredPending"
    said = world.condition("DeletionBlocked")["message"]
    assert f"deploy/vault/shred --archive radiology --lineage {world.drawn[0]} --confirm radiology" in said
    assert IMAGES in world.api.objects
    assert zones(world) == ZONES
    world.advance(10 * 24 * HOUR)  # approvals expired long ago: the decision stands
    world.settle()
    assert blocked(world) == "True/ShredPending"
    world.vault.shredded.add((ARCHIVE, "0" * 32))  # another lineage's
    world.settle()
    assert IMAGES in world.api.objects
    world.vault.shredded.add((ARCHIVE, world.drawn[0]))
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    found = record(world)
    assert set(found) == {"grace.json", "decision.json", "shred.json", "removal.json"}
    assert found["shred.json"]["key"] == "radiology-archive.orthanc"
    assert found["decision.json"]["encryption"] == "Transit"
    assert "not reached by the shred" in found["decision.json"]["clear"]


def test_a_vault_that_cannot_tell_proves_nothing():
    world = shredding()
    world.vault.shredded.add((ARCHIVE, world.drawn[0]))
    world.vault.error = VaultSealedError("Vault is sealed", action="unseal it")
    world.settle()
    assert blocked(world) == "True/ShredPending"
    assert "Now: Vault is sealed" in world.condition("DeletionBlocked")["message"]
    assert IMAGES in world.api.objects
    world.vault.error = None
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects


def test_retain_saves_the_data_until_the_shred():
    world = shredding()
    change(world, deletionPolicy="Retain")
    world.settle()
    assert ARCHIVE_KEY not in world.api.objects
    assert IMAGES in world.api.objects
    assert zones(world) == ZONES


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_write(when: str):
    prepared = deleted(retention={"minimumYears": 1})
    for person in ("anna", "ben"):
        approve(prepared, person)
        approve(prepared, person, "OverrideRetention")
    undisturbed = copy.deepcopy(prepared)
    first = len(undisturbed.log.entries)
    finish(undisturbed)
    points = len(undisturbed.log.entries) - first
    assert points > 30
    for point in range(points):
        world = copy.deepcopy(prepared)
        setattr(world.log.faults, f"kill_{when}", first + point)
        with pytest.raises(Killed):
            finish(world)
        finish(world)
        what = f"killed {when} {undisturbed.log.entries[first + point]}"
        expected = {key for key in undisturbed.api.objects if key[0] != "Event"}
        assert {key for key in world.api.objects if key[0] != "Event"} == expected, what
        assert set(record(world)) == {"grace.json", "decision.json", "removal.json"}, what
        assert len(record(world)["decision.json"]["approvals"]) == 4, what
        assert len(record(world)["decision.json"]["volumes"]) == 2, what
