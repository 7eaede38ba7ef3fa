"""Finding the files that a job asked to keep, once its agent is gone."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentherd.contract.results import Artifact


@dataclass(frozen=True)
class Found:
    """What the patterns matched."""

    files: tuple[tuple[Artifact, bytes], ...]
    """Those that fit under the cap, in order of name."""
    too_large: tuple[tuple[str, int], ...]
    """Name and size of those that don't."""
    refused: tuple[str, ...]
    """Matched, and not regular files of the workspace: links, devices, pipes."""


def collect(workspace: Path, patterns: Sequence[str], max_bytes: int) -> Found:
    """The regular files below `workspace` that match; no link is ever followed."""
    matchers = [_matcher(pattern) for pattern in patterns]
    files, too_large, refused = [], [], []
    room_bytes = max_bytes
    for name, entry in _walk(workspace):
        if not any(matcher.fullmatch(name) for matcher in matchers):
            continue
        if not entry.is_file(follow_symlinks=False):
            refused.append(name)
            continue
        content = _read(Path(entry.path), room_bytes)
        if content is None:
            too_large.append((name, entry.stat(follow_symlinks=False).st_size))
            continue
        room_bytes -= len(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append((Artifact(name=name, size_bytes=len(content), sha256=digest), content))
    return Found(tuple(files), tuple(too_large), tuple(refused))


def _walk(workspace: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry that is not a directory, with its path below `workspace`, sorted."""
    pending = [workspace]
    found = []
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except PermissionError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            else:
                found.append((Path(entry.path).relative_to(workspace).as_posix(), entry))
    yield from sorted(found, key=lambda pair: pair[0])


def _read(path: Path, at_most: int) -> bytes | None:
    """The file's bytes, or None where there are more than `at_most`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        path.chmod(0o600)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as stream:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        content = stream.read(at_most + 1)
    return content if len(content) <= at_most else None


def _matcher(pattern: str) -> re.Pattern[str]:
    """A glob over whole paths: `*` and `?` stay inside a folder, `**` crosses folders."""
    regex = ""
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            regex, position = regex + r"(?:[^/]+/)*", position + 3
        elif pattern.startswith("**", position):
            regex, position = regex + r".*", position + 2
        elif pattern[position] == "*":
            regex, position = regex + r"[^/]*", position + 1
        elif pattern[position] == "?":
            regex, position = regex + r"[^/]", position + 1
        else:
            regex, position = regex + re.escape(pattern[position]), position + 1
    return re.compile(regex, re.DOTALL)
