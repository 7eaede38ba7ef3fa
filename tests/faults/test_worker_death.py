"""A worker that is killed. One that is told to end: test_drain.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentherd import EventKind, Job
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from support.fleet import (
    Fleet,
    await_event,
    living,
    processes_of,
    running_fleet,
)
from support.waiting import wait_until

DAEMONS = scripts.bash(
    "setsid sleep 61 & nohup sleep 62 >/dev/null 2>&1 & (setsid sh -c 'sleep 63 &' &);"
    " read -t 60 < <(sleep 60)"
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of this test's own: its worker does not survive."""
    with running_fleet(tmp_path) as started:
        yield started


def job_of(*steps: Step, **options: Any) -> Job:
    """A scripted job."""
    chosen: dict[str, Any] = {"allowed_tools": ["Bash"], **options}
    return Job(prompt=scripts.script("Do it.", *steps), **chosen)


def test_sigkill_of_the_worker_ends_its_agents(fleet: Fleet) -> None:
    """The CLI, its tools and what they left behind are dead within 3 s."""
    handle = fleet.herd.submit(job_of(DAEMONS))
    await_event(handle, EventKind.TOOL_STARTED)
    agent = wait_until(lambda: _with_daemons(handle), "the daemons run")
    children = psutil.Process(fleet.worker.pid).children(recursive=True)

    fleet.worker.kill()

    wait_until(
        lambda: not living([*agent, *children]),
        "the agent is dead, and the worker's guard with it",
        3.0,
        show=lambda: living([*agent, *children]),
    )


def test_next_worker_removes_what_a_killed_one_left(fleet: Fleet) -> None:
    """Directories of jobs and of the worker go as the next worker starts."""
    handle = fleet.herd.submit(job_of(scripts.bash("echo 1 > file; read -t 60 < <(sleep 60)")))
    await_event(handle, EventKind.TOOL_STARTED)
    root = fleet.worker.workspace_root
    left = [*(root / "jobs").iterdir(), *(root / "workers").iterdir()]
    fleet.worker.kill()
    assert len(left) == 4  # a job's directory and a worker's, each with its lock
    assert all(path.exists() for path in left)

    fleet.restart_worker()

    assert not any(path.exists() for path in left)


def _with_daemons(handle: Any) -> list[psutil.Process]:
    found = processes_of(handle)
    commands = {" ".join(process.cmdline()) for process in living(found)}
    return found if {"sleep 61", "sleep 62", "sleep 63"} <= commands else []
