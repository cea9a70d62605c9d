"""Break-glass readers: two people, some hours, find and get alone, seen from every side, ended by the clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_operator.domain.approval import ApprovalSpec
from pacs_operator.domain.breakglass import BreakGlass, Word, opened
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.validation import parse
from tests.engine.destroying import approve, events
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, peer_manifest

GLASS = {
    "holder": "dr-keller",
    "aeTitle": "EMERGENCY1",
    "sourceCIDRs": ["198.18.30.7/32"],
    "rights": ["Find", "Get"],
    "hours": 4,
}
KEY = "break.glass/dr-keller"
NAME = "dr-keller.break-glass.pacs.internal"
HOUR = 3600


def prepare(world: World, **spec: Any) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update({"breakGlass": {"maxHours": 8}, **spec}))


def word(world: World, person: str, expires_hours: int = 48, act: str = "BreakGlass", **changed: Any) -> None:
    end = (world.now + timedelta(hours=expires_hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    approve(world, person, act, expiresAt=end, reason="RIS is down, trauma room", breakGlass={**GLASS, **changed})


def both(world: World, **changed: Any) -> None:
    for person in ("anna", "ben"):
        word(world, person, **changed)


def withdraw(world: World, person: str) -> None:
    world.api.remove(("PacsApproval", "radiology-ops", f"breakglass-{person}"))


def ids(world: World) -> set[str]:
    gate, orthanc = ({peer.id for peer in world.live_peers(zone).peers} for zone in ("edge", "archive"))
    assert gate == orthanc
    return gate


def said(world: World) -> tuple[str, str, str]:
    condition = world.condition("BreakGlass")
    return condition["status"], condition["reason"], condition["message"]


@pytest.fixture
def ready(world: World) -> World:
    prepare(world)
    world.settle(world.process)
    return world


def test_two_people_let_one_reader_in(ready: World) -> None:
    word(ready, "anna")
    ready.settle(ready.process)
    assert KEY not in ids(ready)
    assert said(ready)[:2] == ("False", "NotOpened")
    assert "approved by anna; a second person has not" in said(ready)[2]
    word(ready, "ben")
    ready.settle(ready.process)
    (reader,) = [peer for peer in ready.live_peers().peers if peer.id == KEY]
    assert (reader.dns_name, reader.ae_titles, reader.source_cidrs) == (NAME, ["EMERGENCY1"], ["198.18.30.7/32"])
    assert [right.value for right in reader.rights] == ["Find", "Get"]
    until = (ready.now + timedelta(hours=4)).strftime("%Y-%m-%dT%H")
    assert (reader.ends or "").startswith(until)
    assert "198.18.30.7/32" in repr(ready.api.objects["NetworkPolicy", "radiology-edge", "gate-ingress"]["spec"])
    assert ready.vault.peer_roles[ready.drawn[0], "peer._break-glass.dr-keller"] == f"{NAME} 4 h"
    status = ready.archive["status"]["breakGlass"]
    assert status["count"] == 1
    assert status["list"][0]["approvers"] == ["anna", "ben"]
    assert status["list"][0]["identity"] == NAME
    assert said(ready)[:2] == ("True", "ReadersOpen")
    assert "STANDING EXCEPTION: dr-keller as EMERGENCY1 until" in said(ready)[2]
    assert "BreakGlassOpened" in events(ready)
    assert "imaging/ct1" in ids(ready), "others are unaffected"


def test_it_ends_by_the_clock(ready: World) -> None:
    both(ready)
    ready.settle(ready.process)
    told = ready.live_peers()
    ready.advance(4 * HOUR - 60)
    ready.settle(ready.process)
    assert KEY in ids(ready)
    assert KEY in {peer.id for peer in told.at(ready.now).peers}
    ready.advance(61)
    assert KEY not in {peer.id for peer in told.at(ready.now).peers}, "the agents need no operator for it"
    ready.settle(ready.process)
    assert KEY not in ids(ready)
    assert "198.18.30.7/32" not in repr(ready.api.objects["NetworkPolicy", "radiology-edge", "gate-ingress"]["spec"])
    assert not [role for _, role in ready.vault.peer_roles if "break-glass" in role]
    assert said(ready)[:2] == ("False", "NoReaders")
    assert "breakGlass" not in ready.archive["status"]
    assert "BreakGlassEnded" in events(ready)


def test_it_ends_when_an_approval_is_deleted(ready: World) -> None:
    both(ready)
    ready.settle(ready.process)
    withdraw(ready, "anna")
    ready.process.reconcile(ARCHIVE)
    assert KEY not in ids(ready)
    texts = [item["message"] for key, item in ready.api.objects.items() if key[0] == "Event"]
    assert [text for text in texts if "before its time: an approval is gone" in text]
    word(ready, "anna")
    ready.settle(ready.process)
    assert KEY in ids(ready)


def test_it_ends_when_an_approval_expires(ready: World) -> None:
    word(ready, "anna", expires_hours=2)
    word(ready, "ben")
    ready.settle(ready.process)
    (reader,) = [peer for peer in ready.live_peers().peers if peer.id == KEY]
    assert (reader.ends or "") <= (ready.now + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready.advance(2 * HOUR + 1)
    ready.settle(ready.process)
    assert KEY not in ids(ready)


@pytest.mark.parametrize(
    ("second", "text"),
    [
        ({"person": "ANNA"}, "a second person has not"),
        ({"person": "ben", "hours": 3}, "a second person has not, or in other words"),
        ({"person": "ben", "sourceCIDRs": ["198.18.30.8/32"]}, "in other words"),
    ],
)
def test_the_same_person_twice_or_other_words_are_not_two(ready: World, second: dict, text: str) -> None:
    word(ready, "anna")
    word(ready, second.pop("person"), **second)
    ready.settle(ready.process)
    assert KEY not in ids(ready)
    assert text in said(ready)[2]


def test_a_word_of_hours_ago_is_not_for_this_emergency(ready: World) -> None:
    word(ready, "anna")
    ready.advance(HOUR + 1)
    word(ready, "ben")
    ready.settle(ready.process)
    assert KEY not in ids(ready)
    withdraw(ready, "anna")
    word(ready, "anna")
    ready.settle(ready.process)
    assert KEY in ids(ready)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"hours": 9}, "9 hours exceed spec.breakGlass.maxHours (8)"),
        ({"sourceCIDRs": ["10.0.0.1/32"]}, "10.0.0.1/32 lies outside the archive's allowedCIDRs"),
        ({"aeTitle": "CT1"}, "AE title 'CT1' is taken"),
        ({"aeTitle": "RADIOLOGY"}, "AE title 'RADIOLOGY' is taken"),
    ],
)
def test_what_the_archive_does_not_take_is_said(ready: World, changed: dict, text: str) -> None:
    both(ready, **changed)
    ready.settle(ready.process)
    assert KEY not in ids(ready)
    assert said(ready)[:2] == ("False", "NotOpened")
    assert text in said(ready)[2]


def test_an_archive_that_is_not_prepared_takes_none(world: World) -> None:
    both(world)
    world.settle(world.process)
    assert KEY not in ids(world)
    assert "the archive has no spec.breakGlass" in said(world)[2]
    prepare(world)
    world.settle(world.process)
    assert KEY in ids(world)


def test_without_approvals_nothing_is_said(ready: World) -> None:
    assert [one for one in ready.archive["status"]["conditions"] if one["type"] == "BreakGlass"] == []


def test_two_readers_and_not_two_of_one_holder(ready: World) -> None:
    both(ready)
    for person in ("carl", "dora"):
        word(ready, person, holder="dr-meier", aeTitle="EMERGENCY2", sourceCIDRs=["198.18.30.8/32"])
    for person in ("emil", "fred"):
        word(ready, person, aeTitle="EMERGENCY3", hours=5)
    ready.settle(ready.process)
    assert ids(ready) >= {KEY, "break.glass/dr-meier"}
    assert ready.archive["status"]["breakGlass"]["count"] == 2
    assert "dr-keller: another reader of this holder" in said(ready)[2]


def test_containment_spares_it_only_by_name(ready: World) -> None:
    both(ready)
    ready.settle(ready.process)
    contained = {"mode": "Isolated", "reason": "ransomware"}
    prepare(ready, containment=contained)
    ready.settle(ready.process)
    assert KEY in {peer.id for peer in ready.live_peers().peers if peer.contained}
    prepare(
        ready, containment={**contained, "spareEmergencyPeers": [{"namespace": "break.glass", "name": "dr-keller"}]}
    )
    ready.settle(ready.process)
    assert KEY in {peer.id for peer in ready.live_peers().peers if not peer.contained}
    assert ready.condition("Contained")["reason"] == "Isolated"


@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_stalled_archive_keeps_it_and_ends_it(ready: World, withdrawn: bool) -> None:
    both(ready)
    ready.settle(ready.process)
    prepare(ready, release={"catalog": "stable", "version": "1999.1.0"})
    if withdrawn:
        withdraw(ready, "ben")
    ready.process.reconcile(ARCHIVE)
    assert ready.condition("Stalled")["status"] == "True"
    assert (KEY in ids(ready)) is not withdrawn
    assert said(ready)[0] == ("False" if withdrawn else "True")


def test_a_stalled_archive_opens_none(ready: World) -> None:
    release = ready.api.objects[ARCHIVE_KEY]["spec"]["release"]
    prepare(ready, release={"catalog": "stable", "version": "1999.1.0"})
    both(ready)
    ready.process.reconcile(ARCHIVE)
    assert KEY not in ids(ready)
    assert (said(ready)[:2], "dr-keller: the archive is stopped" in said(ready)[2]) == (("False", "NotOpened"), True)
    assert "breakGlass" not in ready.api.objects[ARCHIVE_KEY]["status"]
    prepare(ready, release=release)
    ready.settle(ready.process)
    assert (KEY in ids(ready), said(ready)[:2]) == (True, ("True", "ReadersOpen"))


def test_nothing_is_written_twice(ready: World) -> None:
    both(ready)
    ready.settle(ready.process)
    writes = len(ready.log.entries)
    ready.operator().reconcile(ARCHIVE)
    assert ready.log.entries[writes:] == []


def test_a_peer_cannot_pose_as_a_reader(ready: World) -> None:
    ready.api.put(peer_manifest("mr1", certificate={"dnsName": NAME}, sourceCIDRs=["198.18.10.12/32"]))
    ready.settle(ready.process)
    assert ready.peer_condition("mr1")["reason"] == "ReservedIdentity"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"hours": 0}, "greater than or equal to 1"),
        ({"hours": 25}, "less than or equal to 24"),
        ({"rights": ["Store"]}, "'Find' or 'Get'"),
        ({"rights": []}, "at least 1"),
        ({"sourceCIDRs": ["0.0.0.0/0"]}, "every address"),
        ({"aeTitle": "PACSPROBE"}, "reserved"),
        ({"aeTitle": "FAR TOO LONG A TITLE"}, "spec.breakGlass.aeTitle"),
        ({"holder": "Dr Keller"}, "should match pattern"),
    ],
)
def test_bad_input(changed: dict, text: str) -> None:
    good = {
        "archiveRef": {"name": ARCHIVE}, "archiveUID": "u", "lineageID": "0" * 32, "act": "BreakGlass",
        "approver": "anna", "expiresAt": "2026-11-25T08:00:00Z", "reason": "RIS is down, trauma", "breakGlass": GLASS,
    }  # fmt: skip
    assert parse(ApprovalSpec, good, "spec").break_glass
    with pytest.raises(InvalidSpecError) as caught:
        parse(ApprovalSpec, {**good, "breakGlass": {**GLASS, **changed}}, "spec")
    assert text in str(caught.value)
    for wrong in ({**good, "act": "Delete"}, {key: value for key, value in good.items() if key != "breakGlass"}):
        with pytest.raises(InvalidSpecError, match=r"spec\.breakGlass"):
            parse(ApprovalSpec, wrong, "spec")


MINUTES = 600


def words_of(given_by: list[tuple[str, int]], hours: int) -> list[Word]:
    what = parse(BreakGlass, {**GLASS, "hours": hours}, "spec.breakGlass")
    return [Word(who, minute(at), minute(10_000), what) for who, at in given_by]


def minute(number: int) -> datetime:
    return datetime(2026, 11, 20, tzinfo=UTC) + timedelta(minutes=number)


@given(
    st.lists(st.tuples(st.sampled_from(["anna", "ANNA", "ben"]), st.integers(0, MINUTES)), max_size=6),
    st.integers(1, 4),
)
def test_only_while_two_people_said_so_within_their_hours(given_by: list[tuple[str, int]], hours: int) -> None:
    words = words_of(given_by, hours)
    pairs = [(a, b) for x, a in given_by for y, b in given_by if x.casefold() != y.casefold() and 0 <= b - a <= 60]
    for now in range(MINUTES, MINUTES + 300, 30):
        let_in = bool(opened(words, minute(now))[0])
        assert let_in == any(now < earlier + 60 * hours for earlier, _ in pairs)
        recent = {who.casefold() for who, at in given_by if at > now - 60 * hours}
        assert len(recent) == 2 or not let_in, "one person's word alone lets nobody in"


def test_one_person_alone_prolongs_nothing() -> None:
    """Its twin: the other one writes anew as well."""
    alone = [("anna", 0), ("ben", 1), ("anna", 59), ("anna", 61)]
    assert [box.until for box in opened(words_of(alone, 1), minute(60))[0]] == [minute(61)]
    assert opened(words_of(alone, 1), minute(61))[0] == []
    together = [*alone, ("ben", 62)]
    assert [box.until for box in opened(words_of(together, 1), minute(62))[0]] == [minute(121)]


def ended(world: World) -> list[str]:
    found = [item for key, item in world.api.objects.items() if key[0] == "Event"]
    return [str(item["message"]) for item in found if item["reason"] == "BreakGlassEnded"]


@pytest.mark.parametrize(
    ("take", "text"),
    [
        (lambda world: prepare(world, breakGlass={"maxHours": 3}), "4 hours exceed spec.breakGlass.maxHours (3)"),
        (lambda world: prepare(world, breakGlass=None), "the archive has no spec.breakGlass"),
        (
            lambda world: world.api.put(peer_manifest("mr1", aeTitles=["EMERGENCY1"], sourceCIDRs=["198.18.10.12/32"])),
            "AE title 'EMERGENCY1' is taken",
        ),
        (lambda world: withdraw(world, "ben"), "an approval is gone"),
    ],
    ids=["hours", "bounds", "title", "approval"],
)
def test_an_early_end_says_why(ready: World, take: Callable[[World], None], text: str) -> None:
    both(ready)
    ready.settle(ready.process)
    take(ready)
    ready.settle(ready.process)
    assert KEY not in ids(ready)
    (message,) = ended(ready)
    assert f"ended before its time: {text}" in message


def test_suspended_it_ends_by_the_clock_and_says_so(ready: World) -> None:
    both(ready)
    ready.settle(ready.process)
    prepare(ready, suspend=True)
    withdraw(ready, "ben")
    outcome = ready.process.reconcile(ARCHIVE)
    assert said(ready)[:2] == ("True", "ReadersOpen"), "gate and Orthanc still let it in"
    assert ready.archive["status"]["breakGlass"]["count"] == 1 and not ended(ready)
    assert outcome.requeue_after is not None and 0 < outcome.requeue_after <= 4 * HOUR
    ready.advance(outcome.requeue_after + 1)
    assert ready.process.reconcile(ARCHIVE).requeue_after is None
    assert said(ready)[:2] == ("False", "NoReaders")
    assert "breakGlass" not in ready.archive["status"]
    (message,) = ended(ready)
    assert "ended by its time" in message
    writes = len(ready.log.entries)
    ready.process.reconcile(ARCHIVE)
    assert ready.log.entries[writes:] == []


def test_suspended_nobody_new_is_let_in(ready: World) -> None:
    """Its twin: the suspension over, the same two words let it in."""
    prepare(ready, suspend=True)
    both(ready)
    ready.process.reconcile(ARCHIVE)
    assert KEY not in ids(ready)
    assert said(ready)[:2] == ("False", "NotOpened") and "spec.suspend is true" in said(ready)[2]
    prepare(ready, suspend=False)
    ready.settle(ready.process)
    assert KEY in ids(ready) and said(ready)[:2] == ("True", "ReadersOpen")
