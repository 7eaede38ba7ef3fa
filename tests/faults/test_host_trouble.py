"""What goes wrong on the host, or in what is stored, ends or repeats the job; it never hangs."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agentherd import EventKind, FailureKind, Job, JobState, RetryPolicy
from agentherd.layout.transcripts import SessionKeys
from agentherd_workers.devkit import scripts
from agentherd_workers.workspace import OwnedDirectory
from support.fleet import Fleet, await_event, running_fleet

ONCE = RetryPolicy(max_attempts=1)
AT_ONCE = RetryPolicy(max_attempts=2, backoff_s=0.0)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("sk-ant-dummy")
    return path


@pytest.fixture
def fleet(tmp_path: Path, key_file: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, api_key_file=key_file) as started:
        yield started


def saying(text: str, **fields: object) -> Job:
    return Job(prompt=scripts.script("Say", scripts.text(text)), **fields)


def test_a_key_file_that_turned_to_garbage_fails_the_job(fleet: Fleet, key_file: Path) -> None:
    key_file.write_bytes(b"\xff\xfe")
    result = fleet.herd.submit(saying("never", retry=ONCE)).result(30)
    assert result.failure is not None
    assert (result.state, result.failure.kind) == (JobState.FAILED, FailureKind.INTERNAL)
    assert "is not text" in result.failure.message
    key_file.write_text("sk-ant-dummy")
    assert fleet.herd.submit(saying("again")).result(30).text == "again"


def test_a_host_that_recovers_runs_the_job_in_the_next_attempt(
    fleet: Fleet, key_file: Path
) -> None:
    key_file.unlink()
    retry = RetryPolicy(max_attempts=20, backoff_s=0.2, max_backoff_s=0.2)
    handle = fleet.herd.submit(saying("after all", retry=retry))
    await_event(handle, EventKind.REQUEUED)
    key_file.write_text("sk-ant-dummy")
    result = handle.result(30)
    assert result.text == "after all"
    assert result.attempts > 1


def test_a_damaged_session_is_not_taken_for_a_wrong_option(fleet: Fleet) -> None:
    first = fleet.herd.submit(saying("first")).result(30)
    keys = SessionKeys("default", first.session_id)
    fleet.herd.connection.redis.hset(keys.session, "0:", "garbage")
    session = {"kind": "resume", "id": first.session_id}
    result = fleet.herd.submit(saying("second", session=session, retry=AT_ONCE)).result(30)
    assert result.failure is not None
    assert (result.failure.kind, result.attempts) == (FailureKind.SESSION_CORRUPT, 1)
    assert first.session_id in result.failure.message


def test_a_directory_that_is_in_use_costs_no_attempt(fleet: Fleet) -> None:
    """A worker of this host that was stopped still has it, while its job goes on here."""
    session_id = str(uuid4())
    path = fleet.worker.workspace_root / "jobs" / f"default.{session_id}"
    held = OwnedDirectory.make(path)
    try:
        job = saying("in the end", session={"kind": "new", "id": session_id}, retry=ONCE)
        handle = fleet.herd.submit(job)
        given_back = await_event(handle, EventKind.REQUEUED)
        assert "belongs to another attempt" in given_back.data["reason"]
    finally:
        held.remove()
    result = handle.result(60)
    assert (result.text, result.attempts) == ("in the end", 1)
