"""A scanner that knows nothing of this project finds nothing in its archives but what is accepted with a reason."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacs_operator.render import render_archive
from tests.scan import ARCHIVES, Report, refused, scan

from .archives import CASES, from_files


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return [manifest for case in CASES for manifest in render_archive(from_files(case))]


def test_nothing_is_found_in_the_archives(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    report = scan(manifests, tmp_path / "archives")
    assert report.checks > 500
    assert refused(report.failed, ARCHIVES) == set()


def _privileged(pod: dict[str, Any]) -> None:
    pod["containers"][0]["securityContext"]["privileged"] = True


def _no_limit(pod: dict[str, Any]) -> None:
    del pod["containers"][0]["resources"]["limits"]["memory"]


def _host_network(pod: dict[str, Any]) -> None:
    pod["hostNetwork"] = True


def _by_tag(pod: dict[str, Any]) -> None:
    pod["containers"][0]["image"] = "registry.example/orthanc:latest"


def _writable(pod: dict[str, Any]) -> None:
    pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def _never_restarted(pod: dict[str, Any]) -> None:
    """Accepted for the gate and the database, not here."""
    del pod["containers"][0]["livenessProbe"]


BAD: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "privileged": (_privileged, "CKV_K8S_16"),
    "no memory limit": (_no_limit, "CKV_K8S_13"),
    "host network": (_host_network, "CKV_K8S_19"),
    "image by tag": (_by_tag, "CKV_K8S_43"),
    "writable root": (_writable, "CKV_K8S_22"),
    "no liveness probe": (_never_restarted, "CKV_K8S_8"),
}


@pytest.fixture(scope="module")
def worse(manifests: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Orthanc once for each fault, in one scan, for a scan's cost is its start."""
    orthanc = ("StatefulSet", "radiology-archive")
    good = next(m for m in manifests if (m["kind"], m["metadata"].get("namespace")) == orthanc)
    copies = []
    for index, (spoil, _) in enumerate(BAD.values()):
        bad = copy.deepcopy(good)
        bad["metadata"]["name"] = f"bad-{index}"
        spoil(bad["spec"]["template"]["spec"])
        copies.append(bad)
    return scan([good, *copies], tmp_path_factory.mktemp("worse") / "manifests")


@pytest.mark.parametrize("name", BAD)
def test_each_fault_is_found_where_it_is_and_nowhere_else(worse: Report, name: str) -> None:
    check = BAD[name][1]
    place = f"StatefulSet.radiology-archive.bad-{list(BAD).index(name)}"
    found = {finding for finding in refused(worse.failed, ARCHIVES) if finding[0] == check}
    assert {resource for _, resource in found if resource.startswith("StatefulSet")} == {place}


def test_an_acceptance_that_covers_nothing_is_named() -> None:
    [(check, words)] = refused({("CKV_K8S_11", "Pod.a.b"), ("CKV_K8S_8", "Deployment.x-edge.gate")}, ARCHIVES)
    assert check == "CKV_K8S_8"
    assert "accepted for nothing" in words
