"""A process beside the worker that ends the worker's agents if the worker can't.

It is a dead man's switch. While the worker holds the lease of a job it says until when
(`Deadlines`). Once that time is over the guard kills every process of that attempt, whether the
worker is stopped, hangs, or is at it itself: by then another worker may have the job.

A CLI dies with its worker (parent-death signal), its tools don't: the signal is not inherited,
and each Bash command has a session of its own. So when the worker is killed, its end of the
pipe to the guard closes, and the guard kills every process that carries one of its marks.
"""

import math
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from agentherd_workers import processes
from agentherd_workers.deadlines import Deadlines

_QUIET_S = 0.3
"""A process that was being forked while we looked shows up within this."""
_LOOK_EVERY_S = 0.02
_LOOK_AGAIN_S = 0.5
"""A worker that was stopped in the midst of starting an agent goes on with it as it wakes up."""
_LONGEST_WAIT_S = 3600.0
_LEAVE_S = 5.0
_STDIN = 0
_WORKERS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Guard:
    """The worker's side: kept alive until no agent is left.

    Args:
        worker: the part of the marks that is the worker's; see `processes.Marks`.
        deadlines: of its attempts; the guard reads them, also one that is started again.
    """

    def __init__(self, worker: int, deadlines: Deadlines) -> None:
        self._worker = worker
        self._deadlines = deadlines
        self._process = self._start()

    def keep(self) -> None:
        """Start it again if it was killed; call now and then."""
        if self._process.poll() is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = self._start()

    def dismiss(self) -> None:
        """Let it end, after a last look."""
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=_LEAVE_S)
        self._deadlines.close()

    def _start(self) -> subprocess.Popen[bytes]:
        # A signal to all of a service is the worker's. A mask is inherited, so that the guard
        # ignores it from its first instruction on, before any code of its own could say so.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WORKERS_SIGNALS)
        shared = self._deadlines.descriptors
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-m", __name__, *map(str, (self._worker, *shared))],
                stdin=subprocess.PIPE,  # closed on exec, so no agent holds it open
                stdout=subprocess.DEVNULL,
                pass_fds=shared,
                env={},
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(worker: int, memory: int, event: int) -> None:
    """End what outlives its lease, and with the worker everything that it started."""
    deadlines = Deadlines.of_worker(memory, event)
    poll = select.poll()
    poll.register(_STDIN, select.POLLIN)
    poll.register(event, select.POLLIN)
    while True:
        ready = dict(poll.poll(_wait_ms(deadlines.left_s().values())))
        if _STDIN in ready:
            break  # the worker never writes: it is gone
        deadlines.heard()
        _end_overdue(deadlines)
    _end_all(worker)


def _wait_ms(left_s: Iterable[float]) -> float | None:
    """Until there is something to do; None: until we are told of a first mark."""
    waits_s = [left if left > 0 else _LOOK_AGAIN_S for left in left_s]
    return math.ceil(min(*waits_s, _LONGEST_WAIT_S) * 1000) if waits_s else None


def _end_overdue(deadlines: Deadlines) -> None:
    """Kill the attempts whose time is over."""
    over = {mark for mark, left_s in deadlines.left_s().items() if left_s <= 0}
    if not over:
        return
    with suppress(TimeoutError):  # some may be in uninterruptible sleep; we look again
        if killed := processes.kill_all(partial(_marked_by_any, over)):
            print(  # noqa: T201 - it has no log but the worker's
                f"agentherd guard: {killed} processes killed that outlived their lease",
                file=sys.stderr,
                flush=True,
            )


def _marked_by_any(marks: set[int]) -> list[int]:
    return [pid for mark, pids in processes.by_mark().items() if mark in marks for pid in pids]


def _end_all(worker: int) -> None:
    """Kill everything of the worker's, until nothing more shows up."""
    quiet_since_s = time.monotonic()
    while time.monotonic() - quiet_since_s < _QUIET_S:
        with suppress(TimeoutError):
            if processes.kill_all(partial(processes.marked_by_worker, worker)):
                quiet_since_s = time.monotonic()
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
