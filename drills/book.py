"""The host's book of RAM, read as the workers write it; see admission/ledger.py."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MUTEX = "mutex"


@dataclass(frozen=True)
class Book:
    """All reservations of the host at one moment."""

    jobs: int
    jobs_bytes: int
    all_bytes: int
    """With what is booked for polls."""
    without_worker: int
    """Workers' files in it whose worker is gone."""


def read_book(directory: Path) -> Book:
    """Read it while nobody writes it."""
    jobs: list[int] = []
    polls: list[int] = []
    without_worker = 0
    with _nobody_writes(directory):
        for path in directory.iterdir():
            if path.name == _MUTEX:
                continue
            with path.open() as file:
                without_worker += _is_free(file.fileno())
                held = json.loads(file.readline())
            for name, reservation in held.items():
                (jobs if name.startswith("job-") else polls).append(reservation["ceiling_bytes"])
    return Book(len(jobs), sum(jobs), sum(jobs) + sum(polls), without_worker)


@contextmanager
def _nobody_writes(directory: Path) -> Iterator[None]:
    fd = os.open(directory / _MUTEX, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def _is_free(fd: int) -> bool:
    """Whether no living worker owns it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
