"""What every image promises: its user, no way up, no keys, current programs, a digest that stays."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacs_operator.render import render_archive
from tests.render.archives import containers, desired, pod_templates

from .conftest import REPOSITORY, Image

UIDS = {"operator": 10000, "archive": 10001, "gate": 10002, "database": 10003, "tools": 10000}
PROGRAMS = {
    "archive": (["/usr/sbin/Orthanc", "--version"], r"Orthanc (\d+)\.(\d+)\.\d+", (1, 13)),
    "gate": (["/usr/sbin/haproxy", "-v"], r"HAProxy version (\d+)\.(\d+)\.(\d+)", (3, 2, 26)),
    "database": (["/usr/lib/postgresql/17/bin/postgres", "--version"], r"PostgreSQL\) (\d+)\.(\d+)", (17, 0)),
    "operator": (["/opt/pacs/bin/python", "--version"], r"Python (\d+)\.(\d+)", (3, 13)),
    "tools": (["/opt/pacs/bin/python", "--version"], r"Python (\d+)\.(\d+)", (3, 13)),
}
EVERY = pytest.mark.parametrize("name", sorted(UIDS))
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{100,}-----END")


def regular_files(root: Path) -> list[Path]:
    found = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    return [path for path in found if stat.S_ISREG(path.lstat().st_mode)]


def files_with_keys(root: Path) -> list[Path]:
    return [path for path in regular_files(root) if PRIVATE_KEY.search(path.read_bytes())]


@EVERY
def test_user_is_numeric_and_known(image: Callable[[str], Image], name: str) -> None:
    one = image(name)
    assert one.configuration["User"] == f"{UIDS[name]}:{UIDS[name]}"
    rows = [line.split(":") for line in (one.root / "etc/passwd").read_text().splitlines()]
    (user,) = [row for row in rows if row[2] == str(UIDS[name])]
    if name == "database":
        assert user[0] == "postgres"


@EVERY
def test_program_runs_unprivileged_on_a_read_only_root(image: Callable[[str], Image], name: str) -> None:
    command, pattern, floor = PROGRAMS[name]
    done = image(name).run(*command)
    found = re.search(pattern, done.stdout + done.stderr)
    assert found, done.stderr
    assert tuple(map(int, found.groups())) >= floor


def test_the_sandbox_is_as_strict_as_a_restricted_pod(image: Callable[[str], Image]) -> None:
    gate = image("gate")
    state = gate.run("/usr/bin/cat", "/proc/self/status").stdout
    assert re.search(r"CapEff:\s+0+$", state, re.MULTILINE)
    assert re.search(r"NoNewPrivs:\s+1$", state, re.MULTILINE)
    refused = gate.run("/usr/bin/touch", "/tmp/x")
    assert (refused.returncode, "Read-only file system" in refused.stderr) == (1, True)


@EVERY
def test_entry_point_is_a_program_not_a_shell(image: Callable[[str], Image], name: str) -> None:
    program = image(name).root / image(name).command[0].lstrip("/")
    first = program.read_bytes()[:64].splitlines()[0]
    assert first.startswith((b"\x7fELF", b"#!/opt/pacs/bin/python"))


def test_no_pod_runs_a_shell_but_to_prepare_the_database(image: Callable[[str], Image]) -> None:
    """By the first bytes of what each container of the rendered pods starts."""
    shells = set()
    started = 0
    for _, template in pod_templates(render_archive(desired(run="r1"))):
        for container in containers(template):
            one = image(container["image"].rpartition("/")[2].partition("@")[0])
            program = (container.get("command") or one.command)[0]
            first = (one.root / program.lstrip("/")).read_bytes()[:64].splitlines()[0]
            started += 1
            if not first.startswith((b"\x7fELF", b"#!/opt/pacs/bin/python")):
                shells.add((one.name, program, first))
    assert started >= 8
    assert shells == {("database", "/opt/pacs/bin/database-init", b"#!/bin/sh")}


@EVERY
def test_no_way_up(image: Callable[[str], Image], name: str) -> None:
    """Neither setuid, setgid or file capabilities nor anything that the user could replace."""
    for path in regular_files(image(name).root):
        state = path.lstat()
        assert not state.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH), path
        assert "security.capability" not in os.listxattr(path, follow_symlinks=False), path
        assert state.st_uid != UIDS[name], path


def test_the_key_search_finds_a_planted_key(tmp_path: Path) -> None:
    subprocess.run(["openssl", "genrsa", "-out", str(tmp_path / "key.pem"), "2048"], check=True, capture_output=True)
    assert files_with_keys(tmp_path) == [tmp_path / "key.pem"]


@EVERY
def test_no_private_keys(image: Callable[[str], Image], name: str) -> None:
    assert files_with_keys(image(name).root) == []


@EVERY
def test_nothing_of_the_build_machine_is_left(image: Callable[[str], Image], name: str) -> None:
    root = image(name).root
    assert not (root / "etc/apt").exists()
    assert not (root / "pacs-build").exists()
    for file in ("etc/resolv.conf", "etc/hostname", "etc/hosts"):
        assert not (root / file).exists() or (root / file).read_text() == ""


@EVERY
def test_size_is_reported_and_bounded(built: dict[str, Any], name: str) -> None:
    assert built[name]["bytes"] == Path(built[name]["archive"]).stat().st_size
    assert built[name]["bytes"] < 120_000_000


def test_an_unchanged_recipe_keeps_its_digest(built: dict[str, Any]) -> None:
    names = ["archive", "database", "gate"]
    done = subprocess.run([str(REPOSITORY / "images/build"), *names], check=True, capture_output=True, text=True)
    assert re.findall(r" MB  (\w+)$", done.stdout, re.MULTILINE) == ["cached"] * 3
    again = json.loads((REPOSITORY / "build/images.json").read_text())
    assert {name: again[name]["digest"] for name in names} == {name: built[name]["digest"] for name in names}


@pytest.mark.parametrize(
    ("name", "program"),
    [("operator", "pacs-operator"), ("tools", "pacs-agent"), ("tools", "pacs-import"), ("tools", "pacs-probe")],
)
def test_console_scripts_and_their_imports(image: Callable[[str], Image], name: str, program: str) -> None:
    one = image(name)
    assert (one.root / "opt/pacs/bin" / program).stat().st_mode & 0o111
    checked = one.run("/opt/pacs/bin/python", "-c", "import pacs_operator, pydantic; print(pacs_operator.__file__)")
    assert checked.stdout.startswith("/opt/pacs/lib/"), checked.stderr


def test_each_image_has_only_its_own_programs(image: Callable[[str], Image]) -> None:
    found = {
        name: {path.name for path in (image(name).root / "opt/pacs/bin").glob("pacs-*")}
        for name in ("operator", "tools")
    }
    assert found == {"operator": {"pacs-operator"}, "tools": {"pacs-agent", "pacs-import", "pacs-probe"}}
