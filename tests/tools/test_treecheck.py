"""The tree check sees what it is for, each beside a line that differs in that one thing and passes."""

import importlib.util
import json
import secrets
import string
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


treecheck = load("treecheck")


def drawn(count: int) -> str:
    """Return characters as a credential has them; drawn, so that this file holds none."""
    return "Aa1" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count - 3))


def found(root: Path, line: str, name: str = "notes.txt") -> list[str]:
    (root / name).write_text(f"first\n{line}\nlast\n")
    return [str(finding) for finding in treecheck.findings([name], root)]


MARK = "-----BEGIN {} KEY-----"
SECRETS = {
    "private key": (MARK.format("EC PRIVATE"), MARK.format("PUBLIC"), "Private Key"),
    "Vault token": (f"hvs.{drawn(40)}", f"hvx.{drawn(40)}", "Vault Token"),
    "OpenBao token": (f"token s.{drawn(24)}", f"token x.{drawn(24)}", "Vault Token"),
    "cloud key": ("AKIA" + "Q2" * 8, "AKIB" + "Q2" * 8, "AWS Access Key"),
    "code host": (f"ghp_{drawn(36)}", f"ghq_{drawn(36)}", "GitHub Token"),
    "password": (f'password = "{drawn(12)}"', f'passage = "{drawn(12)}"', "Secret Keyword"),
    "login in an address": (f"https://me:{drawn(12)}@vault.example", "https://vault.example", "Basic Auth Credentials"),
}


@pytest.mark.parametrize(("bad", "good", "kind"), SECRETS.values(), ids=SECRETS)
def test_a_secret_is_found_and_not_repeated(tmp_path: Path, bad: str, good: str, kind: str) -> None:
    assert found(tmp_path, good) == []
    lines = found(tmp_path, bad)
    assert f"notes.txt:2: looks like a secret ({kind}): revoke it, then remove it" in lines
    assert not any(bad in line for line in lines)


STRANGERS = {
    "package host": ("index: https://pypi." + "org/simple", "index: https://registry.example/simple"),
    "module proxy": ("GOPROXY=https://proxy.golang" + ".org", "GOPROXY=https://proxy.example"),
    "shared folder": ("cd /" + "tmp/build", 'cd "$(mktemp -d)"'),
    "a person's folder": ("open /" + "home/someone/archive", "open $HOME/archive"),
    "a checkout": ("see /" + "work/main", "see docs/" + "work/main"),
}


@pytest.mark.parametrize(("bad", "good"), STRANGERS.values(), ids=STRANGERS)
def test_a_strange_host_or_path_is_found(tmp_path: Path, bad: str, good: str) -> None:
    assert found(tmp_path, good) == []
    [line] = found(tmp_path, bad)
    assert line.startswith("notes.txt:2: names ")


COMMIT_ID = secrets.token_hex(20)
RECORDS = {
    "the commit of a proof": ("docs/proof/a.json", {"commit": {"id": COMMIT_ID, "short": "1"}}, 0),
    "the commit in short": ("docs/proof/a.json", {"commit": COMMIT_ID}, 0),
    "another key": ("docs/proof/a.json", {"token": {"id": COMMIT_ID, "short": "1"}}, 1),
    "another key beside it": ("docs/proof/a.json", {"commit": {"id": COMMIT_ID}, "other": secrets.token_hex(20)}, 1),
    "no commit's length": ("docs/proof/a.json", {"commit": {"id": secrets.token_hex(24)}}, 1),
    "another folder": ("docs/a.json", {"commit": {"id": COMMIT_ID, "short": "1"}}, 1),
    "another form": ("docs/proof/a.yaml", {"commit": {"id": COMMIT_ID, "short": "1"}}, 1),
}


@pytest.mark.parametrize(("name", "document", "count"), RECORDS.values(), ids=RECORDS)
def test_the_commit_a_proof_speaks_of_is_no_secret(
    tmp_path: Path, name: str, document: dict[str, object], count: int
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document, indent=1))
    assert len(list(treecheck.findings([name], tmp_path))) == count


def test_python_has_a_longest_file(tmp_path: Path) -> None:
    lines = "\n" * (treecheck.MOST_LINES - 3)  # and the one before, the one after, the end of the middle one
    assert found(tmp_path, lines, "fits.py") == []
    assert found(tmp_path, lines + "\n", "long.py") == [
        f"long.py:401: 401 lines; Python files have at most {treecheck.MOST_LINES}: split it by concern"
    ]
    assert found(tmp_path, lines + "\n", "long.yaml") == []


def test_an_allowance_covers_its_line_alone(tmp_path: Path) -> None:
    place = "cd /" + "tmp/"
    (tmp_path / "a").write_text(f"{place}ours\n{place}theirs\n")
    both = list(treecheck.findings(["a"], tmp_path))
    allowance = treecheck.Allowance("a", "ours$", "a reason")
    [line] = treecheck.refused(both, [allowance])
    assert line.startswith("a:2: ")
    assert treecheck.refused(both[1:], [allowance])[-1] == "the allowance 'ours$' for a allows nothing: remove it"


def test_what_git_ignores_is_not_read_and_what_it_would_track_is(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for name in (".gitignore", "ignored", "seen"):
        (tmp_path / name).write_text("ignored\n")
    assert treecheck.tracked(tmp_path) == [".gitignore", "seen"]
