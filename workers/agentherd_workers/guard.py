"""A process beside the worker that ends the worker's agents if the worker can't.

A CLI dies with its worker (parent-death signal), its tools don't: the signal is not inherited,
and each Bash command has a session of its own. So when the worker is killed, its end of the
pipe to the guard closes, and the guard kills every process that carries the worker's mark.
"""

import signal
import subprocess
import sys

from agentherd_workers import processes

_KILL_S = 60.0
_LEAVE_S = 5.0


class Guard:
    """The worker's side: started once, dismissed when no agent is left.

    Args:
        worker: the part of the marks that is the worker's; see `processes.mark_of`.
    """

    def __init__(self, worker: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", __name__, worker],
            stdin=subprocess.PIPE,  # closed on exec, so no agent holds it open
            stdout=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Let it end, after a last look."""
        self._process.communicate(timeout=_LEAVE_S)


def main(worker: str) -> None:
    """Wait for the worker's end, then for that of everything it started."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a signal to all of a service is the worker's
    sys.stdin.buffer.read()
    processes.kill_all(worker, keep_for_parent=None, timeout_s=_KILL_S)


if __name__ == "__main__":
    main(sys.argv[1])
