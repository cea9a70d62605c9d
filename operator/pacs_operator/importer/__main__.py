"""``pacs-import``: one slice of an import in the cluster, and the report that a person reads."""

import csv
import logging
import signal
import sqlite3
import sys
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer

from pacs_operator.domain.conformanceconfig import TERMINATION_LOG
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.importing import IMPORT_FILE, JOURNAL_DIR, ImportConfig, SliceResult, Stop
from pacs_operator.importer.journal import Journal, State
from pacs_operator.importer.limits import Halted, Limits, Pace, Watch
from pacs_operator.importer.run import Slice, archive_of, source_of, stopped, unusable
from pacs_operator.probes.configfile import read_config

EXIT_DONE, EXIT_LEFT, EXIT_COULD_NOT_RUN = 0, 1, 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class ImporterError(PacsError):
    """The process cannot do what it was started for."""

    reason = "ImporterError"


@app.callback()
def quiet() -> None:
    """Bring objects from another archive into this one, and tell what differs."""
    # The DICOM libraries quote identifiers and values in logs and warnings: nothing of that may leave.
    for library in ("pynetdicom", "pydicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="import.json, as rendered by the operator")] = Path(IMPORT_FILE),
    termination_log: Annotated[Path, typer.Option(help="where the result goes")] = Path(TERMINATION_LOG),
) -> None:
    """Do one slice: exit 0 when nothing is left to do, 1 when something is, 2 when it could not begin."""
    try:
        wanted = read_config(config, ImportConfig, ImporterError)
    except PacsError as error:
        _stop(error)
    try:
        result = _slice(wanted)
    except Exception as error:  # the process' last resort: its text may quote what a foreign system sent
        structlog.get_logger().error("unexpected", error=type(error).__name__, at=_places(error))
        raise typer.Exit(EXIT_COULD_NOT_RUN) from None
    structlog.get_logger().info("slice", **result.document())
    termination_log.write_text(result.to_message(), encoding="ascii")
    raise typer.Exit(EXIT_DONE if result.stop is Stop.DONE else EXIT_LEFT)


def _places(error: Exception) -> list[str]:
    """Return where an error happened, without a word of what happened."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def _slice(config: ImportConfig) -> SliceResult:
    watch = Watch(config.slice_seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watch.halt(Stop.TERMINATED))
    try:
        try:
            source = source_of(config)
        except (OSError, ValueError):
            return stopped(config, Stop.SOURCE_UNTRUSTED)
        try:
            archive = archive_of(config)
        except (OSError, ValueError):
            return stopped(config, Stop.ARCHIVE_UNREACHABLE)
        except Halted as halted:
            return stopped(config, halted.stop)
        limits = Limits(watch, Pace(config.rate_limit.objects_per_minute))
        return Slice(config, source, archive, limits, datetime.now(UTC).date()).run()
    except sqlite3.Error:
        return unusable(config)


@app.command()
def report(
    journal: Annotated[Path, typer.Argument(help="an import's journal: <uid of the PacsImport>.db", exists=True)],
    *,
    everything: Annotated[bool, typer.Option("--all", help="also what arrived and was there before")] = False,
) -> None:
    """Print what did not arrive as CSV: state, code, and the UIDs of study, series and object."""
    writer = csv.writer(sys.stdout)
    writer.writerow(["state", "code", "attempts", "study", "series", "object", "class"])
    arrived = (State.IMPORTED, State.IDENTICAL, State.PRESENT)
    opened = Journal(journal, 1)
    try:
        for entry in opened.entries(state for state in State if everything or state not in arrived):
            code = entry.code.value if entry.code else ""
            state = "Pending" if entry.state in (State.LISTED, State.SENDING) else entry.state.value
            writer.writerow([state, code, entry.attempts, entry.study, entry.series, entry.uid, entry.sop_class])
        for study, series, missing in opened.missing():
            writer.writerow(["Missing", "NotListed", missing, study, series, "", ""])
    finally:
        opened.close()


@app.command()
def journals(folder: Annotated[Path, typer.Argument(help="folder of the journals")] = Path(JOURNAL_DIR)) -> None:
    """List the journals with their counts."""
    for path in sorted(folder.glob("*.db")):
        opened = Journal(path, 1)
        print(path, " ".join(f"{key}={value}" for key, value in opened.counts().document().items()))
        opened.close()


def _stop(error: PacsError) -> NoReturn:
    print(f"{error.reason}: {error}", file=sys.stderr)
    raise typer.Exit(EXIT_COULD_NOT_RUN)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
