"""The command of the conformance pod: exit code, termination message, and a table without patient data."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pacs_operator.domain.checks import Check
from pacs_operator.domain.conformanceconfig import ConformanceConfig
from pacs_operator.domain.names import PROBE_PATIENT_PREFIX, PROBE_UID_ROOT
from pacs_operator.domain.results import CheckResult, Outcome, RunResult
from pacs_operator.probes.__main__ import app, exit_code
from pacs_operator.probes.objects import CHARACTER_SETS
from tests.probes.conftest import World


def invoke(tmp_path: Path, config: ConformanceConfig | dict[str, object]) -> tuple[int, str, Path]:
    document = config.document() if isinstance(config, ConformanceConfig) else config
    file, log = tmp_path / "conformance.json", tmp_path / "termination-log"
    file.write_text(json.dumps(document))
    done = CliRunner().invoke(app, ["conformance", "--config", str(file), "--termination-log", str(log)])
    return done.exit_code, done.output, log


def test_a_failed_run_exits_1_and_leaves_its_result_without_patient_data(world: World, tmp_path: Path) -> None:
    world.weak.any_called = True
    status, output, log = invoke(tmp_path, world.start())
    assert status == 1, output
    result = RunResult.from_message(log.read_text())
    failed = {each.check for each in result.checks if each.outcome == "Failed"}
    assert failed == {"WrongCalledAETitleRefused", "CalledAETitleCaseRefused"}
    assert "WrongCalledAETitleRefused" in output
    told = output + json.dumps(result.document())
    for secret in (PROBE_PATIENT_PREFIX, PROBE_UID_ROOT, *(name for _, name in CHARACTER_SETS), "Probe^Conformance"):
        assert secret not in told


def test_without_certificates_it_exits_2_and_says_what_is_missing(world: World, tmp_path: Path) -> None:
    config = world.start()
    (world.folder / "peer.key").unlink()
    status, output, log = invoke(tmp_path, config)
    assert status == 2
    assert "ProbeCannotRun" in output
    assert "peer.key" in output
    assert not log.exists()


def test_a_wrong_configuration_exits_2_and_names_the_field(tmp_path: Path) -> None:
    status, output, _ = invoke(tmp_path, {"run": "NOT VALID", "surprise": 1})
    assert status == 2
    assert "run" in output
    assert "surprise" in output
    assert "Traceback" not in output


WHOLE: tuple[Outcome, ...] = tuple("Passed" for _ in Check)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((), 2),
        (WHOLE, 0),
        (WHOLE[1:], 2),
        ((*WHOLE[1:], "NotRun"), 2),
        (("NotRun", "Failed"), 1),
        ((*WHOLE[1:], "Failed"), 1),
    ],
)
def test_only_a_whole_run_in_which_all_passed_exits_0(outcomes: tuple[Outcome, ...], expected: int) -> None:
    checks = [CheckResult(check=check, outcome=outcome) for check, outcome in zip(Check, outcomes, strict=False)]
    assert exit_code(RunResult(run="r", replicas=1, checks=checks)) == expected
