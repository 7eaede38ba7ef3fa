"""Listing hundreds of jobs by state, tenant and time, a page at a time, while they move."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentherd import FailureKind, Herd, Job, JobState
from agentherd.contract.results import Failure
from agentherd_workers.devkit.redis_server import RedisServer
from support import records
from support.leaks import keys_without_ttl

COUNT = 330
TENANTS = ("a", "b", "c")


@pytest.fixture(scope="module")
def listed() -> Iterator[tuple[Herd, list[str]]]:
    """A client, and the ids of many jobs of three tenants, the oldest first.

    Of each tenant 10 have succeeded, 10 failed, 10 run, the rest waits.
    """
    with RedisServer() as server, Herd(server.url) as herd:
        jobs = [
            Job(prompt=f"{n}", tenant=TENANTS[n % 3], metadata={"n": f"{n}"}) for n in range(COUNT)
        ]
        job_ids = [handle.id for handle in herd.submit_many(jobs)]
        for n, job_id in enumerate(job_ids[:90]):
            held = records.claim(herd, job_id, tenant=TENANTS[n % 3])
            if n < 30:
                assert records.finish(herd, held.record)
            elif n < 60:
                failure = Failure(kind=FailureKind.REFUSED, message="no")
                assert records.finish(herd, held.record, JobState.FAILED, failure=failure)
        yield herd, job_ids


def all_ids(herd: Herd, **query: Any) -> list[str]:
    """Every page's jobs, in order."""
    found: list[str] = []
    cursor = None
    while True:
        page = herd.jobs(cursor=cursor, **query)
        found += [job.job_id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            return found


def newest_first(job_ids: list[str]) -> list[str]:
    return job_ids[::-1]


@pytest.mark.parametrize("limit", [7, 30, 110, 329, 330, 331, 1000])
def test_pages_of_any_size_are_every_job_once(listed: tuple[Herd, list[str]], limit: int) -> None:
    herd, job_ids = listed
    assert all_ids(herd, limit=limit) == newest_first(job_ids)


def test_by_state(listed: tuple[Herd, list[str]]) -> None:
    herd, job_ids = listed
    expected = {
        JobState.SUCCEEDED: job_ids[:30],
        JobState.FAILED: job_ids[30:60],
        JobState.RUNNING: job_ids[60:90],
        JobState.QUEUED: job_ids[90:],
        JobState.CANCELLED: [],
    }
    for state, found in expected.items():
        assert all_ids(herd, state=state, limit=13) == newest_first(found)
    both = [JobState.FAILED, JobState.RUNNING]
    assert all_ids(herd, state=both, limit=13) == newest_first(job_ids[30:90])
    assert herd.jobs(state=[]).jobs == ()


def test_by_tenant(listed: tuple[Herd, list[str]]) -> None:
    herd, job_ids = listed
    assert all_ids(herd, tenant="b", limit=20) == newest_first(job_ids[1::3])
    running = all_ids(herd, tenant="c", state=JobState.RUNNING)
    assert running == newest_first(job_ids[60:90][2::3])
    assert herd.jobs(tenant="nobody").jobs == ()
    assert herd.jobs(tenant="").jobs == (), "an empty name must not list every tenant's"


def test_by_time_from_the_first_moment_to_before_the_last(listed: tuple[Herd, list[str]]) -> None:
    herd, job_ids = listed
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    at = [
        epoch + timedelta(microseconds=herd.job(job_ids[n]).record().submitted_at_us)
        for n in (100, 200)
    ]
    found = all_ids(herd, since=at[0], until=at[1], limit=17)
    assert found == newest_first(job_ids[100:200])
    assert herd.jobs(since=at[1], until=at[0]).jobs == ()
    with pytest.raises(ValueError, match="needs a time zone"):
        herd.jobs(since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_line_says_how_the_job_is(listed: tuple[Herd, list[str]]) -> None:
    herd, job_ids = listed
    rows = {job.job_id: job for job in herd.jobs(limit=COUNT).jobs}
    good, bad, runs, waits = (rows[job_ids[n]] for n in (3, 31, 65, 300))
    assert (good.state, good.cost_usd, good.failure_kind) == (JobState.SUCCEEDED, 0.25, None)
    assert (bad.state, bad.failure_kind) == (JobState.FAILED, FailureKind.REFUSED)
    assert (runs.state, runs.worker, runs.attempt) == (JobState.RUNNING, "w1@host", 1)
    assert (waits.state, waits.worker, waits.cost_usd) == (JobState.QUEUED, None, None)
    assert (waits.tenant, waits.prompt_preview, waits.metadata) == ("a", "300", {"n": "300"})
    assert good.finished_at_ms is not None
    assert good.started_at_ms is not None
    assert good.submitted_at_ms <= good.started_at_ms <= good.finished_at_ms


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_size(listed: tuple[Herd, list[str]], limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be 1-1000"):
        listed[0].jobs(limit=limit)


def test_jobs_of_one_microsecond_are_all_listed(herd: Herd) -> None:
    """A clock that stands still, or that was set back, makes equal times."""
    job_ids = [handle.id for handle in herd.submit_many(Job(prompt="x") for _ in range(120))]
    redis, index = herd.connection.redis, herd.keys.state_index(JobState.QUEUED)
    redis.zadd(index, dict.fromkeys(job_ids, 1_700_000_000_000_000))
    later = herd.submit(Job(prompt="later")).id
    assert all_ids(herd, limit=10) == [later, *sorted(job_ids, reverse=True)]


def test_a_record_past_its_retention_leaves_the_listing_and_the_index(herd: Herd) -> None:
    kept, gone = (herd.submit(Job(prompt="x")).id for _ in range(2))
    for job_id in (kept, gone):
        records.run_to_end(herd, job_id)
    redis = herd.connection.redis
    redis.delete(herd.keys.job(gone))
    assert all_ids(herd) == [kept]
    assert redis.zrange(herd.keys.state_index(JobState.SUCCEEDED), 0, -1) == [kept.encode()]
    redis.delete("agents\x06\x163")
    assert keys_without_ttl(redis) == []
