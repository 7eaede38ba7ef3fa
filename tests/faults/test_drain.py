"""A worker that is told to end: what runs may end within the grace, or goes on elsewhere."""

import signal
import time
from pathlib import Path
from typing import Any

import psutil

from agentherd import EventKind, Job, JobHandle, JobState
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from agentherd_workers.devkit.proxy import Proxy
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerProcess
from support.fleet import (
    Fleet,
    await_event,
    cli_of,
    events_so_far,
    living,
    processes_of,
    running_fleet,
)
from support.plain_celery import plain_celery
from support.waiting import wait_until

GRACE_S = 8.0
ENDS_IN_S = 25.0
"""From the end of the grace to the worker's: 3 s here, more on a busy machine."""


def job_of(*steps: Step) -> Job:
    """A scripted job."""
    return Job(prompt=scripts.script("Do it.", *steps), allowed_tools=["Bash"])


def waits_for(path: Path) -> Step:
    """A tool that ends once `path` is there."""
    return scripts.bash(f"until [ -e {path} ]; do read -t 0.05 < <(sleep 1); done")


def submit_running(fleet: Fleet, *steps: Step, tools: int) -> JobHandle:
    """A job whose `tools`th tool has begun."""
    handle = fleet.herd.submit(job_of(*steps))
    await_event(handle, EventKind.TOOL_STARTED, count=tools, timeout_s=60)
    return handle


def tell(worker: WorkerProcess, number: signal.Signals) -> None:
    """Send it a signal."""
    psutil.Process(worker.pid).send_signal(number)


def await_end(worker: WorkerProcess, timeout_s: float) -> None:
    """It ends by itself, in order, and leaves no directory."""
    wait_until(lambda: worker.returncode is not None, "the worker ended", timeout_s)
    assert worker.returncode == 0, worker.output()[-4000:]
    assert not list((worker.workspace_root / "workers").iterdir())


def test_agents_have_a_grace_and_then_go_on_elsewhere(tmp_path: Path) -> None:
    """SIGTERM: one job ends well meanwhile, the other is given back and repeats nothing."""
    with running_fleet(tmp_path, settings={"drain_grace_s": str(GRACE_S)}) as fleet:
        redis = fleet.herd.connection.redis
        soon, late = tmp_path / "soon", tmp_path / "late"
        short = submit_running(fleet, waits_for(soon), scripts.text("done"), tools=1)
        long = submit_running(
            fleet, scripts.bash("echo first"), waits_for(late), scripts.text("done"), tools=2
        )
        agent = [*processes_of(long), cli_of(long)]
        told_s = time.monotonic()
        tell(fleet.worker, signal.SIGTERM)
        wait_until(lambda: "2 jobs may end" in fleet.worker.output(), "the grace has begun")
        with plain_celery(fleet.redis) as celery:
            assert celery.control.ping(timeout=GRACE_S / 2, limit=1), "it answers while it drains"
        soon.touch()
        waiting = fleet.herd.submit(job_of(scripts.text("done")))

        await_event(long, EventKind.REQUEUED, timeout_s=GRACE_S + ENDS_IN_S)
        assert not living(agent)
        await_end(fleet.worker, ENDS_IN_S)

        assert time.monotonic() - told_s < GRACE_S + ENDS_IN_S
        result = short.result(0)
        assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 1)
        assert (long.state(), waiting.state()) == (JobState.QUEUED, JobState.QUEUED)
        assert redis.hlen("unacked") == 0
        assert fleet.herd.workers() == []

        late.touch()
        with fleet.another_worker(settings={"isolation": "process"}):
            assert waiting.result(60).succeeded
            result = long.result(60)
        assert (result.state, result.attempts) == (JobState.SUCCEEDED, 1)
        tools = events_so_far(long, EventKind.TOOL_STARTED)
        assert sum("echo first" in event.data["input"] for event in tools) == 1
        assert result.usage.input_tokens == 30  # two answers before, one after


def test_a_second_signal_ends_the_grace(tmp_path: Path) -> None:
    """SIGTERM twice: agents end now, and their jobs are given back all the same."""
    with running_fleet(tmp_path, settings={"drain_grace_s": "3600"}) as fleet:
        handle = submit_running(fleet, waits_for(tmp_path / "never"), tools=1)
        tell(fleet.worker, signal.SIGTERM)
        wait_until(lambda: "1 jobs may end" in fleet.worker.output(), "the grace has begun")
        tell(fleet.worker, signal.SIGTERM)
        await_end(fleet.worker, ENDS_IN_S)
        record = handle.record()
        assert (record.state, record.attempt) == (JobState.QUEUED, 0)
        handle.cancel()


def test_it_ends_though_redis_does_not_answer(tmp_path: Path) -> None:
    """SIGQUIT grants no grace. What can't be given back is left to others, by its lease."""
    with RedisServer() as redis, Proxy(redis.port) as proxy:
        options: dict[str, Any] = {
            "settings": {"drain_grace_s": "3600", "lease_s": "300"},
            "redis_url": f"redis://127.0.0.1:{proxy.port}/0",
        }
        with running_fleet(tmp_path, redis=redis, **options) as fleet:
            handle = submit_running(fleet, waits_for(tmp_path / "never"), tools=1)
            agent = [*processes_of(handle), cli_of(handle)]
            proxy.stall()
            tell(fleet.worker, signal.SIGQUIT)
            wait_until(lambda: fleet.worker.returncode is not None, "the worker ended", 60)
            assert not living(agent)
            assert handle.state() is JobState.RUNNING
