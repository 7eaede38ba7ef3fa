"""A job goes on with its files where its worker was lost, or had to shut down."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentherd import EventKind, Job, JobHandle, JobState
from agentherd.layout import checkpoints, records
from agentherd.layout.checkpoints import Checkpoint
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from support.fleet import Fleet, await_event, events_so_far, running_fleet
from support.waiting import wait_until

EVERY_S = {"checkpoint_every_s": "1", "lease_s": "3"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose worker is killed and started again."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), settings=EVERY_S) as started:
        yield started


def waits_for(path: Path) -> Step:
    """A tool that ends once `path` is there."""
    return scripts.bash(f"until [ -e {path} ]; do read -t 0.05 < <(sleep 1); done")


def job_of(*steps: Step, **options: Any) -> Job:
    """A scripted job with a shell."""
    return Job(prompt=scripts.script("Do it.", *steps), allowed_tools=["Bash"], **options)


def find(fleet: Fleet, handle: JobHandle) -> Checkpoint | None:
    """What is stored of the job's workspace, if anything is."""
    return fleet.herd.connection.run(checkpoints.find(fleet.herd.keys, handle.id))


def stored(fleet: Fleet, handle: JobHandle) -> Checkpoint:
    """What is stored of it, once it is."""
    wait_until(lambda: find(fleet, handle), "the workspace is stored", 30)
    found = find(fleet, handle)
    assert found is not None
    return found


def give_back(fleet: Fleet, handle: JobHandle) -> None:
    """What the fleet's leader does once a lease is over; it may have done so already."""
    fleet.herd.connection.run(
        records.requeue(
            fleet.herd.keys, handle.record(), delay_ms=0, reason="test: lost", refund=False
        )
    )


def commands(handle: JobHandle) -> list[str]:
    """The shell commands of all attempts."""
    return [str(event.data["input"]) for event in events_so_far(handle, EventKind.TOOL_STARTED)]


def test_files_are_back_after_a_sigkill(fleet: Fleet, tmp_path: Path) -> None:
    """What was stored comes back, in place of the input files; what was done is not repeated."""
    go = tmp_path / "go"
    handle = fleet.herd.submit(
        job_of(
            scripts.bash("echo made > made; rm given; ln -s made link; mkfifo pipe"),
            waits_for(go),
            scripts.bash("cat made link; ls -A > listing"),
            scripts.text("done"),
            files={"given": "given", "kept": "kept"},
            artifacts=["listing"],
        )
    )
    await_event(handle, EventKind.TOOL_STARTED, count=2)
    found = stored(fleet, handle)
    assert (found.attempt, found.files, found.left_out, found.complete) == (1, 3, 1, False)
    wait_until(lambda: handle.record().turns == 2, "both answers are in the record", 30)

    fleet.worker.kill()
    lost = handle.record()
    give_back(fleet, handle)
    go.touch()
    fleet.restart_worker()
    result = handle.result(60)

    assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 2)
    assert handle.artifact("listing").split() == [b"kept", b"link", b"listing", b"made"]
    assert sum("echo made" in command for command in commands(handle)) == 1
    assert (lost.usage.input_tokens, lost.usage.output_tokens) == (20, 10)
    assert lost.ran_s > 0
    assert (result.usage.input_tokens, result.usage.output_tokens) == (40, 20)
    assert result.usage.cost_usd == pytest.approx(2 * lost.usage.cost_usd)
    assert result.turns > lost.turns
    restored = await_event(handle, EventKind.RESTORED).data
    assert restored["files"] == 3
    assert not restored["complete"]
    assert "is back as it was up to" in str(fleet.model.requests[-1].body)
    assert find(fleet, handle) is None


def test_files_are_back_as_they_were_after_a_drain(fleet: Fleet, tmp_path: Path) -> None:
    """No change is lost, however short before the end it was made."""
    go = tmp_path / "go"
    handle = fleet.herd.submit(
        job_of(
            scripts.bash(f"until [ -e {go} ]; do date +%s%N > now; done"),
            scripts.bash("cat now"),
            scripts.text("done"),
            artifacts=["now"],
        )
    )
    await_event(handle, EventKind.TOOL_STARTED)
    psutil.Process(fleet.worker.pid).send_signal(signal.SIGQUIT)
    await_event(handle, EventKind.REQUEUED)
    wait_until(lambda: fleet.worker.returncode is not None, "the worker ended", 30)
    assert stored(fleet, handle).complete
    # Another job, whose attempts before ran for nearly as long as they all may.
    late = fleet.herd.submit(job_of(waits_for(tmp_path / "never"), timeout_s=1000))
    fleet.herd.connection.redis.hset(fleet.herd.keys.job(late.id), "ran_s", "999")

    go.touch()
    fleet.restart_worker()
    result = handle.result(60)

    assert (result.state, result.attempts) == (JobState.SUCCEEDED, 1)
    assert await_event(handle, EventKind.RESTORED).data["complete"]
    assert late.result(60).state is JobState.TIMED_OUT
    prompts = [request.body for request in fleet.model.requests]
    assert any("with all files as you left them" in str(prompt) for prompt in prompts)
