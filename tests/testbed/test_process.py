"""Daemons are remembered by id and start time: nobody else's process is ever taken for ours."""

from pathlib import Path

from .conftest import Run


def test_a_process_is_started_once_and_stopped_for_good(shell: Run) -> None:
    answer = shell("""
        process_start sleeper sleep 60; first=$(process_pid sleeper)
        process_start sleeper sleep 60; [ "$(process_pid sleeper)" = "$first" ]
        process_stop sleeper
        ! process_alive sleeper
        [ ! -e "/proc/$first" ] || [ "$(awk '{print $3}' "/proc/$first/stat")" = Z ]
        [ ! -e "$PROCESS_DIR/sleeper" ]
    """)
    assert answer.returncode == 0, answer.stderr


def test_a_number_that_was_given_to_somebody_else_is_left_alone(shell: Run) -> None:
    answer = shell("""
        sleep 60 & other=$!
        mkdir -p "$PROCESS_DIR"; echo "$other 1" >"$PROCESS_DIR/etcd"
        ! process_alive etcd
        process_stop etcd
        kill -0 "$other"
        kill "$other"
    """)
    assert answer.returncode == 0, answer.stderr


def test_leftovers_of_a_reboot_are_forgotten(shell: Run, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "run"
    folder.mkdir(parents=True)
    (folder / "etcd").write_text("4194999 123\n")
    (folder / "kubelet").write_text("")
    answer = shell("clear_leftovers")
    assert answer.returncode == 0, answer.stderr
    assert list(folder.iterdir()) == []


def test_a_process_that_dies_while_starting_shows_its_log(shell: Run) -> None:
    answer = shell("""
        process_start etcd bash -c 'echo "cannot bind 127.0.0.1:2379"; exit 1'
        process_serves etcd 20 false
    """)
    assert answer.returncode == 1
    assert "etcd ended while it started" in answer.stderr
    assert "cannot bind 127.0.0.1:2379" in answer.stderr


def test_a_condition_that_never_comes_is_named(shell: Run) -> None:
    answer = shell('until_ok 0 "the moon is full" false')
    assert answer.returncode == 1
    assert "the moon is full: not reached within 0 s" in answer.stderr
