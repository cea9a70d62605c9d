"""A wrong command line says what is wrong, ends with 2 and changes nothing."""

from pathlib import Path

import pytest

from .conftest import Run

WRONG = [
    ((), "Usage:"),
    (("restart",), "unknown command 'restart'"),
    (("start", "now"), "start takes no argument 'now'"),
    (("stop", "--soft"), "stop knows no '--soft'"),
    (("wipe", "--all"), "wipe knows no '--all'"),
    (("load-image",), "load-image needs ARCHIVE"),
    (("push", "a.tar"), "push needs SOURCE and NAME"),
    (("push", "a.tar", "Upper Case"), "'Upper Case' is no image name"),
    (("modality",), "modality needs one of"),
    (("modality", "rename", "ct1"), "modality knows no 'rename'"),
    (("modality", "add", "ct1"), "modality add needs NAME and ADDRESS"),
    (("modality", "add", "CT1", "198.18.10.11"), "'CT1' is no modality name"),
    (("modality", "add", "a-name-too-long", "198.18.10.11"), "'a-name-too-long' is no modality name"),
    (("modality", "add", "ct1", "198.18.0.11"), "'198.18.0.11' is no modality address"),
    (("modality", "add", "ct1", "198.18.10.1"), "'198.18.10.1' is no modality address"),
    (("modality", "add", "ct1", "198.18.300.11"), "'198.18.300.11' is no modality address"),
    (("modality", "add", "ct1", "10.0.0.11"), "'10.0.0.11' is no modality address"),
    (("modality", "exec", "ct1"), "modality exec needs NAME and COMMAND"),
    (("openbao",), "openbao needs one of"),
    (("openbao", "reset"), "openbao knows no 'reset'"),
    (("policies", "maybe"), "policies needs 'on' or 'off'"),
    (("api",), "api needs one of"),
    (("api", "restart"), "api knows no 'restart'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: " ".join(value)[:40])
def test_a_wrong_command_line_is_refused(
    testbed: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    answer = testbed(*arguments)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert answer.stdout == ""
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "state").exists()


def test_help_names_every_command(testbed: Run) -> None:
    answer = testbed("help")
    assert answer.returncode == 0
    for command in ("build", "start", "stop", "status", "wipe", "kubeconfig", "load-image", "push", "modality add",
                    "modality delete", "modality exec", "openbao seal|unseal|stop|start", "openbao env",
                    "policies on|off", "api start|stop|kubeconfig"):  # fmt: skip
        assert command in answer.stdout


def test_status_without_a_cluster_says_so_each_time_and_makes_nothing(testbed: Run, tmp_path: Path) -> None:
    first, second = testbed("status"), testbed("status")
    assert first.returncode == second.returncode == 1
    assert first.stdout == second.stdout
    assert first.stdout.count("STOPPED") == len(first.stdout.splitlines()) > 5
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("arguments", [("kubeconfig",), ("openbao", "env"), ("openbao", "seal"), ("policies", "on")])
def test_what_needs_a_cluster_names_the_way_out(testbed: Run, arguments: tuple[str, ...]) -> None:
    answer = testbed(*arguments)
    assert answer.returncode == 1
    assert "run: testbed start" in answer.stderr


def test_wipe_leaves_a_folder_alone_that_is_not_its_own(testbed: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "state" / "thesis.txt"
    foreign.parent.mkdir()
    foreign.write_text("ten years of work")
    answer = testbed("wipe")
    assert answer.returncode == 1
    assert "not a state folder of the testbed" in answer.stderr
    assert foreign.read_text() == "ten years of work"


def test_api_stop_leaves_a_folder_alone_that_is_not_its_own(testbed: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "api" / "thesis.txt"
    foreign.parent.mkdir()
    foreign.write_text("ten years of work")
    answer = testbed("api", "stop")
    assert answer.returncode == 1
    assert "not a state folder of testbed api" in answer.stderr
    assert foreign.exists()
