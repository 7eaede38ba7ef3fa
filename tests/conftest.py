"""After each module of tests nothing is left: no process, no temporary directory."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

from agentherd_workers.processes import become_subreaper, is_alive
from support.waiting import wait_until

OURS = ("agentherd-*", "claude-*")
"""What agentherd, its devkit, the CLI and the SDK call their temporary directories."""


def pytest_configure() -> None:
    """Let nothing of a test hide: orphans become our children, temporary files are our own."""
    become_subreaper()
    tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="pytest-agentherd-")


def pytest_unconfigure() -> None:
    """Remove what pytest itself left there; what a test leaves fails its module."""
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    """Set up before and torn down after every other fixture of a module."""
    before = _descendants()
    yield
    _reap_orphans()
    # A process that was told to end may need a moment for it.
    wait_until(
        lambda: _descendants() <= before,
        "every process that the module started has ended",
        timeout_s=5.0,
        show=lambda: [_command(pid) for pid in _descendants() - before],
    )
    left = [path for pattern in OURS for path in Path(tempfile.gettempdir()).glob(pattern)]
    assert not left


def _descendants() -> set[int]:
    """Living processes below this one, but for Python's own helper."""
    tracker = getattr(resource_tracker, "_resource_tracker")._pid  # noqa: B009 - not public
    found = psutil.Process().children(recursive=True)
    return {one.pid for one in found if one.pid != tracker and is_alive(one.pid)}


def _command(pid: int) -> str:
    try:
        return f"{pid}: {' '.join(psutil.Process(pid).cmdline())[:300]}"
    except psutil.NoSuchProcess:
        return f"{pid}: gone"


def _reap_orphans() -> None:
    """Collect zombies that became ours; all `Popen` objects of the module are done with."""
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
