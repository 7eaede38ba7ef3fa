"""The record's moves on a real Redis: only who holds the job may move it, and only as drawn."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentherd import EventKind, Herd, Job, JobHandle, JobState
from agentherd.contract.states import TERMINAL, TRANSITIONS
from agentherd.layout import leading, records
from agentherd.layout.records import Claim, JobRecord, Overdue, Refused, Renewal, Requeued
from agentherd_workers.devkit.redis_server import RedisServer
from support import records as acting
from support.contents import contents
from support.leaks import keys_without_ttl
from support.waiting import wait_until

RACER = """
import sys
from agentherd import Herd
from agentherd.layout import records
url, worker, *job_ids = sys.argv[1:]
with Herd(url) as herd:
    herd.connection.redis.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    for job_id in job_ids:
        outcome = herd.connection.run(records.claim(herd.keys, job_id, "default", worker, 60_000))
        if isinstance(outcome, records.Claim):
            print(job_id, outcome.fence, flush=True)
"""


def everything(herd: Herd) -> dict[bytes, Any]:
    """All that Redis holds."""
    return contents(herd.connection.redis)


def requeue(herd: Herd, record: JobRecord, *, delay_ms: int = 0, refund: bool = False) -> Requeued:
    return herd.connection.run(
        records.requeue(herd.keys, record, delay_ms=delay_ms, reason="test", refund=refund)
    )


def release_due(herd: Herd) -> int:
    """As the leader does."""
    duty = herd.connection.run(leading.tick(herd.keys, "w1@host", leads=False))
    assert duty is not None
    return sum(herd.connection.run(records.release(herd.keys, job_id)) for job_id in duty.due)


def queue(herd: Herd) -> list[str]:
    """Ids of the jobs whose messages wait, the next one first."""
    messages = herd.connection.redis.lrange("agents\x06\x163", 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(messages)]


def stands_in(herd: Herd, job_id: str) -> set[JobState]:
    """The states whose indexes name the job; the tenant's must agree."""
    redis, keys = herd.connection.redis, herd.keys
    of_all = {s for s in JobState if redis.zscore(keys.state_index(s), job_id) is not None}
    of_tenant = {
        s for s in JobState if redis.zscore(keys.tenant_index("default", s), job_id) is not None
    }
    assert of_all == of_tenant
    return of_all


def lease_end_ms(herd: Herd, job_id: str) -> float:
    """When the lease ends, by the index of running jobs."""
    score: Any = herd.connection.redis.zscore(herd.keys.leases, job_id)
    return float(score)


@pytest.fixture
def handle(herd: Herd) -> JobHandle:
    """A queued job."""
    return herd.submit(Job(prompt="x"))


def test_a_claim_gives_the_lease_and_the_token(herd: Herd, handle: JobHandle) -> None:
    held = acting.claim(herd, handle.id, worker="w7@host")
    record = held.record
    assert (record.state, record.attempt, record.worker) == (JobState.RUNNING, 1, "w7@host")
    assert record.fence == held.fence > 0
    assert held.waited_ms >= 0
    assert record.started_at_ms is not None
    assert stands_in(herd, handle.id) == {"running"}
    seconds, microseconds = herd.connection.redis.time()
    lease_until_ms = lease_end_ms(herd, handle.id)
    assert 0 < lease_until_ms - (seconds * 1000 + microseconds / 1000) <= acting.LEASE_MS


def test_tokens_grow(herd: Herd) -> None:
    handles = herd.submit_many(Job(prompt="x") for _ in range(3))
    fences = [acting.claim(herd, handle.id).fence for handle in handles]
    assert fences == sorted(set(fences))


def test_no_token_comes_twice_where_redis_lost_its_last_second(
    herd: Herd, handle: JobHandle
) -> None:
    """As after a restart: the counter is that of before, what the token was given to is not."""
    redis, keys = herd.connection.redis, herd.keys
    kept = redis.get(keys.fence_counter)
    first = acting.claim(herd, handle.id)
    assert requeue(herd, first.record)
    for counter in (kept or "0", str(first.fence + 10**12)):
        redis.set(keys.fence_counter, counter)
        held = acting.claim(herd, handle.id)
        assert held.fence > max(first.fence, int(counter))
        assert redis.get(keys.fence_counter) == str(held.fence).encode()
        assert herd.connection.run(records.renew(keys, handle.id, held.fence, 1000))
        assert requeue(herd, held.record)


def test_a_claim_of_nothing_is_refused(herd: Herd) -> None:
    assert acting.try_claim(herd, "nobody") == Refused(None)
    assert everything(herd) == {}


def test_only_one_of_many_processes_gets_each_job(herd: Herd, redis_server: RedisServer) -> None:
    job_ids = [handle.id for handle in herd.submit_many(Job(prompt="x") for _ in range(40))]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, redis_server.url, f"w{n}", *job_ids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    won: list[list[str]] = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for number, racer in enumerate(racers):
        output, _ = racer.communicate(timeout=30)
        assert racer.returncode == 0
        won += [[*line.split(), f"w{number}"] for line in output.splitlines()]
    assert sorted(job_id for job_id, _fence, _worker in won) == sorted(job_ids)
    assert len({fence for _job_id, fence, _worker in won}) == len(job_ids)
    for job_id, fence, worker in won:
        record = herd.job(job_id).record()
        assert (record.fence, record.worker, record.attempt) == (int(fence), worker, 1)


WRITES: dict[str, Callable[[Herd, JobRecord, int], bool | int | None]] = {
    "renew": lambda herd, record, fence: herd.connection.run(
        records.renew(herd.keys, record.job_id, fence, 1000)
    ),
    "report": lambda herd, record, fence: herd.connection.run(
        records.report(
            herd.keys, record.job_id, fence, [(EventKind.TEXT, {"text": "x"})], {"turns": "9"}
        )
    ),
    "keep_artifact": lambda herd, record, fence: herd.connection.run(
        records.keep_artifact(herd.keys, record.job_id, fence, "a.txt", b"x")
    ),
    "finish": lambda herd, record, fence: acting.finish(herd, _with_fence(record, fence)),
    "requeue": lambda herd, record, fence: requeue(herd, _with_fence(record, fence)),
    "requeue later": lambda herd, record, fence: requeue(
        herd, _with_fence(record, fence), delay_ms=1000
    ),
}
"""Every write of a running job: each must present the token."""


def _with_fence(record: JobRecord, fence: int) -> JobRecord:
    return replace(record, fence=fence)


@pytest.mark.parametrize("write", WRITES)
def test_the_holder_may_write(herd: Herd, handle: JobHandle, write: str) -> None:
    held = acting.claim(herd, handle.id)
    assert WRITES[write](herd, held.record, held.fence)


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_token_writes_nothing(herd: Herd, handle: JobHandle, write: str) -> None:
    stale = acting.claim(herd, handle.id)
    assert requeue(herd, stale.record)
    acting.claim(herd, handle.id, worker="w2@host")
    before = everything(herd)
    assert not WRITES[write](herd, stale.record, stale.fence)
    assert everything(herd) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("ended", sorted(TERMINAL & TRANSITIONS[JobState.RUNNING]))
def test_an_ended_job_is_not_written_any_more(
    herd: Herd, handle: JobHandle, write: str, ended: JobState
) -> None:
    held = acting.claim(herd, handle.id)
    assert acting.finish(herd, held.record, ended)
    before = everything(herd)
    assert not WRITES[write](herd, held.record, held.fence)
    assert acting.try_claim(herd, handle.id) == Refused(ended)
    assert everything(herd) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_job_that_nobody_holds_is_not_written(herd: Herd, handle: JobHandle, write: str) -> None:
    held = acting.claim(herd, handle.id)
    assert requeue(herd, held.record)
    before = everything(herd)
    assert not WRITES[write](herd, held.record, held.fence)
    assert everything(herd) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_job_that_is_gone_is_not_written(herd: Herd, handle: JobHandle, write: str) -> None:
    held = acting.claim(herd, handle.id)
    herd.connection.redis.flushall()
    assert not WRITES[write](herd, held.record, held.fence)
    assert everything(herd) == {}


def test_a_running_job_is_not_claimed_again(herd: Herd, handle: JobHandle) -> None:
    acting.claim(herd, handle.id)
    before = everything(herd)
    assert acting.try_claim(herd, handle.id, worker="w2") == Refused(JobState.RUNNING)
    assert everything(herd) == before


def test_a_renewal_prolongs_the_lease(herd: Herd, handle: JobHandle) -> None:
    held = acting.claim(herd, handle.id)
    before = lease_end_ms(herd, handle.id)
    assert herd.connection.run(records.renew(herd.keys, handle.id, held.fence, 600_000))
    after = lease_end_ms(herd, handle.id)
    assert after - before >= 500_000
    in_record: Any = herd.connection.redis.hget(herd.keys.job(handle.id), "lease_until_ms")
    assert int(in_record) == after


def test_a_cancelled_job_is_renewed_and_not_given_back(herd: Herd, handle: JobHandle) -> None:
    """Whoever holds it hears so, and is to end it."""
    held = acting.claim(herd, handle.id)
    herd.connection.redis.hset(herd.keys.job(handle.id), "cancel_reason", "no need any more")
    renewal = herd.connection.run(records.renew(herd.keys, handle.id, held.fence, 600_000))
    assert renewal is Renewal.CANCELLING
    before = everything(herd)
    for delay_ms in (0, 1000):
        assert requeue(herd, held.record, delay_ms=delay_ms) is Requeued.CANCELLING
    assert everything(herd) == before
    assert acting.finish(herd, held.record, JobState.CANCELLED)


def test_a_requeued_job_waits_again_with_its_next_attempt(herd: Herd, handle: JobHandle) -> None:
    first = acting.claim(herd, handle.id)
    herd.connection.redis.delete("agents\x06\x163")  # as if a worker had taken the message
    assert requeue(herd, first.record)
    assert handle.state() is JobState.QUEUED
    assert queue(herd) == [handle.id]
    assert stands_in(herd, handle.id) == {"queued"}
    second = acting.claim(herd, handle.id)
    assert (second.record.attempt, second.fence > first.fence) == (2, True)
    assert second.record.started_at_ms == first.record.started_at_ms


def test_an_attempt_begins_without_the_artifacts_of_the_one_before(
    herd: Herd, handle: JobHandle
) -> None:
    first = acting.claim(herd, handle.id)
    keep = records.keep_artifact(herd.keys, handle.id, first.fence, "stale.txt", b"x")
    assert herd.connection.run(keep)
    assert requeue(herd, first.record)
    acting.claim(herd, handle.id)
    assert not herd.connection.redis.exists(herd.keys.artifacts(handle.id))


def test_a_refunded_attempt_does_not_count(herd: Herd, handle: JobHandle) -> None:
    held = acting.claim(herd, handle.id)
    assert requeue(herd, held.record, refund=True)
    assert acting.claim(herd, handle.id).record.attempt == 1


def test_a_delayed_job_waits_for_its_time(herd: Herd, handle: JobHandle) -> None:
    held = acting.claim(herd, handle.id)
    herd.connection.redis.delete("agents\x06\x163")
    assert requeue(herd, held.record, delay_ms=300)
    assert handle.state() is JobState.SCHEDULED
    assert stands_in(herd, handle.id) == {"scheduled"}
    assert acting.try_claim(herd, handle.id) == Refused(JobState.SCHEDULED)
    assert queue(herd) == []
    assert release_due(herd) == 0
    wait_until(lambda: release_due(herd) == 1, "the job is released")
    assert release_due(herd) == 0
    assert queue(herd) == [handle.id]
    assert stands_in(herd, handle.id) == {"queued"}
    kinds = [event.kind for event in handle.events(follow=False)]
    assert kinds == ["submitted", "started", "requeued", "released"]


def test_a_released_job_that_is_gone_leaves_nothing(herd: Herd, handle: JobHandle) -> None:
    held = acting.claim(herd, handle.id)
    assert requeue(herd, held.record, delay_ms=1)
    herd.connection.redis.delete(herd.keys.job(handle.id))
    redis = herd.connection.redis
    wait_until(
        lambda: release_due(herd) == 0 and not redis.exists(herd.keys.scheduled),
        "the entry without a job is dropped",
    )


@pytest.mark.parametrize("expires_s", [0.0001, 0.02])
def test_an_expired_job_is_not_run(herd: Herd, expires_s: float) -> None:
    handle = herd.submit(Job(prompt="x", expires_s=expires_s))
    submitted_at_us = handle.record().submitted_at_us

    def overdue() -> bool:
        seconds, microseconds = herd.connection.redis.time()
        return bool(seconds * 10**6 + microseconds > submitted_at_us + expires_s * 10**6 + 2000)

    wait_until(overdue, "the time is over")
    assert isinstance(acting.try_claim(herd, handle.id), Overdue)
    assert acting.finish(herd, handle.record(), JobState.EXPIRED)
    assert handle.result(timeout_s=1).state is JobState.EXPIRED


def test_a_retry_does_not_expire(herd: Herd) -> None:
    """`expires_s` is for jobs that never started."""
    handle = herd.submit(Job(prompt="x", expires_s=60))
    held = acting.claim(herd, handle.id)
    assert requeue(herd, held.record)
    herd.connection.redis.hset(herd.keys.job(handle.id), "expires_at_ms", 1)
    assert isinstance(acting.try_claim(herd, handle.id), Claim)


@pytest.mark.parametrize("wrong", sorted(set(JobState) - {JobState.QUEUED}))
def test_a_waiting_job_is_only_ended_from_the_state_it_is_in(
    herd: Herd, handle: JobHandle, wrong: JobState
) -> None:
    record = replace(handle.record(), state=wrong)
    before = everything(herd)
    assert acting.finish(herd, record, JobState.CANCELLED) is None
    assert everything(herd) == before


def test_artifacts_and_progress_are_kept_for_the_next_attempt(
    herd: Herd, handle: JobHandle
) -> None:
    held = acting.claim(herd, handle.id)
    usage = acting.result_of(held.record).usage
    progress = {"usage": usage.model_dump_json(), "turns": "4"}
    assert herd.connection.run(records.report(herd.keys, handle.id, held.fence, [], progress))
    assert requeue(herd, held.record)
    record = acting.claim(herd, handle.id).record
    assert (record.usage, record.turns) == (usage, 4)


def test_after_the_end_every_key_has_an_end(herd: Herd) -> None:
    redis = herd.connection.redis
    jobs = [Job(prompt="x", idempotency_key=f"k{n}", tenant=f"t{n % 2}") for n in range(4)]
    handles = herd.submit_many(jobs)
    assert keys_without_ttl(redis, live_jobs_allowed=True) == []
    assert keys_without_ttl(redis) != [], "the checker sees live jobs"
    for number, (job, handle) in enumerate(zip(jobs, handles, strict=True)):
        held = acting.claim(herd, handle.id, tenant=job.tenant)
        if number % 2:
            assert requeue(herd, held.record, delay_ms=0)
            held = acting.claim(herd, handle.id, tenant=job.tenant)
        assert herd.connection.run(
            records.keep_artifact(herd.keys, handle.id, held.fence, "a.txt", b"x")
        )
        redis.hset(herd.keys.checkpoint(handle.id), "digest", "x")
        assert keys_without_ttl(redis, live_jobs_allowed=True) == []
        assert acting.finish(herd, held.record)
    redis.delete("agents\x06\x163")
    assert keys_without_ttl(redis) == []


def test_a_job_that_never_ran_leaves_nothing_without_an_end(herd: Herd) -> None:
    later = herd.submit(Job(prompt="x", not_before="2999-01-01T00:00:00Z"))
    for handle in (herd.submit(Job(prompt="x")), later):
        assert acting.finish(herd, handle.record(), JobState.CANCELLED)
    assert keys_without_ttl(herd.connection.redis) == []


def test_the_checker_finds_what_would_stay_for_ever(herd: Herd) -> None:
    redis = herd.connection.redis
    handle = herd.submit(Job(prompt="x"))
    acting.run_to_end(herd, handle.id)
    redis.persist(herd.keys.events(handle.id))
    redis.set("agentherd:surprise", 1)
    expected = sorted(["agentherd:surprise", herd.keys.events(handle.id)])
    assert keys_without_ttl(redis, live_jobs_allowed=True) == expected


def test_the_index_of_ended_jobs_ends_with_them(herd: Herd, handle: JobHandle) -> None:
    acting.run_to_end(herd, handle.id)
    redis, keys = herd.connection.redis, herd.keys
    for index in (
        keys.state_index(JobState.SUCCEEDED),
        keys.tenant_index("default", JobState.SUCCEEDED),
    ):
        assert acting.RETENTION_MS < redis.pttl(index) <= 2 * acting.RETENTION_MS
    assert 0 < redis.pttl(keys.job(handle.id)) <= acting.RETENTION_MS


def test_the_index_of_ended_jobs_keeps_what_was_submitted_long_ago(herd: Herd) -> None:
    """A job may wait, and run, longer than twice the retention."""
    redis, keys = herd.connection.redis, herd.keys
    old = herd.submit(Job(prompt="old"))
    seconds, _microseconds = redis.time()
    long_ago_us = (seconds - 3 * acting.RETENTION_MS // 1000) * 1_000_000
    redis.hset(keys.job(old.id), "submitted_at_us", long_ago_us)
    acting.run_to_end(herd, old.id)
    acting.run_to_end(herd, herd.submit(Job(prompt="new")).id)
    assert [job.prompt_preview for job in herd.jobs(state=JobState.SUCCEEDED).jobs] == [
        "new",
        "old",
    ]


def test_the_index_of_ended_jobs_loses_those_whose_record_is_gone(herd: Herd) -> None:
    redis, keys = herd.connection.redis, herd.keys

    def end(retention_ms: int) -> str:
        handle = herd.submit(Job(prompt="x"))
        record = acting.claim(herd, handle.id).record
        result = acting.result_of(record)
        ended = records.finish(herd.keys, record, result, retention_ms=retention_ms)
        assert herd.connection.run(ended) is not None
        return handle.id

    kept = end(acting.RETENTION_MS)
    brief = [end(1) for _ in range(3)]
    wait_until(lambda: not redis.exists(*map(keys.job, brief)), "their records are gone")
    last = end(acting.RETENTION_MS)
    for index in (
        keys.state_index(JobState.SUCCEEDED),
        keys.tenant_index("default", JobState.SUCCEEDED),
    ):
        assert redis.zrange(index, 0, -1) == [kept.encode(), last.encode()]
        assert redis.zcard(keys.expiries(index)) == 2
        assert acting.RETENTION_MS < redis.pttl(keys.expiries(index)) <= 2 * acting.RETENTION_MS
