"""What the processes of a job take, as psutil reads it.

Memory is summed as PSS, never as RSS: CLIs share most of their pages, and RSS counts them once
for each. PSS costs about a millisecond a process, RSS a few microseconds; RSS is never less,
so that it tells when PSS must be looked at.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import psutil


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of all of them, shared pages counted for each."""
    total = 0
    for process in _living(pids):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def pss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of all of them, each shared page divided by those who share it."""
    total = 0
    for process in _living(pids):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time of all of them and of the children that they have waited for."""
    total_s = 0.0
    for process in _living(pids):
        with suppress(psutil.Error):
            took = process.cpu_times()
            total_s += took.user + took.system + took.children_user + took.children_system
    return total_s


def _living(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)
