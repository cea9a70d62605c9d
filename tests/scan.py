"""Checkov over rendered manifests: what it says, and what is accepted with a reason."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHECKOV = Path(sys.executable).with_name("checkov")


@dataclass(frozen=True)
class Accepted:
    """A finding that stays: one check, on workloads whose ``Kind.namespace.name`` matches."""

    check: str
    resource: str
    reason: str


NO_CPU_LIMIT = "throttling stops an association in mid-image; requests share the CPU fairly, memory is limited"
ARCHIVES = (
    Accepted("CKV_K8S_11", r".*", NO_CPU_LIMIT),
    Accepted("CKV_K8S_8", r"Deployment\..*-edge\.gate", "HAProxy's watchdog ends a stuck process; a kill cuts images"),
    Accepted("CKV_K8S_8", r"StatefulSet\..*-data\.postgres", "crash recovery takes its time; a restart begins it anew"),
)
CHART = (
    Accepted("CKV_K8S_11", r"Deployment\..*\.pacs-operator", NO_CPU_LIMIT),
    Accepted("CKV_K8S_38", r"Deployment\..*\.pacs-operator", "the operator works through the Kubernetes API"),
    Accepted("CKV_K8S_9", r"Deployment\..*\.pacs-operator", "no Service leads to it; its Lease says who acts"),
)


class Report(NamedTuple):
    """What one scan found, as ``(check, resource)``, and how many checks it made."""

    failed: set[tuple[str, str]]
    checks: int


def scan(manifests: Iterable[dict[str, Any]], folder: Path) -> Report:
    """Run every Kubernetes check of the pinned Checkov; it asks no network and no account."""
    folder.mkdir()
    (folder / "manifests.yaml").write_text(yaml.safe_dump_all(manifests))
    command: list[str | Path] = [
        CHECKOV,
        "--directory",
        folder,
        "--framework",
        "kubernetes",
        "--skip-download",
        "--output",
        "json",
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("BC_", "CKV_", "PRISMA_"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    summary = report["summary"]
    assert summary["parsing_errors"] == 0, report
    failed = {(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]}
    return Report(failed, summary["passed"] + summary["failed"])


def refused(failed: set[tuple[str, str]], accepted: Iterable[Accepted]) -> set[tuple[str, str]]:
    """Return the findings that no acceptance covers, and the acceptances that cover nothing any more."""
    accepted = set(accepted)

    def covers(one: Accepted, check: str, resource: str) -> bool:
        return one.check == check and re.fullmatch(one.resource, resource) is not None

    open_findings = {finding for finding in failed if not any(covers(one, *finding) for one in accepted)}
    idle = {one for one in accepted if not any(covers(one, *finding) for finding in failed)}
    return open_findings | {(one.check, f"accepted for nothing: {one.resource}") for one in idle}
