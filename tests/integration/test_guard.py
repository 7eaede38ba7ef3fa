"""The process that ends a worker's agents when the worker can't."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from agentherd_workers.guard import Guard
from agentherd_workers.processes import Marks, is_alive, kill_all, marked, marked_by_worker
from support.marking import carry
from support.waiting import wait_until

WORKER = """
import sys, time
from agentherd_workers.guard import Guard
guard = Guard(int(sys.argv[1]))
print(guard._process.pid, flush=True)
time.sleep(60)
"""
BREEDS = "while :; do (sleep 60 &) ; done"
"""A tool that starts one daemon after the other."""


@pytest.fixture
def marks() -> Iterator[Marks]:
    """A worker's; nothing that carries one stays."""
    marks = Marks()
    yield marks
    kill_all(partial(marked_by_worker, marks.worker))


def job(mark: int, command: str) -> "subprocess.Popen[bytes]":
    """A shell that carries `mark`, of a process that is not the worker."""
    return subprocess.Popen(["/bin/sh", "-c", command], preexec_fn=carry(mark))  # noqa: PLW1509


def test_it_ends_what_a_killed_worker_left(marks: Marks) -> None:
    """Within 3 s, also where processes are being forked all the time; nobody else's."""
    others = Marks()
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(marks.worker)], stdout=subprocess.PIPE, env={}
    )
    assert worker.stdout is not None
    guard_pid = int(worker.stdout.readline())
    mark = marks.new()
    breeding, other = job(mark, BREEDS), job(others.new(), "exec sleep 60")
    try:
        wait_until(lambda: len(marked(mark)) > 20, "there are many")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(guard_pid, number)  # as a service manager would
        assert is_alive(guard_pid)
        killed_at_s = time.monotonic()
        worker.kill()
        worker.wait()
        wait_until(lambda: not is_alive(guard_pid), "the guard is done", 5)
        assert time.monotonic() - killed_at_s < 3
        assert not marked(mark)
        assert is_alive(other.pid)
    finally:
        for process in (breeding, other):
            process.kill()
            process.wait()
        worker.stdout.close()


def test_it_is_started_again(marks: Marks) -> None:
    guard = Guard(marks.worker)
    before = guard._process
    before.kill()
    wait_until(lambda: before.poll() is not None, "it is dead")
    guard.keep()
    assert guard._process.pid != before.pid
    kept = guard._process
    guard.keep()
    assert guard._process is kept
    assert before.stdin is not None
    before.stdin.close()
    guard.dismiss()


def test_it_ends_when_it_is_dismissed(marks: Marks) -> None:
    """After a last look."""
    left = job(marks.new(), "exec sleep 60")
    guard = Guard(marks.worker)
    guard.dismiss()
    assert guard._process.returncode == 0
    assert left.wait(5) == -signal.SIGKILL
