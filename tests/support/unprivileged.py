"""Being an ordinary user for a while, so that file permissions mean something to root."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentherd_workers.processes import die_with_parent

NOBODY = 65534
_NEW_MOUNT_NAMESPACE = 0x20000
_BIND = 0x1000
_PRIVATE = 0x44000  # with all that is mounted below
_libc = ctypes.CDLL(None, use_errno=True)


def as_ordinary_user(program: str, *arguments: str) -> tuple[str, ...]:
    """A command that runs a program of this environment as an unprivileged user."""
    return ("python", __file__, str(Path(sys.executable).with_name(program)), *arguments)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """File access of this thread as an unprivileged user; nothing changes for one.

    setfsuid also takes the capabilities away that let root read and write everything.
    """
    if os.geteuid() != 0:
        yield
        return
    _libc.setfsuid(NOBODY)
    try:
        yield
    finally:
        _libc.setfsuid(0)


def give_away(tree: Path) -> None:
    """Let an ordinary user own `tree`, and reach it below pytest's private directories."""
    if os.geteuid() != 0:
        return
    for folder in tree.parents:
        if folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o711)
    for path in (tree, *tree.rglob("*")):
        os.chown(path, NOBODY, -1, follow_symlinks=False)


def _open_up(prefix: Path) -> None:
    """Let others reach Python below a closed home, as this process and its children see it."""
    closed = [folder for folder in prefix.parents if not folder.stat().st_mode & 0o001]
    if not closed:
        return
    _check(_libc.unshare(_NEW_MOUNT_NAMESPACE))
    _check(_libc.mount(None, b"/", None, _PRIVATE, None))
    fd = os.open(prefix, os.O_PATH)  # of the new namespace
    _check(_libc.mount(b"tmpfs", bytes(closed[-1]), b"tmpfs", 0, b"mode=755"))
    prefix.mkdir(parents=True)
    _check(_libc.mount(b"/proc/self/fd/%d" % fd, bytes(prefix), None, _BIND, None))
    os.close(fd)


def _check(status: int) -> None:
    """Raise what a call of libc's failed with."""
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    if os.geteuid() == 0:
        _open_up(Path(sys.base_prefix))
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        die_with_parent()  # ends with a change of user
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is the point
