"""How much disk a job's directory takes, without looking at it all the time."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from agentherd_workers import folders

_EVERY_S = 2.0
_SHARE = 0.05
"""At most this share of the time goes into looking."""
_SLICE_S = 0.05
"""A look at many files takes several calls, so that other jobs are measured meanwhile."""
_LAST_LOOK_S = 1.0
_DROP_SHARE = 8
"""A disk that lost an eighth of the ceiling since the last look is a reason to look now."""
_LEAST_BYTES = 4096
"""What an empty file counts: disks run out of inodes too."""


class DiskMeter:
    """Looks at a job's directory when it is time, or when the disk fills fast."""

    def __init__(self, directory: Path, ceiling_bytes: int) -> None:
        self._directory = directory
        self._drop_bytes = ceiling_bytes // _DROP_SHARE
        self._next_s = 0.0
        self._free_bytes = 0
        self._used_bytes = 0
        self._look: Iterator[int] | None = None
        self._found_bytes = 0
        self._took_s = 0.0

    def used_bytes(self, *, last: bool = False) -> int:
        """As of the last look, which may be now; at least what a look has found so far.

        Args:
            last: look again, and longer: there is no next time.
        """
        if self._look is None and (last or self._is_due()):
            self._free_bytes = _free_bytes(self._directory)
            self._look = sizes(self._directory)
            self._found_bytes, self._took_s = 0, 0.0
        if self._look is not None:
            self._go_on(self._look, _LAST_LOOK_S if last else _SLICE_S)
        return max(self._used_bytes, self._found_bytes)

    def _is_due(self) -> bool:
        if time.monotonic() >= self._next_s:
            return True
        return self._free_bytes - _free_bytes(self._directory) > self._drop_bytes

    def _go_on(self, look: Iterator[int], for_s: float) -> None:
        begun_s = time.monotonic()
        for size_bytes in look:
            self._found_bytes += size_bytes
            if time.monotonic() - begun_s > for_s:
                self._took_s += time.monotonic() - begun_s
                return
        self._took_s += time.monotonic() - begun_s
        self._used_bytes, self._found_bytes, self._look = self._found_bytes, 0, None
        self._next_s = time.monotonic() + max(_EVERY_S, self._took_s / _SHARE)


def sizes(directory: Path) -> Iterator[int]:
    """Bytes of disk of each thing below `directory`; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    pending: list[folders.Parts] = [()]
    while pending:
        parts = pending.pop()
        for name, status in folders.entries_at(directory, parts):
            if stat.S_ISDIR(status.st_mode):
                pending.append((*parts, name))
            elif status.st_nlink > 1:
                identity = (status.st_dev, status.st_ino)
                if identity in seen:
                    continue
                seen.add(identity)
            yield max(_LEAST_BYTES, status.st_blocks * 512)


def _free_bytes(directory: Path) -> int:
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize
