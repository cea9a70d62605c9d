"""An old archive is brought along, every object of it, and what differs is told and harms nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacs_operator.probes.samples import samples
from tests.images.conftest import Image

from . import storm
from .bringing import ended, importing
from .oldpacs import OldPacs, old_pacs
from .support import Cluster, Modality, new_study
from .test_quarantine import EDGE, OTHER_EDGE, held, quarantine

STUDIES, IMAGES = 3, 6
KNOWN = 5  # files that the demo's device has stored before


@pytest.fixture
def source(cluster: Cluster, image: Callable[[str], Image], tmp_path: Path) -> Iterator[OldPacs]:
    with old_pacs(cluster, image("archive"), tmp_path / "old") as pacs:
        yield pacs


def test_all_of_it_comes_and_is_equal_and_a_differing_object_is_kept_apart(
    archive: Cluster, ct1: Modality, source: OldPacs, tmp_path: Path
) -> None:
    studies = [new_study() for _ in range(STUDIES)]
    source.put(*(storm.image(number, study, EDGE) for study in studies for number in range(IMAGES)))
    source.put(*[sample.dataset for sample in samples().sent if not sample.alterations][:KNOWN])
    pods = archive.archive_pods()
    with importing(archive, "old-pacs", source, rateLimit={"associations": 2}):
        status = ended(archive, "old-pacs")
    assert status["conditions"]["Complete"]["reason"] == "AllThere", status
    counts = status["counts"]
    assert (counts["imported"], counts["identical"], counts["pending"]) == (STUDIES * IMAGES, KNOWN, 0)
    for study in studies:
        assert ct1.all_whole(study, [storm.uid_of(study, number) for number in range(IMAGES)], tmp_path, EDGE)

    # Another picture under a UID that the archive has: the same import again but for this one object.
    source.put(storm.image(0, studies[0], OTHER_EDGE))
    with importing(archive, "old-pacs-again", source):
        status = ended(archive, "old-pacs-again")
    assert status["conditions"]["Complete"]["reason"] == "Differences"
    assert status["codes"] == {"DuplicateDiffers": 1}
    counts = status["counts"]
    assert (counts["imported"], counts["identical"], counts["differing"]) == (0, STUDIES * IMAGES + KNOWN - 1, 1)
    assert ct1.all_whole(studies[0], [storm.uid_of(studies[0], 0)], tmp_path, EDGE), "what was there first stays"
    (kept,) = held(archive)
    quarantine(archive, "discard", kept, "--yes")
    assert archive.archive_pods() == pods
