"""Finding a job's processes by their mark, and the moment its CLI began."""

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from agentherd_workers.processes import (
    Marks,
    child_with,
    is_alive,
    kill_all,
    mark_of,
    marked,
    marked_by_worker,
    started_at_ms,
)
from agentherd_workers.supervisor import write_launcher
from support.marking import carry
from support.waiting import wait_until

LAST = "exec sleep 60"


@contextmanager
def running(mark: int, command: str = LAST) -> Iterator[int]:
    """A shell that carries `mark`; its pid. All that carries it ends with the block."""
    process = subprocess.Popen(["/bin/sh", "-c", command], preexec_fn=carry(mark))  # noqa: PLW1509 - one call
    try:
        yield process.pid
    finally:
        kill_all(partial(marked, mark), keep_for_parent=process.pid)
        process.wait()


def test_a_mark_finds_its_processes_and_no_others() -> None:
    one, other = Marks(), Marks()
    first, second = one.new(), one.new()
    with running(first) as pid, running(second) as sibling, running(other.new()) as stranger:
        assert marked(first) == [pid]
        assert child_with(first) == pid
        assert sorted(marked_by_worker(one.worker)) == sorted([pid, sibling])
        assert marked_by_worker(other.worker) == [stranger]
        assert kill_all(partial(marked, one.new())) == 0
        assert mark_of(os.getpid()) is None


@pytest.mark.parametrize(
    "daemon",
    [
        "setsid sleep 60 &",
        "nohup sleep 60 >/dev/null 2>&1 &",
        "env -i /usr/bin/setsid /bin/sleep 60 &",
        "(setsid sh -c 'sleep 60 & exec sleep 60' &) &",
        "env -i /bin/sh -c '(/bin/sleep 60 &) &'",
    ],
)
def test_whatever_a_tool_starts_carries_the_mark(daemon: str) -> None:
    mark = Marks().new()
    with running(mark, f"{daemon}\n{LAST}") as pid:
        wait_until(lambda: len(marked(mark)) > 1, "the daemon runs")
        assert kill_all(partial(marked, mark), keep_for_parent=pid) > 1
        assert not marked(mark)


def test_what_is_ended_is_not_alive() -> None:
    process = subprocess.Popen(["/bin/true"])
    wait_until(lambda: not is_alive(process.pid), "it has ended, and nobody has collected it")
    process.wait()
    assert not is_alive(process.pid)


def test_the_launcher_marks_and_says_when_it_became_the_cli(tmp_path: Path) -> None:
    """By the clock of this host, where the kernel's start times may be off by a second."""
    mark = Marks().new()
    environment = {
        "AGENTHERD_KEEP": "",
        "AGENTHERD_PARENT_PID": str(os.getpid()),
        "AGENTHERD_COMMAND": "/bin/sleep",
        "AGENTHERD_LIMITS": f"{resource.RLIMIT_RTTIME}={mark},{resource.RLIMIT_CORE}=0",
    }
    before_ms = time.time() * 1000
    with subprocess.Popen([write_launcher(tmp_path), "60"], env=environment) as process:
        try:
            spawned_ms = wait_until(lambda: started_at_ms(process.pid), "the launcher has ended")
            assert spawned_ms is not None
            assert before_ms < spawned_ms < time.time() * 1000
            assert child_with(mark) == process.pid
        finally:
            process.kill()
    assert started_at_ms(process.pid) is None
