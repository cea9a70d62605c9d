"""Where Orthanc is told to send, and whom; and an Orthanc that does not do as it is told."""

from typing import Any

import pytest

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.orthanc import OrthancNeighbour
from pacs_operator.agent.orthanc_entries import Exit, destinations_of, entries_of, entry_name
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.outbound import Outbound
from pacs_operator.domain.peer import Right
from tests.agent.support import peer, peers
from tests.agent.test_orthanc_faults import SimulatedRest, neighbour, rest

__all__ = ["neighbour", "rest"]  # fixtures

WAY_OUT = Exit("gate-outbound.radiology-edge.svc", 4243)
LISTS = "/pacs/destinations"


def station(number: int, *moves_to: str, receives: bool = True, rights: tuple[Right, ...] = (Right.MOVE,)) -> LivePeer:
    there = Outbound(address=f"198.18.10.{number}", port=104) if receives else None
    return peer(number, f"WS{number}", rights=rights).model_copy(
        update={"outbound": there, "move_destinations": list(moves_to) or None}
    )


def test_all_that_leaves_goes_to_the_gate_whatever_the_address() -> None:
    entries = entries_of(peers("r1", station(1), station(2), peer(3)), WAY_OUT)
    for title in ("WS1", "WS2"):
        entry = entries[entry_name(title)]
        assert (entry["Host"], entry["Port"], entry["UseDicomTls"]) == (WAY_OUT.host, WAY_OUT.port, True)
    assert (entries[entry_name("CT3")]["Host"], entries[entry_name("CT3")]["Port"]) == ("127.0.0.1", 1)
    assert "198.18.10." not in repr(entries)


def test_without_a_way_out_nobody_is_sent_anything() -> None:
    assert {entry["Port"] for entry in entries_of(peers("r1", station(1))).values()} == {1}


@pytest.mark.parametrize(
    ("entries", "lists"),
    [
        ([station(1, "WS1", "WS2"), station(2)], {"WS1": ["WS1", "WS2"]}),
        ([station(1, "WS2"), station(2, receives=False)], {}),
        ([station(1, "WS9")], {}),
        ([station(1, "WS1", rights=(Right.FIND,))], {}),
        ([station(1), station(2)], {}),
    ],
    ids=["listed", "receives nothing", "unknown", "no right", "no list"],
)
def test_lists_hold_what_can_be_reached_by_whom_may(entries: list[LivePeer], lists: dict[str, list[str]]) -> None:
    assert {asking: list(found) for asking, found in destinations_of(peers("r1", *entries)).items()} == lists


def prepared(rest: SimulatedRest, *entries: LivePeer) -> None:
    """Let Orthanc have the entries already."""
    rest.put("GET", "/modalities?expand", entries_of(peers("r1", *entries)))


async def test_lists_are_written_and_read_back(neighbour: OrthancNeighbour, rest: SimulatedRest) -> None:
    wanted: dict[str, Any] = {"WS1": {"WS1": entry_name("WS1")}}
    prepared(rest, station(1, "WS1"))
    rest.put("GET", LISTS, {})
    rest.put("PUT", LISTS, wanted)
    assert await neighbour.apply_peers(peers("r1", station(1, "WS1"))) == "r1"
    rest.put("PUT", LISTS, {})  # says yes, does nothing
    with pytest.raises(NeighbourError) as refused:
        await neighbour.apply_peers(peers("r1", station(1, "WS1")))
    assert refused.value.reason == "ReadBackDiffers"
    rest.put("GET", LISTS, wanted)
    rest.calls.clear()
    assert await neighbour.apply_peers(peers("r1", station(1, "WS1"))) == "r1"
    assert ("PUT", LISTS) not in rest.calls


async def test_without_the_plugin_nobody_may_receive(neighbour: OrthancNeighbour, rest: SimulatedRest) -> None:
    """Orthanc's own C-MOVE asks no list; its twin is a list of peers of whom none receives."""
    prepared(rest, station(1, "WS1"))
    with pytest.raises(NeighbourError):
        await neighbour.apply_peers(peers("r1", station(1, "WS1")))
    prepared(rest, station(1, receives=False))
    assert await neighbour.apply_peers(peers("r2", station(1, receives=False))) == "r2"


async def test_rights_are_taken_away_although_the_plugin_does_not_answer(
    neighbour: OrthancNeighbour, rest: SimulatedRest
) -> None:
    prepared(rest, station(1), station(2))
    rest.answers["GET", LISTS] = (500, b"")
    rest.answers["DELETE", f"/modalities/{entry_name('WS2')}"] = (200, b"")
    with pytest.raises(NeighbourError):
        await neighbour.apply_peers(peers("r2", station(1)))
    assert ("DELETE", f"/modalities/{entry_name('WS2')}") in rest.calls


@pytest.mark.parametrize("answer", [b"[]", b'{"WS1": []}', b"nonsense"])
async def test_an_answer_of_another_form_is_no_agreement(
    neighbour: OrthancNeighbour, rest: SimulatedRest, answer: bytes
) -> None:
    prepared(rest, station(1))
    rest.answers["GET", LISTS] = (200, answer)
    with pytest.raises(NeighbourError):
        await neighbour.apply_peers(peers("r1", station(1)))
