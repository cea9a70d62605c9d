"""May the data go? A hold, a retention, two different people, and time to think; each refusal beside its twin."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_operator.domain.approval import Act, Approval, ApprovalSpec, Subject, consent
from pacs_operator.domain.archive import Retention
from pacs_operator.domain.destruction import Case, judge
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.validation import parse

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
SUBJECT = Subject("radiology", "uid-1", "0" * 32)
CASE = Case(
    subject=SUBJECT,
    retention=Retention(),
    newest=NOW - timedelta(days=3650),
    newest_known_by="a test says so",
    deleted_at=NOW - timedelta(days=2),
    stopped_since=NOW - timedelta(days=1),
    grace=timedelta(hours=24),
    encrypted=False,
)


def approval(approver: str = "anna", act: Act = "Delete", hours_ago: float = 30, **changed: Any) -> Approval:
    created = NOW - timedelta(hours=hours_ago)
    document = {
        "archiveRef": {"name": "radiology"},
        "archiveUID": "uid-1",
        "lineageID": "0" * 32,
        "act": act,
        "approver": approver,
        "expiresAt": (created + timedelta(days=6)).isoformat(),
        "reason": "end of the contract",
        **changed,
    }
    return Approval(f"{approver}-{act}".lower(), created, ApprovalSpec.model_validate(document))


BOTH = [approval("anna"), approval("ben")]


def test_two_different_people_make_it_allowed() -> None:
    assert judge(CASE, BOTH, NOW).reason == "Approved"


REFUSED = {
    "nobody": [],
    "one person": [approval("anna")],
    "one person twice": [approval("anna"), approval("anna", hours_ago=29)],
    "one person in two spellings": [approval("anna"), approval("Anna")],
    "for another act": [approval("anna"), approval("ben", "Shred")],
    "for another lineage": [approval("anna"), approval("ben", lineageID="1" * 32)],
    "for another resource of the same name": [approval("anna"), approval("ben", archiveUID="uid-2")],
    "for another archive": [approval("anna"), approval("ben", archiveRef={"name": "cardiology"})],
    "expired": [approval("anna"), approval("ben", expiresAt=NOW.isoformat())],
    "living too long": [approval("anna"), approval("ben", expiresAt=(NOW + timedelta(days=6)).isoformat())],
}


@pytest.mark.parametrize("approvals", REFUSED.values(), ids=REFUSED)
def test_not_allowed(approvals: list[Approval]) -> None:
    verdict = judge(CASE, approvals, NOW)
    assert (verdict.reason, verdict.agreed) == ("ApprovalsMissing", False)
    assert "docs/deletion.md" in verdict.message


def test_the_condition_says_who_is_missing() -> None:
    assert "in radiology-ops: Delete has 1 of 2: anna;" in judge(CASE, [approval("anna")], NOW).message


def test_grace_runs_from_the_second_approval() -> None:
    late = [approval("anna"), approval("ben", hours_ago=23.9)]
    verdict = judge(CASE, late, NOW)
    assert (verdict.reason, verdict.agreed) == ("GracePeriod", True)
    assert verdict.until == late[1].created + CASE.grace
    assert "2026-11-20T08:06:00Z" in verdict.message
    assert judge(CASE, [approval("anna"), approval("ben", hours_ago=24)], NOW).reason == "Approved"


def test_approvals_given_in_advance_do_not_shorten_the_grace() -> None:
    just = replace(CASE, deleted_at=NOW - timedelta(hours=23))
    assert judge(just, BOTH, NOW).until == NOW + timedelta(hours=1)


def test_the_grace_begins_when_nothing_is_in_the_way_any_more() -> None:
    """A hold or a retention may have been in the way while the approvals grew older; the archive served on."""
    later = replace(CASE, stopped_since=NOW - timedelta(hours=23))
    assert judge(later, BOTH, NOW).until == NOW + timedelta(hours=1)
    never = replace(CASE, stopped_since=None)
    assert judge(never, BOTH, NOW).until == NOW + CASE.grace
    assert judge(CASE, BOTH, NOW).reason == "Approved"


def test_a_legal_hold_is_above_all_approvals() -> None:
    override = [approval(person, "OverrideRetention") for person in ("anna", "ben")]
    held = replace(CASE, retention=Retention(legal_hold=True))
    assert judge(held, [*BOTH, *override], NOW).reason == "LegalHold"
    assert judge(CASE, [*BOTH, *override], NOW).reason == "Approved"


def test_retention_holds_to_the_day() -> None:
    ten = replace(CASE, retention=Retention(minimum_years=10), newest=NOW.replace(year=2016))
    assert judge(ten, BOTH, NOW).reason == "Approved"
    younger = replace(ten, newest=ten.newest + timedelta(seconds=1))
    verdict = judge(younger, BOTH, NOW)
    assert (verdict.reason, verdict.until) == ("RetentionNotOver", NOW + timedelta(seconds=1))
    assert "a test says so" in verdict.message


def test_retention_gives_way_to_its_own_two_approvals() -> None:
    ten = replace(CASE, retention=Retention(minimum_years=10), newest=NOW)
    one = approval("carl", "OverrideRetention")
    assert judge(ten, [*BOTH, one], NOW).reason == "RetentionNotOver"
    assert judge(ten, [*BOTH, one, approval("dora", "OverrideRetention")], NOW).reason == "Approved"
    assert judge(ten, [one, approval("dora", "OverrideRetention")], NOW).reason == "ApprovalsMissing"


def test_leap_day() -> None:
    born = datetime(2024, 2, 29, tzinfo=UTC)
    one = replace(CASE, retention=Retention(minimum_years=1), newest=born)
    assert judge(one, BOTH, datetime(2025, 2, 28, 23, tzinfo=UTC)).until == datetime(2025, 3, 1, tzinfo=UTC)


def test_an_encrypted_archive_needs_consent_to_shred_too() -> None:
    encrypted = replace(CASE, encrypted=True)
    verdict = judge(encrypted, BOTH, NOW)
    assert verdict.reason == "ApprovalsMissing"
    assert "Shred has 0 of 2" in verdict.message
    shred = [approval(person, "Shred") for person in ("anna", "ben")]
    assert judge(encrypted, [*BOTH, *shred], NOW).reason == "Approved"


def test_without_encryption_it_is_said_that_nothing_can_be_shredded() -> None:
    assert "no key can be shredded: only the volumes are deleted" in judge(CASE, BOTH, NOW).message


@given(st.lists(st.tuples(st.sampled_from(["anna", "ANNA", "ben", "carl"]), st.floats(0, 200)), max_size=8))
def test_never_by_less_than_two(given_by: list[tuple[str, float]]) -> None:
    approvals = [approval(person, hours_ago=hours) for person, hours in given_by]
    valid = {person.casefold() for person, hours in given_by if hours < 144}
    found = consent(approvals, "Delete", SUBJECT, NOW)
    assert found.complete == (len(valid) >= 2)
    assert judge(CASE, approvals, NOW).agreed == (len(valid) >= 2)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("approver", "system:serviceaccount:ci:deployer", "is no person"),
        ("approver", "", "at least 1 character"),
        ("act", "Rename", "'Delete', 'Shred', 'OverrideRetention' or 'BreakGlass'"),
        ("lineageID", "xyz", "should match pattern"),
        ("expiresAt", "tomorrow", "expiresAt"),
        ("expiresAt", "2026-11-25T08:00:00", "timezone"),
        ("reason", "why not", "at least 10 characters"),
        ("archiveUID", "", "at least 1 character"),
    ],
)
def test_bad_input(field: str, value: str, words: str) -> None:
    document = approval().spec.document()
    assert parse(ApprovalSpec, document, "spec").approver == "anna"
    with pytest.raises(InvalidSpecError) as caught:
        parse(ApprovalSpec, {**document, field: value}, "spec")
    assert words in str(caught.value)
