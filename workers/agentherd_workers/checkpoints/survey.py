"""A look over a workspace: what is in it, how much, and whether it changed since the last look."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agentherd_workers import folders
from agentherd_workers.folders import Parts
from agentherd_workers.sizes import size_text

MAX_ENTRIES = 100_000
"""Files, folders and links of one workspace that is stored."""
MAX_PARTS = 200
"""So deep, and"""
MAX_NAME_BYTES = 3_000
"""so long is a path below the workspace that is stored: opening a folder costs more the deeper it
is, and with the workspace's own path it must fit into a system call."""


class TooLarge(Exception):
    """The workspace is over a limit and not stored; says over which."""


class Interrupted(Exception):
    """Looking, or packing, was told to end."""


def never() -> bool:
    """Not interrupted."""
    return False


@dataclass
class Survey:
    """What a walk over a workspace found."""

    entries: int = 0
    content_bytes: int = 0
    """By the sizes that files claim: a hole counts, and each name of a file."""
    _sum: int = field(default=0, repr=False)

    @property
    def fingerprint(self) -> int:
        """Another one as soon as anything has changed."""
        return self._sum

    def count(self, parts: Parts, name: str, status: os.stat_result) -> None:
        """Add one thing, in any order."""
        self.entries += 1
        if stat.S_ISREG(status.st_mode):
            self.content_bytes += status.st_size
        said = ("/".join((*parts, name)), *_traits(status))
        digest = hashlib.blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=16)
        self._sum = (self._sum + int.from_bytes(digest.digest(), "big")) % 2**128


def survey(
    directory: Path, *, max_content_bytes: int, interrupted: Callable[[], bool] = never
) -> Survey:
    """Look over all below `directory`; no file is opened. Call it from a thread.

    Raises:
        TooLarge: there are more entries, or bytes, than are ever stored.
        Interrupted: it was told to end.
    """
    found = Survey()
    for parts, name, status in walk(directory):
        if interrupted():
            raise Interrupted
        found.count(parts, name, status)
        if found.entries > MAX_ENTRIES:
            raise TooLarge(f"more than {MAX_ENTRIES} files and folders")
        if found.content_bytes > max_content_bytes:
            raise TooLarge(f"more than {size_text(max_content_bytes)} of files")
    return found


def walk(directory: Path) -> Iterator[tuple[Parts, str, os.stat_result]]:
    """All below `directory`, a folder before what is in it: where it is, its name, what it is.

    Not what is in folders that are too deep to be stored.
    """
    pending: list[Parts] = [()]
    while pending:
        parts = pending.pop()
        for name, status in folders.entries_at(directory, parts):
            yield parts, name, status
            if stat.S_ISDIR(status.st_mode) and not is_too_deep(parts, name):
                pending.append((*parts, name))


def is_too_deep(parts: Parts, name: str) -> bool:
    """Whether a thing of this name there is not stored."""
    size_bytes = sum(len(os.fsencode(part)) + 1 for part in parts) + len(os.fsencode(name))
    return len(parts) >= MAX_PARTS or size_bytes > MAX_NAME_BYTES


def _traits(status: os.stat_result) -> tuple[int, ...]:
    traits = (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns)
    # What is closed is opened for a moment by each look into it, which changes this time. A
    # folder's content has traits of its own.
    closed = not status.st_mode & stat.S_IRUSR
    return traits if closed or stat.S_ISDIR(status.st_mode) else (*traits, status.st_ctime_ns)
