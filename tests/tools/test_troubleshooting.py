"""The help page has an entry for each reason the program knows, and none for others."""

import ast
import re
from pathlib import Path

import pytest

from pacs_operator.agent.gatelog import Reason
from pacs_operator.domain.conditions import ConditionType
from tests.tools.reasons import UnseenReasonError, collect

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
PEERS_PAGE = ROOT / "docs" / "peers.md"
# The gate's log has an enumeration of its own; the probes' codes are in docs/conformance.md.
ELSEWHERE = ("probes", "gatelog.py")
PARTS = ("*Meanwhile:* ", "*Do:* ", "*Look:* ")


def sources() -> list[Path]:
    package = ROOT / "operator" / "pacs_operator"
    return [file for file in sorted(package.rglob("*.py")) if not set(file.parts) & set(ELSEWHERE)]


def entries() -> dict[str, str]:
    """Return each reason's text; several may share one."""
    found: dict[str, str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("**`"):
            continue
        head, _, text = line.partition(" · ")
        for reason in re.findall(r"\*\*`(\w+)`\*\*", head):
            assert reason not in found, f"{reason} has two entries"
            found[reason] = text
    return found


def test_every_reason_has_its_entry_and_no_entry_is_left_over() -> None:
    known = set(collect(sources()).conditions)
    assert len(known) > 80
    assert {"without an entry": known - entries().keys(), "unknown": entries().keys() - known} == {
        "without an entry": set(),
        "unknown": set(),
    }


def test_an_entry_names_the_conditions_it_stands_in() -> None:
    conditions = collect(sources()).conditions
    for reason, text in entries().items():
        for condition in conditions[reason]:
            assert f"{condition}=" in text.partition(":")[0], f"{reason} also stands in {condition}"


def test_an_entry_says_what_goes_on_what_to_do_and_where_to_look() -> None:
    for reason, text in entries().items():
        assert [part for part in PARTS if part in text] == list(PARTS), reason
        assert all(len(rest.strip()) > 4 for rest in re.split("|".join(map(re.escape, PARTS)), text)), reason


def test_every_condition_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in ConditionType if not re.search(rf"^##+ .*\b{kind}\b", text, re.MULTILINE)] == []


def test_every_refusal_of_association_or_object_is_explained_to_the_devices_people() -> None:
    text = PEERS_PAGE.read_text(encoding="utf-8") + PEERS_PAGE.with_name("dicomweb.md").read_text(encoding="utf-8")
    objects = re.findall(r'\("(\w+)", 0x', (ROOT / "images/archive/plugin/pacs_rules.py").read_text(encoding="utf-8"))
    assert len(objects) >= 5
    assert [reason for reason in (*Reason, *objects) if f"`{reason}`" not in text] == []


@pytest.mark.parametrize(
    "source",
    [
        'class NewError(PacsError):\n    reason = "Brand"',
        'def f():\n    raise InvalidSpecError("x", action="y", reason="Brand")',
        'def f(run):\n    run.set(ConditionType.READY, "False", "Brand", "x")',
        'def f(run):\n    why = ("Brand", "x") if run else ("Passed", "y")\n    run.set(KIND, "False", *why)',
        'def f(run):\n    report(run, "Brand")\ndef report(run, what):\n    run.set(KIND, "True", what, "x")',
        'WORD = "Brand"\ndef f():\n    return Decision(claim, False, WORD, "x")',
        'def f(run):\n    run.notices.append(Notice("Warning", "Brand", "x"))',
    ],
    ids=lambda source: source.splitlines()[-1].strip(),
)
def test_a_new_reason_is_seen(source: str, tmp_path: Path) -> None:
    file = tmp_path / "new.py"
    file.write_text(ast.unparse(ast.parse(source)))
    assert "Brand" in collect([file]).conditions


def test_a_reason_that_cannot_be_seen_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "new.py"
    file.write_text('def f(run, x):\n    run.set(KIND, "True", x.upper(), "text")\n')
    with pytest.raises(UnseenReasonError, match=r"x\.upper\(\)"):
        collect([file])
