"""An archive is contained and freed again under open associations, on a real gate."""

import time
from collections.abc import Callable

import pytest

from pacs_operator.agent.gateslots import MAPS
from pacs_operator.domain import gatemaps
from pacs_operator.domain.containment import Containment, contain
from pacs_operator.domain.gatepeers import LivePeers

from .device import Device, echo, ends, rejection
from .process import Gate, Site, wait_for
from .test_flow import image

MakeDevice = Callable[..., Device]
WITHIN_SECONDS = 30
TRY_LATER = (2, 3, 1)


def stores(device: Device, site: Site) -> bool:
    dataset, association = image(2_000, 1), device.associate()
    status = association.send_c_store(dataset)
    association.release()
    return status.Status == 0x0000 and dataset.SOPInstanceUID in site.archive.stored


def isolate(gate: Gate, *spared: str) -> None:
    names = [{"namespace": key.partition("/")[0], "name": key.partition("/")[2]} for key in spared]
    asked = Containment.model_validate({"mode": "Isolated", "reason": "ransomware", "spareEmergencyPeers": names})
    gate.apply({peer.id: peer for peer in contain(gate.live.values(), asked)})


def lift(gate: Gate) -> None:
    gate.apply({peer.id: peer for peer in contain(gate.live.values(), Containment(mode="None"))})


def test_only_the_spared_peer_is_served_and_its_open_association_stores_on(
    make_device: MakeDevice, gate: Gate, site: Site
) -> None:
    contained, spared = make_device("CT1"), make_device("EMERGENCY")
    cut, kept = contained.associate(), spared.associate()
    assert echo(cut)
    assert echo(kept)
    begun = time.monotonic()
    isolate(gate, "imaging/emergency")
    ends(cut)
    assert time.monotonic() - begun < WITHIN_SECONDS
    assert kept.send_c_store(image(2_000, 2)).Status == 0x0000
    assert rejection(contained) == TRY_LATER
    assert stores(spared, site)
    seen = wait_for(lambda: gate.activity("imaging/ct1").last_rejection_reason, "the refusal was recorded")
    assert seen == "Contained"
    lift(gate)
    assert stores(contained, site)
    assert echo(kept)


@pytest.mark.parametrize("change", [{"calling": "OTHER"}, {"called": "ELSEWHERE"}])
def test_who_was_refused_before_hears_the_same_as_before(
    make_device: MakeDevice, gate: Gate, change: dict[str, str]
) -> None:
    """Only a peer that would have been served is told to come again; nobody else learns that there is a containment."""
    device = make_device("CT1")
    isolate(gate)
    assert rejection(device) == TRY_LATER
    for name, value in change.items():
        setattr(device, name, value)
    refused = rejection(device)
    lift(gate)
    assert refused == rejection(device) != TRY_LATER


def test_an_agent_that_starts_again_contains_as_before(make_device: MakeDevice, gate: Gate) -> None:
    device, spared = make_device("CT1"), make_device("EMERGENCY")
    isolate(gate, "imaging/emergency")
    kept = spared.associate()
    gate.new_agent()
    assert rejection(device) == TRY_LATER  # before the new agent said a word
    gate.apply(gate.live)
    assert rejection(device) == TRY_LATER
    assert echo(kept)


def test_a_gate_that_starts_again_comes_up_contained(make_device: MakeDevice, gate: Gate) -> None:
    """What a restart leaves is empty maps, and the list that fills them says who is contained."""
    device = make_device("CT1")
    isolate(gate)
    slot = next(line.split()[2] for line in gate.ask(f"show map {gatemaps.IDENTITY}").splitlines() if line)
    for name in MAPS:
        gate.ask(f"clear map {name}")
    assert rejection(device) == (1, 1, 3)
    gate.new_agent()
    gate.loop.run(gate.agent.apply_peers(LivePeers(revision="again", peers=list(gate.live.values()))))
    assert rejection(device) == TRY_LATER
    assert f"{slot} 1" in gate.ask(f"show map {gatemaps.CONTAINED}")


def test_a_mark_that_somebody_takes_off_comes_back(make_device: MakeDevice, gate: Gate) -> None:
    device = make_device("CT1")
    isolate(gate)
    gate.ask(f"clear map {gatemaps.CONTAINED}")
    assert device.echo()
    opened = device.associate()
    gate.apply(gate.live)
    ends(opened)
    assert rejection(device) == TRY_LATER


def test_no_mark_is_left_for_the_slots_next_peer(make_device: MakeDevice, gate: Gate) -> None:
    make_device("CT1")
    isolate(gate)
    gate.remove("imaging/ct1")
    assert gate.ask(f"show map {gatemaps.CONTAINED}").strip() == ""
    assert make_device("MR1").echo()
