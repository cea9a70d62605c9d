"""A run on a contained archive: what can be asked is asked, the rest is not taken for an outage."""

from pacs_operator.domain.checkcatalog import NETWORK_CHECKS
from pacs_operator.domain.checks import CONTAINED, Check
from pacs_operator.domain.results import CheckResult, RunResult
from pacs_operator.probes.gatechecks import ATTACKS
from pacs_operator.probes.run import Run
from pacs_operator.probes.setting import prepared
from tests.probes.conftest import World

PROVEN = {
    Check.GATE_REPLICAS,
    *ATTACKS,
    *NETWORK_CHECKS,
    Check.CONTROL_FOREIGN_REFUSED,
    Check.CONTROL_ROUTE_REFUSED,
}


def run_on(world: World) -> tuple[RunResult, dict[Check, CheckResult]]:
    with prepared(world.start().model_copy(update={"contained": True})) as setting:
        result = Run(setting).go()
    return result, {Check(each.check): each for each in result.checks}


def test_what_a_contained_archive_can_be_asked_passes_and_nothing_fails(world: World) -> None:
    world.weak.contained = True
    result, found = run_on(world)
    assert {check for check, each in found.items() if each.outcome == "Passed"} == PROVEN
    assert {each.code for check, each in found.items() if check not in PROVEN} == {CONTAINED}
    assert {each.outcome for check, each in found.items() if check not in PROVEN} == {"NotRun"}
    assert not result.passed
    assert world.archive.objects == {}


def test_a_gate_that_is_open_all_the_same_is_found(world: World) -> None:
    _, found = run_on(world)
    assert (found[Check.ECHO].outcome, found[Check.ECHO].code) == ("Failed", "accepted")


def test_a_gate_that_refuses_everybody_alike_proves_nothing_of_the_attacks(world: World) -> None:
    world.weak.still_starting = 1000
    _, found = run_on(world)
    assert found[Check.BORROWED_AE_TITLE_REFUSED].outcome == "NotRun"
    assert found[Check.BORROWED_AE_TITLE_REFUSED].code == CONTAINED
