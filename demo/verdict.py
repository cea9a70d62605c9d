"""Show an archive's status as a person reads it: conditions, then every check with what refused it."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

COLOURS = {"True": "green", "False": "red", "Unknown": "yellow", "Passed": "green", "Failed": "red", "NotRun": "yellow"}


def main() -> None:
    """Read a PacsArchive as JSON and print two tables."""
    status = json.loads(Path(sys.argv[1]).read_text()).get("status", {})
    console = Console(width=120 if not sys.stdout.isatty() else None)
    conditions = Table("condition", "status", "reason", "message", title="What the archive promises")
    for condition in status.get("conditions", []):
        colour = COLOURS[condition["status"]]
        state = f"[{colour}]{condition['status']}[/]"
        conditions.add_row(condition["type"], state, condition["reason"], condition["message"])
    console.print(conditions)
    run = status.get("conformance", {})
    title = f"Conformance run {run.get('run')} at {run.get('time')}, {run.get('replicas')} gate replicas by address"
    checks = Table("check", "outcome", "refused by", "code", "allowed twin", "ms", title=title)
    for check in run.get("checks", []):
        outcome = f"[{COLOURS[check['outcome']]}]{check['outcome']}[/]"
        twin = {"Served": "served", "NotServed": "[red]not served[/]", "NotNeeded": ""}[check.get("twin", "NotNeeded")]
        checks.add_row(
            check["check"], outcome, check.get("layer", ""), check.get("code", ""), twin, str(check.get("millis", ""))
        )
    console.print(checks)


if __name__ == "__main__":
    main()
