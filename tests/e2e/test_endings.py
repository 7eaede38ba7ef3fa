"""Ends that come from outside: signals, cancelling, a transcript that can't be kept."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from celery import Celery

from agentherd import EventKind, FailureKind, Job, JobState, RetryPolicy
from agentherd.contract.base import MiB
from agentherd.layout import transcripts
from agentherd.layout.transcripts import SessionKeys
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from support.fleet import Fleet, await_event, cli_of, events_so_far, living, processes_of
from support.plain_celery import plain_celery, send
from support.waiting import wait_until

AT_ONCE = RetryPolicy(backoff_s=0)
HANGING_TOOL = scripts.bash("read -t 60 < <(sleep 60)")


@pytest.fixture(scope="module")
def fleet_options() -> dict[str, Any]:
    """Small transcripts, and no retries of the CLI's own."""
    return {
        "settings": {
            "concurrency": "4",
            "pass_env": '["CLAUDE_CODE_MAX_RETRIES"]',
            "max_session_bytes": str(MiB),
        },
        "environment": {"CLAUDE_CODE_MAX_RETRIES": "0"},
    }


@pytest.fixture(scope="module")
def celery(fleet: Fleet) -> Iterator[Celery]:
    """A plain Celery client of the fleet."""
    with plain_celery(fleet.redis) as app:
        yield app


def job_of(*steps: Step, **options: Any) -> Job:
    """A scripted job that is tried again at once."""
    chosen: dict[str, Any] = {"allowed_tools": ["Bash"], "retry": AT_ONCE, **options}
    return Job(prompt=scripts.script("Do it.", *steps), **chosen)


def hangs_once(marker: Path) -> Step:
    """A tool that hangs when it is first used and leaves `marker`, and works after that."""
    return scripts.bash(f"[ -e {marker} ] || {{ touch {marker}; read -t 60 < <(sleep 60); }}")


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "exit code -9"), (signal.SIGTERM, "exit code 143")]
)
def test_killed_cli_is_resumed(
    fleet: Fleet, tmp_path: Path, number: signal.Signals, reason: str
) -> None:
    """A CLI that dies is followed by another one, which repeats no finished tool call."""
    log = tmp_path / "log"
    job = job_of(
        scripts.bash(f"echo finished >> {log}"),
        hangs_once(tmp_path / "begun"),
        scripts.bash(f"echo next >> {log}"),
        scripts.text("done"),
    )
    handle = fleet.herd.submit(job)
    await_event(handle, EventKind.TOOL_STARTED, count=2)
    wait_until((tmp_path / "begun").exists, "the tool hangs")
    tools = [one for one in processes_of(handle) if one.pid != cli_of(handle).pid]

    cli_of(handle).send_signal(number)

    result = handle.result(30)
    assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 2)
    assert log.read_text().split() == ["finished", "next"]
    requeued = events_so_far(handle, EventKind.REQUEUED)[0]
    assert requeued.data["reason"].startswith("crashed")
    assert reason in requeued.data["reason"]
    assert tools
    assert not living(tools)


def test_crashes_without_end_fail(fleet: Fleet) -> None:
    """When no attempts are left, the crash is the reason."""
    job = job_of(HANGING_TOOL, HANGING_TOOL, retry=RetryPolicy(max_attempts=2, backoff_s=0))
    handle = fleet.herd.submit(job)
    for attempt in (1, 2):
        await_event(handle, EventKind.TOOL_STARTED, count=attempt)
        cli_of(handle).kill()
    result = handle.result(30)
    assert result.state is JobState.FAILED
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CRASHED
    assert result.attempts == 2


def test_kinds_not_asked_for_are_not_retried(fleet: Fleet) -> None:
    """A policy without `crashed` leaves it at one attempt."""
    policy = RetryPolicy(backoff_s=0, kinds=frozenset({FailureKind.RATE_LIMITED}))
    handle = fleet.herd.submit(job_of(HANGING_TOOL, retry=policy))
    await_event(handle, EventKind.TOOL_STARTED)
    cli_of(handle).kill()
    result = handle.result(30)
    assert (result.state, result.attempts) == (JobState.FAILED, 1)


def test_retry_waits_in_the_scheduled_set(fleet: Fleet) -> None:
    """Back-off is a place in a sorted set, with the job's attempts counted."""
    policy = RetryPolicy(max_attempts=2, backoff_s=3)
    handle = fleet.herd.submit(job_of(scripts.error(500), scripts.text("done"), retry=policy))
    wait_until(lambda: handle.state() is JobState.SCHEDULED, "the job waits", 30)
    assert handle.record().attempt == 1
    waiting = fleet.herd.connection.redis.zscore(fleet.herd.keys.scheduled, handle.id)
    assert waiting is not None

    result = handle.result(30)

    assert (result.state, result.attempts) == (JobState.SUCCEEDED, 2)
    requeued = events_so_far(handle, EventKind.REQUEUED)[0]
    assert 1.5 <= requeued.data["delay_s"] <= 3.0
    released = events_so_far(handle, EventKind.RELEASED)[0]
    assert released.at_ms - requeued.at_ms >= requeued.data["delay_s"] * 1000 - 1
    assert not fleet.herd.connection.redis.zscore(fleet.herd.keys.scheduled, handle.id)


@pytest.mark.parametrize("steps", [(HANGING_TOOL,), (scripts.hang(),)], ids=["tool", "model"])
def test_revoked_job_is_cancelled(fleet: Fleet, celery: Celery, steps: tuple[Step, ...]) -> None:
    """`revoke(terminate=True)` ends the agent; once that is said, nothing of it lives."""
    handle = fleet.herd.submit(job_of(*steps))
    await_event(handle, EventKind.AGENT_READY)
    if steps[0].tools:
        await_event(handle, EventKind.TOOL_STARTED)
    agent = processes_of(handle)

    celery.control.revoke(handle.id, terminate=True)

    result = handle.result(20)
    assert agent
    assert not living(agent)
    assert result.state is JobState.CANCELLED
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CANCELLED
    assert result.attempts == 1
    assert handle.transcript()
    wait_until(lambda: str(celery.AsyncResult(handle.id).state) == "REVOKED", "Celery knows")


def test_job_revoked_while_it_waits_is_cancelled(fleet: Fleet, celery: Celery) -> None:
    """Celery drops the message when it comes; the record learns of it."""
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    handle = fleet.herd.submit(job_of(scripts.text("never"), not_before=soon))
    assert handle.state() is JobState.SCHEDULED

    celery.control.revoke(handle.id)

    result = handle.result(20)
    assert (result.state, result.attempts) == (JobState.CANCELLED, 0)
    assert str(celery.AsyncResult(handle.id).state) == "REVOKED"


def test_unknown_session_fails_for_good(celery: Celery, fleet: Fleet) -> None:
    """A plain Celery client may name a session that is nowhere; `Herd` refuses such a job."""
    session = {"kind": "resume", "id": str(uuid4())}
    sent = send(celery, {"prompt": "Go on.", "session": session})
    handle = fleet.herd.job(sent.id)
    wait_until(sent.ready, "the job ended", 30)
    result = handle.result(30)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.SESSION_MISSING
    assert result.attempts == 1


def test_full_transcript_degrades_the_session_only(fleet: Fleet) -> None:
    """Over `max_session_bytes` the run goes on, and its result says that the session suffers."""
    handle = fleet.herd.submit(job_of(scripts.long_output(2 * MiB), scripts.text("never")))
    result = handle.result(40)
    assert result.state is JobState.SUCCEEDED
    assert result.session_degraded
    degraded = events_so_far(handle, EventKind.SESSION_DEGRADED)
    assert "would exceed the cap" in degraded[0].data["error"]


def test_deleted_transcript_degrades_the_session_only(fleet: Fleet, tmp_path: Path) -> None:
    """A session that is deleted under a running job stays deleted, and the job ends well."""
    go = tmp_path / "go"
    wait = scripts.bash(f"until [ -e {go} ]; do read -t 0.05 < <(sleep 1); done")
    handle = fleet.herd.submit(job_of(wait, scripts.text("done")))
    await_event(handle, EventKind.TOOL_STARTED)
    wait_until(handle.transcript, "the session is stored")
    session = SessionKeys("default", handle.record().session_id)
    fleet.herd.connection.run(transcripts.delete(session, "", tombstone_ttl_ms=60_000))
    go.touch()
    result = handle.result(30)
    assert (result.state, result.text) == (JobState.SUCCEEDED, "done")
    assert result.session_degraded
    assert not handle.transcript()


def test_nothing_of_the_jobs_is_left(fleet: Fleet) -> None:
    """No agent, no directory, whatever the ends were. Runs its own job last of all."""
    handle = fleet.herd.submit(job_of(scripts.text("done")))
    handle.result(30)
    jobs = fleet.worker.workspace_root / "jobs"
    wait_until(lambda: not list(jobs.iterdir()), "every directory is gone", show=lambda: jobs)
    assert not _clis(fleet)


def _clis(fleet: Fleet) -> list[psutil.Process]:
    children = psutil.Process(fleet.worker.pid).children(recursive=True)
    return [child for child in children if child.name().startswith("claude")]
