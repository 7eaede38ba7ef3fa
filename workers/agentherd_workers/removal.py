"""Removing a tree that an agent made: deeper than a path can be, or closed to its owner."""

import os
import stat
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove `path` with all that is in it; a link is removed, never followed.

    One folder is open at a time, and nothing calls itself: the depth is the agent's choice.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():  # the agent put it in the directory's place
        path.unlink()
        return
    fd = _enter(str(path), None)
    try:
        to_do = _remove_files(fd)
        way: list[tuple[str, list[str]]] = []
        """The folders from `path` to here, each with what is still to do beside it."""
        while to_do or way:
            if to_do:
                name = to_do.pop()
                fd = _move(fd, _enter(name, fd))
                way.append((name, to_do))
                to_do = _remove_files(fd)
            else:
                name, to_do = way.pop()
                fd = _move(fd, os.open("..", _FOLDER, dir_fd=fd))
                os.rmdir(name, dir_fd=fd)
    finally:
        os.close(fd)
    path.rmdir()


def _remove_files(fd: int) -> list[str]:
    """Remove all of a folder but the folders in it; their names."""
    folders = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=fd)
    return folders


def _enter(name: str, fd: int | None) -> int:
    """A descriptor of a folder, its owner's permissions given back."""
    handle = os.open(name, os.O_PATH | _FOLDER, dir_fd=fd)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            # A handle can't be changed by itself, and a name may be a link by now.
            os.chmod(f"/proc/self/fd/{handle}", mode | stat.S_IRWXU)  # noqa: PTH101
        return os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)


def _move(fd: int, target: int) -> int:
    os.close(fd)
    return target
