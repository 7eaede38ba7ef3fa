"""Holding a job: renewed in time, given up before Redis gives it away, lost only once."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from agentherd.layout.records import Renewal
from agentherd_workers.lease import Lease, LeaseLost, margin_s
from support.waiting import wait_until_async

LENGTH_S = 0.6
HELD_S = LENGTH_S - margin_s(LENGTH_S)
"""Given up before Redis does."""


class Renewals:
    """Answers renewals in turn; the last answer stays."""

    def __init__(self, *answers: Renewal | Exception) -> None:
        self.answers = list(answers)
        self.times_s: list[float] = []

    async def __call__(self) -> Renewal:
        self.times_s.append(time.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Losses:
    """Counts how often the loss was told, and notes when."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def __call__(self) -> None:
        self.times_s.append(time.monotonic())


def hold(
    renew: Callable[[], Awaitable[Renewal]], losses: Losses, *, length_s: float = LENGTH_S
) -> Lease:
    return Lease(renew, length_s, losses, _never, claimed_at_s=time.monotonic())


def _never() -> None:
    raise AssertionError("nobody asked to cancel")


async def loss_of(lease: Lease) -> None:
    async def lost() -> bool:
        return lease.lost

    await wait_until_async(lost, "the lease is lost", 5)


async def renewed(renewals: Renewals, times: int) -> None:
    async def enough() -> bool:
        return len(renewals.times_s) >= times

    await wait_until_async(enough, f"{times} renewals", 5)


async def test_it_is_renewed_every_third_of_its_length() -> None:
    renewals, losses = Renewals(Renewal.RENEWED), Losses()
    started_s = time.monotonic()
    lease = hold(renewals, losses)
    await renewed(renewals, 6)
    await lease.release()
    assert time.monotonic() - started_s >= 6 * LENGTH_S / 3
    lease.check()
    assert losses.times_s == []


async def test_a_refused_renewal_loses_it_at_once() -> None:
    renewals, losses = Renewals(Renewal.RENEWED, Renewal.GONE), Losses()
    lease = hold(renewals, losses)
    await loss_of(lease)
    with pytest.raises(LeaseLost):
        lease.check()
    await lease.release()
    assert len(renewals.times_s) == 2
    assert len(losses.times_s) == 1


async def test_a_renewal_that_brings_a_cancel_tells_so_and_holds_on() -> None:
    asked = asyncio.Event()
    renewals, losses = Renewals(Renewal.CANCELLING), Losses()
    lease = Lease(renewals, LENGTH_S, losses, asked.set, claimed_at_s=time.monotonic())
    await asyncio.wait_for(asked.wait(), 5)
    await renewed(renewals, 4)
    await lease.release()
    lease.check()
    assert losses.times_s == []


@pytest.mark.parametrize("error", [RedisConnectionError(), OSError(), TimeoutError()])
async def test_it_is_lost_when_redis_is_away_for_as_long_as_it_lasts(error: Exception) -> None:
    renewals, losses = Renewals(error), Losses()
    started_s = time.monotonic()
    lease = hold(renewals, losses)
    await loss_of(lease)
    lost_after_s = losses.times_s[0] - started_s
    await lease.release()
    assert HELD_S * 0.9 <= lost_after_s < HELD_S + 0.25
    assert len(renewals.times_s) >= 2, "it is tried again meanwhile"
    assert len(losses.times_s) == 1


async def test_a_renewal_that_hangs_loses_it_in_time() -> None:
    losses = Losses()

    async def hang() -> Renewal:
        await asyncio.Event().wait()
        return Renewal.RENEWED

    started_s = time.monotonic()
    lease = hold(hang, losses)
    await loss_of(lease)
    await lease.release()
    assert losses.times_s[0] - started_s < HELD_S + 0.25


async def test_a_short_outage_is_survived() -> None:
    away = RedisConnectionError()
    renewals, losses = Renewals(away, away, Renewal.RENEWED), Losses()
    lease = hold(renewals, losses)
    await renewed(renewals, 6)
    await lease.release()
    lease.check()
    assert losses.times_s == []


async def test_it_counts_from_when_the_renewal_was_sent() -> None:
    """A slow answer must not prolong the lease past what Redis knows of."""
    losses = Losses()
    sent_s: list[float] = []

    async def slow() -> Renewal:
        sent_s.append(time.monotonic())
        if len(sent_s) > 1:
            raise RedisConnectionError
        await asyncio.sleep(HELD_S * 0.5)
        return Renewal.RENEWED

    lease = hold(slow, losses)
    await loss_of(lease)
    await lease.release()
    assert losses.times_s[0] - sent_s[0] < HELD_S + 0.25


async def test_a_claim_that_took_longer_than_the_lease_is_lost() -> None:
    renewals, losses = Renewals(RedisConnectionError()), Losses()
    lease = Lease(renewals, LENGTH_S, losses, _never, claimed_at_s=time.monotonic() - LENGTH_S)
    await loss_of(lease)
    await lease.release()
    assert len(losses.times_s) == 1


async def test_a_refused_write_loses_it_and_is_told_once() -> None:
    losses = Losses()
    lease = hold(Renewals(Renewal.GONE), losses)
    lease.lose()
    lease.lose()
    await lease.release()
    with pytest.raises(LeaseLost):
        lease.check()
    assert len(losses.times_s) == 1


async def test_after_release_nothing_is_renewed() -> None:
    renewals, losses = Renewals(Renewal.RENEWED), Losses()
    lease = hold(renewals, losses)
    await renewed(renewals, 1)
    await lease.release()
    before = len(renewals.times_s)
    await asyncio.sleep(LENGTH_S)
    assert len(renewals.times_s) == before
    await lease.release()


@pytest.mark.parametrize("turns", range(8))
async def test_it_ends_when_it_is_released_just_as_a_renewal_comes_back(turns: int) -> None:
    """Whatever the turn of the event loop: its task must not go on for ever."""
    asked, answered = asyncio.Event(), asyncio.Event()

    async def renew() -> Renewal:
        asked.set()
        await answered.wait()
        return Renewal.RENEWED

    lease = hold(renew, Losses())
    await asked.wait()
    answered.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    ended, _ = await asyncio.wait([asyncio.create_task(lease.release())], timeout=1)
    assert ended


@pytest.mark.parametrize(
    ("length_s", "expected_s"), [(1.0, 0.3), (3.0, 0.3), (15.0, 1.5), (300.0, 2.0)]
)
def test_it_is_given_up_a_margin_before_redis_does(length_s: float, expected_s: float) -> None:
    assert margin_s(length_s) == pytest.approx(expected_s)


async def test_a_watcher_is_told_until_when_it_holds() -> None:
    told: list[float] = []
    renewals = Renewals(Renewal.RENEWED)
    started_s = time.monotonic()
    lease = Lease(renewals, LENGTH_S, _never, _never, claimed_at_s=started_s)
    lease.watch(told.append)
    assert told == [started_s + HELD_S]
    await renewed(renewals, 3)
    assert told == sorted(told)
    assert len(told) >= 3
    lease.watch(None)
    before = len(told)
    await renewed(renewals, 5)
    assert len(told) == before
    await lease.release()


async def test_one_that_was_paused_finds_its_lease_lost_before_anything_else() -> None:
    losses = Losses()
    lease = hold(Renewals(Renewal.RENEWED), losses)
    time.sleep(LENGTH_S)  # noqa: ASYNC251 - as if the whole process was stopped
    with pytest.raises(LeaseLost):
        lease.check()
    await lease.release()
    assert len(losses.times_s) == 1
