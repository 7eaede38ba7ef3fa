"""Finding and ending every process of a job.

A job's processes carry a *mark*: the launcher sets their hard limit RLIMIT_RTTIME to a number
that is this attempt's alone, and whose upper half is the worker's. Every child inherits it, through
double forks, `setsid`, `nohup` and `env -i`; nothing but a process with CAP_SYS_RESOURCE can
raise it again; and it has no effect: it is a hundred thousand years (getrlimit(2)).

The worker is the subreaper of its jobs, so that an orphan becomes its child and is collected.
"""

import ctypes
import itertools
import os
import secrets
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

_MARKS_FROM = 1 << 62
_ATTEMPT_BITS = 24
_WORKER_BITS = 32
_LIMIT_LINE = b"Max realtime timeout"
_SPAWNED_MS = b"AGENTHERD_SPAWNED_MS="
"""Environment variable that the launcher adds as it becomes the CLI."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.01


class Marks:
    """Gives out the marks of one worker's attempts."""

    def __init__(self) -> None:
        self.worker = _MARKS_FROM + (secrets.randbits(_WORKER_BITS) << _ATTEMPT_BITS)
        self._numbers = itertools.count(1)

    def new(self) -> int:
        """A mark that no other attempt has."""
        return self.worker + next(self._numbers) % (1 << _ATTEMPT_BITS)


def worker_of(mark: int) -> int:
    """The part of a mark that is the worker's; see `Marks.worker`."""
    return mark >> _ATTEMPT_BITS << _ATTEMPT_BITS


def become_subreaper() -> None:
    """Adopt the orphans of this process's descendants (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends (Linux). For `preexec_fn`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def by_mark() -> dict[int, list[int]]:
    """The living processes of every job on this host: pids by mark."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for pid in _all_pids():
        mark = mark_of(pid)
        if mark is not None and is_alive(pid):
            found[mark].append(pid)
    return found


def marked(mark: int) -> list[int]:
    """The living processes of one attempt."""
    return by_mark().get(mark, [])


def marked_by_worker(worker: int) -> list[int]:
    """The living processes of all of a worker's attempts."""
    return [pid for mark, pids in by_mark().items() if worker_of(mark) == worker for pid in pids]


def child_with(mark: int) -> int | None:
    """This process's own child among the job's: the CLI, or what isolates it."""
    me = str(os.getpid())
    return next((pid for pid in marked(mark) if _status(pid, "PPid") == me), None)


def started_at_ms(pid: int) -> float | None:
    """When the launcher became the CLI (Unix time, this host's clock); None where it is gone.

    The kernel's own start times count from a boot time in whole seconds.
    """
    for variable in _read(f"/proc/{pid}/environ").split(b"\0"):
        if variable.startswith(_SPAWNED_MS):
            return float(variable.removeprefix(_SPAWNED_MS))
    return None


def terminate(mark: int, cli: Path) -> None:
    """Ask the CLI to end: SIGTERM, on which it ends its own Bash commands."""
    runs_it = {pid for pid in marked(mark) if _executable(pid) == os.path.realpath(cli)}
    for pid in runs_it:
        if int(_status(pid, "PPid") or 0) not in runs_it:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def kill_all(
    find: Callable[[], Iterable[int]],
    *,
    keep_for_parent: int | None = None,
    timeout_s: float = 3.0,
) -> int:
    """Kill every process that `find` finds until there is none; how many were killed.

    Args:
        keep_for_parent: pid whose exit status someone else waits for: the CLI's.

    Raises:
        TimeoutError: some still live after `timeout_s`, as in uninterruptible sleep.
    """
    deadline_s = time.monotonic() + timeout_s
    killed: set[int] = set()
    while pids := set(filter(is_alive, find())):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= pids
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"still alive: {sorted(pids)}")
        time.sleep(_POLL_S)
    for pid in killed - {keep_for_parent}:
        reap(pid)
    return len(killed)


def zombie_children() -> set[int]:
    """This process's children that have ended and that nobody has collected."""
    me = str(os.getpid())
    return {
        pid for pid in _all_pids() if _status(pid, "PPid") == me and _status(pid, "State") == "Z"
    }


def reap(pid: int) -> None:
    """Collect an orphan that became our child; others have their own parent."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def mark_of(pid: int) -> int | None:
    """The mark that a process carries; None: it is no job's, or is gone."""
    limits = _read(f"/proc/{pid}/limits")
    start = limits.find(_LIMIT_LINE) + len(_LIMIT_LINE)
    hard = limits[start:].split(None, 2)[1:2]
    if not hard or not hard[0].isdigit() or int(hard[0]) < _MARKS_FROM:
        return None
    return int(hard[0])


def is_alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    return _status(pid, "State") not in ("", "Z", "X")


def _all_pids() -> list[int]:
    names = os.listdir("/proc")  # noqa: PTH208 - names are all we need
    return [int(name) for name in names if name.isdigit()]


def _status(pid: int, field: str) -> str:
    """The first word of a line of /proc/<pid>/status; empty where it is gone."""
    text = _read(f"/proc/{pid}/status").decode(errors="replace")
    _, found, rest = text.partition(f"\n{field}:")
    return rest.split(None, 1)[0] if found else ""


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - may be no path of this namespace
    except OSError:
        return ""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - a hot loop
            return stream.read()
    except OSError:
        return b""
