"""How a client follows a job to its end: shared by both kinds of caller."""

import time
from dataclasses import dataclass, field

from agentherd.client.requests import state_of
from agentherd.contract.events import EventKind, JobEvent
from agentherd.contract.results import JobResult
from agentherd.contract.states import TERMINAL
from agentherd.errors import JobNotFound, ResultTimeout
from agentherd.layout import events
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Operation
from agentherd.layout.records import read_record


@dataclass
class Deadline:
    """A time-out that many waits share. `timeout_s` None: no end."""

    timeout_s: float | None
    _started_s: float = field(default_factory=time.monotonic)

    def remaining_ms(self, at_most_ms: int) -> int:
        """How long the next wait may take; 0: the time is up."""
        if self.timeout_s is None:
            return at_most_ms
        left_s = self._started_s + self.timeout_s - time.monotonic()
        return max(0, min(at_most_ms, int(left_s * 1000)))


@dataclass
class ResultWait:
    """Waits for a job's end by its event stream, one bounded step at a time."""

    keys: Keys
    job_id: str
    deadline: Deadline
    slice_ms: int
    after: str = ""

    def step(self) -> Operation[JobResult | None]:
        """The result; None: not yet, step again. Raises `JobNotFound`, `ResultTimeout`."""
        if not self.after:
            self.after = yield from events.last_event_id(self.keys, self.job_id)
            return (yield from self._look())
        wait_ms = self.deadline.remaining_ms(self.slice_ms)
        news: list[JobEvent] = []
        if wait_ms:
            news = yield from events.read_events(self.keys, self.job_id, self.after, wait_ms)
        if news:
            self.after = news[-1].id
        if not wait_ms or any(event.kind == EventKind.ENDED for event in news):
            return (yield from self._look(last=not wait_ms))
        return None

    def _look(self, *, last: bool = False) -> Operation[JobResult | None]:
        record = yield from read_record(self.keys, self.job_id)
        if record is None:
            raise JobNotFound(self.job_id)
        if record.state in TERMINAL:
            return record.result
        if last:
            raise ResultTimeout(self.job_id, record.state, self.deadline.timeout_s or 0)
        return None


@dataclass
class EventFeed:
    """Reads a job's events, page by page, to its end."""

    keys: Keys
    job_id: str
    after: str
    follow: bool
    slice_ms: int
    done: bool = False
    waits: bool = False
    """The first read does not: the job may be unknown, or may have nothing more to tell."""

    def step(self) -> Operation[list[JobEvent]]:
        """The next events, perhaps none yet. Sets `done` after the last one."""
        wait_ms = self.slice_ms if self.follow and self.waits else 0
        page = yield from events.read_events(self.keys, self.job_id, self.after, wait_ms)
        self.waits = True
        if page:
            self.after = page[-1].id
            self.done = page[-1].kind == EventKind.ENDED
        else:
            state = yield from state_of(self.keys, self.job_id)
            self.done = not self.follow or state in TERMINAL
        return page


def wait_slice_ms(timeout_s: float) -> int:
    """How long one blocking read may take: well below the socket's time-out."""
    return max(1, min(2000, int(timeout_s * 1000 / 4)))
