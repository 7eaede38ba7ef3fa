"""Finding the files that a job asked to keep, once its agent is gone."""

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from agentherd.contract.results import Artifact

MAX_ARTIFACTS = 1_000
"""Of one job; each is a write to Redis."""
_NAMED = 20
"""Files that a message names."""


@dataclass(frozen=True)
class Found:
    """What the patterns matched."""

    files: tuple[tuple[Artifact, bytes], ...]
    """Those that fit under the caps, in order of name."""
    too_large: tuple[tuple[str, int], ...]
    """Name and size of those that don't fit."""
    refused: tuple[str, ...]
    """Matched, and not regular files with a Unicode name, or not to be read: links, devices."""
    left_out: int = 0
    """How many files follow, by name, on the first `MAX_ARTIFACTS`."""

    def excess(self, max_bytes: int) -> str | None:
        """What was not kept for its size or number, and what to do; None: nothing."""
        said = []
        if self.too_large:
            sizes = ", ".join(f"{name} ({size} bytes)" for name, size in self.too_large[:_NAMED])
            others = len(self.too_large) - _NAMED
            said.append(
                f"artifacts over the cap of {max_bytes} bytes together were not kept: {sizes}"
                f"{f' and {others} others' if others > 0 else ''};"
                " narrow the patterns, or raise AGENTHERD_MAX_ARTIFACTS_BYTES on the workers"
            )
        if self.left_out:
            said.append(
                f"the limit is {MAX_ARTIFACTS} artifacts, and {self.left_out} more were not kept;"
                " narrow the patterns, or let the agent make an archive"
            )
        return "; ".join(said) or None


def collect(workspace: Path, patterns: Sequence[str], max_bytes: int) -> Found:
    """The regular files below `workspace` that match; no link is ever followed."""
    refused: list[str] = []
    names, left_out = _first(_matching(workspace, patterns, refused))
    files, too_large = [], []
    room_bytes = max_bytes
    for name in names:
        try:
            content = _read(workspace / name, room_bytes)
        except OSError:  # closed, or too deep to be reached by its path
            refused.append(name)
            continue
        if isinstance(content, int):
            too_large.append((name, content))
            continue
        room_bytes -= len(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append((Artifact(name=name, size_bytes=len(content), sha256=digest), content))
    return Found(tuple(files), tuple(too_large), tuple(sorted(refused)), left_out)


def _first(names: Iterator[str]) -> tuple[list[str], int]:
    """The first `MAX_ARTIFACTS` in their order, and how many follow; never holds many more."""
    first: list[str] = []
    left_out = 0
    for name in names:
        first.append(name)
        if len(first) == 2 * MAX_ARTIFACTS:
            first = sorted(first)[:MAX_ARTIFACTS]
            left_out += MAX_ARTIFACTS
    left_out += max(0, len(first) - MAX_ARTIFACTS)
    return sorted(first)[:MAX_ARTIFACTS], left_out


def _matching(workspace: Path, patterns: Sequence[str], refused: list[str]) -> Iterator[str]:
    """The paths below `workspace` of the regular files that match; others go to `refused`."""
    matchers = [_matcher(pattern) for pattern in patterns]
    for entry in _walk(workspace):
        name = entry.path.removeprefix(f"{workspace}/")
        if not any(matches(name) for matches in matchers):
            continue
        if entry.is_file(follow_symlinks=False) and _is_unicode(name):
            yield name
        elif len(refused) < MAX_ARTIFACTS:
            refused.append(name)


def _walk(workspace: Path) -> Iterator[os.DirEntry[str]]:
    """Every entry that is not a directory.

    An agent may have removed its workspace, or put a link in its place: then there is nothing.
    """
    pending = [workspace] if workspace.is_dir() and not workspace.is_symlink() else []
    while pending:
        for entry in _entries(pending.pop()):
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            else:
                yield entry


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing where it can't be reached, as beyond the longest path."""
    with suppress(OSError), _opened(folder) as entries:
        yield from entries


def _opened(folder: Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    try:
        return os.scandir(folder)
    except PermissionError:  # the agent took its own permissions away
        folder.chmod(0o700)
        return os.scandir(folder)


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that os.scandir could not decode
        return False
    return True


def _read(path: Path, at_most: int) -> bytes | int:
    """The file's bytes, or its size where there are more than `at_most`.

    Raises:
        OSError: it can't be read, or is no regular file any more.
    """
    with open(_open(path), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        if status.st_size > at_most:
            return status.st_size
        content = stream.read(at_most + 1)
    return content if len(content) <= at_most else len(content)


def _open(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except PermissionError:
        path.chmod(0o600)
        return os.open(path, flags)


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
