"""Cancelling jobs on a fleet of two workers, by handles and by the command line."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentherd import (
    CancelOutcome,
    EventKind,
    FailureKind,
    Job,
    JobHandle,
    JobState,
    ResumeSession,
)
from agentherd_workers.devkit import scripts
from support.fleet import Fleet, await_event, events_so_far, living, processes_of
from support.plain_celery import plain_celery
from support.programs import run_program
from support.waiting import wait_until

BUSY = Job(
    prompt=scripts.script(
        "Do it.",
        scripts.bash("echo begun"),
        scripts.bash(
            "echo partial > out.txt; setsid sleep 61 & nohup sleep 62 >/dev/null 2>&1 &"
            " read -t 60 < <(sleep 60)"
        ),
    ),
    allowed_tools=("Bash",),
    artifacts=("*.txt",),
)


@pytest.fixture(scope="module")
def fleet_options() -> dict[str, Any]:
    """Workers with room for one job each."""
    return {"settings": {"concurrency": "1"}}


@pytest.fixture(scope="module", autouse=True)
def _other_worker(fleet: Fleet) -> Iterator[None]:
    settings = {"concurrency": "1", "isolation": "process"}
    with fleet.another_worker(settings=settings):
        yield


def submit_busy(fleet: Fleet) -> tuple[JobHandle, list[psutil.Process]]:
    """A job that runs, and its processes once its tool has started all that it starts."""
    handle = fleet.herd.submit(BUSY)
    await_event(handle, EventKind.TOOL_STARTED, count=2, timeout_s=60)

    def found() -> list[psutil.Process]:
        agent = living(processes_of(handle))
        commands = {" ".join(process.cmdline()) for process in agent}
        return agent if {"sleep 61", "sleep 62"} <= commands else []

    return handle, wait_until(found, "the tools run", 30)


def directory_of(fleet: Fleet, handle: JobHandle) -> Path:
    """The job's directory, which is there."""
    jobs = fleet.worker.workspace_root / "jobs"
    [path] = [one for one in jobs.iterdir() if one.name.endswith(handle.record().session_id)]
    return path


def test_nothing_is_left_of_a_running_job_once_it_is_cancelled(fleet: Fleet) -> None:
    """Its tree is empty and its directory gone; what it said and kept stays, its session too."""
    handle, agent = submit_busy(fleet)
    directory = directory_of(fleet, handle)

    answer = handle.cancel("changed my mind")

    wait_until(lambda: handle.state() is not JobState.RUNNING, "the job ended", 30)
    assert not living(agent)
    assert not directory.exists()
    assert (answer.outcome, answer.state) == (CancelOutcome.ASKED, JobState.RUNNING)
    result = handle.result(0)
    assert (result.state, result.attempts) == (JobState.CANCELLED, 1)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CANCELLED
    assert result.failure.message == "cancelled: changed my mind"
    assert [one.data for one in events_so_far(handle, EventKind.CANCELLING)] == [
        {"reason": "changed my mind"}
    ]
    assert handle.artifact("out.txt") == b"partial\n"
    assert "echo begun" in json.dumps(handle.transcript())

    again = Job(
        prompt=scripts.script("Go on.", scripts.text("went on")),
        session=ResumeSession(id=result.session_id),
    )
    assert fleet.herd.submit(again).result(60).text == "went on"


def test_the_command_line_cancels_on_every_worker_and_in_the_queue(fleet: Fleet) -> None:
    """One call: a job on each worker, one behind them, one that waits for its time."""
    running = [submit_busy(fleet) for _ in range(2)]
    assert len({handle.record().worker for handle, _ in running}) == 2
    queued = fleet.herd.submit(BUSY)
    later = fleet.herd.submit(
        BUSY.model_copy(update={"not_before": datetime.now(UTC) + timedelta(hours=1)})
    )
    handles = [*(handle for handle, _ in running), queued, later]

    ended = run_program(
        fleet.redis.url, "agentherd", "cancel", *(handle.id for handle in handles),
        "--reason", "all of it", "--wait", "--json",
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [one["job_id"] for one in told] == [handle.id for handle in handles]
    assert [one["outcome"] for one in told] == ["asked", "asked", "cancelled", "cancelled"]
    assert {one["state"] for one in told} == {"cancelled"}
    assert not living([process for _, agent in running for process in agent])
    assert [handle.result(0).attempts for handle in handles] == [1, 1, 0, 0]
    with plain_celery(fleet.redis) as celery:
        for handle in handles:
            wait_until(
                lambda: str(celery.AsyncResult(handle.id).state) == "REVOKED",  # noqa: B023
                "Celery knows",
                30,
            )
