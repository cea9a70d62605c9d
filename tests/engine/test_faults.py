"""Answers that no healthy API gives: the way is longer, the end is the same."""

import copy
from functools import cache, partial

import pytest

from pacs_operator.domain.errors import ApiError, ConflictError, NotFoundError
from pacs_operator.kube.errors import ApiForbiddenError, ApiUnreachableError, translate
from tests.engine.simapi import ACTION
from tests.engine.world import ARCHIVE, World, archive_manifest, peer_manifest

STATUSES = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}


def fresh(first_draw: int = 1) -> World:
    world = World(first_draw)
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    return world


@cache
def reference(first_draw: int = 1) -> World:
    world = fresh(first_draw)
    world.settle()
    return world


def calls() -> list[tuple[str, str]]:
    """Return every kind of call that a full creation makes."""
    world = reference()
    reads = {(verb, kind) for verb, kind in (read.split(" ") for read in world.api.reads)}
    writes = {
        (verb, kind)
        for verb, kind, *_ in (entry.split(" ") for entry in world.log.entries if not entry.startswith("vault"))
    }
    return sorted(reads | writes)


def is_call(wanted: tuple[str, str], *call: str) -> bool:
    return call == wanted


@pytest.mark.parametrize("status", STATUSES)
def test_each_call_may_fail_once(status: int):
    seen = calls()
    assert len(seen) > 30
    for verb, kind in seen:
        world = fresh()
        error = translate(status, f'{{"reason": "{STATUSES[status]}"}}', "test")
        world.log.faults.errors.append((partial(is_call, (verb, kind)), error))
        world.settle()
        assert world.log.faults.errors == [], f"{verb} {kind} was never called"
        assert world.condition("Ready")["status"] == "True", f"{verb} {kind}"
        # A lineage that was drawn but could not be written is drawn again.
        expected = reference(int(world.archive["status"]["lineageID"], 16))
        assert world.end_state().keys() == expected.end_state().keys(), f"{verb} {kind}"
        assert len(world.drawn) <= 2
        assert len(set(world.jobs_run)) == 1


def test_a_stale_read_never_draws_a_second_lineage():
    world = fresh()
    world.api.remember()
    world.settle()
    world.log.faults.stale = True
    before = world.archive["metadata"]["annotations"]["pacs-operator.io/lineage"]
    with pytest.raises(ConflictError):
        world.operator().reconcile(ARCHIVE)
    assert world.archive["metadata"]["annotations"]["pacs-operator.io/lineage"] == before
    assert {path.split("/")[1] for path in world.vault.paths if path.startswith("pacs/")} == {before}


def test_a_stale_list_never_deletes_a_successor():
    world = fresh()
    world.settle()
    extra = copy.deepcopy(world.api.objects["ConfigMap", "radiology-edge", "gate"])
    extra["metadata"] = {key: value for key, value in extra["metadata"].items() if key in ("namespace", "labels")} | {
        "name": "left"
    }
    world.api.put(extra)
    listed = world.api.objects["ConfigMap", "radiology-edge", "left"]
    keep = world.api.list

    def stale(kind, namespace=None, labels=None):
        found = keep(kind, namespace, labels)
        return [copy.deepcopy(listed) if item["metadata"]["name"] == "left" else item for item in found]

    world.api.remove(("ConfigMap", "radiology-edge", "left"))
    successor = world.api.put(extra)
    world.api.list = stale
    world.operator().reconcile(ARCHIVE)
    assert world.api.objects["ConfigMap", "radiology-edge", "left"]["metadata"]["uid"] == successor["metadata"]["uid"]
    world.api.list = keep
    world.operator().reconcile(ARCHIVE)
    assert ("ConfigMap", "radiology-edge", "left") not in world.api.objects


def test_trouble_that_lasts_is_told_in_the_status_and_what_runs_is_left_alone():
    world = fresh()
    world.settle()
    pods = {pod["metadata"]["uid"] for pod in world.pods()}
    error = ApiForbiddenError("list NetworkPolicy: 403", action="compare the ClusterRole")
    world.log.faults.errors += [
        (lambda v, k: (v, k) == ("list", "NetworkPolicy"), error)
    ] * 20  # as often as a pass asks
    for _ in range(2):
        with pytest.raises(ApiForbiddenError):
            world.operator().reconcile(ARCHIVE)
    assert world.condition("Reconciling")["reason"] == "ApiForbidden"
    assert "compare the ClusterRole" in world.condition("Reconciling")["message"]
    assert {pod["metadata"]["uid"] for pod in world.pods()} == pods


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (403, ApiForbiddenError, True),
        (404, NotFoundError, True),
        (409, ConflictError, True),
        (422, ApiError, True),
        (503, ApiError, True),
        (418, ApiError, True),
    ],
)
def test_api_errors_carry_reason_message_and_way_out(status: int, kind: type, retry: bool):
    error = translate(status, '{"reason": "X", "message": "spec.x: wrong"}', "PATCH /x")
    assert isinstance(error, kind)
    assert error.retry is retry
    assert "spec.x: wrong" in error.message
    assert error.action
    assert translate(status, b"not json", "PATCH /x").message == f"PATCH /x: {status}"


def test_unreachable_is_retried():
    assert ApiUnreachableError("x", action=ACTION).retry
