"""Keeping the worker's own secrets from agents that run as the same user.

The broker's URL holds a password, and /proc/<pid>/environ shows a process's environment as it
was at its start to every process of the same user. Root can't be kept out: see docs/isolation.md.
"""

import ctypes
import os
from pathlib import Path

from agentherd.settings import PREFIX

_PR_SET_DUMPABLE = 4


def conceal_settings() -> None:
    """Remove the settings from this process's environment; they have been read by now.

    Overwritten where /proc shows them too, whatever became of the variables since the start.
    """
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    address, end = _start_environment()
    for entry in ctypes.string_at(address, end - address).split(b"\0"):
        if entry.startswith(PREFIX.encode()):
            ctypes.memset(address, ord("*"), len(entry))
        address += len(entry) + 1


def _start_environment() -> tuple[int, int]:
    """Where the environment of the start is in memory (proc(5), `env_start` and `env_end`)."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[47]), int(fields[48])


def forbid_inspection() -> None:
    """Close /proc/<pid>/environ, maps, fd and memory to other processes of this user (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
