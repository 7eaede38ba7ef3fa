"""Looking into folders that an agent made, while it works there and may not want to be looked at.

No link is followed, folders that it closed are opened for the moment, and paths may be longer
than the system takes in one piece: a folder is named by its parts, below one that is ours.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

Parts = tuple[str, ...]
Entry = tuple[str, os.stat_result]
"""A name and what it is; a link is a link."""

_PIECE = 15
"""So many parts of a path are opened at once: each has up to 255 bytes, and a path 4095."""
_CLOSED_PARTS = 100
"""Closed folders are looked into down to here: each costs descriptors, which all jobs share."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def entries(fd: int) -> list[Entry]:
    """What is in an opened folder, but for what is gone meanwhile."""
    found = []
    with suppress(OSError), os.scandir(fd) as scanned:
        for entry in scanned:
            with suppress(OSError):
                found.append((entry.name, entry.stat(follow_symlinks=False)))
    return found


def entries_at(directory: Path, parts: Parts) -> list[Entry]:
    """What is in the folder at `parts`; nothing where that is gone meanwhile."""
    with suppress(OSError), opened(directory, parts) as fd:
        return entries(fd)
    return []


@contextmanager
def opened(directory: Path, parts: Parts) -> Iterator[int]:
    """A descriptor of the folder at `parts` below `directory`.

    Raises:
        OSError: there is none, or it can't be looked into.
    """
    with ExitStack() as stack:
        yield _open(directory, parts, stack)


@contextmanager
def permitted(handle: int, mode_bits: int) -> Iterator[None]:
    """What `handle` (O_PATH) stands for has these permissions too, for as long as this lasts."""
    path = f"/proc/self/fd/{handle}"  # a handle can't be changed by itself
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    os.chmod(path, mode | mode_bits)  # noqa: PTH101 - by descriptor
    try:
        yield
    finally:
        os.chmod(path, mode)  # noqa: PTH101


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """`fd`, closed in the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def _open(directory: Path, parts: Parts, stack: ExitStack) -> int:
    """A descriptor of the folder at `parts`, until `stack` is closed."""
    try:
        fd = os.open(directory, _FOLDER)
        for at in range(0, len(parts), _PIECE):
            with closing(fd):
                fd = os.open("/".join(parts[at : at + _PIECE]), _FOLDER, dir_fd=fd)
        stack.enter_context(closing(fd))
        # Not every folder that can be opened can be looked into.
        os.stat(".", dir_fd=fd)
    except PermissionError:
        return _open_closed(directory, parts, stack)
    return fd


def _open_closed(directory: Path, parts: Parts, stack: ExitStack) -> int:
    """The same through folders whose mode keeps their owner out; they get it back at the end."""
    if len(parts) > _CLOSED_PARTS:
        raise PermissionError
    handle = os.open(directory, os.O_PATH | _FOLDER)
    for part in (*parts, ""):
        stack.enter_context(closing(handle))
        stack.enter_context(permitted(handle, stat.S_IRWXU))
        if part:
            handle = os.open(part, os.O_PATH | _FOLDER, dir_fd=handle)
    fd = os.open(".", _FOLDER, dir_fd=handle)
    stack.enter_context(closing(fd))
    return fd
