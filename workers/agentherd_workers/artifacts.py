"""Finding the files that a job asked to keep, once its agent is gone."""

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
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
    """Matched, and not regular files with a Unicode name: links, devices, pipes."""


def collect(workspace: Path, patterns: Sequence[str], max_bytes: int) -> Found:
    """The regular files below `workspace` that match; no link is ever followed."""
    matchers = [_matcher(pattern) for pattern in patterns]
    files, too_large, refused = [], [], []
    room_bytes = max_bytes
    for name, entry in _walk(workspace):
        if not any(matches(name) for matches in matchers):
            continue
        if not entry.is_file(follow_symlinks=False) or not _is_unicode(name):
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
    """Every entry that is not a directory, with its path below `workspace`, sorted.

    An agent may have removed its workspace, or put a link in its place: then there is nothing.
    """
    pending = [workspace] if workspace.is_dir() and not workspace.is_symlink() else []
    found = []
    while pending:
        for entry in _entries(pending.pop()):
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            else:
                found.append((Path(entry.path).relative_to(workspace).as_posix(), entry))
    yield from sorted(found, key=lambda pair: pair[0])


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where it can't be reached, as beyond the longest path."""
    with suppress(OSError):
        return list(os.scandir(folder))
    with suppress(OSError):  # the agent took its own permissions away
        folder.chmod(0o700)
        return list(os.scandir(folder))
    return []


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that os.scandir could not decode
        return False
    return True


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


def _matcher(pattern: str) -> Callable[[str], bool]:
    """A glob over whole paths: `*` and `?` stay inside a part, a part `**` is any folders.

    Part by part, not as one regular expression: a pattern is a stranger's, and must not cost
    time that grows with a power of its length.
    """
    parts = pattern.split("/")
    if parts[-1] == "**":
        parts.append("*")
    steps = [None if part == "**" else _part_matcher(part) for part in parts]

    def matches(name: str) -> bool:
        reached = _skipping_folders(steps, {0})
        for part in name.split("/"):
            reached = _skipping_folders(steps, _after(steps, reached, part))
        return len(steps) in reached

    return matches


_Steps = Sequence[re.Pattern[str] | None]


def _part_matcher(part: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(part.replace("[", "[[]")))


def _after(steps: _Steps, reached: set[int], part: str) -> set[int]:
    """Where in the pattern one can be after one more part of the name."""
    following = set()
    for position in reached - {len(steps)}:
        step = steps[position]
        if step is None:
            following.add(position)
        elif step.match(part):
            following.add(position + 1)
    return following


def _skipping_folders(steps: _Steps, reached: set[int]) -> set[int]:
    """`reached`, and what is reached where `**` stands for no folder."""
    for position, step in enumerate(steps):
        if position in reached and step is None:
            reached.add(position + 1)
    return reached
