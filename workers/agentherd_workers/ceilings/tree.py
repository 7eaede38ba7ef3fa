"""What the processes of a job take, from /proc.

Memory is summed as PSS, never as RSS: CLIs share most of their pages, and RSS counts them once
for each. PSS costs about a millisecond a process, RSS a few microseconds; RSS is never less,
so that it tells when PSS must be looked at.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of all of them, shared pages counted for each."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += int(_read(pid, "statm").split()[1]) * _PAGE_BYTES
    return total


def pss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of all of them, each shared page divided by those who share it."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in _read(pid, "smaps_rollup").splitlines():
                if line.startswith(b"Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
    return total


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time of all of them and of the children that they have waited for."""
    ticks = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            # After the command's name, which may hold blanks: utime, stime, cutime, cstime.
            fields = _read(pid, "stat").rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_A_SECOND


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as stream:  # noqa: PTH123 - a hot loop
        return stream.read()
