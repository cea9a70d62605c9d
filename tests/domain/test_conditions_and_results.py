"""Conditions keep their time while nothing changes; results survive the termination message or say they did not."""

import base64
import json
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from pacs_operator.domain.agentconfig import AgentStatus
from pacs_operator.domain.checks import Check
from pacs_operator.domain.conditions import Condition, ConditionType, merge
from pacs_operator.domain.results import CheckResult, RunResult, listed_code

T0 = datetime(2026, 11, 1, tzinfo=UTC)
T1 = datetime(2026, 11, 2, tzinfo=UTC)
LEAF = {
    "name": "control",
    "ca": "control",
    "serial": "0a",
    "not_before": "2026-11-01T00:00:00Z",
    "not_after": "2026-11-08T00:00:00Z",
    "sha256": "00" * 32,
    "dns_names": ["gate.radiology-edge.svc"],
}


def ready(status: str, generation: int = 1) -> Condition:
    return Condition(
        type=ConditionType.READY, status=status, reason="Because", message="", observed_generation=generation
    )


def test_time_changes_with_the_status_only() -> None:
    first = merge([], [ready("False")], T0)
    assert first[0].last_transition_time == "2026-11-01T00:00:00Z"
    same = merge(first, [ready("False", 2)], T1)
    assert same[0].last_transition_time == "2026-11-01T00:00:00Z"
    assert same[0].observed_generation == 2
    assert merge(same, [ready("True", 2)], T1)[0].last_transition_time == "2026-11-02T00:00:00Z"


def test_what_this_pass_did_not_look_at_stays() -> None:
    kept = merge(merge([], [ready("True")], T0), [], T1)
    assert [condition.type for condition in kept] == [ConditionType.READY]


def passed(check: Check, **more: Any) -> CheckResult:
    told: dict[str, Any] = {"layer": "tls", "code": "alert-certificate-required", "twin": "Served", "millis": 239_999}
    return CheckResult(**{"check": check, "outcome": "Passed", **told, **more})


def run(*but: CheckResult) -> RunResult:
    """Return a run in which all passed, but what is said otherwise."""
    other = {check.check: check for check in but}
    return RunResult(run="r1", replicas=2, checks=[other.get(check, passed(check)) for check in Check])


def message(document: Any) -> str:
    return base64.b85encode(zlib.compress(json.dumps(document).encode(), 9)).decode()


def test_a_result_comes_back_whole_and_small() -> None:
    result = run()
    assert len(result.to_message()) <= 4096
    assert RunResult.from_message(result.to_message()) == result


def test_a_truncated_or_foreign_message_is_no_result() -> None:
    for text in (run().to_message()[:-10], "", "OK", "panic: runtime error"):
        with pytest.raises(ValueError, match="not a conformance result"):
            RunResult.from_message(text)


@pytest.mark.parametrize(
    "told",
    [
        {"check": "DOE^JANE"},
        {"layer": "DOE^JANE"},
        {"code": "DOE^JANE"},
        {"code": "doe-jane"},
        {"code": "held-doe"},
        {"code": "alert-doe"},
        {"code": "timeout\n"},
        {"code": "held-10000000"},
        {"twin": "DOE^JANE"},
        {"outcome": "DOE^JANE"},
        {"millis": -1},
        {"millis": 10**12},
        {"name": "DOE^JANE"},
    ],
)
def test_a_probe_that_was_taken_over_gets_no_text_into_the_status(told: dict[str, Any]) -> None:
    known: dict[str, Any] = run().document()
    assert RunResult.from_message(message(known)) == run()
    first, *others = known["checks"]
    with pytest.raises(ValueError, match="not a conformance result"):
        RunResult.from_message(message({**known, "checks": [{**first, **told}, *others]}))


def test_a_probe_that_was_taken_over_cannot_tell_more_than_there_is() -> None:
    known: dict[str, Any] = run().document()
    first, *others = known["checks"]
    for told in (
        {"checks": [first, first, *others]},
        {"checks": [first, first, *others[1:]]},
        {"replicas": 10**6},
        {"replicas": -1},
        {"run": "DOE^JANE"},
        {"run": "r" * 64},
    ):
        with pytest.raises(ValueError, match="not a conformance result"):
            RunResult.from_message(message({**known, **told}))


def test_a_message_that_unpacks_to_a_mountain_is_no_result() -> None:
    for raw in (b"[" * 1_000_000, b" " * 2_000_000 + b"{}"):
        text = base64.b85encode(zlib.compress(raw, 9)).decode()
        assert len(text) <= 4096
        with pytest.raises(ValueError, match="not a conformance result"):
            RunResult.from_message(text)


def test_an_answer_without_a_word_is_told_as_such() -> None:
    assert [listed_code(code) for code in ("held-3", "alert-hearing-impaired", None)] == ["held-3", "other", None]


def test_only_a_whole_run_in_which_all_passed_is_passed() -> None:
    assert run().passed
    assert not RunResult(run="r", replicas=1, checks=[]).passed
    for check in Check:
        short = [passed(other) for other in Check if other is not check]
        assert not RunResult(run="r", replicas=1, checks=short).passed
    for outcome in ("Failed", "NotRun"):
        assert not run(passed(Check.ECHO, outcome=outcome)).passed


@pytest.mark.parametrize(
    "told",
    [
        {"problems": {"neighbour": "Müller^Hans could not be stored"}},
        {"problems": {"peers": "patient DOE^JANE"}},
        {"crl_next_update": {"peers": "soon"}},
        {"peers": [{"id": "imaging/ct1", "last_store": "yesterday, DOE^JANE"}]},
        {"peers": [{"id": "imaging/ct1", "last_rejection_reason": "DOE^JANE"}]},
        {"peers": [{"id": "imaging/ct1", "last_rejection_reason": "R" * 64}]},
        {"peers": [{"id": "Müller^Hans"}]},
        {"peers": [{"id": "imaging/ct1", "stores": 10**400}]},
        {"peers": [{"id": f"imaging/{number}"} for number in range(300)]},
        {"crl_next_update": {"peers": "2026-99-99T99:99:99Z"}},
        {"crl_next_update": {"peers": "9999-12-31T23:59:59Z"}},
        {"crl_next_update": {"peers": "0001-01-01T00:00:00Z"}},
        {"crl_next_update": {"peers": "2026-11-20T07:00:0\u0661Z"}},
        {"problems": {"DOE^JANE": "VaultSealed"}},
        {"problems": {f"leaf/{number}": "VaultSealed" for number in range(100)}},
        {"version": "DOE^JANE"},
        {"version": "1" * 100},
        {"peers_revision": "r" * 100},
        {"leaves": [{**LEAF, "name": "Müller^Hans"}]},
        {"leaves": [{**LEAF, "name": "x" * 33}]},
        {"leaves": [{**LEAF, "sha256": "DOE^JANE"}]},
        {"leaves": [{**LEAF, "dns_names": ["x" * 300]}]},
        {"leaves": [{**LEAF, "name": f"leaf-{number}"} for number in range(100)]},
    ],
)
def test_an_agent_that_was_taken_over_gets_no_text_into_the_status(told: dict[str, Any]) -> None:
    known = {"component": "gate", "version": "9", "ready": True, "leaves": [LEAF]}
    assert AgentStatus.model_validate(known)
    with pytest.raises(ValidationError):
        AgentStatus.model_validate({**known, **told})


def test_an_agent_of_a_later_release_may_tell_more() -> None:
    known = {"component": "gate", "version": "9", "ready": True, "leaves": []}
    assert AgentStatus.model_validate({**known, "mood": "good"}) == AgentStatus.model_validate(known)
