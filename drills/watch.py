"""Looking at a host while its jobs run: what is booked, what is used, what the kernel kills."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agentherd.layout.queues import depths
from agentherd_workers.ceilings.tree import pss_bytes
from agentherd_workers.kernel_files import cgroup_directories, numbers_in
from agentherd_workers.processes import marked_by_worker
from drills.book import read_book
from drills.fleet import Fleet

_LOOK_EVERY_S = 0.02
_RECORD_BYTES = 8192
_MEASURE_EVERY_S = 0.3
"""PSS costs about a millisecond a process."""


@dataclass
class Watch:
    """What was seen."""

    waiting_s: float = 0.0
    """How long jobs waited in the queue."""
    waiting_byte_seconds: float = 0.0
    """What jobs had booked meanwhile."""
    most_booked_bytes: int = 0
    """Polls included."""
    most_used_of_booked: float = 0.0
    """The PSS of all jobs' processes, as a share of what their jobs had booked."""
    kills_in_cgroups: dict[str, int] = field(default_factory=dict)
    """By the kernel, at the ceiling of each job's cgroup."""
    kernel_kills_of_host: int = 0
    """Because the host had no memory left."""

    @property
    def kernel_kills_of_jobs(self) -> int:
        """At jobs' own ceilings."""
        return sum(self.kills_in_cgroups.values())


@contextmanager
def watching(fleet: Fleet) -> Iterator[Watch]:
    """Look until the block ends."""
    watch = Watch()
    over = threading.Event()
    threads = [
        threading.Thread(target=look, args=(fleet, watch, over))
        for look in (_watch_book, _watch_memory)
    ]
    killed, logged = _kernel_kills(), _logged_kills()
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()
        watch.kernel_kills_of_host = (
            _kernel_kills() - killed - watch.kernel_kills_of_jobs
            if logged is None
            else (_logged_kills() or 0) - logged
        )


def _watch_book(fleet: Fleet, watch: Watch, over: threading.Event) -> None:
    """Each look stands for the time since the one before."""
    before_s = time.monotonic()
    while not over.wait(_LOOK_EVERY_S):
        waiting = fleet.herd.connection.run(depths(["agents"]))["agents"]
        book = read_book(fleet.root / "ledger")
        watch.most_booked_bytes = max(watch.most_booked_bytes, book.all_bytes)
        now_s = time.monotonic()
        if waiting:
            watch.waiting_s += now_s - before_s
            watch.waiting_byte_seconds += book.jobs_bytes * (now_s - before_s)
        before_s = now_s
        _note_kills(watch)


def _watch_memory(fleet: Fleet, watch: Watch, over: threading.Event) -> None:
    marks = [worker.mark for worker in fleet.herd.workers()]
    while not over.wait(_MEASURE_EVERY_S):
        before = read_book(fleet.root / "ledger").jobs_bytes
        used = pss_bytes(pid for mark in marks for pid in marked_by_worker(mark))
        # A job may have come or gone meanwhile.
        booked = max(before, read_book(fleet.root / "ledger").jobs_bytes)
        if booked:
            watch.most_used_of_booked = max(watch.most_used_of_booked, used / booked)


def _note_kills(watch: Watch) -> None:
    """Of every job on this host, also those of other fleets: the kernel counts them all."""
    for controller, name in (("memory", "memory.oom_control"), ("", "memory.events")):
        for parent in cgroup_directories(Path("/"), controller)[:1]:
            for path in parent.glob("agentherd-*/"):
                kills = numbers_in(path / name).get("oom_kill", 0)
                if kills:
                    watch.kills_in_cgroups[str(path)] = kills


def _logged_kills() -> int | None:
    """What the kernel has logged of kills that no cgroup's ceiling asked for; None: not shown us.

    Its counter in /proc/vmstat does not tell the two apart.
    """
    log = bytearray()
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        while True:
            with suppress(BrokenPipeError):  # older records were overwritten meanwhile
                log += os.read(fd, _RECORD_BYTES)
    except BlockingIOError:
        return log.count(b";Out of memory: Killed process")
    finally:
        os.close(fd)


def _kernel_kills() -> int:
    """Processes that the kernel has killed for memory since boot, in cgroups or not."""
    return numbers_in(Path("/proc/vmstat")).get("oom_kill", 0)
