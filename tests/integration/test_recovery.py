"""What the leader does to the records and queues: takes over, releases, repairs, and no more."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from agentherd import EventKind, FailureKind, Herd, Job, JobHandle, JobState, RetryPolicy, Usage
from agentherd.contract.results import Failure
from agentherd.layout import deliveries, leading, missing, records
from agentherd.layout.messages import task_message
from agentherd.layout.operations import Operation
from agentherd.layout.records import Claim, Renewal
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.leader import Leader
from agentherd_workers.recovery import recover
from agentherd_workers.repair import Repair
from support import records as acting
from support.hosts import made_host
from support.waiting import wait_until, wait_until_async

LIST = "agents\x06\x163"
"""The list of the queue's default priority."""
HOUR_MS = 3_600_000

MakeLeader = Callable[[str], Leader]


@pytest.fixture
async def stands(
    redis_server: RedisServer, herd: Herd, tmp_path: Path
) -> AsyncIterator[MakeLeader]:
    """Makes leaders, by the name of their worker."""
    async with Redis.from_url(redis_server.url) as redis:
        with made_host(redis, herd.keys, tmp_path) as host:
            yield lambda worker: Leader(replace(host, worker=worker))


@pytest.fixture
def leader(stands: MakeLeader) -> Leader:
    """The only one."""
    return stands("leader@host")


def run(herd: Herd, operation: Operation[Any]) -> Any:
    return herd.connection.run(operation)


def now_ms(herd: Herd) -> int:
    seconds, microseconds = herd.connection.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def waiting(herd: Herd) -> list[str]:
    """Ids of the jobs whose messages wait, the next one first."""
    messages = herd.connection.redis.lrange(LIST, 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(messages)]


def lost(herd: Herd, job: Job, *, worker: str = "w1@host") -> Claim:
    """A job whose worker took it and its message, and renewed its lease no more."""
    handle = herd.submit(job)
    held = acting.claim(herd, handle.id, worker=worker)
    herd.connection.redis.delete(LIST)
    assert run(herd, records.renew(herd.keys, handle.id, held.fence, 1)) is Renewal.RENEWED
    ends_ms: Any = herd.connection.redis.zscore(herd.keys.leases, handle.id)
    wait_until(lambda: now_ms(herd) > ends_ms, "its lease is over")
    return held


async def test_a_lost_workers_job_is_the_next_in_its_queue(herd: Herd, leader: Leader) -> None:
    """With its session, and its attempt charged."""
    first = lost(herd, Job(prompt="x"))
    other = herd.submit(Job(prompt="y"))
    await leader.tick()
    job_id = first.record.job_id
    assert waiting(herd) == [job_id, other.id]
    requeued = [e for e in herd.job(job_id).events(follow=False) if e.kind is EventKind.REQUEUED]
    assert [event.data["reason"] for event in requeued] == ["worker w1@host was lost"]
    second = acting.claim(herd, job_id)
    assert (second.record.attempt, second.record.session_id) == (2, first.record.session_id)


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_a_renewal_that_came_meanwhile_wins(herd: Herd, max_attempts: int) -> None:
    """Between the leader's look at the record and its move, which is to end it or to queue it."""
    held = lost(herd, Job(prompt="x", retry=RetryPolicy(max_attempts=max_attempts)))
    record = held.record
    move = recover(herd.keys, record.job_id, retention_ms=60_000)
    renew = records.renew(herd.keys, record.job_id, held.fence, 60_000)
    assert run(herd, disturbed(move, lambda: run(herd, renew))) is None
    assert herd.job(record.job_id).state() is JobState.RUNNING
    assert waiting(herd) == []


def disturbed(
    operation: Operation[Any], disturb: Callable[[], object], *, looks: int = 1
) -> Operation[Any]:
    """The operation, with something happening after so many of its requests."""
    try:
        request = next(operation)
        while True:
            reply = yield request
            looks -= 1
            if looks == 0:
                disturb()
            request = operation.send(reply)
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize(
    "policy",
    [RetryPolicy(max_attempts=1), RetryPolicy(kinds=frozenset({FailureKind.CRASHED}))],
    ids=["no attempt left", "not that kind"],
)
async def test_it_ends_as_lost_where_no_attempt_follows(
    herd: Herd, leader: Leader, policy: RetryPolicy
) -> None:
    """With what it took so far. Its message tells Celery, since no worker does."""
    record = lost(herd, Job(prompt="x", retry=policy), worker="w7@host").record
    job_id = record.job_id
    usage = Usage(cost_usd=0.5, input_tokens=7)
    herd.connection.redis.hset(
        herd.keys.job(job_id), mapping={"usage": usage.model_dump_json(), "turns": "4"}
    )
    await leader.tick()
    result = herd.job(job_id).result(timeout_s=1)
    assert result.failure is not None
    assert (result.state, result.failure.kind) == (JobState.FAILED, FailureKind.LOST)
    assert "w7@host" in result.failure.message
    assert (result.usage, result.turns, result.attempts) == (usage, 4, 1)
    assert waiting(herd) == [job_id]
    owner = herd.keys.session_owner(record.tenant, record.session_id)
    assert not herd.connection.redis.exists(owner), "its session can go on in another job"


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_it_ends_as_cancelled_where_someone_asked(
    herd: Herd, leader: Leader, max_attempts: int
) -> None:
    held = lost(herd, Job(prompt="x", retry=RetryPolicy(max_attempts=max_attempts)))
    handle = herd.job(held.record.job_id)
    handle.cancel("no need any more")
    await leader.tick()
    result = handle.result(timeout_s=1)
    assert result.failure is not None
    assert (result.state, result.failure.message) == (
        JobState.CANCELLED,
        "cancelled: no need any more",
    )
    assert waiting(herd) == [handle.id]


async def test_two_that_believe_to_lead_make_one_move(herd: Herd, stands: MakeLeader) -> None:
    """One is paused between its look and its moves; it leads no more when it wakes up."""
    paused, other = stands("paused@host"), stands("other@host")
    await paused.tick()
    await other.tick()
    assert (paused.leads, other.leads) == (True, False)
    held = lost(herd, Job(prompt="x"))
    late = herd.submit(Job(prompt="y", not_before="2999-01-01T00:00:00Z"))
    herd.connection.redis.zadd(herd.keys.scheduled, {late.id: 1})
    duty = run(herd, leading.tick(herd.keys, "paused@host", leads=True))
    assert (duty.due, [job_id for job_id, _ in duty.expired]) == ([late.id], [held.record.job_id])
    herd.connection.redis.delete(herd.keys.leader)  # its term is over
    await other.tick()
    assert other.leads
    assert not run(herd, records.release(herd.keys, late.id))
    assert run(herd, recover(herd.keys, held.record.job_id, retention_ms=60_000)) is None
    assert sorted(waiting(herd)) == sorted([held.record.job_id, late.id])
    await paused.tick()
    await other.tick()
    assert (paused.leads, other.leads) == (False, True)
    assert 0 < herd.connection.redis.pttl(herd.keys.leader) <= leading.TERM_MS
    assert run(herd, leading.resign(herd.keys, "paused@host")) is False
    assert run(herd, leading.resign(herd.keys, "other@host")) is True
    await paused.tick()
    assert paused.leads


async def test_damaged_records_hold_up_nobody(
    herd: Herd, leader: Leader, caplog: pytest.LogCaptureFixture
) -> None:
    """They are told of, and looked at again later. What has no record is forgotten."""
    redis, keys = herd.connection.redis, herd.keys
    damaged, well = (lost(herd, Job(prompt="x")).record.job_id for _ in range(2))
    redis.hset(keys.job(damaged), "attempt", "many")
    redis.zadd(keys.leases, {damaged: 1, "gone": 2})
    later = {"not_before": "2999-01-01T00:00:00Z"}
    damaged_late, well_late = (herd.submit(Job(prompt="x", **later)).id for _ in range(2))
    redis.hdel(keys.job(damaged_late), "message")
    redis.zadd(keys.scheduled, {damaged_late: 1, "gone": 2, well_late: 3})
    await leader.tick()
    assert sorted(waiting(herd)) == sorted([well, well_late])
    assert redis.zrange(keys.leases, 0, -1) == [damaged.encode()]
    assert redis.zrange(keys.scheduled, 0, -1) == [damaged_late.encode()]
    for index in (keys.leases, keys.scheduled):
        [entry] = list[Any](redis.zrange(index, 0, -1, withscores=True))
        assert entry[1] > now_ms(herd)
    assert {damaged, damaged_late} <= set(caplog.text.replace(":", " ").split())
    assert herd.job(damaged_late).state() is JobState.SCHEDULED


async def test_a_job_expires_where_nobody_takes_it(herd: Herd, leader: Leader) -> None:
    """Queued or scheduled, soon after its time; Celery learns of it from the message."""
    started = lost(herd, Job(prompt="x", expires_s=0.3))
    queued = herd.submit(Job(prompt="x", expires_s=0.3))
    later = datetime.now(UTC) + timedelta(hours=1)
    kept = herd.submit(Job(prompt="x", not_before=later, expires_s=7200))

    async def ended() -> bool:
        await leader.tick()
        return queued.state() is JobState.EXPIRED

    await wait_until_async(ended, "the queued one has expired")
    assert queued.result(1).failure == Failure(
        kind=FailureKind.EXPIRED, message="not started within expires_s"
    )
    assert queued.id in waiting(herd)
    assert kept.state() is JobState.SCHEDULED
    assert herd.job(started.record.job_id).state() is not JobState.EXPIRED
    assert herd.connection.redis.zrange(herd.keys.expiring, 0, -1) == [kept.id.encode()]
    assert herd.connection.redis.ttl(herd.keys.expiring) > 0


@pytest.fixture
def many(herd: Herd) -> list[JobHandle]:
    """A thousand jobs that were queued an hour ago."""
    handles = herd.submit_many(Job(prompt="x", priority=3 * (n % 2)) for n in range(1000))
    age(herd, handles)
    return handles


def age(herd: Herd, handles: list[JobHandle]) -> None:
    """Let an hour pass since their release, and since they were published again."""
    pipeline = herd.connection.redis.pipeline()
    for handle in handles:
        key = herd.keys.job(handle.id)
        pipeline.hset(key, "released_at_ms", now_ms(herd) - HOUR_MS)
        pipeline.hdel(key, "republished_at_ms")
    pipeline.execute()


async def test_jobs_without_a_message_are_queued_again(
    herd: Herd, leader: Leader, many: list[JobHandle]
) -> None:
    """Exactly those, the oldest first, once, whatever else stands in the lists."""
    redis: Any = herd.connection.redis
    lists = ("agents", LIST)
    taken = {json.loads(redis.rpop(key))["headers"]["id"] for key in lists for _ in range(20)}
    for garbage in (b"\xff\x00", b"[]", b'{"headers": 1}', b""):
        redis.rpush(LIST, garbage)
    fresh = herd.submit(Job(prompt="y"))  # on its way to its worker
    redis.lpop(LIST)
    running, ended = many[500:502]
    for handle in (running, ended):  # theirs are gone as well
        for key in lists:
            redis.lrem(key, 1, redis.hget(herd.keys.job(handle.id), "message"))
    acting.claim(herd, running.id)
    acting.run_to_end(herd, ended.id)
    await leader.tick()
    pushed = [redis.lrange(key, -20, -1)[::-1] for key in lists]
    ids = [[json.loads(message)["headers"]["id"] for message in page] for page in pushed]
    assert set(ids[0] + ids[1]) == taken
    in_order = [handle.id for handle in many]
    assert all(page == sorted(page, key=in_order.index) for page in ids)
    before = {key: redis.llen(key) for key in lists}
    for key in lists:
        redis.rpop(key, 20)
    assert run(herd, missing.republish(herd.keys, sorted(taken))) == []
    assert {key: redis.llen(key) for key in lists} == {key: n - 20 for key, n in before.items()}
    assert run(herd, missing.republish(herd.keys, [fresh.id])) == []


async def test_counting_costs_the_same_however_many_wait(herd: Herd, many: list[JobHandle]) -> None:
    """And nothing is compared while there are as many messages as jobs."""
    assert len(many) == 1000
    assert run(herd, missing.shortage(herd.keys)) == 0
    before = commands(herd)
    run(herd, missing.shortage(herd.keys))
    assert commands(herd) - before <= 10
    herd.connection.redis.rpop(LIST, 3)
    assert run(herd, missing.shortage(herd.keys)) == 3


def commands(herd: Herd) -> int:
    """What Redis has done so far, inside scripts too, without this question."""
    info: Any = herd.connection.redis.info("stats")
    return int(info["total_commands_processed"]) - 1


async def test_an_idle_fleet_costs_little(herd: Herd, stands: MakeLeader) -> None:
    """A second of the leader and one of a worker that stands by, in commands."""
    leader, other = stands("leader@host"), stands("other@host")
    repair = Repair(leader._host)
    for worker in (leader, other):
        await worker.tick()  # loads the script
    await repair.turn()
    herd.connection.redis.info("stats")
    for worker in (leader, other):
        before = commands(herd)
        for _ in range(20):
            await worker.tick()
        assert commands(herd) - before - 1 <= 3 * 20 + 5  # the repairs of a few seconds
    repair = Repair(leader._host)
    before = commands(herd)
    await repair.turn()
    assert commands(herd) - before - 1 <= 3  # every 5 s


def delivered(
    herd: Herd,
    tag: str,
    job_id: str,
    *,
    ago_s: float = 3600,
    value: bytes | None = None,
    **headers: Any,
) -> None:
    """What kombu notes of a message that a worker takes."""
    redis = herd.connection.redis
    message = json.loads(task_message(job_id, "agents", 3, "{}"))
    message["headers"] |= headers
    noted = json.dumps([message, "", "agents"]).encode()
    redis.hset(deliveries.UNACKED, tag, value if value is not None else noted)
    redis.zadd(deliveries.UNACKED_INDEX, {tag: now_ms(herd) / 1000 - ago_s})


async def test_messages_that_a_lost_worker_left_come_back(herd: Herd, leader: Leader) -> None:
    """Of jobs that have ended, or were never recorded; nobody else's."""
    redis, keys = herd.connection.redis, herd.keys
    ended, just_ended, running, queued = herd.submit_many(Job(prompt="x") for _ in range(4))
    redis.delete(LIST)
    for handle in (ended, just_ended):
        acting.run_to_end(herd, handle.id)
    acting.claim(herd, running.id)
    redis.hset(keys.job(ended.id), "finished_at_ms", now_ms(herd) - HOUR_MS)
    for handle in (ended, just_ended, running, queued):
        delivered(herd, f"tag-{handle.id}", handle.id)
    delivered(herd, "again", ended.id, ago_s=1)
    delivered(herd, "unrecorded", "plain-1")
    delivered(herd, "due", "plain-2", eta="2020-01-01T00:00:00")
    delivered(herd, "later", "plain-3", eta="2999-01-01T00:00:00+00:00")
    delivered(herd, "other task", "plain-4", task="someone.else")
    for number, garbage in enumerate((b"\xff", b"[]", b"[1, 2, 3]", b'[{"headers": {}}, "", "x"]')):
        delivered(herd, f"garbage {number}", "x", value=garbage)
    before = set(redis.hkeys(deliveries.UNACKED))
    await leader.tick()
    back = {f"tag-{ended.id}".encode(), b"unrecorded", b"due"}
    assert set(redis.hkeys(deliveries.UNACKED)) == before - back
    assert set(redis.zrange(deliveries.UNACKED_INDEX, 0, -1)) == before - back
    # The queued one had no message in a list, which is the other repair's: it is too young.
    assert sorted(waiting(herd)) == sorted([ended.id, "plain-1", "plain-2"])


async def test_deliveries_are_looked_at_page_by_page(herd: Herd) -> None:
    """However many jobs run."""
    for number in range(2 * deliveries.PAGE + 10):
        delivered(herd, f"tag{number:03}", f"job-{number}", task="someone.else")
    delivered(herd, "tag999", "plain-1", ago_s=120)
    offset, looks, back = 0, 0, list[str]()
    while looks == 0 or offset:
        offset, found = run(herd, deliveries.redeliver_stale(herd.keys, offset))
        looks, back = looks + 1, back + found
    assert (looks, back) == (3, ["plain-1"])


async def test_a_delivery_that_was_made_again_is_left_alone(herd: Herd) -> None:
    """Between our look and our move."""
    delivered(herd, "tag", "plain-1")
    look = deliveries.redeliver_stale(herd.keys, 0)

    def again() -> None:
        delivered(herd, "tag", "plain-1", ago_s=0)

    assert run(herd, disturbed(look, again, looks=4)) == (0, [])
    assert herd.connection.redis.hlen(deliveries.UNACKED) == 1
