"""Numbers that the kernel shows in files, and where our cgroups are.

`root` stands for `/` in tests. Sources: proc(5), cgroups(7).
"""

import re
from collections.abc import Iterator
from pathlib import Path

_OCTAL = re.compile(r"\\(\d{3})")


def cgroup_directories(root: Path, controller: str) -> list[Path]:
    """The cgroups we are in, from our own to the top that is mounted here; [] where none is.

    Args:
        controller: of version 1; empty for the hierarchy of version 2.
    """
    own = dict(_own_paths(root)).get(controller)
    if own is None:
        return []
    for point, mounted_root, kind, options in _mounts(root):
        if kind == ("cgroup" if controller else "cgroup2") and (
            not controller or controller in options
        ):
            top = root / point.lstrip("/")
            below = _below(own, mounted_root)
            return [top / below, *(top / parent for parent in below.parents)]
    return []


def _own_paths(root: Path) -> Iterator[tuple[str, str]]:
    """(controller, path) of /proc/self/cgroup; the controller of version 2 is empty."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, path


def _mounts(root: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """(mount point, its root in the hierarchy, type, super options) of /proc/self/mountinfo."""
    try:
        lines = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, more = left.split(" "), right.split(" ")  # a source may be empty
        if len(fields) > 4 and len(more) > 2:
            yield _unescaped(fields[4]), _unescaped(fields[3]), more[0], more[2].split(",")


def _unescaped(path: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)


def _below(own: str, mounted_root: str) -> Path:
    """Our cgroup as a path below the mount point: a container mounts a part of the hierarchy."""
    prefix = "" if mounted_root == "/" else mounted_root
    if own == prefix or own.startswith(prefix + "/"):
        return Path(own[len(prefix) :].lstrip("/"))
    return Path()


def number_in(path: Path) -> int | None:
    """A file's number; None where it is `max`, or not there."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def numbers_in(path: Path) -> dict[str, int]:
    """`name number …` lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    parts = (line.split() for line in lines)
    return {part[0]: int(part[1]) for part in parts if len(part) > 1 and part[1].isdigit()}
