"""What the storage plugin is told to do with what lies on the volume already; in doubt, nothing."""

from pathlib import Path

import pytest

from pacs_operator.agent.context import Context
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.sealing import CLEAR, ORDERS, SEARCH, SealingFeed
from tests.agent.support import FakeClock, LocalVault, gate_config

UUID = "0a1b2c3d-0000-4000-8000-0000000000aa"
MOVING = '{"clear": true, "miPerSecond": 3}'


class Pod:
    """One pod's folders, the feed, and what it handed over."""

    def __init__(self, place: Surroundings) -> None:
        self.file, self.images = place.peers / "sealing.json", place.images
        self.orders = place.ring.with_name("storage.keys.orders")
        clock = FakeClock()
        self.context = Context(gate_config(), place, LocalVault(clock.now), clock)
        self.feed = SealingFeed(self.context)

    def follow(self, text: str | None) -> str | None:
        """Return what the plugin reads after the operator's word, and how often it is looked at."""
        self.file.unlink(missing_ok=True)
        if text is not None:
            self.file.write_text(text)
        self.feed.follow()
        return self.orders.read_text() if self.orders.exists() else None

    def problems(self) -> dict[str, str]:
        return self.context.problems.standing()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    place = Surroundings(run=tmp_path / "run", peers=tmp_path / "peers", images=tmp_path / "images")
    for folder in (place.run, place.peers, place.images):
        folder.mkdir()
    return Pod(place)


def test_orders_are_handed_over_and_taken_back(pod: Pod) -> None:
    assert pod.follow(None) is None
    assert pod.follow(MOVING) == f"pacs-orders 1\nrate 3145728\nclear {pod.images}\nend\n"
    assert pod.orders.stat().st_mode & 0o777 == 0o600
    asked = f'{{"clear": false, "miPerSecond": 1, "reseal": "{"ab" * 32}"}}'
    assert pod.follow(asked) == f"pacs-orders 1\nrate 1048576\nreseal {'ab' * 32}\nend\n"
    assert pod.follow(None) is None
    assert pod.problems() == {}


@pytest.mark.parametrize("text", ["", "{}", '{"clear": true}', '{"clear": true, "miPerSecond": 3, "reseal": "a"}'])
def test_what_cannot_be_read_orders_nothing_new(pod: Pod, text: str) -> None:
    assert pod.follow(text) is None
    assert pod.problems() == {ORDERS: "SealingOrdersInvalid"}
    assert pod.follow(MOVING) is not None
    assert pod.follow(text) == pod.follow(MOVING), "what was ordered stays in force"
    assert pod.problems() == {}


@pytest.mark.parametrize(("text", "told"), [(None, {CLEAR: "ClearImagesFound"}), (MOVING, {})])
def test_images_in_clear_are_a_problem_unless_they_are_being_encrypted(
    pod: Pod, text: str | None, told: dict[str, str]
) -> None:
    (folder := pod.images / "0a" / "1b").mkdir(parents=True)
    (folder / UUID).write_bytes(b"DICM")
    (pod.images / "sealed" / "id" / "0a" / "1b").mkdir(parents=True)
    pod.follow(text)
    assert pod.problems() == told


@pytest.mark.parametrize(("text", "told"), [(None, {CLEAR: "ClearImagesFound"}), (MOVING, {})])
def test_what_was_set_aside_in_clear_is_looked_for_too(pod: Pod, text: str | None, told: dict[str, str]) -> None:
    (pod.images / "quarantine").mkdir()
    (pod.images / "quarantine" / UUID).write_bytes(b"{}")
    pod.follow(text)
    assert pod.problems() == told


def test_what_was_set_aside_sealed_is_no_problem(pod: Pod) -> None:
    (folder := pod.images / "quarantine" / "id" / "0a" / "1b").mkdir(parents=True)
    (folder / UUID).write_bytes(b"PACE")
    pod.follow(None)
    assert pod.problems() == {}


@pytest.mark.parametrize("sick", [True, False])
def test_a_sick_disk_is_a_problem_and_not_the_end(pod: Pod, sick: bool) -> None:
    if sick:
        pod.images.rmdir()
    pod.follow(None)
    assert pod.problems() == ({SEARCH: "ImagesVolumeUnreadable"} if sick else {})


def test_sealed_images_are_no_problem(pod: Pod) -> None:
    (folder := pod.images / "sealed" / "id" / "0a" / "1b").mkdir(parents=True)
    (folder / UUID).write_bytes(b"PACE")
    pod.follow(None)
    assert pod.problems() == {}
