"""The archive plugin's C-MOVE, without Orthanc: lists, look-up, and sending in batches."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "images/archive/plugin"))

from pacs_move import Destinations, Move, MoveRefusedError, Sender, instances_of


def test_a_title_has_its_own_list_and_no_other() -> None:
    lists = Destinations({"WS1": {"WS1": "ae-1", "WS2": "ae-2"}, "WS2": {"WS2": "ae-2"}})
    assert lists.entry("WS1 ", "WS2") == "ae-2"
    for asking, destination in (("WS2", "WS1"), ("WS3", "WS1"), ("ws1", "WS1"), ("WS1", "ws1"), ("", ""), ("WS1", "")):
        with pytest.raises(MoveRefusedError, match="DestinationNotListed"):
            lists.entry(asking, destination)


@pytest.mark.parametrize("document", [[], "WS1", 7, {"WS1": ["WS2"]}, {"WS1": None}, {"WS1": {"WS2": None}}])
def test_another_form_is_refused_and_the_list_before_stays(document: object) -> None:
    lists = Destinations({"WS1": {"WS1": "ae-1"}})
    with pytest.raises(ValueError, match="a map of maps"):
        lists.replace(document)
    assert lists.document() == {"WS1": {"WS1": "ae-1"}}


def test_without_a_list_nobody_moves() -> None:
    assert Destinations().document() == {}


STORED = {"P1": [("p", "Patient")], "1.2": [("s", "Study")], "A7": [("s", "Study"), ("t", "Study")],
          "1.2.1": [("e", "Series")], "1.2.1.1": [("i1", "Instance"), ("i2", "Instance")],
          "1.3": [("x", "Series")]}  # fmt: skip
CHILDREN = {"/patients/p": ["i1", "i2", "i3"], "/studies/s": ["i1", "i2"], "/studies/t": ["i2", "i4"],
            "/series/e": ["i1"]}  # fmt: skip
EMPTY = dict.fromkeys(("PatientID", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "")


def found(level: str, **keys: str) -> list[str]:
    return instances_of(
        {**EMPTY, "Level": level, **keys},
        lambda route, text: [{"ID": name, "Type": kind} for name, kind in STORED.get(text, [])],
        lambda route: CHILDREN[route.removesuffix("/instances?expand=false")],
    )


def test_all_levels() -> None:
    assert found("PATIENT", PatientID="P1") == ["i1", "i2", "i3"]
    assert found("STUDY", StudyInstanceUID="1.2") == ["i1", "i2"]
    assert found("STUDY", StudyInstanceUID="1.2", AccessionNumber="A7") == ["i1", "i2", "i4"]
    assert found("SERIES", SeriesInstanceUID="1.2.1", StudyInstanceUID="1.2") == ["i1"]
    assert found("INSTANCE", SOPInstanceUID="1.2.1.1") == ["i1", "i2"], "two copies under one UID"
    assert found("IMAGE", SOPInstanceUID="1.2.1.1\\9.9\\1.2.1.1\0") == ["i1", "i2"]


@pytest.mark.parametrize(
    ("level", "keys", "reason"),
    [
        ("STUDY", {}, "NoIdentifier"),
        ("STUDY", {"StudyInstanceUID": " \0"}, "NoIdentifier"),
        ("STUDY", {"PatientID": "P1"}, "NoIdentifier"),
        ("ROOM", {"PatientID": "P1"}, "NoIdentifier"),
        ("STUDY", {"StudyInstanceUID": "9.9"}, "NothingStored"),
        ("STUDY", {"StudyInstanceUID": "1.3"}, "NothingStored"),
        ("STUDY", {"StudyInstanceUID": "\\\\"}, "NothingStored"),
    ],
)
def test_nothing_to_move(level: str, keys: dict[str, str], reason: str) -> None:
    with pytest.raises(MoveRefusedError, match=reason):
        found(level, **keys)


class Device:
    """Takes what it takes; a batch with something else in it ends at that."""

    def __init__(self, refused: set[str], reachable: int = 10**6) -> None:
        self.refused, self.reachable = refused, reachable
        self.got: set[str] = set()
        self.batches: list[int] = []

    def __call__(self, instances: list[str]) -> bool:
        self.batches.append(len(instances))
        for instance in instances:
            if instance in self.refused or len(self.got) >= self.reachable:
                return False
            self.got.add(instance)
        return True


def run(move: Move) -> list[bool]:
    """Ask as Orthanc does: it stops at the first sub-operation that fails."""
    told = []
    for _ in range(move.size()):
        try:
            move.apply()
        except MoveRefusedError:
            told.append(False)
            break
        told.append(True)
    return told


NAMES = [f"i{n}" for n in range(60)]


@given(st.integers(1, 60), st.sets(st.sampled_from(NAMES), max_size=2))
def test_all_that_a_device_takes_is_delivered_before_a_failure_is_told(count: int, refused: set[str]) -> None:
    instances = NAMES[:count]
    device, taken = Device(refused), set(instances) - refused
    move = Move(instances, "WS1", device)
    if not taken:
        with pytest.raises(MoveRefusedError, match="DestinationUnreachable"):
            move.begin()
        return
    move.begin()
    told = run(move)
    assert device.got == taken
    assert told.count(True) == len(taken)
    assert (False in told) == (len(taken) < count)


def test_a_device_that_is_gone_is_given_up() -> None:
    device = Device(set(), reachable=10)
    move = Move(NAMES, "WS1", device)
    move.begin()
    assert run(move) == [True] * 4 + [False]
    assert device.batches == [4, 8, 1, 1, 1]


@pytest.mark.parametrize(("seconds", "batches"), [(0.1, [4, 8, 16, 32]), (3.0, [4, 2] + [1] * 54)])
def test_batches_grow_on_a_fast_device_and_shrink_on_a_slow_one(seconds: float, batches: list[int]) -> None:
    time = iter(range(10**6))
    device = Device(set())
    move = Move(NAMES, "WS1", device, clock=lambda: next(time) * seconds)
    move.begin()
    assert run(move) == [True] * 60
    assert device.batches == batches


class Jobs:
    """Orthanc's jobs, each with the states that successive looks see."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.orders: list[tuple[str, Any]] = []
        self.pauses: list[float] = []

    def post(self, route: str, document: str) -> dict[str, str]:
        self.orders.append((route, json.loads(document)))
        return {"ID": "j1"}

    def get(self, route: str) -> dict[str, str]:
        assert route == "/jobs/j1"
        if not self.states:
            raise RuntimeError("404: forgotten")
        return {"State": self.states.pop(0)}


@pytest.mark.parametrize(
    ("states", "taken"),
    [
        (["Success"], True),
        (["Pending", "Running", "Running", "Success"], True),
        (["Running", "Failure"], False),
        (["Paused"], False),
        (["Running"], False),
        ([], False),
    ],
)
def test_a_job_sends_and_is_looked_at(states: list[str], taken: bool) -> None:
    jobs = Jobs(*states)
    send = Sender("ae-1", ("WS1", 7), jobs.post, jobs.get, jobs.pauses.append)
    assert send(["i1", "i2"]) is taken
    (route, order) = jobs.orders[0]
    assert route == "/modalities/ae-1/store"
    assert order["Resources"] == ["i1", "i2"]
    assert order["Asynchronous"], "a call that waits would hold Python's lock"
    assert (order["MoveOriginatorAet"], order["MoveOriginatorID"]) == ("WS1", 7)
    assert all(0 < pause <= 0.2 for pause in jobs.pauses)
