"""Running programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from builder.errors import BuildError

PACKAGES = {"buildah": "buildah", "skopeo": "skopeo", "mmdebstrap": "mmdebstrap", "tar": "tar"}


def run(command: Sequence[str | Path], log: Path | None = None) -> str:
    """Run a program and return its standard output.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File that gets standard output and errors instead.

    Raises
    ------
    BuildError
        ``CommandFailed``, with the last lines that the program wrote.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 fixed programs
    if log is not None:
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        raise BuildError("CommandFailed", f"{' '.join(words[:2])} ended with {done.returncode}", tail(done, log))
    return done.stdout


def tail(done: subprocess.CompletedProcess[str], log: Path | None) -> str:
    """Return the end of what a failed program said, refusals of a recipe first."""
    lines = (done.stdout + done.stderr).splitlines()
    pins = [i for i, line in enumerate(lines) if line.startswith(("PackagePinNotMet", "PackageLineInvalid"))]
    chosen = lines[pins[0] : pins[0] + 2] if pins else lines[-12:]
    return "\n  ".join([*chosen, *([f"Whole output: {log}"] if log else [])])


def require_programs() -> None:
    """Install the Debian packages of missing programs, or say which to install.

    Raises
    ------
    BuildError
        ``ProgramMissing``: a program is absent and could not be installed.
    """
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    print(f"installing Debian packages: {' '.join(missing)}", flush=True)
    try:
        run(["apt-get", "update", "-qq"])
        run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing])
    except (BuildError, FileNotFoundError) as problem:
        raise BuildError(
            "ProgramMissing", f"needed and not installable here: {' '.join(missing)}", "Install them by hand."
        ) from problem
