"""The builder's promises that need no build: pins, recipe hash, messages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import REPOSITORY

from builder import recipes  # isort: skip
from builder.base import SUITES, base, source_lines
from builder.recipes import RECIPES

APT_CACHE = "#!/bin/sh\necho \"$2:\"\necho '  Installed: (none)'\necho '  Candidate: 3.0.11-1+deb13u5'\n"


def install(folder: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the recipes' install script against a package source that offers one version of everything."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in {"apt-cache": APT_CACHE, "apt-get": '#!/bin/sh\necho "apt-get $*"\n'}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (folder / "packages.txt").write_text(f"# comment\n\n{line}\n")
    return subprocess.run(
        [str(REPOSITORY / "images/common/install"), str(folder / "packages.txt")],
        env={"PATH": f"{programs}:{os.environ['PATH']}", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_builder_of_ones_own_gets_the_same_suite(name: str) -> None:
    text = (REPOSITORY / "images" / name / "Containerfile").read_text()
    assert f"ARG BASE=docker.io/library/debian:{RECIPES[name].suite}-slim\n" in text
    readme = (REPOSITORY / "README.md").read_text()
    assert f"`{name}`" in readme
    # What the Containerfile copies from the context is what .dockerignore lets into it.
    let_in = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert copied
    assert all(source.split("/")[0] in let_in for sources in copied for source in sources)


@pytest.mark.parametrize("line", ["haproxy>=3.0.11-1", "haproxy=3.0.11-1+deb13u5"])
def test_a_pin_that_is_met_installs_exactly_what_was_judged(tmp_path: Path, line: str) -> None:
    done = install(tmp_path, line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(" haproxy=3.0.11-1+deb13u5")


@pytest.mark.parametrize("line", ["haproxy>=3.0.12-1", "haproxy=3.0.11-1+deb13u4"])
def test_a_pin_that_is_not_met_is_refused_with_the_way_out(tmp_path: Path, line: str) -> None:
    done = install(tmp_path, line)
    rule = line.removeprefix("haproxy")
    assert done.returncode == 1
    assert f"PackagePinNotMet: haproxy: {rule} is wanted, the package source offers 3.0.11-1+deb13u5." in done.stderr
    assert "PACS_IMAGES_UNPINNED=1" in done.stderr
    assert install(tmp_path, line, PACS_IMAGES_UNPINNED="1").returncode == 0


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    assert "'haproxy~3' is neither NAME>=VERSION nor NAME=VERSION" in install(tmp_path, "haproxy~3").stderr


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the operator image is made of."""
    for part in ("images/common", "images/operator"):
        shutil.copytree(REPOSITORY / part, tmp_path / part)
    for part in ("requirements/operator.txt", "pyproject.toml", "operator/pacs_operator/__init__.py"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / part, tmp_path / part)
    monkeypatch.setattr(recipes, "REPOSITORY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "changed",
    [
        "images/common/finish",
        "images/operator/Containerfile",
        "requirements/operator.txt",
        "operator/pacs_operator/new.py",
    ],
)
def test_a_recipe_changes_with_each_of_its_inputs(tree: Path, changed: str) -> None:
    recipe = RECIPES["operator"]
    before = recipe.key("base", unpinned=False)
    with (tree / changed).open("a") as stream:
        stream.write("\n# changed\n")
    assert recipe.key("base", unpinned=False) != before


def test_a_recipe_ignores_what_is_no_input(tree: Path) -> None:
    recipe = RECIPES["operator"]
    before = recipe.key("base", unpinned=False)
    for path in ("operator/pacs_operator/__pycache__/x.pyc", "images/tools/Containerfile", "README.md"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text("changed")
    assert recipe.key("base", unpinned=False) == before
    assert recipe.key("another base", unpinned=False) != before
    assert recipe.key("base", unpinned=True) != before


def test_a_stable_suite_takes_its_security_fixes() -> None:
    found = {"Debian": "http://mirror.example/debian/", "Debian-Security": "http://mirror.example/security/"}
    assert "deb http://mirror.example/security/ trixie-security main" in source_lines(SUITES["trixie"], found)
    assert source_lines(SUITES["forky"], found) == ["deb http://mirror.example/debian/ forky main"]


def test_an_unknown_image_is_named_with_the_known_ones() -> None:
    done = subprocess.run([str(REPOSITORY / "images/build"), "gates"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "UnknownImage: there is no image 'gates'\n  Choose from: archive, gate" in done.stderr


def test_shell_programs_are_clean() -> None:
    scripts = [str(REPOSITORY / "images" / name) for name in ("common/install", "common/finish", "database/init")]
    subprocess.run(["shellcheck", *scripts], check=True)


def test_the_words_of_the_readme_build_an_image(tmp_path: Path) -> None:
    """Context, file and base argument, by buildah itself on a base from the builder's cache."""
    [line] = re.findall(r"^podman (build .+)$", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    cache = Path(os.environ.get("PACS_IMAGES_CACHE", "/var/cache/pacs-images"))
    archive, _ = base(SUITES["forky"], cache, refresh=False)
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    # Plain copies: the overlay driver leaves mounts behind.
    store = ["--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    here = ["--isolation", "chroot", "--pull-never", "--signature-policy", str(policy)]

    def build(*words: str) -> None:
        command = ["buildah", *store, "build", *here, *words]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=300)

    try:
        build("-t", "localhost/base:forky", str(archive.parent))
        build("--build-arg", "BASE=localhost/base:forky", *line.split()[1:])
        shown = subprocess.run(["buildah", *store, "images", "--quiet"], check=True, capture_output=True, text=True)
        assert len(shown.stdout.split()) == 2
    finally:
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
