"""Dead letters: what failed is listed, and tried again as a new job, once."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result

from agentherd import (
    AsyncHerd,
    Failure,
    FailureKind,
    ForkSession,
    Herd,
    InvalidJob,
    Job,
    JobHandle,
    JobNotFound,
    JobState,
    NewSession,
    NotRetryable,
    ResumeSession,
    UnknownWireVersion,
)
from agentherd.cli.app import app
from agentherd.client import retrying
from agentherd.contract.wire import decode_job
from agentherd.layout import poison, records, retries, transcripts
from agentherd.layout.transcripts import SessionKeys
from support.records import claim, finish

CRASHED = FailureKind.CRASHED


def failed(
    herd: Herd, kind: FailureKind = CRASHED, state: JobState = JobState.FAILED, **fields: object
) -> JobHandle:
    """A job that ended so."""
    job = Job(**{"prompt": "Fix it.", **fields})
    handle = herd.submit(job)
    held = claim(herd, handle.id, tenant=job.tenant)
    failure = Failure(kind=kind, message=f"it {kind}")
    assert finish(herd, held.record, state, failure=failure) is not None
    return handle


def content(herd: Herd, job_id: str) -> Job:
    """What a job asks."""
    record = herd.connection.run(records.read_record(herd.keys, job_id, content=True))
    assert record is not None
    return decode_job(record.spec)


def store_transcript(herd: Herd, handle: JobHandle, *, kind: str = "user") -> str:
    """The job's agent stored an entry of this type; the session."""
    session_id = handle.record().session_id
    session = SessionKeys("default", session_id, herd.keys.prefix)
    herd.connection.run(
        transcripts.append(
            session,
            "",
            [{"type": kind, "uuid": str(uuid4())}],
            fence=0,
            ttl_ms=60_000,
            max_bytes=10_000,
        )
    )
    return session_id


def run(herd: Herd, *arguments: str) -> Result:
    """`agentherd`, in this process."""
    return CliRunner().invoke(app, ["--redis-url", herd.connection.url, *arguments])


def test_a_retry_is_a_new_job_of_the_same_content(herd: Herd) -> None:
    old = failed(herd, idempotency_key="k", metadata={"ticket": "7"})
    new = old.retry()
    assert new.id != old.id
    assert (new.record().state, new.record().retry_of) == (JobState.QUEUED, old.id)
    assert (old.state(), old.record().retried_as) == (JobState.FAILED, new.id)
    assert new.record().session_id != old.record().session_id
    assert content(herd, new.id) == content(herd, old.id).model_copy(
        update={"idempotency_key": None}
    )


def test_a_job_is_tried_again_once(herd: Herd) -> None:
    old = failed(herd)
    assert herd.retry(old.id).id == herd.retry(old.id, resume=True).id == old.retry().id
    assert len(herd.jobs(state=JobState.QUEUED).jobs) == 1


def test_a_retry_that_failed_is_tried_again_as_another_job(herd: Herd) -> None:
    first = failed(herd).retry()
    failure = Failure(kind=CRASHED, message="m")
    finish(herd, claim(herd, first.id).record, JobState.FAILED, failure=failure)
    assert first.retry().record().retry_of == first.id


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.TIMED_OUT, JobState.CANCELLED])
def test_what_ended_without_success_can_be_tried_again(herd: Herd, state: JobState) -> None:
    assert failed(herd, state=state).retry().state() is JobState.QUEUED


def test_what_runs_or_succeeded_can_not(herd: Herd) -> None:
    waiting = herd.submit(Job(prompt="x"))
    with pytest.raises(NotRetryable, match="is queued") as caught:
        waiting.retry()
    assert (caught.value.job_id, caught.value.state) == (waiting.id, "queued")
    with pytest.raises(NotRetryable, match="is succeeded"):
        failed(herd, state=JobState.SUCCEEDED).retry()
    with pytest.raises(JobNotFound):
        herd.retry("nobody")


def test_resume_goes_on_with_the_session(herd: Herd) -> None:
    old = failed(herd)
    session_id = store_transcript(herd, old)
    job = content(herd, old.retry(resume=True).id)
    assert job.session == ResumeSession(id=UUID(session_id))
    assert job.prompt == retrying.RESUME_PROMPT + "Fix it."


@pytest.mark.parametrize("kind", [None, "queue-operation"])
def test_resume_without_a_conversation_begins_anew(herd: Herd, kind: str | None) -> None:
    """Nor can the CLI go on with its own notes alone."""
    old = failed(herd)
    if kind is not None:
        store_transcript(herd, old, kind=kind)
    job = content(herd, old.retry(resume=True).id)
    assert (job.session, job.prompt) == (NewSession(), "Fix it.")


def test_what_went_on_with_a_session_does_so_again(herd: Herd) -> None:
    """Its question makes sense there only; a fork leaves the failed copy behind."""
    session_id = store_transcript(herd, failed(herd))
    resumed = failed(herd, session=ResumeSession(id=UUID(session_id)))
    assert content(herd, resumed.retry().id).session == ResumeSession(id=UUID(session_id))
    forked = failed(herd, session=ForkSession(id=UUID(session_id), new_id=uuid4()))
    assert content(herd, forked.retry().id).session == ForkSession(id=UUID(session_id))


def test_a_time_that_has_passed_is_not_waited_for(herd: Herd) -> None:
    job = Job(prompt="x", not_before=datetime.now(UTC) - timedelta(hours=1))
    handle = herd.submit(job)
    failure = Failure(kind=CRASHED, message="m")
    finish(herd, claim(herd, handle.id).record, JobState.FAILED, failure=failure)
    assert content(herd, handle.retry().id).not_before is None


def test_what_can_not_be_read_can_not_be_tried_again(herd: Herd) -> None:
    old = failed(herd, FailureKind.INVALID_JOB)
    spec = json.dumps({"version": 99, "prompt": "x"})
    herd.connection.redis.hset(herd.keys.job(old.id), "spec", spec)
    with pytest.raises(InvalidJob, match="can't be read, so it can't be tried again") as caught:
        old.retry()
    assert not isinstance(caught.value, UnknownWireVersion)
    assert "99" in str(caught.value)


async def test_async_does_the_same(herd: Herd, async_herd: AsyncHerd) -> None:
    old = failed(herd)
    new = await async_herd.retry(old.id)
    assert new.id == (await async_herd.job(old.id).retry(resume=True)).id == old.retry().id


def test_failed_lists_by_kind_and_leaves_out_what_was_tried_again(herd: Herd) -> None:
    crashed = [failed(herd) for _ in range(3)]
    failed(herd, FailureKind.WALL_TIMEOUT, JobState.TIMED_OUT)
    failed(herd, FailureKind.CANCELLED, JobState.CANCELLED)
    failed(herd, state=JobState.SUCCEEDED)
    crashed[1].retry()

    def found(**options: object) -> list[str]:
        page = herd.connection.run(
            retries.failed_jobs(herd.keys, **options)  # type: ignore[arg-type]
        )
        return [job.job_id for job in page.jobs]

    assert found(kinds=[CRASHED]) == [crashed[2].id, crashed[0].id]
    assert found(kinds=[CRASHED], retried=True) == [handle.id for handle in reversed(crashed)]
    assert len(found()) == 3
    assert found(tenant="nobody") == []


def test_failed_pages_over_what_is_left_out(herd: Herd) -> None:
    crashed = [failed(herd) for _ in range(3)]
    for _ in range(4):
        failed(herd, FailureKind.REFUSED)
    crashed.append(failed(herd))
    seen: list[str] = []
    cursor = None
    for _ in range(4):
        page = herd.connection.run(
            retries.failed_jobs(herd.keys, kinds=[CRASHED], limit=2, cursor=cursor)
        )
        seen += [job.job_id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [handle.id for handle in reversed(crashed)]


def test_command_failed(herd: Herd) -> None:
    old = failed(herd)
    failed(herd, FailureKind.REFUSED)
    lines = run(herd, "failed", "--kind", "crashed").stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["JOB", "KIND"]
    assert [line.split("\t")[::6] for line in lines[1:]] == [[old.id, "it crashed"]]
    found = json.loads(run(herd, "failed", "--json").stdout)
    assert [job["failure_kind"] for job in found["jobs"]] == ["refused", "crashed"]
    assert "no such jobs" in run(herd, "failed", "--tenant", "nobody").output
    bad = run(herd, "failed", "--cursor", "x")
    assert (bad.exit_code, "--cursor" in bad.output) == (2, True)


def test_command_retry_by_name(herd: Herd) -> None:
    old = failed(herd)
    ended = run(herd, "retry", old.id, "--json")
    [row] = json.loads(ended.stdout)["jobs"]
    assert row == {"job_id": old.id, "retried_as": old.record().retried_as, "problem": None}
    assert str(old.record().retried_as) in run(herd, "status", old.id).output
    other = run(herd, "retry", old.id, row["retried_as"])
    assert (other.exit_code, "is queued" in other.output) == (1, True)


def test_command_retry_by_filter(herd: Herd) -> None:
    crashed = [failed(herd) for _ in range(3)]
    refused = failed(herd, FailureKind.REFUSED)
    dry = run(herd, "retry", "--kind", "crashed", "--dry-run")
    assert [handle.id in dry.stdout for handle in (*crashed, refused)] == [True] * 3 + [False]
    assert crashed[0].record().retried_as is None
    assert run(herd, "retry", "--kind", "crashed").exit_code == 0
    assert all(handle.record().retried_as for handle in crashed)
    assert refused.record().retried_as is None
    assert run(herd, "retry", "--all").exit_code == 0
    assert refused.record().retried_as
    assert len(herd.jobs(state=JobState.QUEUED).jobs) == 4


@pytest.mark.parametrize("arguments", [(), ("job-1", "--kind", "crashed"), ("job-1", "--all")])
def test_command_retry_wants_one_way_to_choose(herd: Herd, arguments: tuple[str, ...]) -> None:
    ended = run(herd, "retry", *arguments)
    assert (ended.exit_code, "choose by --kind" in ended.output) == (2, True)


def test_messages_that_were_no_jobs_are_told(herd: Herd) -> None:
    def keep(raw: bytes) -> None:
        herd.connection.run(
            poison.keep(herd.keys, raw, queue="agents", worker="w1", reason="not JSON")
        )

    assert "no message" in run(herd, "failed", "--messages").output
    keep(b"first")
    keep(b"\xff" * 100_000)
    [last, first] = herd.connection.run(poison.kept(herd.keys))
    assert (first.content, last.size_bytes, len(last.content)) == ("first", 100_000, 4096)
    assert "2 messages were no jobs" in run(herd, "failed").output
    lines = run(herd, "failed", "--messages").stdout.splitlines()
    assert lines[2].split("\t")[1:] == ["agents", "5", "not JSON", "first"]
    shown = json.loads(run(herd, "failed", "--messages", "--json").stdout)["messages"]
    assert shown[1]["worker"] == "w1"
    for number in range(poison.KEPT):
        keep(str(number).encode())
    assert herd.connection.run(poison.count(herd.keys)) == poison.KEPT
