"""Keeping the worker's own secrets from agents that run as the same user.

The broker's URL holds a password, and /proc/<pid>/environ shows a process's environment as it
was at its start to every process of the same user. Root can't be kept out: see docs/isolation.md.
"""

import ctypes
import os

from agentherd.settings import PREFIX

_PR_SET_DUMPABLE = 4


def conceal_settings() -> None:
    """Remove the settings from this process's environment; they have been read by now.

    Overwritten in place too: unsetenv(3) leaves the text where /proc shows it.
    """
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        address = libc.getenv(os.fsencode(name))
        if address:
            ctypes.memset(address, ord("*"), len(os.fsencode(os.environ[name])))
        del os.environ[name]


def forbid_inspection() -> None:
    """Close /proc/<pid>/environ, maps, fd and memory to other processes of this user (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
