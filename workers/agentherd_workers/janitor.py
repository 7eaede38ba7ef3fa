"""Removes what dead workers left on this host: agents' processes, their cgroups, directories.

A worker's directory is named after its mark and locked while it lives (workspace.py). So a
directory whose lock is free tells which processes have nobody who would end them. The worker's
guard has done so as a rule, but not where it was killed together with its worker.
"""

import logging
import os
from functools import partial
from pathlib import Path

from agentherd_workers import processes
from agentherd_workers.ceilings.cgroups import remove_cgroups_of
from agentherd_workers.file_lock import try_lock
from agentherd_workers.workspace import OwnedDirectory, lock_path

log = logging.getLogger(__name__)


def sweep_leftovers(root: Path) -> list[Path]:
    """Remove everything under `root` whose owner is gone; which directories.

    What can't be removed is logged, and left for the next time.
    """
    # Workers first: what their agents left running may still write to jobs/.
    return [
        *(path for path in _paths(root / "workers") if _remove(path, mark=_mark_in(path))),
        *(path for path in _paths(root / "jobs") if _remove(path)),
    ]


def _paths(folder: Path) -> list[Path]:
    """The directories in it, those included of which only the lock is left."""
    return [folder / name for name in sorted({_name(path) for path in folder.iterdir()})]


def _name(path: Path) -> str:
    return path.name.removesuffix(".lock")


def _mark_in(path: Path) -> int | None:
    """The mark after which a worker's directory is named."""
    try:
        return int(path.name, 16)
    except ValueError:
        return None  # not named by us


def _remove(path: Path, *, mark: int | None = None) -> bool:
    """Remove it if its owner is gone, once nothing carries the worker's mark; whether it is."""
    lock_fd = try_lock(lock_path(path))
    if lock_fd is None:
        return False
    try:
        if mark is not None:
            _end_agents(mark)
        OwnedDirectory(path, lock_fd).remove()
    except OSError as error:  # TimeoutError is one
        log.warning("what a dead worker left can't be removed: %s: %s", path, error)
        os.close(lock_fd)
        return False
    return True


def _end_agents(mark: int) -> None:
    killed = processes.kill_all(partial(processes.marked_by_worker, mark))
    remove_cgroups_of(mark)
    if killed:
        log.warning("killed %d processes that a dead worker's agents left", killed)
