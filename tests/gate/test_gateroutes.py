"""Plans for routes, from any state of HAProxy's map."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_operator.agent.gateroutes import RoutePlan, RoutesExhaustedError, plan_routes, targets
from pacs_operator.domain import gatemaps
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.outbound import Outbound

from .process import peer

SLOTS = 6
slot_names = st.integers(0, SLOTS + 1).map(gatemaps.slot_name)
places = st.sampled_from(["10.0.0.1/104/a.example", "10.0.0.2/104/b.example", "10.0.0.1/105/a.example", "::1/104/c.x"])
titles = st.sampled_from(["4131", "4132", "4231", "4331"])
live_maps = st.lists(
    st.tuples(titles, st.one_of(st.builds("{}/{}".format, slot_names, places), st.sampled_from(["x", "", "7/"]))),
    max_size=8,
)
wanted_maps = st.dictionaries(titles, places)
busy_slots = st.frozensets(st.integers(0, SLOTS - 1).map(gatemaps.slot_name))


def carried_out(live: list[tuple[str, str]], plan: RoutePlan) -> list[tuple[str, str]]:
    return [*(entry for entry in live if entry[0] not in plan.forget), *plan.add]


@given(live_maps, st.frozensets(slot_names, max_size=1), wanted_maps)
def test_every_state_leads_to_the_wanted_one(
    live: list[tuple[str, str]], busy: frozenset[str], wanted: dict[str, str]
) -> None:
    plan = plan_routes(live, busy, wanted, 32)
    after = carried_out(live, plan)
    assert sorted(after) == sorted(plan.wanted.items())
    assert {title: value.partition("/")[2] for title, value in after} == wanted
    slot_of = {value.partition("/")[2]: value.partition("/")[0] for _, value in after}
    assert len(set(slot_of.values())) == len(slot_of), "two devices never share a slot"
    again = plan_routes(after, frozenset(), wanted, 32)
    assert (again.forget, again.end, again.add) == ((), frozenset(), ())


@given(live_maps, busy_slots, wanted_maps)
def test_what_goes_is_ended_and_what_stays_is_not(
    live: list[tuple[str, str]], busy: frozenset[str], wanted: dict[str, str]
) -> None:
    plan = plan_routes(live, busy, wanted, 32)
    before = {value.partition("/")[0] for _, value in live}
    after = {value.partition("/")[0] for value in plan.wanted.values()}
    known = {gatemaps.slot_name(slot) for slot in range(32)}
    assert plan.end >= ((before | busy) - after) & known
    untouched = {value.partition("/")[0] for title, value in live} - {
        value.partition("/")[0] for title, value in live if title in plan.forget
    }
    assert not plan.end & untouched


def test_a_slot_that_is_still_in_use_is_given_to_nobody() -> None:
    plan = plan_routes([], frozenset({"000"}), {"4131": "10.0.0.1/104/a.example"}, 2)
    assert plan.wanted == {"4131": "001/10.0.0.1/104/a.example"}
    with pytest.raises(RoutesExhaustedError, match="2 slots"):
        plan_routes([], frozenset({"000", "001"}), {"4131": "10.0.0.1/104/a.example"}, 2)


def test_targets_are_of_peers_that_receive() -> None:
    listening = peer("ws1", "WS1.imaging.example", "A1", "A2")
    listening = listening.model_copy(update={"outbound": Outbound(address="fd00::1", port=104)})
    found = targets(LivePeers(revision="r", peers=[listening, peer("ct1", "ct1.imaging.example", "B1")]))
    assert found == dict.fromkeys(("4131", "4132"), "fd00::1/104/ws1.imaging.example")
