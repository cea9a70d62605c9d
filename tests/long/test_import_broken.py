"""The old archive goes away in the middle of its import, and comes back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import storm
from tests.cluster.bringing import ended, importing, status_of
from tests.cluster.oldpacs import OldPacs, old_pacs
from tests.cluster.support import Cluster, Modality, folder_of, new_study, until
from tests.images.conftest import Image

STUDIES, IMAGES, BEFORE, EDGE = 4, 50, 40, 64


@pytest.fixture
def source(cluster: Cluster, image: Callable[[str], Image], tmp_path: Path) -> Iterator[OldPacs]:
    with old_pacs(cluster, image("archive"), tmp_path / "old") as pacs:
        yield pacs


def test_it_goes_on_where_it_was_and_nothing_comes_twice(
    archive: Cluster, ct1: Modality, source: OldPacs, tmp_path: Path
) -> None:
    studies = [new_study() for _ in range(STUDIES)]
    source.put(*(storm.image(number, study, EDGE) for study in studies for number in range(IMAGES)))
    volume = folder_of(archive, "radiology-archive", "images") / "sealed" / "id"

    def stored() -> int:
        return sum(1 for _ in volume.glob("*/*/*"))

    def reason() -> str:
        return str(status_of(archive, "broken")["conditions"].get("Progressing", {}).get("reason"))

    before = stored()
    with importing(archive, "broken", source, rateLimit={"objectsPerMinute": 600}):
        until("some of it is there", lambda: stored() >= before + BEFORE, 120)
        source.strike()
        until("the import says what it waits for", lambda: reason() == "SourceUnreachable", 240, every=1)
        status = status_of(archive, "broken")
        arrived = status["counts"]["imported"]
        assert 0 < arrived < STUDIES * IMAGES
        assert status["conditions"]["Complete"]["status"] == "False"
        assert status["conditions"]["Failed"]["status"] == "False", "it goes on by itself"
        source.start()
        status = ended(archive, "broken", 300)
    assert status["conditions"]["Complete"]["reason"] == "AllThere", status
    assert status["counts"]["imported"] == STUDIES * IMAGES
    for study in studies:
        assert ct1.all_whole(study, [storm.uid_of(study, number) for number in range(IMAGES)], tmp_path, EDGE)
