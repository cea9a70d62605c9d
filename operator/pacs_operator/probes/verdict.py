"""What one check came to, and how verdicts of several replicas become one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pacs_operator.domain.checks import Check, Layer
from pacs_operator.domain.results import MAX_MILLIS, CheckResult, Outcome, listed_code

Twin = Literal["Served", "NotServed", "NotNeeded"]
_WORST: tuple[Outcome, ...] = ("Failed", "NotRun", "Passed")


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check at one place."""

    outcome: Outcome
    layer: Layer | None = None
    code: str | None = None
    twin: Twin = "NotNeeded"


PASSED = Verdict("Passed")


def not_run(code: str, layer: Layer = Layer.PROBE) -> Verdict:
    """Return the verdict of a check that could not be made; never taken for a pass."""
    return Verdict("NotRun", layer, code)


def failed(layer: Layer, code: str) -> Verdict:
    """Return the verdict of a positive check that did not succeed."""
    return Verdict("Failed", layer, code)


def judge(*, attack_succeeded: bool, layer: Layer, code: str, twin_served: bool) -> Verdict:
    """Judge an attack together with its twin.

    An attack that succeeded fails whatever its twin says; a refusal proves something only while the twin is served,
    else it may just be an outage.
    """
    twin: Twin = "Served" if twin_served else "NotServed"
    if attack_succeeded:
        return Verdict("Failed", layer, code, twin)
    return Verdict("Passed" if twin_served else "NotRun", layer, code, twin)


@dataclass(frozen=True)
class Row:
    """One check at one place, for the table that a person reads.

    ``replica`` counts the gate's replicas from 1; None: the check has no replica.
    """

    check: Check
    replica: int | None
    verdict: Verdict
    millis: int


def combine(rows: Sequence[Row]) -> list[CheckResult]:
    """Return one result for each check in the catalog's order: the worst of all replicas speaks for all."""
    results = []
    for check in Check:
        mine = [row for row in rows if row.check is check]
        if mine:
            worst = min(mine, key=lambda row: _WORST.index(row.verdict.outcome))
            results.append(_result(check, worst.verdict, sum(row.millis for row in mine)))
    return results


def _result(check: Check, verdict: Verdict, millis: int) -> CheckResult:
    return CheckResult(
        check=check,
        outcome=verdict.outcome,
        layer=verdict.layer,
        code=listed_code(verdict.code),
        twin=verdict.twin,
        millis=min(millis, MAX_MILLIS),
    )
