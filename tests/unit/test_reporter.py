"""Events on their way to Redis: in order, each once, and never in the agent's way."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from agentherd import EventKind
from agentherd_workers import reporter
from agentherd_workers.agent.messages import Event
from agentherd_workers.reporter import MAX_BATCH, MAX_PENDING, Progress, Reporter


def event(number: int) -> Event:
    return EventKind.TEXT, {"n": number}


def numbers(events: list[Event]) -> list[int]:
    return [data["n"] for _kind, data in events]


class Redis:
    """Takes batches; fails as often as it is told first, and waits while `gate` is closed."""

    def __init__(self, *, failures: int = 0, stale_after: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.progress: list[dict[str, str]] = []
        self.failures = failures
        self.stale_after = stale_after
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.stale_calls = 0

    async def append(self, events: list[Event], progress: Progress) -> bool:
        self.asked.set()
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise RedisConnectionError
        if self.stale_after is not None and len(self.batches) >= self.stale_after:
            return False
        self.batches.append(numbers(events))
        self.progress.append(dict(progress))
        return True

    def on_stale(self) -> None:
        self.stale_calls += 1

    @property
    def received(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the pause between tries."""
    monkeypatch.setattr(reporter, "RETRY_S", 0.001)


async def test_events_arrive_in_order_and_in_batches() -> None:
    redis = Redis()
    sender = Reporter(redis.append, redis.on_stale)
    sender.add([event(n) for n in range(250)])
    sender.add([])
    sender.add([event(250)])
    await sender.close(5)
    assert redis.received == list(range(251))
    assert [len(batch) for batch in redis.batches] == [MAX_BATCH, MAX_BATCH, 51]


async def test_adding_never_waits_for_redis() -> None:
    redis = Redis()
    redis.gate.clear()
    sender = Reporter(redis.append, redis.on_stale)
    sender.add([event(0)])
    await redis.asked.wait()
    sender.add([event(1)])
    redis.gate.set()
    await sender.close(5)
    assert redis.received == [0, 1]


async def test_an_outage_loses_nothing_and_doubles_nothing() -> None:
    redis = Redis(failures=3)
    sender = Reporter(redis.append, redis.on_stale)
    sender.add([event(n) for n in range(120)])
    await sender.close(5)
    assert redis.received == list(range(120))


async def test_in_a_long_outage_the_oldest_go_first() -> None:
    redis = Redis(failures=1)
    redis.gate.clear()
    sender = Reporter(redis.append, redis.on_stale)
    sender.add([event(n) for n in range(MAX_PENDING + 300)])
    redis.gate.set()
    await sender.close(5)
    assert redis.received == list(range(300, MAX_PENDING + 300))


async def test_what_is_on_its_way_is_not_counted_as_dropped() -> None:
    """An overflow while a batch is under way drops what waits behind it, and no more."""
    redis = Redis()
    redis.gate.clear()
    sender = Reporter(redis.append, redis.on_stale)
    sender.add([event(n) for n in range(MAX_PENDING)])
    await redis.asked.wait()
    sender.add([event(MAX_PENDING + n) for n in range(50)])
    redis.gate.set()
    await sender.close(5)
    kept = [*range(MAX_BATCH), *range(MAX_BATCH + 50, MAX_PENDING + 50)]
    assert redis.received == kept


async def test_a_stale_lease_ends_the_reporting_and_is_told_once() -> None:
    redis = Redis(stale_after=1)
    sender = Reporter(redis.append, redis.on_stale)
    sender.add([event(n) for n in range(MAX_BATCH * 3)])
    await sender.close(5)
    sender.add([event(1000)])
    await sender.close(5)
    assert redis.received == list(range(MAX_BATCH))
    assert redis.stale_calls == 1


async def test_closing_does_not_wait_longer_than_told(caplog: pytest.LogCaptureFixture) -> None:
    redis = Redis()
    redis.gate.clear()
    sender = Reporter(redis.append, redis.on_stale)
    sender.add([event(0), event(1)])
    async with asyncio.timeout(5):
        await sender.close(0.01)
    assert "2 events were not sent" in caplog.text
    assert redis.received == []


async def test_of_progress_the_newest_arrives_once_also_without_events() -> None:
    redis = Redis(failures=1)
    redis.gate.clear()
    sender = Reporter(redis.append, redis.on_stale)
    sender.note({"turns": "1"})
    await redis.asked.wait()
    sender.note({"turns": "2"})
    sender.add([event(0)])
    redis.gate.set()
    await sender.close(5)
    assert redis.progress == [{"turns": "2"}]
    assert redis.received == [0]


async def test_closing_an_idle_one_ends_at_once() -> None:
    redis = Redis()
    sender = Reporter(redis.append, redis.on_stale)
    async with asyncio.timeout(1):
        await sender.close(60)
    assert redis.batches == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 150), st.booleans()), max_size=8),
    st.integers(0, 3),
)
def test_whatever_the_timing_each_event_arrives_once(
    steps: list[tuple[int, bool]], failures: int
) -> None:
    async def scenario() -> tuple[list[int], int]:
        redis = Redis(failures=failures)
        sender = Reporter(redis.append, redis.on_stale)
        count = 0
        for size, pause in steps:
            sender.add([event(count + n) for n in range(size)])
            count += size
            if pause:
                await asyncio.sleep(0)
        await sender.close(5)
        return redis.received, count

    received, count = asyncio.run(scenario())
    assert received == list(range(count))
