"""Hold the tree to what no linter knows: no secrets, nothing of one machine, no long Python files.

``python tools/treecheck.py`` reads every file that git tracks or would track, prints one line for each finding and
fails if there is one. It asks no network: candidates are never tried out against a service.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parents[1]
MOST_LINES = 400
MOST_BYTES = 1_000_000

# Public addresses are no secrets, and none of them is real here.
_NOT_ASKED = {"IPPublicDetector"}
_FILTERS = ("sequential_string", "potential_uuid", "templated_secret", "indirect_reference", "not_alphanumeric_string")

# What the library does not know, or looks for in small files and unindented only.
_OWN_DETECTORS = {
    "Vault Token": re.compile(r"\b(?:hv[sbr]\.[A-Za-z0-9_-]{24,}|s\.[A-Za-z0-9]{24})\b"),
    "Private Key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY"),
}
# Packages come from where this machine's package managers are told to fetch them (a mirror, often).
_PACKAGE_HOST = re.compile(
    r"\b(?:pypi\.org|files\.pythonhosted\.org|(?:proxy|sum)\.golang\.org|(?:deb|security|ftp)\.debian\.org"
    r"|archive\.ubuntu\.com|registry\.npmjs\.org|crates\.io)\b"
)
# Folders that exist on one machine, or that every user shares: mktemp and $HOME know better.
_MACHINE_PATH = re.compile(r"(?<![\w.~}/*-])/(?:tmp|work|workspace|home/\w+|Users/\w+)/")


# Benchmarks write down which commit they measured.
_PROOF = "docs/proof/*.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Finding:
    """One line of one file, and what is wrong with it."""

    path: str
    line: int
    text: str
    rule: str

    def __str__(self) -> str:
        """Return the finding without the line's text, which may be a secret."""
        return f"{self.path}:{self.line}: {self.rule}"


@dataclass(frozen=True)
class Allowance:
    """Lines that look wrong and are not; one that allows nothing any more is a finding itself."""

    path: str
    line: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Return whether this is the line."""
        return fnmatch(finding.path, self.path) and bool(re.search(self.line, finding.text))


ALLOWED = (
    Allowance("*requirements*.txt", r"--hash=sha256:[0-9a-f]{64}", "digest of a published package"),
    Allowance("*.yaml", r"automountServiceAccountToken: (true|false)$", "a switch"),
    Allowance("tests/render/golden/*", r"pacs-operator\.io/config-hash: [0-9a-f]{16}$", "hash of what was rendered"),
    Allowance("tests/*", r"\b0123456789abcdef0123456789abcdef\b", "lineage of fixtures"),
    Allowance("*", r"password_encryption\W+scram-sha-256", "PostgreSQL's name of a method"),
    Allowance("*/vault/*.py", r"\"token_(type|policies|ttl|max_ttl|period)\"", "parameters of Vault roles"),
    Allowance(
        "*",
        r"(hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo|3p7bfXt9wbTTW2HC7OQ1Nz\+DQ8hbeGdNrfx\+FG\+IK08)=",
        "public, in RFC 7748, 6.1",
    ),
    Allowance("*/*offline*.py", r'= "pacs-offline-start"', "the name of a Secret"),
    Allowance("*", r"\bpasswordSecret\b", "a field that names a Secret"),
    Allowance("*/database.py", r'^(PASSWORD_KEY|SECRET_VOLUME) = "[a-z]+"', "names of a key and of a volume"),
    Allowance("tests/vault/test_scripts.py", r"\"BAO_TOKEN\": \"nonsense\"", "a token that Vault must refuse"),
    Allowance("tests/engine/test_process.py", r'^    "(pem|jwt|vault|openbao)": ', "made up: the log must hide them"),
    Allowance("tests/engine/test_process.py", r"\bhunter2\b", "made up: the log must hide it"),
    Allowance("tests/engine/test_conformance.py", r'lastHandled.*"please-1"', "a request for a run"),
    Allowance("tests/engine/test_real_api.py", r"api_key_prefix = .*Bearer", "a word in a header"),
    Allowance("tests/images/test_images.py", r'"/usr/bin/touch", "/(tmp)/x"', "inside an image: must be read-only"),
)


def length(path: str, text: str) -> Iterator[Finding]:
    """Yield a finding for Python that is too long to be read in one go."""
    lines = text.count("\n")
    if path.endswith(".py") and lines > MOST_LINES:
        yield Finding(path, lines, "", f"{lines} lines; Python files have at most {MOST_LINES}: split it by concern")


def strangers(path: str, text: str) -> Iterator[Finding]:
    """Yield package hosts and paths that belong to one machine."""
    for number, line in enumerate(text.splitlines(), start=1):
        if host := _PACKAGE_HOST.search(line):
            yield Finding(path, number, line, f"names the package host {host[0]}: leave it to the package manager")
        if place := _MACHINE_PATH.search(line):
            yield Finding(path, number, line, f"names {place[0]}, a path of one machine: take it from the environment")


def measured_commit(path: str, text: str) -> re.Pattern[str] | None:
    """Return how the line looks that names the commit a document of proof speaks of; None where there is none."""
    if not fnmatch(path, _PROOF):
        return None
    try:
        commit = json.loads(text)["commit"]
    except (ValueError, KeyError, TypeError):
        return None
    value = commit.get("id") if isinstance(commit, dict) else commit
    if not isinstance(value, str) or not _COMMIT.fullmatch(value):
        return None
    return re.compile(rf'\s*"{"id" if isinstance(commit, dict) else "commit"}": "{value}",?\s*')


def secrets(path: str, text: str, root: Path) -> Iterator[Finding]:
    """Yield what looks like a credential."""
    lines, commit = text.splitlines(), measured_commit(path, text)
    found = SecretsCollection(root=str(root))
    found.scan_file(path)
    kinds = {(secret.line_number, secret.type) for secret in found[path]}
    for kind, pattern in _OWN_DETECTORS.items():
        kinds |= {(number, kind) for number, line in enumerate(lines, start=1) if pattern.search(line)}
    for number, kind in sorted(kinds):
        if commit and commit.fullmatch(lines[number - 1]):
            continue
        yield Finding(path, number, lines[number - 1], f"looks like a secret ({kind}): revoke it, then remove it")


@contextmanager
def _detectors() -> Iterator[None]:
    names = (plugin.__name__ for plugin in get_mapping_from_secret_type_to_class().values())
    plugins = [{"name": name} for name in names if name not in _NOT_ASKED]
    filters = [{"path": f"detect_secrets.filters.heuristic.is_{name}"} for name in _FILTERS]
    with transient_settings({"plugins_used": plugins, "filters_used": filters}):
        yield


def tracked(root: Path) -> list[str]:
    """Return what git tracks or would track below ``root``."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(path for path in set(listed.split("\0")) if path and (root / path).is_file())


def findings(paths: Iterable[str], root: Path) -> Iterator[Finding]:
    """Yield every finding in these files, allowed or not.

    Parameters
    ----------
    paths
        Files, relative to ``root``.
    root
        The checkout.
    """
    with _detectors():
        for path in paths:
            content = (root / path).read_bytes()
            if len(content) > MOST_BYTES:
                yield Finding(path, 1, "", f"{len(content)} bytes; nothing here needs more than {MOST_BYTES}")
            elif b"\0" not in content:
                text = content.decode(errors="replace")
                yield from length(path, text)
                yield from strangers(path, text)
                yield from secrets(path, text, root)


def refused(found: list[Finding], allowed: Iterable[Allowance]) -> list[str]:
    """Return a line for each finding without an allowance, and for each allowance without a finding."""
    allowed = list(allowed)
    lines = [str(finding) for finding in found if not any(allowance.covers(finding) for allowance in allowed)]
    idle = [allowance for allowance in allowed if not any(map(allowance.covers, found))]
    return lines + [f"the allowance {one.line!r} for {one.path} allows nothing: remove it" for one in idle]


def main() -> int:
    """Check the tree; return the exit status."""
    paths = tracked(ROOT)
    lines = refused(list(findings(paths, ROOT)), ALLOWED)
    print(*lines, f"{len(paths)} files read, {len(lines)} findings", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
