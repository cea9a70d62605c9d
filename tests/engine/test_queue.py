"""The work queue over fake time: hours pass in milliseconds."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import pairwise
from random import Random
from typing import Any

from pacs_operator.reconcile.queue import Pace, WorkQueue


class FakeClock:
    """Time that jumps to the next moment anybody waits for, once nobody has anything to do."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._waiting: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        alarm = asyncio.Event()
        entry = (self.time + (timeout if timeout is not None else 1e9), alarm)
        self._waiting.append(entry)
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(alarm.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        self._waiting.remove(entry)

    async def sleep(self, seconds: float) -> None:
        await self.wait(asyncio.Event(), seconds)

    async def run_until(self, end: float) -> None:
        while self.time < end:
            for _ in range(20):
                await asyncio.sleep(0)
            pending = [entry for entry in self._waiting if not entry[1].is_set()]
            due = min([moment for moment, _ in pending], default=end)
            self.time = max(self.time, min(due, end))
            for moment, alarm in pending:
                if moment <= self.time:
                    alarm.set()
        for _ in range(20):
            await asyncio.sleep(0)


class Bench:
    def __init__(self, act: Callable[["Bench", str], Awaitable[float | None]], **pace: Any) -> None:
        self.clock = FakeClock()
        self.started: list[tuple[str, float]] = []
        self.inside: Counter[str] = Counter()
        self.most = 0
        self.failures: list[str] = []
        self.keys: list[str] = []
        self._act = act
        self.queue = WorkQueue(
            self._work, self._keys, self.clock, Random(1), Pace(**pace), lambda key, _: self.failures.append(key)
        )

    async def _keys(self) -> list[str]:
        return self.keys

    async def _work(self, key: str) -> float | None:
        self.started.append((key, self.clock.now() - 1000.0))
        self.inside[key] += 1
        assert self.inside[key] == 1, "two reconciles of one key at the same time"
        self.most = max(self.most, self.inside.total())
        try:
            return await self._act(self, key)
        finally:
            self.inside[key] -= 1

    async def run(self, seconds: float, during: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(self.queue.run(stop))
        extra = asyncio.create_task(during()) if during else None
        await self.clock.run_until(1000.0 + seconds)
        stop.set()
        await self.clock.run_until(1000.0 + seconds + 100)
        await task
        if extra:
            await extra


async def quick(_bench: Bench, _key: str) -> None:
    return None


async def slow(bench: Bench, _key: str) -> None:
    await bench.clock.sleep(5)


async def test_many_marks_are_one_reconcile():
    bench = Bench(quick, full_pass=1e6)
    for _ in range(50):
        bench.queue.mark("a")
    await bench.run(10)
    assert [key for key, _ in bench.started] == ["a"]


async def test_a_mark_during_a_reconcile_means_once_more_and_never_two_at_once():
    bench = Bench(slow, full_pass=1e6)

    async def during() -> None:
        await bench.clock.sleep(2)
        bench.queue.mark("a")
        bench.queue.mark("a")

    bench.queue.mark("a")
    await bench.run(30, during)
    assert bench.started == [("a", 0.0), ("a", 5.0)]


async def test_no_more_reconciles_at_once_than_workers():
    bench = Bench(slow, workers=3, full_pass=1e6)
    for number in range(10):
        bench.queue.mark(f"k{number}")
    assert bench.queue.depth == 10
    await bench.run(60)
    assert bench.most == 3
    assert len(bench.started) == 10


async def test_a_storm_of_events_is_paced_by_the_least_interval():
    bench = Bench(quick, min_interval=2, full_pass=1e6)

    async def during() -> None:
        for _ in range(100):
            bench.queue.mark("a")
            await bench.clock.sleep(0.1)

    await bench.run(15, during)
    times = [time for _, time in bench.started]
    assert all(later - earlier >= 2 for earlier, later in pairwise(times))
    assert len(times) <= 7


async def test_failures_back_off_with_growing_jittered_pauses_up_to_a_bound():
    async def broken(_bench: Bench, _key: str) -> None:
        raise RuntimeError

    bench = Bench(broken, backoff_first=1, backoff_last=30, full_pass=1e6)
    bench.queue.mark("a")
    await bench.run(200)
    times = [time for _, time in bench.started]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for number, pause in enumerate(pauses):
        middle = min(30, 2**number)
        assert 0.75 * middle <= pause <= 1.25 * middle
    assert len(set(pauses)) == len(pauses), "no jitter"
    assert len(bench.failures) == len(bench.started)


async def test_an_event_does_not_defeat_the_backoff_of_one_key_and_others_are_not_held_up():
    async def broken(_bench: Bench, key: str) -> None:
        if key == "bad":
            raise RuntimeError

    bench = Bench(broken, backoff_first=20, backoff_last=30, full_pass=1e6)

    async def during() -> None:
        for _ in range(10):
            await bench.clock.sleep(1)
            bench.queue.mark("bad")
            bench.queue.mark("good")

    bench.queue.mark("bad")
    await bench.run(14, during)
    counts = Counter(key for key, _ in bench.started)
    assert counts["bad"] == 1
    assert counts["good"] >= 9


async def test_success_resets_the_backoff():
    outcomes = iter([True, True, True, False, True, False, False])

    async def flaky(_bench: Bench, _key: str) -> float | None:
        if next(outcomes):
            raise RuntimeError
        return 100.0

    bench = Bench(flaky, backoff_first=1, full_pass=1e6)
    bench.queue.mark("a")
    await bench.run(130)
    times = [time for _, time in bench.started]
    assert times[5] - times[4] <= 1.25, "the first pause after a success is the first pause again"


async def test_requeue_after_is_honoured():
    async def again(_bench: Bench, _key: str) -> float:
        return 7.0

    bench = Bench(again, full_pass=1e6)
    bench.queue.mark("a")
    await bench.run(22)
    assert [time for _, time in bench.started] == [0.0, 7.0, 14.0, 21.0]


async def test_the_full_pass_finds_what_no_event_told_and_forgets_what_is_gone():
    bench = Bench(quick, full_pass=100)
    bench.keys = ["a", "b"]
    await bench.run(450)
    counts = Counter(key for key, _ in bench.started)
    assert counts["a"] == counts["b"]
    assert 5 <= counts["a"] <= 6
    bench.keys = []


async def test_a_full_pass_that_fails_is_repeated_soon():
    bench = Bench(quick, full_pass=1000, backoff_first=1)
    answers: Iterator[Exception | list[str]] = iter([RuntimeError(), ["a"]])

    async def keys() -> list[str]:
        answer = next(answers, ["a"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    bench.queue._list_keys = keys
    await bench.run(10)
    assert [key for key, _ in bench.started] == ["a"]
    assert bench.failures == [""]


async def test_numbers_for_the_metrics():
    bench = Bench(slow, workers=1, full_pass=1e6)
    for key in "abc":
        bench.queue.mark(key)
    bench.clock.time += 4
    assert bench.queue.depth == 3
    assert bench.queue.oldest_age == 4
