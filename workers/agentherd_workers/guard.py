"""A process beside the worker that ends the worker's agents if the worker can't.

A CLI dies with its worker (parent-death signal), its tools don't: the signal is not inherited,
and each Bash command has a session of its own. So when the worker is killed, its end of the
pipe to the guard closes, and the guard kills every process that carries one of its marks.
"""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

from agentherd_workers import processes

_QUIET_S = 0.3
"""A process that was being forked while we looked shows up within this."""
_LOOK_EVERY_S = 0.02
_LEAVE_S = 5.0
_WORKERS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Guard:
    """The worker's side: kept alive until no agent is left.

    Args:
        worker: the part of the marks that is the worker's; see `processes.Marks`.
    """

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._process = self._start()

    def keep(self) -> None:
        """Start it again if it was killed; call now and then."""
        if self._process.poll() is not None:
            self._process = self._start()

    def dismiss(self) -> None:
        """Let it end, after a last look."""
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=_LEAVE_S)

    def _start(self) -> subprocess.Popen[bytes]:
        # A signal to all of a service is the worker's. A mask is inherited, so that the guard
        # ignores it from its first instruction on, before any code of its own could say so.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WORKERS_SIGNALS)
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-m", __name__, str(self._worker)],
                stdin=subprocess.PIPE,  # closed on exec, so no agent holds it open
                stdout=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(worker: int) -> None:
    """Wait for the worker's end, then for that of everything it started."""
    sys.stdin.buffer.read()
    quiet_since_s = time.monotonic()
    while time.monotonic() - quiet_since_s < _QUIET_S:
        with suppress(TimeoutError):
            if processes.kill_all(partial(processes.marked_by_worker, worker)):
                quiet_since_s = time.monotonic()
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    main(int(sys.argv[1]))
