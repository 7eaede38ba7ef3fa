"""How much disk a job's directory takes, without looking at it all the time."""

import os
import stat
import time
from pathlib import Path

_EVERY_S = 2.0
_SHARE = 0.05
"""At most this share of the time goes into looking."""
_DROP_SHARE = 8
"""A disk that lost an eighth of the ceiling since the last look is a reason to look now."""


def used_bytes(directory: Path) -> int:
    """Blocks taken by everything below `directory`; a file with several names counts once."""
    total = 0
    seen: set[int] = set()
    pending = [directory]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                pending.append(Path(entry.path))
            elif status.st_nlink > 1:
                if status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
            total += status.st_blocks * 512
    return total


class DiskMeter:
    """Looks at a job's directory when it is time, or when the disk fills fast."""

    def __init__(self, directory: Path, ceiling_bytes: int) -> None:
        self._directory = directory
        self._drop_bytes = ceiling_bytes // _DROP_SHARE
        self._next_s = 0.0
        self._free_bytes = 0
        self._used_bytes = 0

    def used_bytes(self) -> int:
        """As of the last look, which may be now."""
        now_s = time.monotonic()
        free_bytes = _free_bytes(self._directory)
        if now_s >= self._next_s or self._free_bytes - free_bytes > self._drop_bytes:
            self._free_bytes = free_bytes
            self._used_bytes = used_bytes(self._directory)
            took_s = time.monotonic() - now_s
            self._next_s = now_s + max(_EVERY_S, took_s / _SHARE)
        return self._used_bytes


def _free_bytes(directory: Path) -> int:
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize
