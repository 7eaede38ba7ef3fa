"""The CLI's own retries, its time-out, and a model that is not there at all."""

from pathlib import Path
from typing import Any

import pytest

from agentherd import EventKind, FailureKind, Job, JobResult, JobState, RetryPolicy
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from agentherd_workers.devkit.redis_server import free_port
from support.fleet import Fleet, events_so_far, running_fleet

TWICE = RetryPolicy(max_attempts=2, backoff_s=0)


@pytest.fixture(scope="module")
def fleet_options() -> dict[str, Any]:
    """The CLI tries once more by itself and waits 2 s for the API."""
    return {
        "settings": {"pass_env": '["CLAUDE_CODE_MAX_RETRIES", "API_TIMEOUT_MS"]'},
        "environment": {"CLAUDE_CODE_MAX_RETRIES": "1", "API_TIMEOUT_MS": "2000"},
    }


def job_of(*steps: Step) -> Job:
    """A scripted job that may be tried twice, at once."""
    return Job(prompt=scripts.script("Do it.", *steps), retry=TWICE)


def failure_kind(result: JobResult) -> FailureKind | None:
    """Why it failed."""
    return result.failure.kind if result.failure else None


def test_retry_of_the_cli_is_no_attempt(fleet: Fleet) -> None:
    """An error that the CLI gets over shows as an event, and costs nothing else."""
    handle = fleet.herd.submit(job_of(scripts.error(529), scripts.text("done")))
    result = handle.result(30)
    assert (result.state, result.attempts) == (JobState.SUCCEEDED, 1)
    retry = events_so_far(handle, EventKind.API_RETRY)[0].data
    assert (retry["status"], retry["attempt"], retry["max_attempts"]) == (529, 1, 1)


def test_retry_after_is_waited_for(fleet: Fleet) -> None:
    """The CLI waits for as long as the API asked."""
    steps = scripts.error(429, retry_after_s=2), scripts.text("done")
    handle = fleet.herd.submit(job_of(*steps))
    assert handle.result(30).succeeded
    assert events_so_far(handle, EventKind.API_RETRY)[0].data["delay_ms"] >= 2000
    session_id = handle.record().session_id
    asked = [one.at_s for one in fleet.model.requests if session_id in str(one.body["metadata"])]
    assert asked[1] - asked[0] >= 2.0


def test_rate_limit_outlasts_the_retries(fleet: Fleet) -> None:
    """Four requests: two attempts, each with a retry of the CLI's own."""
    handle = fleet.herd.submit(job_of(scripts.error(429, times=99)))
    result = handle.result(40)
    assert failure_kind(result) is FailureKind.RATE_LIMITED
    assert result.attempts == 2
    assert len(events_so_far(handle, EventKind.API_RETRY)) == 2


def test_api_timeout(fleet: Fleet) -> None:
    """A model that never answers is unavailable, and no reason to wait for the wall clock."""
    result = fleet.herd.submit(job_of(scripts.hang())).result(60)
    assert failure_kind(result) is FailureKind.MODEL_UNAVAILABLE
    assert result.attempts == 2


def test_connection_refused(tmp_path: Path) -> None:
    """Nothing listens where the model should be."""
    settings = {
        "model_base_url": f"http://127.0.0.1:{free_port()}",
        "pass_env": '["CLAUDE_CODE_MAX_RETRIES"]',
    }
    environment = {"CLAUDE_CODE_MAX_RETRIES": "0"}
    with running_fleet(tmp_path, settings=settings, environment=environment) as fleet:
        result = fleet.herd.submit(job_of(scripts.text("never"))).result(60)
    assert failure_kind(result) is FailureKind.MODEL_UNAVAILABLE
    assert result.failure is not None
    assert "ECONNREFUSED" in result.failure.message or "refused" in result.failure.message
    assert result.attempts == 2
