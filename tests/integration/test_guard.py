"""The process that ends a worker's agents when the worker can't."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from agentherd_workers.deadlines import Deadlines
from agentherd_workers.guard import Guard
from agentherd_workers.processes import Marks, is_alive, kill_all, marked, marked_by_worker
from support.marking import carry
from support.waiting import wait_until

WORKER = """
import sys, time
from agentherd_workers.deadlines import Deadlines
from agentherd_workers.guard import Guard
deadlines = Deadlines()
guard = Guard(int(sys.argv[1]), deadlines)
print(guard._process.pid, flush=True)
for line in sys.stdin:
    mark, seconds = line.split()
    deadlines.hold(int(mark), time.monotonic() + float(seconds))
    print("held", flush=True)
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
    guard = Guard(marks.worker, Deadlines())
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
    guard = Guard(marks.worker, Deadlines())
    guard.dismiss()
    assert guard._process.returncode == 0
    assert left.wait(5) == -signal.SIGKILL


def test_it_ends_an_attempt_of_a_stopped_worker_in_time(marks: Marks) -> None:
    """Which can't say, or do, anything any more. Its other attempts have their own time."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(marks.worker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={},
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdout.readline()
    over, running = marks.new(), marks.new()
    breeding, other = job(over, BREEDS), job(running, "exec sleep 60")
    try:
        for mark, seconds in ((running, 60), (over, 1)):
            worker.stdin.write(f"{mark} {seconds}\n".encode())
            worker.stdin.flush()
            assert worker.stdout.readline() == b"held\n"
        worker.send_signal(signal.SIGSTOP)
        breeding.wait(30)
        wait_until(lambda: not marked(over), "its daemons are dead too", 30)
        assert is_alive(other.pid)
    finally:
        for process in (worker, breeding, other):
            process.kill()
            process.wait()
        worker.stdin.close()
        worker.stdout.close()


def test_who_is_held_longer_or_has_ended_is_let_be(marks: Marks) -> None:
    """Also by a guard that was stopped, or is a new one, and has missed all that."""
    deadlines = Deadlines()
    guard = Guard(marks.worker, deadlines)
    first, renewed, ended, last = (marks.new() for _ in range(4))
    jobs = {mark: job(mark, "exec sleep 60") for mark in (first, renewed, ended, last)}
    try:
        guard._process.send_signal(signal.SIGSTOP)
        for mark in (first, renewed, ended):
            deadlines.hold(mark, time.monotonic() + 0.2)
        deadlines.hold(renewed, time.monotonic() + 60)
        deadlines.drop(ended)
        wait_until(lambda: deadlines.left_s()[first] < 0, "the first one's time is over")
        assert is_alive(jobs[first].pid)
        guard._process.send_signal(signal.SIGCONT)
        assert jobs[first].wait(30) == -signal.SIGKILL
        guard._process.kill()
        guard._process.wait()
        deadlines.hold(last, time.monotonic())
        guard.keep()
        assert jobs[last].wait(30) == -signal.SIGKILL
        assert is_alive(jobs[renewed].pid)
        assert is_alive(jobs[ended].pid)
    finally:
        guard.dismiss()
        for process in jobs.values():
            process.kill()
            process.wait()


def test_deadlines_have_room_for_attempts_that_come_after_others() -> None:
    deadlines = Deadlines()
    for mark in range(1, 10_000):
        deadlines.hold(mark, time.monotonic() + 60)
        if mark > 3:
            deadlines.drop(mark - 3)
    assert set(deadlines.left_s()) == {9997, 9998, 9999}
    deadlines.close()
