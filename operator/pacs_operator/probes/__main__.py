"""``pacs-probe``: the conformance run in the cluster, and a modality outside it."""

import json
import logging
import sys
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import requests
import structlog
import typer

from pacs_operator.domain.checks import Check, checks_of
from pacs_operator.domain.conformanceconfig import CONFORMANCE_FILE, TERMINATION_LOG, ConformanceConfig
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.results import RunResult
from pacs_operator.probes.canary import ultrasound
from pacs_operator.probes.client import NotAssociatedError, Session
from pacs_operator.probes.configfile import read_config
from pacs_operator.probes.modality import Act, Visit
from pacs_operator.probes.modalityreport import document, tables
from pacs_operator.probes.networkchecks import resolve
from pacs_operator.probes.report import conformance_table, console, shadow_document, shadow_table
from pacs_operator.probes.run import conform
from pacs_operator.probes.samples import samples
from pacs_operator.probes.setting import ProbeError
from pacs_operator.probes.shadow import endanger
from pacs_operator.probes.station import Station
from pacs_operator.probes.tls import Credentials, Trust, client_context
from pacs_operator.probes.web import WebArchive
from pacs_operator.probes.wire import Caller, Endpoint, Waits, attempt

EXIT_PASSED, EXIT_FAILED, EXIT_COULD_NOT_RUN = 0, 1, 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def quiet() -> None:
    """Attack an archive as an intruder would, or use it as a modality does."""
    # The DICOM libraries quote identifiers and values in logs and warnings: nothing of that may leave.
    for library in ("pynetdicom", "pydicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def conformance(
    config: Annotated[Path, typer.Option(help="conformance.json, as rendered by the operator")] = Path(
        CONFORMANCE_FILE
    ),
    termination_log: Annotated[Path, typer.Option(help="where the result goes")] = Path(TERMINATION_LOG),
) -> None:
    """Do one conformance run: exit 0 when every check passed, 1 when one failed, 2 when one could not be made."""
    try:
        settings = read_config(config, ConformanceConfig, ProbeError)
        result, rows = conform(settings)
    except PacsError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_COULD_NOT_RUN) from None
    console().print(conformance_table(result, rows))
    termination_log.write_text(result.to_message(), encoding="ascii")
    expected = checks_of(
        managed_database=settings.postgres_host is not None, dicomweb=settings.gate_web_port is not None
    )
    raise typer.Exit(exit_code(result, expected))


class Study(StrEnum):
    """What a visit is about."""

    BUNDLED = "bundled"
    ULTRASOUND = "ultrasound"


_STUDIES = {Study.BUNDLED: samples, Study.ULTRASOUND: ultrasound}


@app.command()
def shadow(
    config: Annotated[Path, typer.Option(help="conformance.json, with shadow: true")],
    json_file: Annotated[Path | None, typer.Option("--json", help="where to write the details")] = None,
) -> None:
    """Attack a disposable archive so that it may hurt: exit 0 when it bore it, 1 when not, 2 when it is no shadow."""
    try:
        outcomes = endanger(read_config(config, ConformanceConfig, ProbeError))
    except PacsError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_COULD_NOT_RUN) from None
    console().print(shadow_table(outcomes))
    if json_file is not None:
        json_file.write_text(json.dumps(shadow_document(outcomes), indent=1) + "\n", encoding="ascii")
    raise typer.Exit(EXIT_PASSED if all(each.verdict.outcome == "Passed" for each in outcomes) else EXIT_FAILED)


@app.command()
def modality(  # noqa: PLR0913  # a command line: each is an option of its own
    act: Annotated[Act, typer.Argument(help="what to do; exchange does all but move")],
    *,
    host: Annotated[str, typer.Option(help="address or name of the gate")],
    called: Annotated[str, typer.Option(help="AE title of the archive")],
    calling: Annotated[str, typer.Option(help="AE title of this modality")],
    cert: Annotated[Path | None, typer.Option(help="certificate chain of this modality; none: it knows no TLS")] = None,
    key: Annotated[Path | None, typer.Option(help="its key")] = None,
    ca: Annotated[Path | None, typer.Option(help="root that signed the gate's certificate")] = None,
    server_name: Annotated[
        str, typer.Option(help="name the gate's certificate must carry: <archive>.pacs.internal")
    ] = "",
    port: Annotated[int, typer.Option(help="TCP port of the gate")] = 2762,
    study: Annotated[Study, typer.Option(help="every file that pydicom brings, or three images made here")] = (
        Study.BUNDLED
    ),
    listen: Annotated[str, typer.Option(help="move: ADDRESS:PORT at which it takes images over mutual TLS")] = "",
    unlisted: Annotated[str | None, typer.Option(help="move: AE title to which nothing may be sent")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="where to write the details")] = None,
) -> None:
    """Use an archive as a modality does: exit 0 when all went well, 1 when not, 2 when no association came about."""
    addresses = resolve(host, port)
    if not addresses:
        _stop("NotResolved", f"{host} has no address")
    identity = _identity(cert, key, ca, server_name)
    context = client_context(Trust(identity.ca_pem, server_name), identity.credentials) if identity else None
    session = Session(Endpoint(addresses[0], port), calling, called, context, server_name)
    station = _station(act, listen, identity, server_name)
    visit = Visit(session, _STUDIES[study](), station, unlisted)
    try:
        visit.do(act)
    except NotAssociatedError:
        _stop("NotAssociated", f"no association came about: {why_not(session)}")
    except OSError as error:
        if station is None:
            raise
        _stop("CannotListen", f"{listen} cannot be listened at: {type(error).__name__}")
    console().print(tables(visit, f"{calling} at {called}: what was sent and what came back"))
    if json_file is not None:
        json_file.write_text(json.dumps(document(visit), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    raise typer.Exit(EXIT_PASSED if visit.fine else EXIT_FAILED)


@app.command()
def viewer(  # noqa: PLR0913  # as above
    *,
    host: Annotated[str, typer.Option(help="address or name of the gate")],
    cert: Annotated[Path, typer.Option(help="certificate chain of this client")],
    key: Annotated[Path, typer.Option(help="its key")],
    ca: Annotated[Path, typer.Option(help="root that signed the gate's certificate")],
    server_name: Annotated[str, typer.Option(help="name the gate's certificate must carry: <archive>.pacs.internal")],
    port: Annotated[int, typer.Option(help="TCP port of the gate")] = 443,
    study: Annotated[Study, typer.Option(help="every file that pydicom brings, or three images made here")] = (
        Study.BUNDLED
    ),
    json_file: Annotated[Path | None, typer.Option("--json", help="where to write the details")] = None,
) -> None:
    """Use an archive as a DICOMweb viewer does, which may search and retrieve; exit codes as modality's."""
    addresses = resolve(host, port)
    if not addresses:
        _stop("NotResolved", f"{host} has no address")
    identity = _identity(cert, key, ca, server_name)
    endpoint = Endpoint(addresses[0], port)
    visit = Visit(Session(endpoint, "", "", None, server_name), _STUDIES[study]())
    try:
        visit.browse(WebArchive(endpoint, server_name, ca, identity.credentials if identity else None))
    except requests.RequestException as error:
        _stop("NotAnswered", f"the gate gave no answer: {type(error).__name__}")
    console().print(tables(visit, f"viewer at https://{server_name}/dicom-web: what was found and what came back"))
    if json_file is not None:
        json_file.write_text(json.dumps(document(visit), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    raise typer.Exit(EXIT_PASSED if visit.fine else EXIT_FAILED)


@dataclass(frozen=True)
class _Identity:
    ca_pem: str
    credentials: Credentials


def _identity(cert: Path | None, key: Path | None, ca: Path | None, server_name: str) -> _Identity | None:
    """Return how the device proves itself; None for one without TLS."""
    if not (cert or key or ca or server_name):
        return None
    if not (cert and key and ca and server_name):
        _stop("NoCredentials", "--cert, --key, --ca and --server-name go together; none of them: a device without TLS")
    try:
        identity = _Identity(ca.read_text(encoding="ascii"), Credentials(cert, key))
        client_context(Trust(identity.ca_pem, server_name), identity.credentials)
    except (OSError, UnicodeError) as error:
        _stop("NoCredentials", f"certificate, key or root cannot be used: {type(error).__name__}")
    return identity


def _station(act: Act, listen: str, identity: _Identity | None, gate: str) -> Station | None:
    if act is not Act.MOVE:
        return None
    address, _, port = listen.rpartition(":")
    if not address or not port.isdigit() or identity is None:
        _stop("NoStation", "move: --listen ADDRESS:PORT and a certificate are needed, since images are sent to it")
    return Station(Endpoint(address, int(port)), identity.credentials, identity.ca_pem, gate)


def why_not(session: Session) -> str:
    """Return layer and code of what refuses this session, found by one attempt on the wire."""
    caller = Caller(session.calling, session.called, session.context, session.server_name)
    answer = attempt(session.endpoint, caller, Waits(session.connect_seconds, session.dimse_seconds))
    return f"{answer.layer.value} {answer.code}"


def _stop(reason: str, message: str) -> NoReturn:
    print(f"{reason}: {message}", file=sys.stderr)
    raise typer.Exit(EXIT_COULD_NOT_RUN)


def exit_code(result: RunResult, expected: frozenset[Check] = frozenset(Check)) -> int:
    """Return 0 only for a run in which every check ran and passed that the archive can be put to."""
    if result.proves(expected):
        return EXIT_PASSED
    return EXIT_FAILED if any(check.outcome == "Failed" for check in result.checks) else EXIT_COULD_NOT_RUN


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
