"""The gate: whether this worker asks Redis for another message now, and for which queues.

RAM is booked *before* the message is asked for. A BRPOP on the wire may already hold a popped
message, so it counts as a session of its own; its reservation goes over to the job that it
brings. No reply is ever left unread, and no admission can exceed the host's budget.

A larger class may be overtaken by smaller jobs while it does not fit, but not for ever: after
`patience_s` what becomes free is kept for it.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agentherd.contract.hosts import GateReport
from agentherd_workers.admission.ledger import Booked, Ledger
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.breaker import Breaker
from agentherd_workers.sizes import size_text

_POLL = "poll"
"""The reservation of the BRPOP on the wire."""
_ARRIVED = "arrived"
"""The reservation of a message that the pool has not taken yet."""
_RECHECK_S = 0.05
"""A closed gate is not looked at more often than this, unless something was given back."""


class GateReason(StrEnum):
    """What keeps the gate closed."""

    SLOTS = "slots"
    """As many jobs as the worker's concurrency."""
    BOOKED = "booked"
    """The host's RAM is reserved by sessions, those of other workers included."""
    MEMORY = "memory"
    """What is free in fact would not do if every session grew to its ceiling."""
    PRESSURE = "pressure"
    """The kernel reports that tasks wait for memory."""
    DISK = "disk"
    """The workspaces' disk has no room for one more."""
    BREAKER = "breaker"
    """The model API refuses every job of the fleet."""
    STOPPING = "stopping"
    """The worker is shutting down."""


@dataclass(frozen=True)
class Refusal:
    """Why nothing is admitted now."""

    reason: GateReason
    detail: str
    """The numbers, for a person."""


_STOPPING = Refusal(GateReason.STOPPING, "the worker is shutting down")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the gate goes by."""

    budget_bytes: int
    """Host RAM less overhead: all ceilings together stay below it."""
    slots: int
    """Jobs at once in this worker."""
    min_free_disk_bytes: int
    max_pressure_percent: float
    """Of PSI's `some avg10`."""
    patience_s: float = 10.0
    """How long smaller jobs may overtake a larger class that waits."""


@dataclass(frozen=True)
class GateState:
    """What an operator sees."""

    open: bool
    reason: GateReason | None
    detail: str
    since_s: float
    """Unix time of the last change."""


def free_disk_bytes(path: Path) -> int:
    """Bytes that an unprivileged user may still write."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


Start = Callable[[str], None]
"""Starts a job under the reservation of this name."""


class Gate:
    """One worker's gate. `release`, `measure`, `note_waiting` and `report` may be called from
    any thread; the rest belongs to Celery's main thread."""

    def __init__(
        self,
        limits: Limits,
        ceilings: Mapping[str, int],
        ledger: Ledger,
        memory: HostMemory,
        workspace_root: Path,
        *,
        breaker: Breaker | None = None,
        free_disk: Callable[[Path], int] = free_disk_bytes,
    ) -> None:
        self.limits = limits
        self.breaker = breaker or Breaker()
        self.ceilings = dict(ceilings)
        """Bytes by queue: the queues that this worker consumes."""
        self._ledger = ledger
        self._memory = memory
        self._root = workspace_root
        self._free_disk = free_disk
        self._lock = threading.Lock()
        self._tickets = 0
        self._waiting: dict[str, float] = {}
        """Queues that hold messages, by the time since which none of theirs came here."""
        self._last_queue: str | None = None
        self._arrived_queue: str | None = None
        self._line: deque[tuple[str, Start]] = deque()
        """Jobs whose message came without a reservation, by their queue."""
        self._stopping = False
        self._checked_s = float("-inf")
        self._state = GateState(False, None, "not asked yet", time.time())
        self.wake: Callable[[], None] = lambda: None
        """Called from any thread when something was given back; set by the bootstep."""

    @property
    def state(self) -> GateState:
        """Open or closed, and why."""
        return self._state

    def note_waiting(self, queues: frozenset[str]) -> None:
        """Say which queues hold messages; matters for those with more than the least ceiling."""
        now_s = time.monotonic()
        with self._lock:
            self._waiting = {queue: self._waiting.get(queue, now_s) for queue in queues}

    def offer(self, queues: Sequence[str]) -> list[str]:
        """The queues to ask for a message now, RAM being booked for it; none: don't ask.

        Called when no BRPOP is on the wire. Queues of classes that don't fit are left out.
        """
        ours = [queue for queue in queues if queue in self.ceilings]
        with self._lock:
            if not ours or self._recently_refused():
                return []
            # What the last message booked and no job took: it was no job.
            self._ledger.release(_ARRIVED)
            if self._line:
                self._ledger.release(_POLL)
        self.turn()
        with self._lock:
            return [] if self._line else self._admitted(ours)

    def arrived(self, queue: str) -> None:
        """A message was popped from `queue`: its reservation is the poll's."""
        with self._lock:
            # None is left after `stop`: the job then books for itself, or is given back.
            if queue in self.ceilings and _POLL in self._ledger.names():
                self._ledger.rename(_POLL, _ARRIVED, self.ceilings[queue])
                self._arrived_queue = self._last_queue = queue
                self.breaker.job_taken()
                if queue in self._waiting:
                    self._waiting[queue] = time.monotonic()

    def admit(self, queue: str, start: Start) -> None:
        """Start a job of `queue` under the reservation that its message brought.

        A message with an ETA gave its own back when it came, for it may be held for days. Its
        job stands in line until there is room, and nothing is asked for meanwhile.
        """
        with self._lock:
            name = self._take(queue)
        if name is not None:
            start(name)
        else:
            self._line.append((queue, start))
            self.turn()

    def turn(self) -> None:
        """Start what stands in line and has room now."""
        while self._line:
            queue, start = self._line[0]
            with self._lock:
                name = self._new_name()
                refusal = self._book(name, self._ceiling_of(queue))
                if refusal is not None:
                    self._note(refusal)
                    return
            self._line.popleft()
            self.breaker.job_taken()
            start(name)

    def release(self, name: str) -> None:
        """Give a job's reservation back."""
        self._ledger.release(name)
        self._checked_s = float("-inf")
        self.wake()

    def measure(self, used_bytes: dict[str, int]) -> None:
        """Note what the jobs' sessions use now."""
        self._ledger.measure(used_bytes)

    def stop(self) -> None:
        """Admit nothing more, and give back what was booked for a poll."""
        with self._lock:
            self._stopping = True
            self._line.clear()
            self._ledger.release(_POLL)
            self._note(_STOPPING)

    def report(self) -> GateReport:
        """Its state and numbers, for operators."""
        booked = self._ledger.booked()
        return GateReport(
            open=self._state.open,
            reason=self._state.reason,
            detail=self._state.detail,
            since_s=self._state.since_s,
            headroom_bytes=max(
                0,
                min(
                    self.limits.budget_bytes - booked.ceilings_bytes,
                    self._memory.available_bytes() - booked.growth_bytes,
                ),
            ),
            budget_bytes=self.limits.budget_bytes,
            booked_bytes=booked.ceilings_bytes,
            sessions_booked=booked.count,
            workers_on_host=booked.workers,
        )

    def _new_name(self) -> str:
        self._tickets += 1
        return f"job-{self._tickets}"

    def _take(self, queue: str) -> str | None:
        """The reservation of the message that has just arrived from `queue`, under a new name."""
        if self._arrived_queue != queue or _ARRIVED not in self._ledger.names():
            return None
        name = self._new_name()
        self._ledger.rename(_ARRIVED, name)
        return name

    def _ceiling_of(self, queue: str) -> int:
        """A job of a queue that we don't know may be of any class."""
        return self.ceilings.get(queue, max(self.ceilings.values()))

    def _recently_refused(self) -> bool:
        return not self._state.open and time.monotonic() - self._checked_s < _RECHECK_S

    def _admitted(self, ours: list[str]) -> list[str]:
        """Book for the largest ceiling that is wanted and fits; the queues it is enough for.

        The least ceiling is always wanted; a larger one only while messages wait for it, since
        an idle worker's poll would hold its RAM.
        """
        least = min(self.ceilings[queue] for queue in ours)
        wanted = {
            queue: self.ceilings[queue]
            for queue in ours
            if self.ceilings[queue] == least or queue in self._waiting
        }
        refusal: Refusal | None = None
        for size in sorted(set(wanted.values()), reverse=True):
            overdue = size > least and self._overdue(wanted, size)
            refusal = self._book(_POLL, size)
            if refusal is None:
                self._note(None)
                return overdue or self._in_order(wanted, size)
            if overdue:
                break
        self._ledger.release(_POLL)
        self._note(refusal)
        return []

    def _overdue(self, wanted: Mapping[str, int], size: int) -> list[str]:
        """The queues of this ceiling that smaller jobs may no longer overtake."""
        since_s = time.monotonic() - self.limits.patience_s
        return [
            queue
            for queue, ceiling in wanted.items()
            if ceiling == size and self._waiting.get(queue, since_s + 1) <= since_s
        ]

    def _in_order(self, wanted: Mapping[str, int], size: int) -> list[str]:
        """Those that fit into `size`: the largest first, but the last one served at the end."""
        fitting = [queue for queue, ceiling in wanted.items() if ceiling <= size]
        return sorted(fitting, key=lambda queue: (queue == self._last_queue, -wanted[queue]))

    def _book(self, name: str, ceiling_bytes: int) -> Refusal | None:
        return self._ledger.reserve(
            name, ceiling_bytes, lambda others: self._refusal(name, ceiling_bytes, others)
        )

    def _refusal(self, name: str, ceiling_bytes: int, others: Booked) -> Refusal | None:
        """What speaks against one more session, the cheapest question first."""
        limits = self.limits
        # The poll's too: it may bring a job.
        running = len([held for held in self._ledger.names() if held != name])
        if self._stopping:
            return _STOPPING
        if running >= limits.slots:
            return Refusal(GateReason.SLOTS, f"{running} of {limits.slots} slots in use")
        if others.ceilings_bytes + ceiling_bytes > limits.budget_bytes:
            return Refusal(
                GateReason.BOOKED,
                f"{others.count} sessions have booked {size_text(others.ceilings_bytes)} of"
                f" {size_text(limits.budget_bytes)}; one more needs {size_text(ceiling_bytes)}",
            )
        return self._refusal_in_fact(ceiling_bytes, others) or self._refusal_of_breaker()

    def _refusal_in_fact(self, ceiling_bytes: int, others: Booked) -> Refusal | None:
        available_bytes = self._memory.available_bytes()
        if available_bytes - others.growth_bytes < ceiling_bytes:
            return Refusal(
                GateReason.MEMORY,
                f"{size_text(available_bytes)} are available, of which sessions may still grow"
                f" into {size_text(others.growth_bytes)};"
                f" one more needs {size_text(ceiling_bytes)}",
            )
        pressure = self._memory.pressure()
        if pressure is not None and pressure.some_percent > self.limits.max_pressure_percent:
            return Refusal(
                GateReason.PRESSURE,
                f"tasks wait for memory {pressure.some_percent:g} % of the time;"
                f" calm is {self.limits.max_pressure_percent:g} %",
            )
        free_bytes = self._free_disk(self._root)
        if free_bytes < self.limits.min_free_disk_bytes:
            return Refusal(
                GateReason.DISK,
                f"{size_text(free_bytes)} are free at {self._root};"
                f" a session may need {size_text(self.limits.min_free_disk_bytes)}",
            )
        return None

    def _refusal_of_breaker(self) -> Refusal | None:
        """Asked last: where this speaks, a job that may be tried would have room."""
        detail = self.breaker.refusal()
        return Refusal(GateReason.BREAKER, detail) if detail else None

    def _note(self, refusal: Refusal | None) -> None:
        self._checked_s = time.monotonic()
        reason = refusal.reason if refusal else None
        changed = (refusal is None) != self._state.open or reason != self._state.reason
        self._state = GateState(
            open=refusal is None,
            reason=reason,
            detail=refusal.detail if refusal else "",
            since_s=time.time() if changed else self._state.since_s,
        )
