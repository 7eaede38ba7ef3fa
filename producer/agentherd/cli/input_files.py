"""`--file SRC[:DEST]`: reading the files that go in with a job."""

import base64
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from agentherd.contract.job import MAX_FILES_BYTES
from agentherd.errors import Problem

MAX_FILES = 1000
"""As many as a job may have."""


class _Refused(Exception):
    """The file or directory can't go in."""


def input_files(specs: Sequence[str]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The files of all `--file` options as `InputFile` fields, and what is wrong with them.

    A relative SRC keeps its path in the workspace, any other its last name. A directory goes
    in with all it holds. Symbolic links are refused: what they point at may not be what the
    caller means to send.
    """
    files: list[dict[str, Any]] = []
    problems = []
    left_bytes = MAX_FILES_BYTES
    for spec in specs:
        try:
            for source, target in _expand(*_split(spec)):
                content, executable = _read(source, left_bytes, MAX_FILES - len(files))
                left_bytes -= len(content)
                files.append(_input_file(target, content, executable))
        except _Refused as error:
            problems.append(Problem(f"--file {spec}", str(error)))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            problems.append(Problem(f"--file {spec}", f"{error.filename}: {reason}"))
    return files, problems


def _split(spec: str) -> tuple[Path, PurePosixPath]:
    """Where SRC is and where it goes. A file whose own name has a colon is taken whole."""
    source, colon, target = spec.rpartition(":")
    if not colon or not source or os.path.lexists(spec):
        path = Path(spec)
        inside = not path.is_absolute() and ".." not in path.parts
        return path, PurePosixPath(path.as_posix() if inside else path.resolve().name)
    path = Path(source)
    if not target or (target.endswith("/") and not path.is_dir()):
        return path, PurePosixPath(target, path.name)
    return path, PurePosixPath(target)


def _expand(source: Path, target: PurePosixPath) -> Iterator[tuple[Path, str]]:
    """(file, its path in the workspace) for every file in `source`, in order of name."""
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise _Refused(f"{source} is a symbolic link; name the file itself")
    if stat.S_ISDIR(mode):
        for child in sorted(source.iterdir()):
            yield from _expand(child, target / child.name)
    elif stat.S_ISREG(mode):
        yield source, str(target)
    else:
        raise _Refused(f"{source} is neither a file nor a directory")


def _read(path: Path, left_bytes: int, left_files: int) -> tuple[bytes, bool]:
    """The content and whether its owner may execute it; never more than fits a job."""
    if left_files == 0:
        raise _Refused(f"more than {MAX_FILES} files")
    # The path may have been swapped for a link or a pipe since it was looked at.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        executable = bool(os.fstat(descriptor).st_mode & stat.S_IXUSR)
        content = file.read(left_bytes + 1)
    if len(content) > left_bytes:
        raise _Refused(f"with {path} the files exceed {MAX_FILES_BYTES} bytes together")
    return content, executable


def _input_file(target: str, content: bytes, executable: bool) -> dict[str, Any]:
    try:
        body = {"text": content.decode()}
    except UnicodeDecodeError:
        body = {"base64": base64.b64encode(content).decode()}
    return {"path": target, "executable": executable, **body}
