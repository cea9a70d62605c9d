"""The scrub: what it finds, what it leaves alone, and that it goes on where it was."""

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pacs_operator.agent.content import CHUNK
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.scrubstate import STATE_FILE
from pacs_operator.agent.storedindex import Row
from pacs_operator.domain.agentconfig import ScrubPass
from pacs_operator.domain.times import rfc3339
from tests.agent.scrubbing import GOOD, HOUR, KEY, STUDIES, Archive, Index, Scrubbing, build, seal, working
from tests.agent.support import FakeClock


@pytest.fixture(params=["sealed", "plain"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    (tmp_path / "images").mkdir()
    made = Archive(tmp_path / "images", request.param == "sealed")
    made.root.mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture
def clock() -> FakeClock:
    """Later than the machine's: the files of the test are old by it."""
    return FakeClock(datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=2))


@pytest.fixture
async def scrubbing(archive: Archive, surroundings: Surroundings, clock: FakeClock) -> AsyncIterator[Scrubbing]:
    made = build(archive, surroundings, clock)
    made.order()
    async with working(made):
        yield made


def tree(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return everything but the scrub's own folder; what it holds and when it last changed."""
    return {
        str(path): (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (found := path.stat()) and "scrub" not in path.relative_to(folder).parts
    }


SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2**20 + 5, 3 * 2**20]


async def test_what_is_as_it_was_stored_is_read_whole_and_left_alone(scrubbing: Scrubbing) -> None:
    for number, size in enumerate(SIZES):
        scrubbing.archive.store(number % 3, secrets.token_bytes(size))
    before = tree(scrubbing.archive.images)
    result = await scrubbing.hour()
    assert scrubbing.counts(result) == GOOD and result.found == []
    assert result.objects == len(SIZES)
    assert result.bytes == sum(path.stat().st_size for path in map(Path, before))
    assert tree(scrubbing.archive.images) == before
    assert not scrubbing.context.problems.standing()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("size", [CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("kind", ["first", "middle", "last", "cut", "longer", "empty", "another", "link"])
async def test_each_kind_of_damage_is_found_and_the_neighbour_is_not_concerned(
    scrubbing: Scrubbing, kind: str, size: int
) -> None:
    archive = scrubbing.archive
    bad, good = (archive.store(0, secrets.token_bytes(size)) for _ in range(2))
    path, content = archive.path(bad), archive.path(bad).read_bytes()
    match kind:
        case "first" | "middle" | "last":
            flip(path, {"first": 0, "middle": len(content) // 2, "last": -1}[kind])
        case "cut":
            path.write_bytes(content[:-1])
        case "longer":
            path.write_bytes(content + bytes(2 * CHUNK))
        case "empty":
            path.write_bytes(b"")
        case "another":
            path.write_bytes(archive.path(good).read_bytes())
        case "link":
            path.rename(archive.images / "elsewhere")
            path.symlink_to(archive.images / "elsewhere")
    result = await scrubbing.hour()
    assert scrubbing.counts(result) == {**GOOD, "changed": 1}
    assert [(one.kind, one.object) for one in result.found] == [("Changed", bad)]
    path.unlink()
    path.write_bytes(content)
    assert scrubbing.counts(await scrubbing.hour()) == GOOD, "what a person put right is told as right"


async def test_a_missing_file_and_a_missing_row(scrubbing: Scrubbing) -> None:
    archive = scrubbing.archive
    missing, unknown, good = (archive.store(1, b"image") for _ in range(3))
    archive.path(missing).unlink()
    archive.forget(unknown)
    result = await scrubbing.hour()
    assert scrubbing.counts(result) == {**GOOD, "file_missing": 1, "row_missing": 1}
    assert {(one.kind, one.object) for one in result.found} == {("FileMissing", missing), ("RowMissing", unknown)}
    assert archive.path(good).exists() and archive.path(unknown).exists()


async def test_what_is_deleted_meanwhile_is_no_damage(scrubbing: Scrubbing) -> None:
    """Its twin: the same file gone, its row still there, is one."""
    archive = scrubbing.archive
    going, gone = (archive.store(0, b"image") for _ in range(2))
    archive.path(going).unlink()
    archive.path(gone).unlink()
    rows = Index.rows

    def then_forgotten(index: Index, study: str) -> list[Row]:
        found = rows(index, study)
        archive.forget(going)
        return found

    scrubbing.feed._index.rows = then_forgotten.__get__(scrubbing.feed._index)
    result = await scrubbing.hour()
    assert [(one.kind, one.object) for one in result.found] == [("FileMissing", gone)]


async def test_a_young_file_may_have_its_row_to_come(archive: Archive, surroundings: Surroundings) -> None:
    clock = FakeClock(datetime.now(UTC) + timedelta(seconds=30))
    made = build(archive, surroundings, clock)
    made.order(schedule="* * * * *")
    async with working(made):
        archive.forget(archive.store(0, b"image"))
        await clock.advance(120)
        told = made.feed.told
        assert told is not None and told.last is not None and told.last.row_missing == 0
        await clock.advance(900)
        assert made.feed.told is not None and made.feed.told.last is not None
        assert made.feed.told.last.row_missing == 1


async def test_it_begins_when_it_is_due_and_not_before(scrubbing: Scrubbing) -> None:
    scrubbing.archive.store(0, b"image")
    await scrubbing.clock.advance(HOUR / 2)
    assert scrubbing.feed.told is not None and scrubbing.feed.told.last is None
    await scrubbing.clock.advance(HOUR / 2)
    first, asked = scrubbing.feed.told.last, len(scrubbing.archive.asked)
    assert first is not None and first.began.endswith(":40:00Z")
    await scrubbing.clock.advance(HOUR / 2)
    assert len(scrubbing.archive.asked) == asked
    second = await scrubbing.hour()
    assert datetime.fromisoformat(second.began) - datetime.fromisoformat(first.began) == timedelta(hours=1)


async def test_the_rate_is_kept(scrubbing: Scrubbing) -> None:
    scrubbing.order(maxMiPerSecond=1)
    scrubbing.archive.store(0, bytes(30 * 2**20))
    result = await scrubbing.hour()
    assert result.ended is not None
    took = datetime.fromisoformat(result.ended) - datetime.fromisoformat(result.began)
    assert timedelta(seconds=30) <= took <= timedelta(seconds=33)


async def test_a_restart_goes_on_where_it_was(
    scrubbing: Scrubbing, surroundings: Surroundings, clock: FakeClock
) -> None:
    archive = scrubbing.archive
    scrubbing.order(maxMiPerSecond=1)
    bad = archive.store(0, bytes(20 * 2**20))
    flip(archive.path(bad), -1)
    archive.store(1, bytes(20 * 2**20))
    archive.store(2, bytes(20 * 2**20))
    await clock.advance(40 * 60 + 45)
    told = scrubbing.feed.told
    assert told is not None and told.running is not None
    assert (told.running.objects, told.running.changed) == (1, 1)
    assert bad in (archive.images / STATE_FILE).read_text()
    archive.asked.clear()
    again = build(archive, surroundings, clock)
    async with working(again):
        await clock.advance(HOUR / 4)
        assert again.feed.told is not None and again.feed.told.last is not None
        result = again.feed.told.last
    assert (result.began, result.objects, result.changed) == (told.running.began, 3, 1)
    assert archive.asked[0] == STUDIES[1], "what was read is not read again"


async def test_suspended_it_halts_and_then_goes_on(scrubbing: Scrubbing) -> None:
    for study in range(3):
        scrubbing.archive.store(study, bytes(2**20))
    scrubbing.order(suspend=True)
    await scrubbing.clock.advance(2 * HOUR)
    assert scrubbing.feed.told is not None and scrubbing.feed.told.last is None and not scrubbing.archive.asked
    scrubbing.order()
    assert (await scrubbing.hour()).objects == 3
    (scrubbing.place.peers / "scrub.json").unlink()
    await scrubbing.clock.advance(60)
    assert scrubbing.feed.told is None


async def test_a_clock_that_is_set_right_in_the_middle_holds_no_pass_up(scrubbing: Scrubbing) -> None:
    for _ in range(3):
        scrubbing.archive.store(0, bytes(2**20))
    scrubbing.order(maxMiPerSecond=1)
    await scrubbing.clock.advance(HOUR, until=lambda: bool(scrubbing.archive.asked))
    slept: list[float] = []
    sleep = scrubbing.clock.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(seconds)

    scrubbing.clock.sleep = noted
    scrubbing.clock.set_back(6 * 24 * HOUR)
    await scrubbing.clock.advance(HOUR, until=lambda: len(slept) > 2)
    assert slept and max(slept) <= 60, "it is at most a megabyte, or the look for the next pass"


async def test_it_waits_while_images_in_clear_are_being_encrypted(scrubbing: Scrubbing) -> None:
    """Each would seem to be missing where encrypted images lie."""
    scrubbing.archive.store(0, b"image")
    orders = scrubbing.place.peers / "sealing.json"
    orders.write_text('{"clear": true, "miPerSecond": 50}')
    await scrubbing.clock.advance(2 * HOUR)
    assert scrubbing.feed.told is not None and scrubbing.feed.told.last is None and not scrubbing.archive.asked
    orders.write_text('{"clear": false, "miPerSecond": 50}')
    assert (await scrubbing.hour()).objects == 1


async def test_orthanc_away_ends_no_pass(scrubbing: Scrubbing) -> None:
    scrubbing.archive.store(0, b"image")
    scrubbing.archive.away = True
    await scrubbing.clock.advance(HOUR)
    assert scrubbing.context.problems.standing() == {"scrub": "NeighbourUnavailable"}
    assert scrubbing.feed.told is not None and scrubbing.feed.told.running is not None
    scrubbing.archive.away = False
    assert (await scrubbing.hour()).objects == 1
    assert not scrubbing.context.problems.standing()


async def test_without_the_volume_nothing_is_called_missing(scrubbing: Scrubbing) -> None:
    scrubbing.archive.store(0, b"image")
    elsewhere = scrubbing.archive.images.with_name("elsewhere")
    scrubbing.archive.images.rename(elsewhere)
    await scrubbing.clock.advance(HOUR)
    assert scrubbing.context.problems.standing()["scrub"] == "ScrubBlocked"
    elsewhere.rename(scrubbing.archive.images)
    assert scrubbing.counts(await scrubbing.hour()) == GOOD


async def test_a_state_that_nobody_can_read_begins_anew(
    archive: Archive, surroundings: Surroundings, clock: FakeClock
) -> None:
    archive.store(0, b"image")
    (archive.images / "scrub").mkdir()
    (archive.images / STATE_FILE).write_text("{")
    made = build(archive, surroundings, clock)
    made.order()
    async with working(made):
        assert (await made.hour()).objects == 1


async def test_a_key_that_is_not_there_is_no_altered_image(
    archive: Archive, surroundings: Surroundings, clock: FakeClock
) -> None:
    if not archive.sealed:
        return
    made = build(archive, surroundings, clock)
    made.order()
    uuid = archive.store(0, b"image")
    archive.path(uuid).write_bytes(seal(uuid, b"image", number=2))
    async with working(made):
        result = await made.hour()
        assert [(one.kind, one.object) for one in result.found] == [("Unreadable", uuid)]
        lines = made.place.ring.read_text().replace("end", f"key 2 {KEY.hex()}\nend")
        made.place.ring.write_text(lines)
        assert made.counts(await made.hour()) == GOOD


async def test_what_it_remembers_is_nothing_of_a_patient(scrubbing: Scrubbing) -> None:
    scrubbing.archive.store(0, b"image")
    await scrubbing.hour()
    text = (scrubbing.archive.images / STATE_FILE).read_text()
    assert not any(study in text for study in STUDIES)
    assert (scrubbing.archive.images / STATE_FILE).stat().st_mode & 0o077 == 0


async def halted(scrubbing: Scrubbing, objects: int = 1) -> ScrubPass:
    """Let a pass read the first of three studies, and suspend it there."""
    for study in range(3):
        scrubbing.archive.store(study, bytes(20 * 2**20))
    scrubbing.order(maxMiPerSecond=1)
    await scrubbing.clock.advance(40 * 60 + 30)
    told = scrubbing.feed.told
    assert told is not None and told.running is not None and told.running.objects == objects
    scrubbing.order(suspend=True)
    await scrubbing.clock.advance(30)
    return told.running


@pytest.mark.parametrize(("hours", "again"), [(1, False), (24 * 60, True)])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_pass_that_halted_for_long_begins_anew(
    scrubbing: Scrubbing, surroundings: Surroundings, clock: FakeClock, hours: int, again: bool, restart: bool
) -> None:
    """Its twin, halted for less than two slots, goes on."""
    before = await halted(scrubbing)
    await clock.advance(hours * HOUR)
    scrubbing.archive.asked.clear()
    made = build(scrubbing.archive, surroundings, clock) if restart else scrubbing
    made.order()
    async with working(made) if restart else contextlib.nullcontext():
        await clock.advance(HOUR / 60)
        assert made.feed.told is not None and made.feed.told.last is not None
        result = made.feed.told.last
    assert (result.began != before.began) is again
    assert (scrubbing.archive.asked[0] == STUDIES[0]) is again
    assert result.objects == 3


async def test_a_pass_that_found_something_is_not_forgotten(scrubbing: Scrubbing) -> None:
    bad = scrubbing.archive.store(0, b"image")
    flip(scrubbing.archive.path(bad), -1)
    before = await halted(scrubbing, 2)
    await scrubbing.clock.advance(24 * 60 * HOUR)
    scrubbing.order()
    await scrubbing.clock.advance(HOUR / 60)
    assert scrubbing.feed.told is not None and scrubbing.feed.told.last is not None
    assert (scrubbing.feed.told.last.began, scrubbing.feed.told.last.changed) == (before.began, 1)


def notes(archive: Archive, **state: Any) -> None:
    (archive.images / "scrub").mkdir()
    (archive.images / STATE_FILE).write_text(json.dumps(state))


@pytest.mark.parametrize("minutes", [3, 60 * 24 * 365])
@pytest.mark.parametrize("field", ["since", "ended"])
async def test_an_end_to_come_puts_nothing_off(
    archive: Archive, surroundings: Surroundings, clock: FakeClock, field: str, minutes: int
) -> None:
    """Its twin: a time as little ahead as clocks differ."""
    now, ahead = rfc3339(clock.now()), rfc3339(clock.now() + timedelta(minutes=minutes))
    if field == "since":
        notes(archive, since=ahead)
    else:
        notes(archive, since=now, last={"began": now, "ended": ahead})
    archive.store(0, b"image")
    made = build(archive, surroundings, clock)
    made.order()
    async with working(made):
        assert (await made.hour()).objects == 1


@pytest.mark.parametrize(("minutes", "again"), [(3, False), (60 * 24 * 365, True)])
@pytest.mark.parametrize("field", ["began", "saved"])
async def test_a_pass_from_times_to_come_begins_anew(
    archive: Archive, surroundings: Surroundings, clock: FakeClock, field: str, minutes: int, again: bool
) -> None:
    """Its twin, as little ahead as clocks differ, goes on."""
    now, ahead = rfc3339(clock.now()), rfc3339(clock.now() + timedelta(minutes=minutes))
    times = {"began": now, "saved": now, field: ahead}
    running = {"began": times["began"]}
    notes(archive, since=now, running=running, saved=times["saved"], position={"files": False})
    archive.store(0, b"image")
    made = build(archive, surroundings, clock)
    made.order()
    async with working(made):
        await clock.advance(60)
        assert made.feed.told is not None and made.feed.told.last is not None
        assert made.feed.told.last.objects == int(again)
