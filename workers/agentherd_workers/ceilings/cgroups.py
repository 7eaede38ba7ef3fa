"""A cgroup a job, where we may make one: the kernel then holds the ceiling itself.

Both versions are served. Version 2 needs our own cgroup to hold no process besides us, so that
its controllers can be handed down: systemd's `Delegate=yes`, or a container's root. Where a cgroup
can't be made, the watchdog of meter.py enforces the ceiling by measuring.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst ("No Internal Process Constraint")
and cgroup-v1/{memory,pids}.rst.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentherd_workers.kernel_files import cgroup_directories, number_in, numbers_in
from agentherd_workers.processes import worker_of

_NAME = "agentherd"
_RELEASE_S = 2.0
_POLL_S = 0.02
_LEAF = f"{_NAME}-workers"
"""Where the workers themselves are, beside the cgroups of their jobs (version 2)."""
_V2_CONTROLLERS = ("memory", "pids")


class CgroupsUnavailable(RuntimeError):
    """No cgroup can be made for a job here. Says why."""


@dataclass(frozen=True)
class JobCgroup:
    """The cgroup of one job: one directory, or one a controller (version 1)."""

    memory: Path
    pids: Path
    version: int

    @property
    def procs_files(self) -> tuple[Path, ...]:
        """What a process is written to, to be put into it."""
        return tuple({path / "cgroup.procs": None for path in (self.memory, self.pids)})

    def members(self) -> list[int]:
        """The pids in it, and in what an agent made below it."""
        found = []
        for path, _, _ in os.walk(self.memory):
            with suppress(OSError):
                found += [int(pid) for pid in Path(path, "cgroup.procs").read_text().split()]
        return found

    def memory_bytes(self) -> int:
        """What is charged to it, without page cache that is free for the taking."""
        usage, cache = ("memory.current", "inactive_file")
        if self.version == 1:
            usage, cache = ("memory.usage_in_bytes", "total_inactive_file")
        charged = number_in(self.memory / usage) or 0
        return max(0, charged - numbers_in(self.memory / "memory.stat").get(cache, 0))

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed for its ceiling."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return numbers_in(self.memory / name).get("oom_kill", 0)

    def forks_refused(self) -> int:
        """How often it had as many processes and threads as it may."""
        return numbers_in(self.pids / "pids.events").get("max", 0)

    def remove(self) -> None:
        """Remove it with what an agent made below, as soon as the kernel lets go of it.

        Its processes have ended by now, but their last threads may take a moment.
        """
        deadline_s = time.monotonic() + _RELEASE_S
        for path in {self.memory, self.pids}:
            while not _remove_tree(path) and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)


class Cgroups:
    """Makes cgroups for the jobs of this worker."""

    def __init__(self, memory: Path, pids: Path, version: int) -> None:
        self._memory = memory
        self._pids = pids
        self.version = version

    @classmethod
    def set_up(cls, root: Path = Path("/")) -> "Cgroups":
        """Find where jobs' cgroups can be made, and try it.

        Raises:
            CgroupsUnavailable: they can't.
        """
        try:
            found = _version_1(root) or _version_2(root)
            found._sweep()
            found.create("probe", memory_bytes=1 << 30, processes=100).remove()
        except OSError as error:
            raise CgroupsUnavailable(
                f"no cgroup can be made for a job: {error.filename}: {error.strerror}"
            ) from error
        return found

    def create(self, name: str, *, memory_bytes: int, processes: int) -> JobCgroup:
        """A cgroup with its ceilings set.

        Raises:
            OSError: it can't be made.
        """
        full_name = f"{_NAME}-{os.getpid()}-{name}"
        job = JobCgroup(self._memory / full_name, self._pids / full_name, self.version)
        for path in {job.memory, job.pids}:
            path.mkdir()
        try:
            self._limit(job, memory_bytes, processes)
        except OSError:
            job.remove()
            raise
        return job

    def _limit(self, job: JobCgroup, memory_bytes: int, processes: int) -> None:
        (job.pids / "pids.max").write_text(str(processes))
        if self.version == 2:
            (job.memory / "memory.max").write_text(str(memory_bytes))
            _write_if_there(job.memory / "memory.swap.max", "0")
            # The job ends as one: half of it would go on with a tool missing.
            _write_if_there(job.memory / "memory.oom.group", "1")
        else:
            (job.memory / "memory.limit_in_bytes").write_text(str(memory_bytes))
            _write_if_there(job.memory / "memory.memsw.limit_in_bytes", str(memory_bytes))

    def _sweep(self) -> None:
        """Remove what workers that are gone left; a cgroup with processes stays."""
        for parent in {self._memory, self._pids}:
            for path in parent.glob(f"{_NAME}-*-*"):
                pid = path.name.split("-")[1]
                if pid.isdigit() and not Path("/proc", pid).exists():
                    _remove_tree(path)


def remove_cgroups_of(worker: int, root: Path = Path("/")) -> None:
    """Remove those of a dead worker's jobs, whoever holds the ceilings now.

    Args:
        worker: the worker's part of the marks after which they are named.
    """
    found = [cgroup_directories(root, controller) for controller in ("memory", "pids", "")]
    for parent in {path for paths in found for path in paths[:2]}:  # a leaf of ours, or not
        for path in parent.glob(f"{_NAME}-*-*"):
            with suppress(ValueError):  # not named by us
                if worker_of(int(path.name.rpartition("-")[2], 16)) == worker:
                    _remove_tree(path)


def choose_cgroups(choice: Literal["auto", "cgroup", "watchdog"]) -> Cgroups | None:
    """Cgroups for this worker's jobs, or None: the watchdog holds the ceilings.

    Raises:
        CgroupsUnavailable: they were asked for, and can't be had.
    """
    if choice == "watchdog":
        return None
    try:
        return Cgroups.set_up()
    except CgroupsUnavailable:
        if choice == "cgroup":
            raise
        return None


def _version_1(root: Path) -> Cgroups | None:
    memory = cgroup_directories(root, "memory")
    pids = cgroup_directories(root, "pids")
    if not memory or not pids:
        return None
    return Cgroups(memory[0], pids[0], 1)


def _version_2(root: Path) -> Cgroups:
    found = cgroup_directories(root, "")
    if not found:
        raise CgroupsUnavailable("no cgroup hierarchy with memory and pids is mounted")
    own = found[0].parent if found[0].name == _LEAF else found[0]
    offered = (own / "cgroup.controllers").read_text().split()
    if missing := [name for name in _V2_CONTROLLERS if name not in offered]:
        raise CgroupsUnavailable(f"{own} has no controller {' and '.join(missing)}")
    handed_down = (own / "cgroup.subtree_control").read_text().split()
    if not set(_V2_CONTROLLERS) <= set(handed_down):
        _hand_down(own)
    return Cgroups(own, own, 2)


def _hand_down(own: Path) -> None:
    """Let `own`'s children have ceilings, which needs `own` to hold no process."""
    leaf = own / _LEAF
    if own != own.parent and (own / "cgroup.type").exists():  # the top one may hold processes
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
    try:
        (own / "cgroup.subtree_control").write_text(
            " ".join(f"+{name}" for name in _V2_CONTROLLERS)
        )
    except OSError as error:
        if leaf.exists():
            (own / "cgroup.procs").write_text(str(os.getpid()))
            with suppress(OSError):
                leaf.rmdir()
        raise CgroupsUnavailable(
            f"{own} holds other processes, or is not ours ({error.strerror});"
            " under systemd set Delegate=yes"
        ) from error


def _remove_tree(path: Path) -> bool:
    """Remove a cgroup and those below it, as far as they hold no process; whether it is gone."""
    for below, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            Path(below).rmdir()
    return not path.exists()


def _write_if_there(path: Path, text: str) -> None:
    """Set what not every kernel has."""
    if path.exists():
        path.write_text(text)
