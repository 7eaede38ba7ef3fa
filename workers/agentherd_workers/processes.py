"""Finding and ending every process of a job.

A job's processes carry a mark in their environment. The worker is their subreaper, so that
an orphan of a job becomes a child of the worker and not of init, and can be found there.
"""

import ctypes
import os
import signal
import time
from contextlib import suppress

import psutil

MARK = "AGENTHERD_JOB"
"""Environment variable with the job's id and fencing token."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.01


def become_subreaper() -> None:
    """Adopt the orphans of this process's descendants (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends (Linux). For `preexec_fn`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that carries the mark, and their descendants."""
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, psutil.Process] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all we need
        if name.isdigit() and wanted in _environment(name):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(name))
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
    return [process for process in found.values() if _lives(process)]


def child_with(mark: str) -> int | None:
    """The pid of this process's own child that carries the mark: the CLI."""
    me = os.getpid()
    for process in marked(mark):
        with suppress(psutil.NoSuchProcess):
            if process.ppid() == me:
                return process.pid
    return None


def started_at_ms(pid: int | None) -> int | None:
    """When a process started (Unix time, to 10 ms); None where it is gone."""
    if pid is None:
        return None
    with suppress(psutil.NoSuchProcess):
        return int(psutil.Process(pid).create_time() * 1000)
    return None


def terminate(mark: str) -> None:
    """Ask the CLI to end: SIGTERM, on which it ends its own Bash commands."""
    pid = child_with(mark)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def kill_all(mark: str, *, keep_for_parent: int | None, timeout_s: float = 3.0) -> int:
    """Kill every process of the job until none is left; how many were killed.

    Args:
        keep_for_parent: pid whose exit status someone else waits for: the CLI's.

    Raises:
        TimeoutError: some still live after `timeout_s`, as in uninterruptible sleep.
    """
    deadline_s = time.monotonic() + timeout_s
    killed: set[int] = set()
    while processes := marked(mark):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                killed.add(process.pid)
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"still alive: {sorted(process.pid for process in processes)}")
        time.sleep(_POLL_S)
    for pid in killed - {keep_for_parent}:
        _reap(pid)
    return len(killed)


def _reap(pid: int) -> None:
    """Collect an orphan that became our child; others have their own parent."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _environment(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:  # noqa: PTH123 - a hot loop
            return stream.read()
    except OSError:
        return b""


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
