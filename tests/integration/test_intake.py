"""What a Celery message becomes before any agent runs: refused, dropped, or told its result."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from agentherd import FailureKind, ForkSession, Herd, Job, JobState, NewSession
from agentherd.contract.wire import job_to_wire
from agentherd.layout import transcripts
from agentherd.layout.keys import QUEUE
from agentherd.layout.transcripts import Appended, SessionKeys
from agentherd_workers.attempt import Attempt
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.intake import Dropped, Intake, Settled
from support import records
from support.hosts import made_host
from support.leaks import keys_without_ttl


@pytest.fixture
async def intake(redis_server: RedisServer, herd: Herd, tmp_path: Path) -> AsyncIterator[Intake]:
    """A worker's intake on the same Redis; no job here comes so far as to need a CLI."""
    async with Redis.from_url(redis_server.url) as redis:
        with made_host(redis, herd.keys, tmp_path) as host:
            yield Intake(host)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "prompt: Field required"),
        ({"prompt": ""}, "prompt: String should have at least 1 character"),
        ({"prompt": "x", "version": 2}, "version: 2 is unknown here"),
        ({"prompt": "x", "files": {"../x": ""}}, "files.0.path"),
        ([1], "must be a JSON object, not list"),
        ("x", "must be a JSON object, not str"),
        ({"self": 1}, "self: no such field"),
    ],
)
async def test_a_document_that_is_no_job_fails_and_can_be_inspected(
    intake: Intake, herd: Herd, document: Any, said: str
) -> None:
    await intake.open("j", document, QUEUE)
    settled = await intake.open("j", document, QUEUE)
    assert isinstance(settled, Settled)
    failure = settled.result.failure
    assert failure is not None
    assert failure.kind is FailureKind.INVALID_JOB
    assert said in failure.message
    assert herd.job("j").result(timeout_s=0) == settled.result
    assert keys_without_ttl(herd.connection.redis) == []


@pytest.mark.parametrize("job_id", ["a:events", "", "x" * 129, "../x"])
async def test_a_task_id_that_would_name_another_key_writes_nothing(
    intake: Intake, herd: Herd, job_id: str
) -> None:
    settled = await intake.open(job_id, job_to_wire(Job(prompt="x")), QUEUE)
    assert isinstance(settled, Settled)
    assert settled.result.failure is not None
    assert settled.result.failure.kind is FailureKind.INVALID_JOB
    assert herd.connection.redis.dbsize() == 0


async def test_a_message_without_a_job_and_without_a_record_fails(
    intake: Intake, herd: Herd
) -> None:
    settled = await intake.open("nobody", None, QUEUE)
    assert isinstance(settled, Settled)
    assert settled.result.failure is not None
    assert settled.result.failure.kind is FailureKind.INVALID_JOB
    assert "no record" in settled.result.failure.message
    assert herd.connection.redis.dbsize() == 0


async def test_a_session_with_a_transcript_is_not_begun_again(intake: Intake, herd: Herd) -> None:
    """Both conversations would be mixed. The job's own messages may come again."""
    session_id = uuid4()
    stored = transcripts.append(
        SessionKeys("default", str(session_id)), "", [{"type": "user"}],
        fence=0, ttl_ms=60_000, max_bytes=1_000_000,
    )  # fmt: skip
    assert isinstance(herd.connection.run(stored), Appended)
    for session in (NewSession(id=session_id), ForkSession(id=uuid4(), new_id=session_id)):
        document = job_to_wire(Job(prompt="x", session=session))
        settled = await intake.open(session.kind, document, QUEUE)
        assert isinstance(settled, Settled)
        assert settled.result.failure is not None
        assert settled.result.failure.kind is FailureKind.INVALID_JOB
        assert "already in the store" in settled.result.failure.message


async def test_a_key_whose_job_is_gone_is_free(intake: Intake, herd: Herd) -> None:
    first = herd.submit(Job(prompt="x", idempotency_key="k"))
    records.run_to_end(herd, first.id)
    herd.connection.redis.delete(herd.keys.job(first.id))  # as its retention does
    assert isinstance(await intake.open("second", keyed(), QUEUE), Attempt)


def keyed(prompt: str = "x") -> Any:
    """A job with an idempotency key, as a plain Celery client sends it."""
    return job_to_wire(Job(prompt=prompt, idempotency_key="k"))


async def test_a_taken_idempotency_key_has_the_first_jobs_result(
    intake: Intake, herd: Herd
) -> None:
    first = herd.submit(Job(prompt="x", idempotency_key="k"))
    records.run_to_end(herd, first.id, text="done")
    for _delivery in range(2):
        assert await intake.open("second", keyed(), QUEUE) == Settled(first.result(timeout_s=0))


@pytest.mark.parametrize(("prompt", "said"), [("x", "no result yet"), ("y", "other content")])
async def test_a_taken_idempotency_key_without_a_result_fails_at_once(
    intake: Intake, herd: Herd, prompt: str, said: str
) -> None:
    first = herd.submit(Job(prompt="x", idempotency_key="k"))
    told = [await intake.open("second", keyed(prompt), QUEUE) for _delivery in range(2)]
    result = herd.job("second").result(timeout_s=0)
    assert told == [Settled(result)] * 2
    assert result.failure is not None
    assert result.failure.kind is FailureKind.INVALID_JOB
    assert f"taken by job {first.id}, which has {said}" in result.failure.message
    assert first.state() is JobState.QUEUED
    assert herd.submit(Job(prompt="x", idempotency_key="k")).id == first.id


async def test_a_message_of_a_running_job_is_dropped(intake: Intake, herd: Herd) -> None:
    handle = herd.submit(Job(prompt="x"))
    held = records.claim(herd, handle.id)
    assert await intake.open(handle.id, None, QUEUE) == Dropped("the job is running")
    assert handle.record() == replace(held.record, spec="")


async def test_a_message_of_an_ended_job_is_told_its_result(intake: Intake, herd: Herd) -> None:
    handle = herd.submit(Job(prompt="x"))
    records.run_to_end(herd, handle.id, text="done")
    for document in (None, {"prompt": "another content"}):
        assert await intake.open(handle.id, document, QUEUE) == Settled(handle.result(timeout_s=0))


async def test_a_job_that_came_too_late_expires(intake: Intake, herd: Herd) -> None:
    handle = herd.submit(Job(prompt="x", expires_s=60))
    herd.connection.redis.hset(herd.keys.job(handle.id), "expires_at_ms", 1)
    settled = await intake.open(handle.id, None, QUEUE)
    assert isinstance(settled, Settled)
    assert settled.result.state is JobState.EXPIRED
    herd.connection.redis.delete("agents\x06\x163")
    assert keys_without_ttl(herd.connection.redis) == []


async def test_an_environment_that_the_worker_does_not_allow_fails_the_job(
    intake: Intake, herd: Herd
) -> None:
    handle = herd.submit(Job(prompt="x", env={"SECRET_PATH": "/"}))
    settled = await intake.open(handle.id, None, QUEUE)
    assert isinstance(settled, Settled)
    assert settled.result.failure is not None
    assert "AGENTHERD_JOB_ENV_ALLOW" in settled.result.failure.message


async def test_a_session_that_is_in_use_fails_the_plain_celery_job(
    intake: Intake, herd: Herd
) -> None:
    session = NewSession(id=uuid4())
    owner = herd.submit(Job(prompt="x", session=session))
    document = job_to_wire(Job(prompt="y", session=session))
    await intake.open("late", document, QUEUE)
    result = herd.job("late").result(timeout_s=0)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.SESSION_BUSY
    assert owner.id in result.failure.message
    assert owner.state() is JobState.QUEUED
