"""Outlives the worker to end what its jobs leave, however the worker dies.

A CLI dies with its worker (parent-death signal); the processes of its tools do not. This small
process of its own knows the marks of the jobs that run, and kills what carries them when its
standard input ends, which only happens when the worker is gone.

    +<mark>    a job begins
    -<mark>    a job has ended, and none of its processes is left
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from agentherd_workers import processes

_QUIET_S = 0.3
"""A process that was being forked while we looked shows up within this."""


class Guardian:
    """The worker's side: starts the process, tells it marks, and starts it again if it dies."""

    def __init__(self) -> None:
        self._marks: set[int] = set()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs; it is told every mark."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-m", "agentherd_workers.guardian"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env={},
                    start_new_session=True,
                )
                self._tell("".join(f"+{mark}\n" for mark in self._marks))

    def watch(self, mark: int) -> None:
        """A job begins."""
        with self._lock:
            self._marks.add(mark)
            self._tell(f"+{mark}\n")

    def forget(self, mark: int) -> None:
        """A job has ended, its tree is empty."""
        with self._lock:
            self._marks.discard(mark)
            self._tell(f"-{mark}\n")

    def stop(self) -> None:
        """End it; there is no job left."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()

    def _tell(self, lines: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):  # `start` is called again soon
                self._process.stdin.write(lines.encode())
                self._process.stdin.flush()


def main() -> None:
    """Be the guardian: read marks until the worker is gone, then kill."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    marks: set[int] = set()
    for line in sys.stdin:
        change = marks.add if line.startswith("+") else marks.discard
        change(int(line[1:]))
    end(marks)


def end(marks: Iterable[int]) -> None:
    """Kill every process with one of the marks, until none has appeared for a while."""
    quiet_until_s = time.monotonic() + _QUIET_S
    while marks and time.monotonic() < quiet_until_s:
        for mark in marks:
            with suppress(TimeoutError):
                if processes.kill_all(mark):
                    quiet_until_s = time.monotonic() + _QUIET_S
        time.sleep(0.02)


if __name__ == "__main__":
    main()
