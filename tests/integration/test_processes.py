"""Finding a job's processes by their mark, and the moment its CLI began."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentherd_workers.processes import MARK, child_with, kill_all, mark_of, marked, started_at_ms
from agentherd_workers.supervisor import write_launcher
from support.waiting import wait_until

WORKER = "host:1"


@contextmanager
def sleeping(mark: str) -> Iterator[int]:
    """A process that carries `mark`; its pid."""
    with subprocess.Popen(["sleep", "60"], env={MARK: mark, "PATH": os.environ["PATH"]}) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize(
    "wanted", [mark_of(WORKER, "job", 12), f"{WORKER}:job", WORKER], ids=["own", "job", "worker"]
)
def test_a_mark_finds_what_lies_below_it(wanted: str) -> None:
    """An attempt's processes, a job's and a worker's."""
    with sleeping(mark_of(WORKER, "job", 12)) as pid:
        assert [process.pid for process in marked(wanted)] == [pid]
        assert child_with(wanted) == pid


@pytest.mark.parametrize("other", [mark_of(WORKER, "job", 1), f"{WORKER}:jo", "host:"])
def test_a_mark_is_no_mere_prefix(other: str) -> None:
    """The attempt with token 1 never kills that with token 12; nor does another worker."""
    with sleeping(mark_of(WORKER, "job", 12)), sleeping(mark_of("host:10", "job", 1)):
        assert not marked(other)
        assert kill_all(mark_of(WORKER, "job", 1), keep_for_parent=None) == 0


def test_the_launcher_says_when_it_became_the_cli(tmp_path: Path) -> None:
    """By the clock of this host, where the kernel's start times may be off by a second."""
    mark = mark_of(WORKER, "job", 1)
    environment = {
        MARK: mark,
        "AGENTHERD_KEEP": MARK,
        "AGENTHERD_PARENT_PID": str(os.getpid()),
        "AGENTHERD_CLI": "/bin/sleep",
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
