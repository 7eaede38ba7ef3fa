"""Until when each attempt may live, in memory that the worker shares with its guard.

Memory, because a worker that is stopped can't say anything any more, and one that writes to a
guard which is stopped must not wait: either finds the newest word there whenever it wakes up.
"""

import math
import mmap
import os
import time
from contextlib import suppress
from typing import Self

_SLOTS = 4096
"""More than a worker has attempts."""
_CELLS = 2
"""Of a slot: the deadline (ns), the mark."""
_BYTES = _SLOTS * _CELLS * 8
_FREE = 0
_NEVER = (1 << 64) - 1


class Deadlines:
    """Marks and their deadlines on `time.monotonic()`, which is the same in the whole host."""

    def __init__(self) -> None:
        memory = os.memfd_create("agentherd-deadlines")
        os.truncate(memory, _BYTES)
        self._open(memory, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self._slots: dict[int, int] = {}
        self._free = list(reversed(range(_SLOTS)))

    @classmethod
    def of_worker(cls, memory: int, event: int) -> Self:
        """Those of the worker that left us these descriptors; to be read only."""
        found = cls.__new__(cls)
        found._open(memory, event)
        return found

    def _open(self, memory: int, event: int) -> None:
        self.descriptors = (memory, event)
        """For a child process: the memory, and what is readable once there is a new mark."""
        self._cells = memoryview(mmap.mmap(memory, _BYTES)).cast("Q")

    def hold(self, mark: int, until_s: float) -> None:
        """Let the processes of an attempt live until then."""
        slot = self._slots.get(mark)
        is_new = slot is None
        if slot is None:
            slot = self._slots[mark] = self._free.pop()
        self._cells[slot * _CELLS] = max(0, math.floor(until_s * 1e9))
        if is_new:
            self._cells[slot * _CELLS + 1] = mark
            os.eventfd_write(self.descriptors[1], 1)

    def drop(self, mark: int) -> None:
        """The attempt has ended: nothing is left that could live too long."""
        slot = self._slots.pop(mark)
        # Who reads a later mark here and, on another CPU, not yet its deadline, reads none.
        self._cells[slot * _CELLS] = _NEVER
        self._cells[slot * _CELLS + 1] = _FREE
        self._free.append(slot)

    def left_s(self) -> dict[int, float]:
        """How long each mark may live from now; negative where its time is over."""
        now_ns = time.monotonic_ns()
        found = {}
        for place in range(0, len(self._cells), _CELLS):
            mark = self._cells[place + 1]
            if mark != _FREE:
                until_ns = self._cells[place]
                if self._cells[place + 1] == mark:
                    found[mark] = (until_ns - now_ns) / 1e9
        return found

    def heard(self) -> None:
        """Forget that there was a new mark."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptors[1])

    def close(self) -> None:
        """Give the descriptors back; the worker ends."""
        for descriptor in self.descriptors:
            os.close(descriptor)
