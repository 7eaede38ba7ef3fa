"""Finding and ending every process of a job.

A job's processes carry a mark in their environment. The worker is their subreaper, so that
an orphan of a job becomes a child of the worker and not of init, and can be found there.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

MARK = "AGENTHERD_JOB"
"""Environment variable with worker, job and fencing token; see `mark_of`."""
SEPARATOR = ":"
_SPAWNED_MS = b"AGENTHERD_SPAWNED_MS="
"""Environment variable that the launcher adds as it becomes the CLI."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.01


def mark_of(worker: str, job_id: str, fence: int) -> str:
    """The mark of one attempt's processes. It lies below `worker`, which marks all of its jobs."""
    return SEPARATOR.join((worker, job_id, str(fence)))


def become_subreaper() -> None:
    """Adopt the orphans of this process's descendants (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends (Linux). For `preexec_fn`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that carries the mark, and their descendants."""
    found: dict[int, psutil.Process] = {}
    for process in _carriers(mark):
        with suppress(psutil.NoSuchProcess):
            found[process.pid] = process
            found |= {child.pid: child for child in process.children(recursive=True)}
    return [process for process in found.values() if _lives(process)]


def child_with(mark: str) -> int | None:
    """The pid of this process's own child that carries the mark: the CLI."""
    me = os.getpid()
    for process in _carriers(mark):
        with suppress(psutil.NoSuchProcess):
            if process.ppid() == me and _lives(process):
                return process.pid
    return None


def _carriers(mark: str) -> Iterator[psutil.Process]:
    """Every process that carries the mark, or one below it."""
    # To its end: `job:1` is not `job:12`.
    wanted = [f"{MARK}={mark}{end}".encode() for end in ("\0", SEPARATOR)]
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all we need
        if not name.isdigit():
            continue
        environment = _environment(name)
        if any(one in environment for one in wanted):
            with suppress(psutil.NoSuchProcess):
                yield psutil.Process(int(name))


def started_at_ms(pid: int) -> float | None:
    """When the launcher became the CLI (Unix time, this host's clock); None where it is gone.

    The kernel's own start times count from a boot time in whole seconds.
    """
    for variable in _environment(str(pid)).split(b"\0"):
        if variable.startswith(_SPAWNED_MS):
            return float(variable.removeprefix(_SPAWNED_MS))
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
        reap(pid)
    return len(killed)


def zombie_children() -> set[int]:
    """This process's children that have ended and that nobody has collected."""
    return {child.pid for child in psutil.Process().children() if not _lives(child)}


def reap(pid: int) -> None:
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
