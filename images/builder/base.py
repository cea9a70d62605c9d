"""Base root file systems from the Debian mirror that this machine's apt uses."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from builder.commands import run
from builder.errors import BuildError

# What the build machine leaves in a fresh root file system, and devices, which no image carries.
EXCLUDED = ("./dev/*", "./etc/resolv.conf", "./etc/hostname", "./var/cache/ldconfig/*", "./var/log/*")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Suite:
    """A Debian suite to build on."""

    name: str
    stable: bool
    """Has updates and a security archive; a mirror's Release file of the others may be past its date."""


SUITES = {"trixie": Suite("trixie", stable=True), "forky": Suite("forky", stable=False)}


def mirrors() -> dict[str, str]:
    """Return the addresses of Debian's archives as apt's own sources name them, by label.

    Raises
    ------
    BuildError
        ``NoDebianMirror``: apt knows none, or has never been updated.
    """
    wanted = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"]
    rows = run(wanted).split()
    if not any(row.startswith("Debian|Debian|") for row in rows):
        run(["apt-get", "update", "-qq"])
        rows = run(wanted).split()
    found = {label: address for origin, label, address in (row.split("|", 2) for row in rows) if origin == "Debian"}
    if "Debian" not in found:
        raise BuildError(
            "NoDebianMirror",
            "apt's sources name no Debian archive",
            "Add one to apt's sources, run apt-get update.",
        )
    return found


def source_lines(suite: Suite, found: dict[str, str]) -> list[str]:
    """Return the package sources of a suite."""
    lines = [f"deb {found['Debian']} {suite.name} main"]
    if suite.stable:
        lines.append(f"deb {found['Debian']} {suite.name}-updates main")
        if "Debian-Security" in found:
            lines.append(f"deb {found['Debian-Security']} {suite.name}-security main")
    return lines


def base(suite: Suite, cache: Path, refresh: bool) -> tuple[Path, str]:
    """Return the tar file of a suite's base and its SHA-256; make it when it is not in the cache.

    Parameters
    ----------
    suite
        The suite.
    cache
        Folder of the cache.
    refresh
        Make it again, with the packages of today.
    """
    lines = source_lines(suite, mirrors())
    key = hashlib.sha256(json.dumps([suite.name, lines, EXCLUDED]).encode()).hexdigest()[:16]
    folder = cache / "base" / f"{suite.name}-{key}"
    archive, digest = folder / "base.tar", folder / "sha256"
    if refresh or not digest.exists():
        print(f"  base {suite.name}: made from Debian packages (about a minute)", flush=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = make(suite, lines, Path(scratch))
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(exist_ok=True)
            made.rename(folder)
    return archive, digest.read_text()


def make(suite: Suite, lines: list[str], scratch: Path) -> Path:
    """Make a base in a scratch folder and return the finished folder."""
    root, result = scratch / "root", scratch / "result"
    result.mkdir()
    # Freshness by date cannot be had from a suite whose mirror lags; the floors of the packages bound its age.
    options = [] if suite.stable else ['--aptopt=Acquire::Check-Valid-Until "false"']
    run(
        ["mmdebstrap", "--variant=apt", f"--keyring={KEYRING}", *options, suite.name, root, *lines],
        log=scratch / "log",
    )
    exclude = [f"--exclude={path}" for path in EXCLUDED]
    archive = result / "base.tar"
    run(["tar", "--sort=name", "--numeric-owner", "--xattrs", *exclude, "-cf", archive, "-C", root, "."])
    with archive.open("rb") as stream:
        (result / "sha256").write_text(hashlib.file_digest(stream, "sha256").hexdigest())
    (result / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
    return result
