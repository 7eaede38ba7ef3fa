"""What stands between the worker and the CLI: a clean environment and a shared death.

Run as `python -I -S launcher.py ARG…` with the standard library only, because every job
pays for its start. It is given to the SDK as `cli_path`, since the SDK merges the whole
environment of the worker into the CLI's (facts: broker URL and cloud keys would reach the
agent's Bash).

Its environment says what to do:
  AGENTHERD_CLI          the CLI to become
  AGENTHERD_KEEP         names, comma separated, that the CLI may see; all others go
  AGENTHERD_PARENT_PID   the worker; if it is gone already, don't start
It adds, for the worker to read:
  AGENTHERD_SPAWNED_MS   when it became the CLI (Unix ms)
"""

import ctypes
import os
import sys
import time

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9  # importing signal would take as long as all the rest
SDK_VARIABLES = (
    "CLAUDE_AGENT_SDK_VERSION",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_SDK_READS_SESSION_STATE",
    "PWD",
    "TRACEPARENT",
    "TRACESTATE",
)
"""Set by the SDK at spawn, so no job or worker setting names them."""


def main() -> None:
    """Become the CLI."""
    names = {*os.environ["AGENTHERD_KEEP"].split(","), *SDK_VARIABLES}
    environment = {name: value for name, value in os.environ.items() if name in names}
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != int(os.environ["AGENTHERD_PARENT_PID"]):
        sys.exit("agentherd: the worker is gone")
    cli = os.environ["AGENTHERD_CLI"]
    environment["AGENTHERD_SPAWNED_MS"] = f"{time.time() * 1000:.1f}"
    os.execve(cli, [cli, *sys.argv[1:]], environment)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
