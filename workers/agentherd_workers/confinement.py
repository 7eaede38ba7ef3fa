"""What holds one attempt: its mark, its ceilings, its isolation, and the means to end it."""

import logging
import os
import resource
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentherd.contract.results import Resources
from agentherd_workers import isolation, processes, syscall_filter
from agentherd_workers.ceilings.cgroups import Cgroups, JobCgroup
from agentherd_workers.ceilings.meter import Ceiling, Excess, JobMeter
from agentherd_workers.isolation import Isolation
from agentherd_workers.processes import Marks
from agentherd_workers.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Means:
    """How this host confines jobs, decided once at the worker's start."""

    isolation: Isolation
    cgroups: Cgroups | None
    """None: ceilings are held by the watchdog."""
    marks: Marks
    cli: Path
    readable: tuple[Path, ...]

    @property
    def ceiling_enforcement(self) -> str:
        """`cgroup v1`, `cgroup v2` or `watchdog`."""
        return f"cgroup v{self.cgroups.version}" if self.cgroups else "watchdog"


class Confinement:
    """Made before the CLI starts, closed when no process of the attempt is left."""

    def __init__(self, means: Means, ceiling: Ceiling, workspace: Workspace) -> None:
        self.mark = means.marks.new()
        self._means = means
        self._ceiling = ceiling
        self._workspace = workspace
        self._cgroup = self._make_cgroup()
        self._meter = JobMeter(ceiling, workspace.owned.path, self._cgroup)
        self._lock = threading.Lock()

    @property
    def launch(self) -> dict[str, str]:
        """What the launcher is told; see launcher.py."""
        command = isolation.command_for(
            self._means.isolation, self._workspace, self._means.cli, self._means.readable
        )
        limits = {
            resource.RLIMIT_RTTIME: self.mark,
            resource.RLIMIT_CORE: 0,
            # The watchdog looks at the directory now and then; no single file gets that far.
            resource.RLIMIT_FSIZE: self._ceiling.disk_bytes,
        }
        procs_files = self._cgroup.procs_files if self._cgroup else ()
        return {
            "AGENTHERD_COMMAND": "\n".join(command),
            "AGENTHERD_BIND": "1" if self._means.isolation is Isolation.BUBBLEWRAP else "",
            "AGENTHERD_LIMITS": ",".join(f"{name}={value}" for name, value in limits.items()),
            "AGENTHERD_CGROUPS": ",".join(map(str, procs_files)),
            "AGENTHERD_FILTER": syscall_filter.fixing_limit(resource.RLIMIT_RTTIME).hex(),
            "AGENTHERD_PARENT_PID": str(os.getpid()),
        }

    @property
    def memory_bytes(self) -> int:
        """As last measured."""
        return self._meter.memory_bytes

    @property
    def resources(self) -> Resources:
        """Peaks and CPU time so far."""
        return self._meter.resources

    def sample(
        self, pids_by_mark: Mapping[int, Sequence[int]] | None = None, *, last: bool = False
    ) -> Excess | None:
        """Measure; which ceiling the attempt is over, if any. Safe to call from any thread."""
        pids = (processes.by_mark() if pids_by_mark is None else pids_by_mark).get(self.mark, [])
        with self._lock:
            return self._meter.sample(pids, last=last)

    def child(self) -> int | None:
        """The pid that the SDK waits for: the CLI's, or that of what isolates it."""
        return processes.child_with(self.mark)

    def terminate(self) -> None:
        """Ask the CLI to end."""
        processes.terminate(self.mark, self._means.cli)

    def kill(self, *, keep_for_parent: int | None) -> None:
        """Kill until no process is left; raises `TimeoutError`."""
        processes.kill_all(self._members, keep_for_parent=keep_for_parent)

    def close(self) -> None:
        """Forget the attempt; its tree is empty."""
        if self._cgroup is not None:
            self._cgroup.remove()

    def _members(self) -> set[int]:
        return {*processes.marked(self.mark), *(self._cgroup.members() if self._cgroup else ())}

    def _make_cgroup(self) -> JobCgroup | None:
        if self._means.cgroups is None:
            return None
        return self._means.cgroups.create(
            f"{self.mark:x}",
            memory_bytes=self._ceiling.memory_bytes,
            processes=self._ceiling.processes,
        )
