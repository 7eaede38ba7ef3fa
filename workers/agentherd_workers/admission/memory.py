"""What the kernel says of this host's memory: its size, what is free, how hard it is pressed.

A container or a unit may have less than the machine: every cgroup from ours to the top may set a
limit, and the smallest counts. Both versions of cgroups are read, also side by side (hybrid).
Swap is never counted: an agent on swap is of no use.

Sources: proc_meminfo(5); the kernel's Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/memory.rst; Documentation/accounting/psi.rst.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentherd_workers.kernel_files import cgroup_directories, number_in, numbers_in

KiB = 1024
_MEMINFO = "proc/meminfo"
_PRESSURE = "proc/pressure/memory"


@dataclass(frozen=True)
class MemoryLimit:
    """How much RAM there is for us."""

    size_bytes: int
    source: str
    """The file that says so."""


@dataclass(frozen=True)
class Pressure:
    """Share of the last ten seconds in which tasks waited for memory, in percent."""

    some_percent: float
    """At least one did."""
    full_percent: float
    """All did."""


@dataclass(frozen=True)
class _Level:
    """One cgroup that may limit us."""

    directory: Path
    limits: tuple[str, ...]
    usage: str
    reclaimable: str
    """The line of memory.stat that counts page cache which is free for the taking."""

    def limit(self) -> tuple[int, Path] | None:
        """The smallest limit it sets, and the file that says so; None: none."""
        files = [self.directory / name for name in self.limits]
        found = [(size, file) for file in files if (size := number_in(file)) is not None]
        return min(found, default=None)

    def available_bytes(self, total_bytes: int) -> int | None:
        """What is left under its limit; None: it sets none below `total_bytes`."""
        limit, _file = self.limit() or (total_bytes, None)
        if limit >= total_bytes:
            return None
        usage = number_in(self.directory / self.usage) or 0
        cache = numbers_in(self.directory / "memory.stat").get(self.reclaimable, 0)
        return max(0, limit - max(0, usage - cache))


class HostMemory:
    """Reads one machine; `root` stands for `/` in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._levels = tuple(_levels(root))

    def limit(self) -> MemoryLimit:
        """The smaller of MemTotal and every cgroup's limit."""
        total_bytes = numbers_in(self._root / _MEMINFO)["MemTotal:"] * KiB
        limits = [MemoryLimit(total_bytes, "MemTotal of /proc/meminfo")]
        for level in self._levels:
            found = level.limit()
            if found is not None:
                size_bytes, file = found
                limits.append(MemoryLimit(size_bytes, str("/" / file.relative_to(self._root))))
        return min(limits, key=lambda limit: limit.size_bytes)

    def available_bytes(self) -> int:
        """What new work may take before something else has to go."""
        known = numbers_in(self._root / _MEMINFO)
        total_bytes = known["MemTotal:"] * KiB
        left = (level.available_bytes(total_bytes) for level in self._levels)
        return min([known["MemAvailable:"] * KiB, *(size for size in left if size is not None)])

    def pressure(self) -> Pressure | None:
        """The kernel's memory pressure; None where it keeps none."""
        try:
            lines = (self._root / _PRESSURE).read_text().splitlines()
        except OSError:
            return None
        averages = {line.partition(" ")[0]: line for line in lines}
        some, full = (_avg10(averages.get(kind, "")) for kind in ("some", "full"))
        return Pressure(some, full)


def _levels(root: Path) -> Iterator[_Level]:
    """The cgroups we are in, from our own to the top, of each hierarchy that has memory."""
    for directory in cgroup_directories(root, ""):
        yield _Level(directory, ("memory.max", "memory.high"), "memory.current", "inactive_file")
    for directory in cgroup_directories(root, "memory"):
        yield _Level(
            directory, ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"
        )


def _avg10(line: str) -> float:
    found = re.search(r"avg10=([0-9.]+)", line)
    return float(found[1]) if found else 0.0
