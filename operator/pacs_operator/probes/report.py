"""What a person reads: tables without patient data."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pacs_operator.domain.checkcatalog import CHECKS
from pacs_operator.domain.results import RunResult
from pacs_operator.probes.shadow import DANGERS, Outcome
from pacs_operator.probes.verdict import Row

COLOURS = {"Passed": "green", "Failed": "bold red", "NotRun": "yellow"}
WIDTH = 200  # a log has no columns; nothing is to be broken or cut


def console() -> Console:
    """Return a console that keeps its columns when nobody's terminal tells its width."""
    probe = Console()
    return probe if probe.is_terminal else Console(width=WIDTH)


def conformance_table(result: RunResult, rows: Sequence[Row]) -> Table:
    """Return every check at every place."""
    title = f"Conformance run {result.run}: {result.replicas} gate replicas by address"
    table = Table("check", "replica", "outcome", "layer", "code", "twin", "ms", "what", title=title)
    for row in rows:
        verdict = row.verdict
        table.add_row(
            row.check.value,
            "" if row.replica is None else str(row.replica),
            f"[{COLOURS[verdict.outcome]}]{verdict.outcome}[/]",
            verdict.layer.value if verdict.layer is not None else "",
            verdict.code or "",
            "" if verdict.twin == "NotNeeded" else verdict.twin,
            str(row.millis),
            CHECKS[row.check].title,
        )
    return table


def shadow_table(outcomes: Sequence[Outcome]) -> Table:
    """Return every dangerous attack on every replica."""
    table = Table("attack", "replica", "outcome", "layer", "code", "twin", "what", title="Attacks on a shadow")
    for each in outcomes:
        verdict = each.verdict
        table.add_row(
            each.name,
            each.address,
            f"[{COLOURS[verdict.outcome]}]{verdict.outcome}[/]",
            verdict.layer.value if verdict.layer is not None else "",
            verdict.code or "",
            verdict.twin,
            DANGERS[each.name].title,
        )
    return table


def shadow_document(outcomes: Sequence[Outcome]) -> list[dict[str, str | None]]:
    """Return the same, JSON-ready."""
    return [
        {
            "attack": each.name,
            "replica": each.address,
            "outcome": each.verdict.outcome,
            "layer": each.verdict.layer.value if each.verdict.layer is not None else None,
            "code": each.verdict.code,
            "twin": each.verdict.twin,
        }
        for each in outcomes
    ]
