"""The scrub by its schedule: what the disk has lost stands in the status, and no longer once it is right again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.support import Cluster, Modality, until
from tests.cluster.test_integrity import ZONE, files_of, one_bit_other, stored_file

#: A pass may begin each minute, and the agent looks at its orders once a minute.
PASS_SECONDS = 240


@pytest.fixture
def scrubbed(archive: Cluster) -> Iterator[Cluster]:
    wanted = {"schedule": "* * * * *", "maxMiPerSecond": 100}
    archive.kubectl(*_patch(wanted))
    archive.read_config_again(ZONE, "orthanc-0")
    yield archive
    archive.kubectl(*_patch(None))
    archive.wait_ready()


def _patch(scrub: dict[str, object] | None) -> tuple[str, ...]:
    spec = {"spec": {"storage": {"scrub": scrub}}}
    return ("patch", "pacsarchive", "radiology", "--type=merge", "-p", json.dumps(spec))


def test_a_turned_bit_is_told_by_the_next_pass_and_taken_back_by_the_one_after(
    scrubbed: Cluster, ct1: Modality, tmp_path: Path
) -> None:
    pods = scrubbed.archive_pods()

    def says(*reasons: str) -> str | None:
        scrubbed.look_again()
        reason = scrubbed.condition("ImagesIntact")["reason"]
        return reason if reason in reasons else None

    # A test that killed Orthanc while it stored leaves files that its index does not know.
    before = until("a first pass ended", lambda: says("Intact", "RowsMissing"), PASS_SECONDS, every=5)
    path = stored_file(scrubbed, ct1, tmp_path)
    files = files_of(scrubbed)
    with one_bit_other(path):
        until("the change is told", lambda: says("ImagesDamaged"), PASS_SECONDS, every=5)
        condition = scrubbed.condition("ImagesIntact")
        assert condition["status"] == "False"
        assert "1 changed" in condition["message"]
        scrub = scrubbed.archive()["status"]["scrub"]
        assert scrub["changed"] == 1
        assert {"kind": "Changed", "object": path.name} in scrub["found"]
        assert scrubbed.condition("Ready")["status"] == "True", "one image lost stops nobody's work"
    until("the next whole pass takes it back", lambda: says(before), PASS_SECONDS, every=5)
    scrub = scrubbed.archive()["status"]["scrub"]
    assert scrub.get("changed", 0) == 0
    assert scrub["objects"] + scrub.get("rowMissing", 0) >= len(files & files_of(scrubbed)), "a whole pass"
    assert scrubbed.archive_pods() == pods, "it begins and ends without a restart"
