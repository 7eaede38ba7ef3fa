"""Redis away, hanging, refusing or full: an error in time, and nothing half-written."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.exceptions import ResponseError

from agentherd import AsyncHerd, BrokerUnavailable, Herd, Job, JobState
from agentherd_workers.devkit.redis_server import RedisServer, free_port
from support import records
from support.contents import contents
from support.waiting import wait_until

TIMEOUT_S = 0.6
SLACK_S = 0.5
"""What a loaded machine may add."""
SECRET = "s3cret-password"
JOB = Job(prompt="x", idempotency_key="k")

CALLS: dict[str, Callable[[Herd], Any]] = {
    "submit": lambda herd: herd.submit(JOB),
    "submit_many": lambda herd: herd.submit_many([JOB, Job(prompt="y")]),
    "state": lambda herd: herd.job("a").state(),
    "result": lambda herd: herd.job("a").result(timeout_s=30),
    "events": lambda herd: list(herd.job("a").events()),
    "artifact": lambda herd: herd.job("a").artifact("x"),
    "transcript": lambda herd: herd.job("a").transcript(),
    "jobs": lambda herd: herd.jobs(),
}


@contextmanager
def deaf_server() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """The server hangs: its process is stopped, its connections stay open."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def fails_in_time(ask: Callable[[], Any]) -> BrokerUnavailable:
    """The error, which came within the time-out."""
    started_s = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        ask()
    assert time.monotonic() - started_s < TIMEOUT_S + SLACK_S
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def away() -> str:
    """A URL at which nobody listens."""
    return f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"


@pytest.mark.parametrize("call", CALLS)
def test_a_redis_that_is_away_is_an_error_in_time(away: str, call: str) -> None:
    with Herd(away, timeout_s=TIMEOUT_S) as herd:
        error = fails_in_time(lambda: CALLS[call](herd))
        assert "is not available" in str(error)


@pytest.mark.parametrize("call", CALLS)
def test_a_redis_that_never_answers_is_an_error_in_time(call: str) -> None:
    with (
        deaf_server() as port,
        Herd(f"redis://:{SECRET}@127.0.0.1:{port}/0", timeout_s=TIMEOUT_S) as herd,
    ):
        fails_in_time(lambda: CALLS[call](herd))


@pytest.mark.parametrize("call", CALLS)
def test_a_redis_that_hangs_later_is_an_error_in_time(
    redis_server: RedisServer, herd: Herd, call: str
) -> None:
    herd.submit(Job(prompt="x"), job_id="a")
    with Herd(redis_server.url, timeout_s=TIMEOUT_S) as impatient:
        impatient.job("a").state()
        with stopped(redis_server):
            fails_in_time(lambda: CALLS[call](impatient))
        assert wait_until(lambda: impatient.job("a").state(), "it is well again")


def test_a_submit_whose_answer_was_lost_is_repeated_safely(
    redis_server: RedisServer, herd: Herd
) -> None:
    with Herd(redis_server.url, timeout_s=TIMEOUT_S) as impatient:
        impatient.connection.redis.ping()
        with stopped(redis_server):
            fails_in_time(lambda: impatient.submit(JOB))
        # What was sent is in the server's socket: it may yet run, once or twice.
        handle = impatient.submit(JOB)
    assert [job.job_id for job in herd.jobs().jobs] == [handle.id]
    assert herd.connection.redis.llen("agents\x06\x163") == 1


def test_a_name_without_address_is_an_error_in_time() -> None:
    with (
        Herd("redis://no-such-host.invalid:6379/0", timeout_s=TIMEOUT_S) as herd,
        pytest.raises(BrokerUnavailable),
    ):
        herd.submit(JOB)


@pytest.mark.parametrize("user", ["", f":wrong-{SECRET}@", f"nobody:{SECRET}@"])
def test_a_wrong_password_is_an_error_that_does_not_show_it(user: str) -> None:
    with RedisServer(password="right") as server:
        url = f"redis://{user}127.0.0.1:{server.port}/0"
        with Herd(url, timeout_s=TIMEOUT_S) as herd:
            fails_in_time(lambda: herd.submit(JOB))
        with Herd(server.url) as owner:
            assert owner.connection.redis.dbsize() == 0


@pytest.mark.parametrize("call", ["submit", "submit_many"])
def test_a_full_redis_takes_nothing_of_a_job(herd: Herd, call: str) -> None:
    redis = herd.connection.redis
    herd.submit(Job(prompt="before"))
    redis.config_set("maxmemory", 1)
    try:
        before = contents(redis)
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            CALLS[call](herd)
        assert contents(redis) == before
    finally:
        redis.config_set("maxmemory", 0)
    assert herd.submit(JOB).state() is JobState.QUEUED


def test_a_full_redis_does_not_half_end_a_job(herd: Herd) -> None:
    redis = herd.connection.redis
    handle = herd.submit(Job(prompt="x"))
    held = records.claim(herd, handle.id)
    redis.config_set("maxmemory", 1)
    try:
        before = contents(redis)
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            records.finish(herd, held.record)
        assert contents(redis) == before
    finally:
        redis.config_set("maxmemory", 0)
    assert records.finish(herd, held.record)


def test_a_replica_is_an_error(redis_server: RedisServer) -> None:
    with RedisServer() as replica, Herd(replica.url, timeout_s=TIMEOUT_S) as herd:
        herd.connection.redis.execute_command("REPLICAOF", "127.0.0.1", redis_server.port)
        fails_in_time(lambda: herd.submit(JOB))


def test_a_redis_that_takes_no_writes_is_an_error() -> None:
    """As where a snapshot failed (MISCONF) or its replicas are gone (NOREPLICAS)."""
    with RedisServer(settings={"min-replicas-to-write": "1"}) as server, Herd(server.url) as herd:
        assert "NOREPLICAS" in str(fails_in_time(lambda: herd.submit(JOB)))
        assert herd.connection.redis.dbsize() == 0


def test_an_account_without_permission_is_an_error(redis_server: RedisServer, herd: Herd) -> None:
    redis = herd.connection.redis
    redis.execute_command("ACL", "SETUSER", "reader", "on", f">{SECRET}", "~*", "+@read", "+client")
    with Herd(f"redis://reader:{SECRET}@127.0.0.1:{redis_server.port}/0") as reader:
        assert reader.jobs().jobs == ()
        fails_in_time(lambda: reader.submit(JOB))
    assert redis.dbsize() == 0


def test_an_error_that_is_no_outage_stays_what_it_is(herd: Herd) -> None:
    """A key of another type is a defect: called an outage, it would be tried again for ever."""
    herd.connection.redis.set(herd.keys.job("a"), "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        herd.job("a").state()


async def longest_pause_s(work: Any) -> float:
    """The longest time for which the event loop did nothing else while `work` ran."""
    longest_s, last_s = 0.0, time.monotonic()
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.sleep(0.001)
        now_s = time.monotonic()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    task.result()
    return longest_s


@pytest.mark.parametrize("call", ["submit", "submit_many", "result", "events", "jobs"])
async def test_the_asyncio_client_never_blocks_its_loop(
    redis_server: RedisServer, herd: Herd, call: str
) -> None:
    herd.submit(Job(prompt="x"), job_id="a")

    async def ask(client: AsyncHerd) -> None:
        handle = client.job("a")
        calls: dict[str, Callable[[], Any]] = {
            "submit": lambda: client.submit(JOB),
            "submit_many": lambda: client.submit_many([JOB, Job(prompt="y")]),
            "result": lambda: handle.result(timeout_s=30),
            "events": lambda: _drain(handle.events()),
            "jobs": client.jobs,
        }
        started_s = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await calls[call]()
        assert time.monotonic() - started_s < TIMEOUT_S + SLACK_S

    async with AsyncHerd(redis_server.url, timeout_s=TIMEOUT_S) as client:
        await client.job("a").state()
        with stopped(redis_server):
            paused_s = await longest_pause_s(ask(client))
    assert paused_s < TIMEOUT_S / 4


async def _drain(events: Any) -> None:
    async for _event in events:
        pass


@pytest.mark.parametrize("kind", ["away", "deaf"])
async def test_the_asyncio_client_fails_in_time(away: str, kind: str) -> None:
    with deaf_server() as port:
        url = away if kind == "away" else f"redis://127.0.0.1:{port}/0"
        async with AsyncHerd(url, timeout_s=TIMEOUT_S) as client:
            started_s = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await client.submit(JOB)
            assert time.monotonic() - started_s < TIMEOUT_S + SLACK_S
