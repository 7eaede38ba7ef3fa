"""Being an ordinary user for a while, so that file permissions mean something to root."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)


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
