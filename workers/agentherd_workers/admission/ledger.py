"""The host's book of RAM: who has reserved how much, over all worker processes.

    <directory>/mutex              held while the book is read and changed
    <directory>/<pid>-<random>     one worker's reservations, a line of JSON; locked while it lives

A worker's lock ends with its process, however it ends, and its reservations with it.
"""

import fcntl
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from agentherd_workers.file_lock import try_lock

R = TypeVar("R")

_FILE_BYTES = 128 * 1024
"""More than any worker's reservations take; allotted at once, so that jobs which fill the disk
don't keep a worker from giving back."""


@dataclass(frozen=True)
class Reservation:
    """RAM promised to one session, and what it uses of it as last measured."""

    ceiling_bytes: int
    used_bytes: int = 0

    @property
    def growth_bytes(self) -> int:
        """What it may still grow into."""
        return max(0, self.ceiling_bytes - self.used_bytes)


@dataclass(frozen=True)
class Booked:
    """All reservations of the host together."""

    count: int
    ceilings_bytes: int
    growth_bytes: int
    workers: int


class Ledger:
    """One worker's access to the host's book. Safe to share between threads."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._own = directory / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._mutex_fd = os.open(directory / "mutex", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._thread_lock = threading.Lock()
        self._reservations: dict[str, Reservation] = {}
        with self._exclusive():  # so that nobody takes our file for a dead worker's
            fd = try_lock(self._own)
            if fd is None:
                raise FileExistsError(f"{self._own} is not ours, and its name was random")
            self._fd = fd
            os.posix_fallocate(fd, 0, _FILE_BYTES)
            self._write()

    def reserve(
        self, name: str, ceiling_bytes: int, refuse: Callable[[Booked], R | None]
    ) -> R | None:
        """Book `ceiling_bytes` under `name`, in place of what stood there.

        Args:
            refuse: told what the rest of the host has booked; a reason, or None: go ahead. It
                runs while no other worker of the host can book.

        Returns:
            The reason; nothing is changed then.
        """
        with self._exclusive():
            others = {key: value for key, value in self._reservations.items() if key != name}
            reason = refuse(self._booked(others))
            if reason is None:
                self._reservations[name] = Reservation(ceiling_bytes)
                self._write()
            return reason

    def rename(self, name: str, new_name: str, ceiling_bytes: int | None = None) -> None:
        """Hand a reservation on, at the same size or a smaller one."""
        with self._exclusive():
            held = self._reservations.pop(name)
            size = min(held.ceiling_bytes, ceiling_bytes or held.ceiling_bytes)
            self._reservations[new_name] = Reservation(size, held.used_bytes)
            self._write()

    def measure(self, used_bytes: dict[str, int]) -> None:
        """Note what sessions use now, by name; unknown names are ignored."""
        with self._exclusive():
            for name in used_bytes.keys() & self._reservations.keys():
                held = self._reservations[name]
                self._reservations[name] = Reservation(held.ceiling_bytes, used_bytes[name])
            self._write()

    def release(self, name: str) -> None:
        """Give a reservation back; a second time does nothing."""
        with self._exclusive():
            if self._reservations.pop(name, None) is not None:
                self._write()

    def names(self) -> list[str]:
        """This worker's reservations."""
        return list(self._reservations)

    def booked(self) -> Booked:
        """What the host has booked now."""
        with self._exclusive():
            return self._booked(self._reservations)

    def close(self) -> None:
        """Give back everything."""
        with self._exclusive():
            self._own.unlink(missing_ok=True)
            os.close(self._fd)
        os.close(self._mutex_fd)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._thread_lock:
            fcntl.flock(self._mutex_fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._mutex_fd, fcntl.LOCK_UN)

    def _booked(self, own: dict[str, Reservation]) -> Booked:
        workers = 1
        all_of_them = list(own.values())
        for path in self._directory.iterdir():
            if path.name == "mutex" or path == self._own:
                continue
            theirs = _read(path)
            if theirs is not None:
                workers += 1
                all_of_them += theirs
        return Booked(
            count=len(all_of_them),
            ceilings_bytes=sum(one.ceiling_bytes for one in all_of_them),
            growth_bytes=sum(one.growth_bytes for one in all_of_them),
            workers=workers,
        )

    def _write(self) -> None:
        line = json.dumps({name: asdict(one) for name, one in self._reservations.items()}) + "\n"
        os.pwrite(self._fd, line.encode(), 0)


def _read(path: Path) -> list[Reservation] | None:
    """A living worker's reservations; a dead one's file is removed."""
    fd = try_lock(path)
    if fd is not None:
        path.unlink(missing_ok=True)
        os.close(fd)
        return None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        line, _, _ = os.pread(fd, _FILE_BYTES, 0).partition(b"\n")
    finally:
        os.close(fd)
    held = json.loads(line)
    return [Reservation(**one) for one in held.values()]
