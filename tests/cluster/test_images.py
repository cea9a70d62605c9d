"""A release that nobody pushed: what runs keeps running, and putting the version back is all it takes."""

import copy
import json
from collections.abc import Iterator

import pytest

from .support import Cluster, Modality, until

MISSING = "2026.11.99"
RELEASE = ("patch", "pacsarchive", "radiology", "--type=merge", "-p")


def name_release(cluster: Cluster, version: str) -> None:
    cluster.kubectl(*RELEASE, json.dumps({"spec": {"release": {"version": version}}}))


@pytest.fixture
def version(archive: Cluster) -> Iterator[str]:
    """The version that runs, beside one whose images no registry has; both catalog and archive are put back."""
    releases = archive.get("pacscatalog", "stable")["spec"]["releases"]
    running = archive.archive()["spec"]["release"]["version"]
    unknown = copy.deepcopy(next(release for release in releases if release["version"] == running))
    unknown["version"] = MISSING
    for name, image in unknown["images"].items():
        unknown["images"][name] = image.partition("@")[0] + "@sha256:" + "0" * 64
    catalog = ("patch", "pacscatalog", "stable", "--type=merge", "-p")
    archive.kubectl(*catalog, json.dumps({"spec": {"releases": [*releases, unknown]}}))
    yield running
    name_release(archive, running)
    archive.kubectl(*catalog, json.dumps({"spec": {"releases": releases}}))


def test_a_digest_that_no_registry_has_harms_nothing_that_runs(archive: Cluster, ct1: Modality, version: str) -> None:
    before = archive.archive_pods()
    assert len(before) == 4
    name_release(archive, MISSING)
    until("the image is named", lambda: archive.condition("Stalled")["reason"] == "ImageNotPulled", 90)
    stalled = archive.condition("Stalled")
    assert stalled["status"] == "True"
    assert "@sha256:" + "0" * 64 in stalled["message"]
    assert "(ErrImagePull)" in stalled["message"]
    assert archive.archive_pods() == before
    assert ct1.echo()
    name_release(archive, version)
    archive.wait_ready(120)
    assert archive.archive_pods() == before
    assert ct1.echo()

    def tidy() -> bool:
        jobs = archive.get("jobs", "-n", "radiology-ops")["items"]
        return not [job for job in jobs if job["metadata"]["name"].startswith("pullcheck-")]

    until("nothing is left of the try", tidy, 30)
