"""What a job or a worker may leave on its host besides processes."""

from pathlib import Path

from agentherd_workers.kernel_files import cgroup_directories
from drills.book import read_book

_ATTEMPT_DIGITS = 6
"""The hexadecimal digits of a mark that tell a worker's attempts apart."""


def leftovers(root: Path, temp: Path, *, living: int, ended: int) -> list[str]:
    """Paths that should be gone, while no job runs; a reservation is named as a path too.

    Args:
        root: of the workspaces.
        temp: the workers' TMPDIR, where the SDK puts a resumed transcript.
        living: mark of the one worker that runs.
        ended: mark of the worker whose job is looked at; the same where it still runs.
    """
    return [
        *map(str, _directories(root, living)),
        *map(str, _temporary(root, temp)),
        *map(str, _cgroups(ended)),
        *_reservations(root / "ledger"),
    ]


def _directories(root: Path, living: int) -> list[Path]:
    """Of jobs, of dead workers, and their locks."""
    own = f"{living:x}"
    workers = [path for path in (root / "workers").iterdir() if path.stem != own]
    return [*(root / "jobs").iterdir(), *workers]


def _temporary(root: Path, temp: Path) -> list[Path]:
    """Of the SDK and the CLI: they hold transcripts and keys."""
    return [*temp.iterdir(), *(root / "workers").glob("*/claude-*")]


def _cgroups(mark: int) -> list[Path]:
    """Of a worker's jobs."""
    of_its_jobs = f"agentherd-*-{mark:x}"[:-_ATTEMPT_DIGITS] + "?" * _ATTEMPT_DIGITS
    parents = {
        found[0]
        for controller in ("memory", "pids", "")
        if (found := cgroup_directories(Path("/"), controller))
    }
    return [path for parent in sorted(parents) for path in parent.glob(of_its_jobs)]


def _reservations(directory: Path) -> list[str]:
    book = read_book(directory)
    found = [f"{directory}: {book.jobs} sessions"] if book.jobs else []
    if book.without_worker:
        found.append(f"{directory}: {book.without_worker} dead workers")
    return found
