"""What names a folder of the cache, and that a half-finished build never gets that name."""

import re
from pathlib import Path

import pytest

from .conftest import TESTBED, Run

GO_MODULES = sorted(path.parent.name for path in TESTBED.glob("build/*/go.mod"))


def key(shell: Run, component: str) -> str:
    answer = shell(f"component_key {component}")
    assert answer.returncode == 0, answer.stderr
    assert re.fullmatch("[0-9a-f]{64}\n", answer.stdout)
    return str(answer.stdout.strip())


@pytest.mark.parametrize(
    ("component", "file"),
    [("kubernetes", "go.mod"), ("cilium", "go.sum"), ("helm", "recipe"), ("registry", "main.go"),
     ("pause", "pause.c"), ("openbao", "requirements.txt")],
)  # fmt: skip
def test_the_key_follows_each_file(shell: Run, copy: Path, component: str, file: str) -> None:
    before = key(shell, component)
    assert key(shell, component) == before
    path = copy / "build" / component / file
    original = path.read_text()
    path.write_text(original + "\n")
    assert key(shell, component) != before
    path.write_text(original)
    assert key(shell, component) == before


def test_the_key_of_one_component_leaves_the_others_alone(shell: Run, copy: Path) -> None:
    before = key(shell, "cilium")
    path = copy / "build" / "kubernetes" / "go.mod"
    path.write_text(path.read_text() + "\n")
    assert key(shell, "cilium") == before


def test_the_key_follows_the_toolchain(shell: Run) -> None:
    plain = shell("component_key coredns").stdout
    other = shell('toolchain() { echo "go0.0"; }; component_key coredns').stdout
    assert plain != other


def test_a_toolchain_that_cannot_be_asked_is_not_taken_for_a_full_cache(shell: Run) -> None:
    older = 'mkdir -p "$CACHE/coredns/of-another-version"; '
    assert shell(f"{older} go() {{ return 1; }}; missing_components coredns").stdout == "coredns\n"
    for act in ("component_dir coredns", "build_component coredns", 'link_binaries "$STATE/bin" coredns'):
        answer = shell(f"go() {{ return 1; }}; {act}")
        assert answer.returncode == 1, act
        assert "cannot tell what builds 'coredns'" in answer.stderr, act


def test_the_cache_does_not_depend_on_the_checkout(shell: Run, copy: Path, tmp_path: Path) -> None:
    before = key(shell, "kubernetes")
    moved = copy.rename(tmp_path / "elsewhere")
    copy.symlink_to(moved)
    assert key(shell, "kubernetes") == before


def test_a_failed_build_is_not_taken_for_a_finished_one(shell: Run, tmp_path: Path) -> None:
    broken = 'build_module() { echo half >"$2/coredns"; die "building coredns failed" "see above"; }'
    answer = shell(f"{broken}; build_component coredns")
    assert answer.returncode == 1
    assert "building coredns failed" in answer.stderr
    assert shell("missing_components coredns").stdout == "coredns\n"
    whole = 'build_module() { [ ! -e "$2/coredns" ]; echo whole >"$2/coredns"; }'
    assert shell(f"{whole}; build_component coredns").returncode == 0
    assert shell("missing_components coredns").stdout == ""
    (built,) = (tmp_path / "cache" / "coredns").glob("*/coredns")
    assert built.read_text() == "whole\n"


def test_what_is_in_the_cache_is_not_built_again(shell: Run) -> None:
    whole = 'build_module() { echo built >&2; echo x >"$2/helm"; }'
    assert "built" in shell(f"{whole}; build_components helm").stderr
    again = shell("build_module() { die again; }; build_components helm")
    assert again.returncode == 0
    assert again.stderr == ""


@pytest.mark.parametrize("module", GO_MODULES)
def test_every_module_has_its_sums_and_its_recipe(module: str) -> None:
    folder = TESTBED / "build" / module
    assert (folder / "go.sum").stat().st_size > 0
    words = {line.split()[0] for line in (folder / "recipe").read_text().splitlines() if line and line[0] != "#"}
    assert "build" in words
    assert words <= {"build", "copy", "ldflags"}


def test_nothing_is_resolved_anew_at_build_time() -> None:
    text = (TESTBED / "lib" / "build.sh").read_text()
    assert "-mod=readonly" in text
    assert "go mod tidy" not in text
    assert "go get" not in text


@pytest.mark.parametrize(
    ("module", "package", "flag"),
    [("kubernetes", "k8s.io/kubernetes", "version.gitVersion="), ("helm", "helm.sh/helm/v3", "version.version=")],
)
def test_the_version_a_binary_tells_is_the_one_it_is_built_from(module: str, package: str, flag: str) -> None:
    folder = TESTBED / "build" / module
    required = re.search(rf"{re.escape(package)} (v\S+)", (folder / "go.mod").read_text())
    told = re.search(rf"{re.escape(flag)}(v\S+)", (folder / "recipe").read_text())
    assert required
    assert told
    assert told[1] == required[1]
