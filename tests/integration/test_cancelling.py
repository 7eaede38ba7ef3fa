"""Cancelling a job on Redis: in each state, and while it moves."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentherd import (
    AsyncHerd,
    CancelOutcome,
    EventKind,
    FailureKind,
    Herd,
    Job,
    JobHandle,
    JobNotFound,
    JobState,
    SubmitRules,
)
from agentherd.contract.states import TERMINAL
from agentherd.layout import records
from agentherd.layout.keys import queue_list
from agentherd.layout.records import Claim, Renewal
from support.records import LEASE_MS, claim, finish, run_to_end, try_claim
from support.waiting import wait_until

LATER = timedelta(hours=1)


def scheduled(herd: Herd) -> JobHandle:
    """A job that waits for its time."""
    return herd.submit(Job(prompt="x", not_before=datetime.now(UTC) + LATER))


def kinds(handle: JobHandle) -> list[str]:
    """Its events."""
    return [str(event.kind) for event in handle.events(follow=False)]


@pytest.mark.parametrize("make", [lambda herd: herd.submit(Job(prompt="x")), scheduled])
def test_a_job_that_waits_ends_at_once(herd: Herd, make: Callable[[Herd], JobHandle]) -> None:
    """Its result is there, its session is free, and no index shows it as waiting."""
    handle = make(herd)
    owner = herd.keys.session_owner("default", handle.record().session_id)
    assert herd.connection.redis.exists(owner)

    answer = handle.cancel("no longer needed")

    assert (answer.outcome, answer.state) == (CancelOutcome.CANCELLED, JobState.CANCELLED)
    result = handle.result(0)
    assert result.state is JobState.CANCELLED
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CANCELLED
    assert result.failure.message == "cancelled: no longer needed"
    assert result.attempts == 0
    assert kinds(handle) == ["submitted", "ended"]
    assert [job.job_id for job in herd.jobs(state=JobState.CANCELLED).jobs] == [handle.id]
    assert herd.jobs(state=[JobState.QUEUED, JobState.SCHEDULED]).jobs == ()
    assert not herd.connection.redis.exists(owner, herd.keys.scheduled)
    # Whoever takes the message tells Celery.
    record = handle.record()
    assert herd.connection.redis.llen(queue_list(record.queue, record.priority)) == 1


def test_its_record_is_kept_as_long_as_the_client_says(redis_server: Any, herd: Herd) -> None:
    """A worker has a setting for that, but need not be there."""
    with Herd(redis_server.url, rules=SubmitRules(retention_s=100)) as short:
        handle = short.submit(Job(prompt="x"))
        handle.cancel()
    assert 90 < herd.connection.redis.ttl(herd.keys.job(handle.id)) <= 100


def test_the_worker_of_a_running_job_is_told(herd: Herd) -> None:
    """By the channel at once, and by each renewal of its lease; the first reason stays."""
    handle = herd.submit(Job(prompt="x"))
    held = claim(herd, handle.id)
    channel = herd.connection.redis.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(herd.keys.cancellations)
    wait_until(lambda: channel.subscribed, "subscribed")
    wait_until(lambda: herd.connection.redis.pubsub_numsub(herd.keys.cancellations)[0][1], "heard")

    answers = [handle.cancel("first"), handle.cancel("second")]

    assert {answer.outcome for answer in answers} == {CancelOutcome.ASKED}
    assert {answer.state for answer in answers} == {JobState.RUNNING}
    told = wait_until(lambda: channel.get_message(timeout=1), "the channel tells it")
    channel.close()
    assert told["data"] == handle.id.encode()
    renewal = records.renew(herd.keys, handle.id, held.fence, LEASE_MS)
    assert herd.connection.run(renewal) is Renewal.CANCELLING
    asked = [event for event in handle.events(follow=False) if event.kind is EventKind.CANCELLING]
    assert [event.data for event in asked] == [{"reason": "first"}]
    assert handle.state() is JobState.RUNNING


def test_a_job_that_has_ended_stays_as_it_is(herd: Herd) -> None:
    """The answer says how it ended."""
    handle = herd.submit(Job(prompt="x"))
    run_to_end(herd, handle.id)
    answer = handle.cancel()
    assert (answer.outcome, answer.state) == (CancelOutcome.ENDED, JobState.SUCCEEDED)
    assert handle.result(0).state is JobState.SUCCEEDED


def test_an_unknown_job_is_not_found(herd: Herd) -> None:
    """As by every other call."""
    with pytest.raises(JobNotFound):
        herd.job("absent").cancel()


async def test_the_asyncio_client_cancels_alike(async_herd: AsyncHerd) -> None:
    """The same operation."""
    handle = await async_herd.submit(Job(prompt="x"))
    answer = await handle.cancel("enough")
    assert answer.outcome is CancelOutcome.CANCELLED
    assert (await handle.result(0)).state is JobState.CANCELLED


def test_while_it_moves_a_job_ends_once(herd: Herd) -> None:
    """Cancel against a worker that claims, gives back and ends: one end, told in one event."""
    handles = [herd.submit(Job(prompt="x")) for _ in range(100)]

    def work(handle: JobHandle) -> bool:
        """Claim it, give it back, claim it again and end it, as far as it is to be had."""
        held = try_claim(herd, handle.id)
        if isinstance(held, Claim):
            again = records.requeue(
                herd.keys, held.record, delay_ms=0, reason="drained", refund=True
            )
            herd.connection.run(again)
            held = try_claim(herd, handle.id)
        return isinstance(held, Claim) and finish(herd, held.record) is not None

    with ThreadPoolExecutor(8) as threads:
        answers, ends = [], []
        for handle in handles:
            answers.append(threads.submit(handle.cancel))
            ends.append(threads.submit(work, handle))
    outcomes = [answer.result().outcome for answer in answers]
    ended = [end.result() for end in ends]
    for handle, outcome, by_worker in zip(handles, outcomes, ended, strict=True):
        state = handle.state()
        if outcome is CancelOutcome.CANCELLED:
            assert (state, by_worker) == (JobState.CANCELLED, False)
        elif outcome is CancelOutcome.ENDED:
            assert (state, by_worker) == (JobState.SUCCEEDED, True)
        else:  # the worker was told: it either ended it, or holds it to end it as cancelled
            assert (state is JobState.SUCCEEDED) == by_worker
            assert state in (JobState.SUCCEEDED, JobState.RUNNING)
        assert kinds(handle).count("ended") == (1 if state in TERMINAL else 0)
