"""One job measured: what it takes, what it took at most, and which ceiling it is over."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agentherd.contract.results import Resources
from agentherd_workers.ceilings import tree
from agentherd_workers.ceilings.cgroups import JobCgroup
from agentherd_workers.ceilings.disk import DiskMeter
from agentherd_workers.sizes import MiB, size_text

_PSS_EVERY_S = 2.0
"""How old the PSS may be while the job is far from its ceiling."""
_GROWN_BYTES = 16 * MiB
"""PSS is looked at again when RSS has changed by this much."""
_NEAR = 0.7
"""From this share of the ceiling on, PSS is looked at each time."""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What one job may take, its tools included."""

    memory_bytes: int
    processes: int
    disk_bytes: int


class Exceeded(StrEnum):
    """The ceiling that a job is over."""

    MEMORY = "memory"
    PROCESSES = "processes"
    DISK = "disk"


@dataclass(frozen=True)
class Excess:
    """Which ceiling, and by how much, for a person."""

    what: Exceeded
    detail: str


class JobMeter:
    """Measures one job, a sample at a time; not safe to share between threads."""

    def __init__(self, ceiling: Ceiling, directory: Path, cgroup: JobCgroup | None) -> None:
        self.ceiling = ceiling
        self.cgroup = cgroup
        self._disk = DiskMeter(directory, ceiling.disk_bytes)
        self._pss_at_s = float("-inf")
        self._pss_bytes = 0
        self._rss_bytes = 0
        """When PSS was looked at."""
        self._memory_bytes = 0
        self._peak = Resources()

    @property
    def memory_bytes(self) -> int:
        """As last measured."""
        return self._memory_bytes

    @property
    def resources(self) -> Resources:
        """The peaks so far, and the CPU time."""
        return self._peak

    def sample(self, pids: Sequence[int], *, last: bool = False) -> Excess | None:
        """Measure the job's processes and directory; what it is over, if anything."""
        self._memory_bytes = self._memory(pids)
        disk_bytes = self._disk.used_bytes(last=last)
        excess = self._excess(len(pids), disk_bytes)
        if excess is not None and excess.what is Exceeded.MEMORY:
            # The kernel killed it before we could see how much it had.
            self._memory_bytes = max(self._memory_bytes, self.ceiling.memory_bytes)
        self._peak = Resources(
            peak_memory_bytes=max(self._peak.peak_memory_bytes, self._memory_bytes),
            peak_processes=max(self._peak.peak_processes, len(pids)),
            peak_disk_bytes=max(self._peak.peak_disk_bytes, disk_bytes),
            cpu_s=max(self._peak.cpu_s, round(tree.cpu_s(pids), 2)),
        )
        return excess

    def _memory(self, pids: Sequence[int]) -> int:
        if self.cgroup is not None:
            return self.cgroup.memory_bytes()
        now_s = time.monotonic()
        rss_bytes = tree.rss_bytes(pids)
        near = rss_bytes > _NEAR * self.ceiling.memory_bytes
        changed = abs(rss_bytes - self._rss_bytes) > _GROWN_BYTES
        if near or changed or now_s - self._pss_at_s > _PSS_EVERY_S:
            self._pss_bytes = tree.pss_bytes(pids)
            self._rss_bytes = rss_bytes
            self._pss_at_s = now_s
        return min(rss_bytes, self._pss_bytes)

    def _excess(self, processes: int, disk_bytes: int) -> Excess | None:
        ceiling = self.ceiling
        if self.cgroup is not None and self.cgroup.oom_kills():
            return Excess(
                Exceeded.MEMORY,
                f"the kernel killed a process at the ceiling of {size_text(ceiling.memory_bytes)}",
            )
        if self._memory_bytes > ceiling.memory_bytes:
            return Excess(
                Exceeded.MEMORY,
                f"{size_text(self._memory_bytes)} of memory, its tools included;"
                f" the ceiling is {size_text(ceiling.memory_bytes)}",
            )
        if self.cgroup is not None and self.cgroup.forks_refused():
            return Excess(
                Exceeded.PROCESSES,
                f"the kernel refused more than {ceiling.processes} processes and threads",
            )
        if processes > ceiling.processes:
            return Excess(
                Exceeded.PROCESSES, f"{processes} processes; the ceiling is {ceiling.processes}"
            )
        if disk_bytes > ceiling.disk_bytes:
            return Excess(
                Exceeded.DISK,
                f"{size_text(disk_bytes)} of disk in its directory;"
                f" the ceiling is {size_text(ceiling.disk_bytes)}",
            )
        return None
