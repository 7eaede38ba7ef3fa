"""What stands between the worker and the CLI: a clean environment and a shared death.

Run as `python -I -S launcher.py ARG…` with the standard library only, because every job
pays for its start. It is given to the SDK as `cli_path`, since the SDK merges the whole
environment of the worker into the CLI's (facts: broker URL and cloud keys would reach the
agent's Bash).

Its environment says what to do:
  AGENTHERD_COMMAND      what to become, an argument a line; ARG… follow
  AGENTHERD_BIND         1: the command is bubblewrap, which must show CLAUDE_CONFIG_DIR too
  AGENTHERD_KEEP         names, comma separated, that the CLI may see; all others go
  AGENTHERD_PARENT_PID   the worker; if it is gone already, don't start
  AGENTHERD_LIMITS       resource limits to set: number=value, comma separated
  AGENTHERD_CGROUPS      cgroup.procs files to be put into, comma separated
  AGENTHERD_FILTER       seccomp program to run under, in hexadecimal; see syscall_filter.py
It adds, for the worker to read:
  AGENTHERD_SPAWNED_MS   when it became the CLI (Unix ms)
"""

import ctypes
import os
import resource
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION_BYTES = 8
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
    told = os.environ
    names = {*told["AGENTHERD_KEEP"].split(","), *SDK_VARIABLES}
    environment = {name: value for name, value in told.items() if name in names}
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != int(told["AGENTHERD_PARENT_PID"]):
        sys.exit("agentherd: the worker is gone")
    for path in filter(None, told.get("AGENTHERD_CGROUPS", "").split(",")):
        with open(path, "w") as procs:  # noqa: PTH123 - pathlib is slow to import
            procs.write("0")  # this process
    for limit in filter(None, told["AGENTHERD_LIMITS"].split(",")):
        number, _, value = limit.partition("=")
        resource.setrlimit(int(number), (int(value), int(value)))
    if told.get("AGENTHERD_FILTER"):
        _filter_calls(bytes.fromhex(told["AGENTHERD_FILTER"]))
    command = [*told["AGENTHERD_COMMAND"].split("\n"), *sys.argv[1:]]
    if told.get("AGENTHERD_BIND"):
        # The SDK puts a resumed session's files elsewhere, and only tells us here.
        end = command.index("--remount-ro")
        command[end:end] = ["--bind", told["CLAUDE_CONFIG_DIR"], told["CLAUDE_CONFIG_DIR"]]
    environment["AGENTHERD_SPAWNED_MS"] = f"{time.time() * 1000:.1f}"
    os.execve(command[0], command, environment)  # noqa: S606 - no shell is the point


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def _filter_calls(steps: bytes) -> None:
    """Put this process and all that come from it under a seccomp filter, for ever."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel asks for it, so that no setuid program runs under a stranger's filter.
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = _Program(len(steps) // _INSTRUCTION_BYTES, steps)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)) != 0:
        sys.exit(f"agentherd: no seccomp filter: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
