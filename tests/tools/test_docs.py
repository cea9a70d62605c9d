"""Pages say what is there: tables made from code are current, what they name exists, what they show works."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pacs_operator.domain.checks import Check

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WRITTEN = [page for page in PAGES if "proof" not in page.parts]
DEPLOY = ROOT / "deploy" / "vault"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_tables_are_what_the_code_says() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "pages.py", "--check"], check=True)


def test_a_page_that_is_not_current_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import pages  # type: ignore[import-not-found]

    page = text_of(ROOT / "docs" / "architecture.md")
    assert pages.architecture(page.replace("TCP 2762", "TCP 104")) == page
    with pytest.raises(ValueError, match="no place for connections"):
        pages.architecture(page.replace("<!-- connections", "<!-- gone"))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_named_tests_exist(page: Path) -> None:
    for file, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text_of(page)):
        assert (ROOT / file).is_file(), file
        tree = ast.parse(text_of(ROOT / file))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not function or function in defined, f"{file} has no {function}"


def test_the_security_model_names_real_checks() -> None:
    text = text_of(ROOT / "docs" / "security-model.md")
    named = [
        name
        for sentence in re.findall(r"[Aa]ttacked(?: from[^:|]*)?: ((?:`\w+`(?:, | and )?)+)", text)
        for name in re.findall(r"`(\w+)`", sentence)
    ]
    assert len(set(named)) >= 12
    assert set(named) <= set(Check), set(named) - set(Check)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        path, _, anchor = target.partition("#")
        assert not path.startswith(("http:", "mailto:")), target
        if path.startswith("https:"):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(text_of(file)), target


def anchors(text: str) -> set[str]:
    """Return the anchors that a Markdown reader makes of headings."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def fenced(page: Path, language: str) -> list[str]:
    """Return the blocks of one language; without one they hold commands or a drawing."""
    return [
        block
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
        if kind == language
    ]


def commands(page: Path) -> list[str]:
    """Return the lines of a page's shell examples, continued ones joined."""
    joined = [block.replace("\\\n", " ") for block in fenced(page, "")]
    return [line.strip() for block in joined for line in block.splitlines() if line.strip()]


SHOWN = [(name_of(page), command) for page in WRITTEN for command in commands(page)]
PROGRAMS = {f"deploy/vault/{name}": DEPLOY / name for name in ("bootstrap", "enrol-modality", "revoke-modality")}


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_that_pages_show_are_options(program: str) -> None:
    usage = subprocess.run([PROGRAMS[program], "--help"], capture_output=True, text=True, check=True).stdout
    shown = [command for _, command in SHOWN if program in command]
    assert shown, f"no page shows {program}"
    for command in shown:
        for option in re.findall(r"(?<=\s)--[a-z-]+", command):
            assert re.search(rf"{option}\b", usage), f"{program} knows no {option}"


def test_make_targets_that_pages_show_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {name for page in WRITTEN for name in re.findall(r"(?:`|^)make ([a-z-]+)", text_of(page), re.MULTILINE)}
    assert named >= {"demo", "test", "docs"}
    assert named <= targets, named - targets


def manifests(page: Path) -> list[dict[str, Any]]:
    return [document for block in fenced(page, "yaml") for document in yaml.safe_load_all(block)]


@pytest.mark.parametrize(
    ("page", "examples"), [("README.md", ["radiology.yaml"]), ("docs/peers.md", ["ct1.yaml", "ws1.yaml", "us7.yaml"])]
)
def test_a_manifest_on_a_page_is_an_example(page: str, examples: list[str]) -> None:
    applied = [one for name in examples for one in yaml.safe_load_all(text_of(ROOT / "examples" / name))]
    shown = manifests(ROOT / page)
    assert shown
    assert all(manifest in applied for manifest in shown)


@pytest.mark.parametrize("record", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_has_its_parts_and_stays_short(record: Path) -> None:
    text = text_of(record)
    assert len(text.splitlines()) <= 20
    assert text.startswith(f"# {int(record.name[:4])}. ")
    parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences", "Rejected"]


def test_pages_promise_no_compliance() -> None:
    for page in WRITTEN:
        for sentence in re.findall(r"[^.|\n]*\bcomplian\w+[^.|\n]*", text_of(page), re.IGNORECASE):
            assert re.search(r"\b(no|nobody|never|not)\b", sentence), f"{name_of(page)}: {sentence.strip()}"
