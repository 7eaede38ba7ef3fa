"""`Herd` and `AsyncHerd` against a real Redis: submitting, following and reading jobs."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from agentherd import (
    ArtifactNotFound,
    AsyncHerd,
    BrokerUnavailable,
    ClassNotServed,
    EventKind,
    ForkSession,
    Herd,
    IdempotencyConflict,
    InvalidJob,
    Job,
    JobNotFound,
    JobState,
    NewSession,
    ResultTimeout,
    ResumeSession,
    SessionBusy,
    SubmitIncomplete,
    SubmitRules,
)
from agentherd.client.requests import SUBMIT_CHUNK
from agentherd.client.waiting import EventFeed
from agentherd.contract.wire import decode_job
from agentherd.layout import records as layout
from agentherd.layout import transcripts
from agentherd.layout.events import FIRST
from agentherd.layout.records import JobRecord
from agentherd.layout.transcripts import Appended, Entry, SessionKeys
from agentherd_workers.devkit.redis_server import RedisServer
from support import jobs as samples
from support import records
from support.leaks import keys_without_ttl
from support.waiting import wait_until

SUBMITTER = """
import sys
from agentherd import Herd, Job
with Herd(sys.argv[1]) as herd:
    herd.connection.redis.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(20):
        print(herd.submit(Job(prompt=f"x{n}", idempotency_key=f"k{n}")).id, flush=True)
"""


def messages(herd: Herd) -> int:
    """How many messages wait in the default queue."""
    return int(herd.connection.redis.llen("agents\x06\x163"))


def whole(herd: Herd, job_id: str) -> JobRecord:
    """The record with its content."""
    record = herd.connection.run(layout.read_record(herd.keys, job_id, content=True))
    assert record is not None
    return record


def store(herd: Herd, session_id: UUID, tenant: str = "default") -> None:
    """Give the session a transcript."""
    session = SessionKeys(tenant, str(session_id))
    entries: list[Entry] = [{"type": "user", "uuid": str(uuid4())}]
    stored = transcripts.append(session, "", entries, fence=0, ttl_ms=60_000, max_bytes=1_000_000)
    assert isinstance(herd.connection.run(stored), Appended)


def submit_many_times(url: str, times: int) -> set[str]:
    """Submit one job from many threads at the same moment; the ids they got."""
    barrier = threading.Barrier(times)
    with Herd(url) as herd:

        def submit(_n: int) -> str:
            barrier.wait()
            return herd.submit(Job(prompt="x", idempotency_key="k")).id

        with ThreadPoolExecutor(times) as threads:
            return set(threads.map(submit, range(times)))


SubmitMany = Callable[[Iterable[Job]], Any]


@pytest.fixture(params=["blocking", "asyncio"])
def submit_many(
    request: pytest.FixtureRequest, redis_server: RedisServer, herd: Herd
) -> SubmitMany:
    """`submit_many` of each client."""

    async def submit(jobs: Iterable[Job]) -> Any:
        async with AsyncHerd(redis_server.url) as client:
            return await client.submit_many(jobs)

    return (
        herd.submit_many if request.param == "blocking" else lambda jobs: asyncio.run(submit(jobs))
    )


def test_a_submitted_job_waits_when_no_worker_runs(herd: Herd) -> None:
    handle = herd.submit(Job(prompt="Hello\nthere", metadata={"a": "b"}, model="sonnet"))
    record = handle.record()
    assert handle.state() is record.state is JobState.QUEUED
    assert (record.tenant, record.metadata, record.attempt) == ("default", {"a": "b"}, 0)
    assert (record.preview, record.model) == ("Hello there", "sonnet")
    assert messages(herd) == 1
    events = list(handle.events(follow=False))
    assert [event.kind for event in events] == [EventKind.SUBMITTED]
    assert events[0].data == {"state": "queued", "session_id": record.session_id}
    assert handle.artifacts() == ()
    assert handle.transcript() == []


def test_a_job_with_every_field_reaches_the_record_whole(herd: Herd) -> None:
    job = samples.full_job().model_copy(update={"session": NewSession(), "expires_s": None})
    with pytest.warns(ClassNotServed, match="4g"):
        handle = herd.submit(job)
    record = handle.record()
    assert decode_job(whole(herd, handle.id).spec) == job
    assert record.spec == ""
    assert (record.state, record.queue, record.priority) == (JobState.SCHEDULED, "agents.4g", 6)
    assert herd.connection.redis.llen("agents.4g\x06\x166") == 0


def test_many_are_submitted_in_order(herd: Herd) -> None:
    count = SUBMIT_CHUNK + 50
    handles = herd.submit_many(Job(prompt=f"{n}") for n in range(count))
    assert len({handle.id for handle in handles}) == count
    assert messages(herd) == count
    assert [handles[n].record().preview for n in (0, SUBMIT_CHUNK, -1)] == [
        "0", f"{SUBMIT_CHUNK}", f"{count - 1}",
    ]  # fmt: skip
    times = [handle.record().submitted_at_us for handle in handles]
    assert times == sorted(times)


def test_nothing_is_nothing(herd: Herd) -> None:
    assert herd.submit_many([]) == []
    assert herd.jobs().jobs == ()


def test_of_many_one_that_is_refused_hides_no_other(herd: Herd, submit_many: SubmitMany) -> None:
    taken = str(uuid4())
    owner = herd.submit(Job(prompt="x", session=NewSession(id=taken)))
    jobs = [Job(prompt="0"), Job(prompt="1", session=NewSession(id=taken)), Job(prompt="2")]
    with pytest.raises(SubmitIncomplete) as caught:
        submit_many(jobs)
    busy = caught.value.failures[1]
    assert isinstance(busy, SessionBusy)
    assert busy.job_id == owner.id
    assert list(caught.value.failures) == [1]
    queued = {at: herd.job(job_id).record().preview for at, job_id in caught.value.job_ids.items()}
    assert queued == {0: "0", 2: "2"}
    assert [job.prompt_preview for job in herd.jobs().jobs] == ["2", "0", "x"]


def test_of_a_round_trip_with_an_invalid_job_nothing_is_sent(
    herd: Herd, submit_many: SubmitMany
) -> None:
    missing = Job(prompt="no such session", session=ResumeSession(id=uuid4()))

    def jobs() -> Iterator[Job]:
        yield from (Job(prompt=f"{n}") for n in range(SUBMIT_CHUNK + 1))
        yield missing
        yield Job(prompt=" ")

    with pytest.raises(SubmitIncomplete) as caught:
        submit_many(jobs())
    assert list(caught.value.job_ids) == list(range(SUBMIT_CHUNK))
    assert messages(herd) == SUBMIT_CHUNK
    problems = {
        at: error.problems[0].field
        for at, error in caught.value.failures.items()
        if isinstance(error, InvalidJob)
    }
    assert problems == {SUBMIT_CHUNK + 1: "session.id", SUBMIT_CHUNK + 2: "prompt"}
    with pytest.raises(SubmitIncomplete, match=r"no session .* is in the store") as caught:
        submit_many([Job(prompt="x"), missing])
    assert (caught.value.job_ids, list(caught.value.failures)) == ({}, [1])
    assert messages(herd) == SUBMIT_CHUNK


def test_a_redis_that_fails_between_round_trips_loses_no_id(
    herd: Herd, submit_many: SubmitMany
) -> None:
    redis = herd.connection.redis

    def jobs() -> Iterator[Job]:
        yield from (Job(prompt=f"{n}") for n in range(SUBMIT_CHUNK))
        redis.config_set("maxmemory", 1)
        yield Job(prompt="too much")

    try:
        with pytest.raises(SubmitIncomplete, match="maxmemory") as caught:
            submit_many(jobs())
    finally:
        redis.config_set("maxmemory", 0)
    assert list(caught.value.job_ids) == list(range(SUBMIT_CHUNK))
    assert isinstance(caught.value.failures[SUBMIT_CHUNK], BrokerUnavailable)
    assert {job.job_id for job in herd.jobs(limit=1000).jobs} == set(caught.value.job_ids.values())


@pytest.mark.parametrize("chars", [0, 1, 5])
def test_a_preview_shows_no_more_than_told(redis_server: RedisServer, chars: int) -> None:
    with Herd(redis_server.url, rules=SubmitRules(preview_chars=chars)) as herd:
        preview = herd.submit(Job(prompt="secret words")).record().preview
    assert len(preview) <= chars
    assert preview == ("" if chars == 0 else "secret words"[: chars - 1] + "…")


def test_the_same_key_and_content_is_one_job(herd: Herd) -> None:
    job = Job(prompt="x", idempotency_key="k", retry={"kinds": ["crashed", "lost"]})
    first, second = herd.submit(job), herd.submit(job)
    assert first.id == second.id
    assert messages(herd) == 1
    assert len(list(first.events(follow=False))) == 1
    other = herd.submit(Job(prompt="x", idempotency_key="k", tenant="other"))
    assert other.id != first.id


def test_the_same_key_after_the_end_is_still_the_same_job(herd: Herd) -> None:
    job = Job(prompt="x", idempotency_key="k")
    handle = herd.submit(job)
    records.run_to_end(herd, handle.id)
    assert herd.submit(job).id == handle.id
    assert handle.state() is JobState.SUCCEEDED


@pytest.mark.parametrize("by", ["idempotency_key", "job_id"])
def test_the_same_key_with_another_content_is_refused(herd: Herd, by: str) -> None:
    def submit(prompt: str) -> Any:
        if by == "job_id":
            return herd.submit(Job(prompt=prompt), job_id="k")
        return herd.submit(Job(prompt=prompt, idempotency_key="k"))

    handle = submit("x")
    before = herd.connection.redis.dbsize()
    with pytest.raises(IdempotencyConflict) as caught:
        submit("y")
    assert (caught.value.key, caught.value.job_id) == ("k", handle.id)
    assert herd.connection.redis.dbsize() == before
    assert messages(herd) == 1
    assert submit("x").id == handle.id


def test_a_forgotten_key_is_free_again(redis_server: RedisServer, herd: Herd) -> None:
    key = herd.keys.idempotency("default", "k")
    with Herd(redis_server.url, rules=SubmitRules(idempotency_ttl_s=0.05)) as brief:
        first = brief.submit(Job(prompt="x", idempotency_key="k"))
        wait_until(lambda: not herd.connection.redis.exists(key), "the key is forgotten")
        assert brief.submit(Job(prompt="y", idempotency_key="k")).id != first.id


def test_threads_that_submit_the_same_get_one_job(redis_server: RedisServer, herd: Herd) -> None:
    assert len(submit_many_times(redis_server.url, 16)) == 1
    assert messages(herd) == 1


def test_processes_that_submit_the_same_get_one_job(redis_server: RedisServer, herd: Herd) -> None:
    submitters = [
        subprocess.Popen(
            [sys.executable, "-c", SUBMITTER, redis_server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in submitters:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in submitters:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = {process.communicate(timeout=30)[0] for process in submitters}
    assert len(answers) == 1
    assert len(set(answers.pop().split())) == messages(herd) == 20


async def test_tasks_that_submit_the_same_get_one_job(async_herd: AsyncHerd, herd: Herd) -> None:
    job = Job(prompt="x", idempotency_key="k")
    handles = await asyncio.gather(*(async_herd.submit(job) for _ in range(20)))
    assert len({handle.id for handle in handles}) == 1
    assert messages(herd) == 1


def test_a_session_belongs_to_one_live_job(herd: Herd) -> None:
    session_id = uuid4()
    first = herd.submit(Job(prompt="x", session=NewSession(id=session_id)))
    for session in (NewSession(id=session_id), ResumeSession(id=session_id)):
        with pytest.raises(SessionBusy) as caught:
            herd.submit(Job(prompt="y", session=session))
        assert (caught.value.session_id, caught.value.job_id) == (str(session_id), first.id)
    assert messages(herd) == 1
    herd.submit(Job(prompt="another tenant's", tenant="b", session=NewSession(id=session_id)))
    records.run_to_end(herd, first.id)
    assert herd.submit(Job(prompt="y", session=NewSession(id=session_id))).id != first.id


@pytest.mark.parametrize("kind", [ResumeSession, ForkSession])
def test_an_unknown_session_is_refused_at_submit(herd: Herd, kind: type[ResumeSession]) -> None:
    with pytest.raises(InvalidJob) as caught:
        herd.submit(Job(prompt="x", session=kind(id=uuid4())))
    assert [problem.field for problem in caught.value.problems] == ["session.id"]
    assert herd.connection.redis.dbsize() == 0


def test_a_stored_session_is_read_continued_and_copied(herd: Herd) -> None:
    first = herd.submit(Job(prompt="x"))
    session_id = first.record().session_id
    entries: list[Entry] = [{"type": "user", "uuid": str(uuid4()), "n": n} for n in range(300)]
    session = SessionKeys("default", session_id)
    stored = transcripts.append(session, "", entries, fence=0, ttl_ms=60_000, max_bytes=1_000_000)
    assert isinstance(herd.connection.run(stored), Appended)
    assert first.transcript() == entries
    records.run_to_end(herd, first.id)
    second = herd.submit(Job(prompt="y", session=ResumeSession(id=UUID(session_id))))
    assert second.record().session_id == session_id
    copy = herd.submit(Job(prompt="z", session=ForkSession(id=UUID(session_id))))
    assert copy.record().session_id != session_id
    with pytest.raises(InvalidJob, match="of tenant 'other'"):
        herd.submit(Job(prompt="x", tenant="other", session=ResumeSession(id=UUID(session_id))))


def test_a_session_with_a_transcript_is_not_begun_again(herd: Herd) -> None:
    stored, source = uuid4(), uuid4()
    store(herd, stored)
    store(herd, source)
    sessions = {
        "session.id": NewSession(id=stored),
        "session.new_id": ForkSession(id=source, new_id=stored),
    }
    for field, session in sessions.items():
        with pytest.raises(InvalidJob, match="already in the store; resume or fork it") as caught:
            herd.submit(Job(prompt="x", session=session))
        assert [problem.field for problem in caught.value.problems] == [field]
    assert herd.jobs().jobs == ()
    herd.submit(Job(prompt="x", session=NewSession(id=stored), tenant="b"))
    herd.submit(Job(prompt="x", session=ResumeSession(id=stored)))


def test_a_repeated_submit_may_find_its_own_transcript(herd: Herd) -> None:
    job = Job(prompt="x", session=NewSession(id=uuid4()), idempotency_key="k")
    handle = herd.submit(job)
    store(herd, UUID(handle.record().session_id))
    assert herd.submit(job).id == handle.id
    records.run_to_end(herd, handle.id)
    assert herd.submit(job).id == handle.id


@pytest.mark.parametrize("prompt", ["the same", "another"])
def test_a_key_whose_job_is_gone_is_free(herd: Herd, submit_many: SubmitMany, prompt: str) -> None:
    first = herd.submit(Job(prompt="the same", idempotency_key="k"))
    kept = herd.submit(Job(prompt="kept", idempotency_key="kept"))
    records.run_to_end(herd, first.id)
    herd.connection.redis.delete(herd.keys.job(first.id))  # as its retention does
    again = Job(prompt=prompt, idempotency_key="k")
    handles = submit_many([again, Job(prompt="kept", idempotency_key="kept"), again])
    assert handles[0].id == handles[2].id != first.id
    assert handles[1].id == kept.id
    assert herd.job(handles[0].id).state() is JobState.QUEUED
    assert herd.submit(again).id == handles[0].id
    assert messages(herd) == 3


def test_fleets_of_one_redis_have_queues_of_their_own(
    redis_server: RedisServer, herd: Herd
) -> None:
    redis = herd.connection.redis
    with Herd(redis_server.url, prefix="blue") as blue:
        handle = blue.submit(Job(prompt="x"))
        assert handle.record().queue == "blue.agents"
        with pytest.warns(ClassNotServed):
            assert blue.submit(Job(prompt="x", memory="4g")).record().queue == "blue.agents.4g"
        assert messages(herd) == 0
        assert redis.llen("blue.agents\x06\x163") == redis.llen("blue.agents.4g\x06\x163") == 1
        herd.submit(Job(prompt="y"))
        assert messages(herd) == redis.llen("blue.agents\x06\x163") == 1
        held = records.claim(blue, handle.id).record
        delayed = layout.requeue(blue.keys, held, delay_ms=0, reason="test", refund=False)
        assert blue.connection.run(delayed)
        assert redis.llen("blue.agents\x06\x163") == 2


def test_following_a_job_does_not_read_its_content(redis_server: RedisServer, herd: Herd) -> None:
    handle = herd.submit(Job(prompt="x" * 100_000))
    before = herd.connection.redis.info("stats")["total_net_output_bytes"]
    assert len(list(handle.events(follow=False))) == 1
    feed = EventFeed(herd.keys, handle.id, FIRST, follow=True, slice_ms=1)
    for _ in range(5):
        herd.connection.run(feed.step())
    assert (handle.artifacts(), handle.transcript()) == ((), [])
    assert handle.record().state is JobState.QUEUED
    assert herd.connection.redis.info("stats")["total_net_output_bytes"] - before < 50_000


def test_a_job_that_can_only_expire_is_refused(herd: Herd) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(InvalidJob, match="expires_s: passes before not_before"):
        herd.submit(Job(prompt="x", not_before=soon, expires_s=60))
    herd.submit(Job(prompt="x", not_before=soon, expires_s=3700))
    herd.submit(Job(prompt="x", not_before=datetime(2020, 1, 1, tzinfo=UTC), expires_s=60))
    assert len(herd.jobs().jobs) == 2


@pytest.mark.parametrize("job_id", ["a:events", "", "x y", "../x"])
def test_an_id_that_could_name_another_key_is_refused(herd: Herd, job_id: str) -> None:
    herd.submit(Job(prompt="x"), job_id="a")
    with pytest.raises(InvalidJob, match="job_id"):
        herd.job(job_id)
    with pytest.raises(InvalidJob, match="job_id"):
        herd.submit(Job(prompt="x"), job_id=job_id)


def test_an_unknown_job_is_not_found(herd: Herd) -> None:
    handle = herd.job("nobody")
    for ask in (
        handle.state,
        handle.record,
        lambda: handle.result(timeout_s=5),
        lambda: list(handle.events()),
        handle.transcript,
        handle.artifacts,
        lambda: handle.artifact("a"),
    ):
        with pytest.raises(JobNotFound, match="no job nobody"):
            ask()


def test_a_result_is_waited_for(herd: Herd) -> None:
    handle = herd.submit(Job(prompt="x"))
    timer = threading.Timer(0.2, lambda: records.run_to_end(herd, handle.id, text="done"))
    timer.start()
    result = handle.result(timeout_s=10)
    timer.join()
    assert (result.text, result.state) == ("done", JobState.SUCCEEDED)
    assert result.finished_at_ms > 0
    assert handle.result() == handle.result(timeout_s=0) == result


@pytest.mark.parametrize("timeout_s", [0, 0.2])
def test_a_result_that_takes_too_long_says_so_and_the_job_goes_on(
    herd: Herd, timeout_s: float
) -> None:
    handle = herd.submit(Job(prompt="x"))
    with pytest.raises(ResultTimeout) as caught:
        handle.result(timeout_s=timeout_s)
    assert (caught.value.job_id, caught.value.state) == (handle.id, "queued")
    assert handle.state() is JobState.QUEUED


def test_events_are_followed_to_the_end(herd: Herd) -> None:
    handle = herd.submit(Job(prompt="x"))
    held = records.claim(herd, handle.id)
    seen: list[Any] = []
    follower = threading.Thread(target=lambda: seen.extend(handle.events()))
    follower.start()
    for n in range(250):
        assert records.report(herd, held, (EventKind.TEXT, {"text": f"{n}"}))
    assert records.finish(herd, held.record)
    follower.join(10)
    kinds = [event.kind for event in seen]
    assert kinds == ["submitted", "started", *["text"] * 250, "ended"]
    assert [event.data["text"] for event in seen[2:-1]] == [f"{n}" for n in range(250)]
    assert {event.attempt for event in seen[1:]} == {1}
    assert seen[-1].data["state"] == "succeeded"
    middle = seen[100]
    assert list(handle.events(after=middle.id)) == seen[101:]
    assert list(handle.events(after=seen[-1].id)) == []
    assert list(handle.events(follow=False)) == seen


async def test_the_asyncio_client_does_the_same(async_herd: AsyncHerd, herd: Herd) -> None:
    handle = await async_herd.submit(Job(prompt="x"))
    many = await async_herd.submit_many(Job(prompt=f"{n}") for n in range(3))
    assert await handle.state() is JobState.QUEUED
    page = await async_herd.jobs(limit=2)
    assert [job.job_id for job in page.jobs] == [many[2].id, many[1].id]
    with pytest.raises(ResultTimeout):
        await handle.result(timeout_s=0.1)
    with pytest.raises(JobNotFound):
        await async_herd.job("nobody").state()
    held = await asyncio.to_thread(records.claim, herd, handle.id)
    waiting = asyncio.create_task(handle.result(timeout_s=10))
    events = asyncio.create_task(_collect(handle))
    await asyncio.to_thread(records.finish, herd, held.record)
    result = await waiting
    assert result.succeeded
    assert [event.kind for event in await events] == ["submitted", "started", "ended"]
    assert (await handle.record()).result == result
    assert await handle.artifacts() == ()
    assert await handle.transcript() == []
    with pytest.raises(ArtifactNotFound):
        await handle.artifact("a")


async def _collect(handle: Any) -> list[Any]:
    return [event async for event in handle.events()]


def test_artifacts_are_read_whole(herd: Herd) -> None:
    handle = herd.submit(Job(prompt="x", artifacts=("*",)))
    held = records.claim(herd, handle.id)
    content = bytes(range(256)) * 1000
    assert herd.connection.run(
        layout.keep_artifact(herd.keys, handle.id, held.fence, "ü/a b.bin", content)
    )
    assert handle.artifact("ü/a b.bin") == content
    with pytest.raises(ArtifactNotFound) as caught:
        handle.artifact("other")
    assert (caught.value.job_id, caught.value.name) == (handle.id, "other")
    assert keys_without_ttl(herd.connection.redis, live_jobs_allowed=True) == []
