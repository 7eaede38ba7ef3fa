"""What a worker tells of itself and its host."""

from agentherd.contract.base import Report
from agentherd.contract.failures import FailureKind


class GateReport(Report):
    """Whether a worker takes jobs now, and the numbers behind it."""

    open: bool
    reason: str | None = None
    """Why it is closed: `slots`, `booked`, `memory`, `pressure`, `disk`, `breaker`, `stopping`."""
    detail: str = ""
    """The numbers, for a person."""
    since_s: float = 0.0
    """Unix time of the last change, on the worker's clock."""
    headroom_bytes: int = 0
    """RAM for further sessions: on the books and in fact, whichever is less."""
    budget_bytes: int = 0
    """Host RAM less overhead."""
    booked_bytes: int = 0
    """Ceilings of all sessions of the host, those of other workers included."""
    sessions_booked: int = 0
    workers_on_host: int = 1


class BreakerReport(Report):
    """Why no worker takes jobs: the model API refuses what all of them use, key or account."""

    kind: FailureKind
    """`authentication` or `billing`."""
    message: str
    """The API's words to the job that was refused last."""
    worker: str
    """Where that ran."""
    opened_at_ms: int
    """Since when, on Redis's clock."""
    next_probe_ms: int
    """When one job may be tried again, likewise."""


class WorkerReport(Report):
    """One live worker, as it last reported itself."""

    worker: str
    """Host name and process id."""
    host: str
    version: str
    started_at_ms: int
    slots: int
    """Jobs at once in this worker."""
    running: int
    capacity: dict[str, int]
    """How many agents of each memory class the host holds when no other runs; served classes."""
    mark: int
    """What the processes of its agents carry; see agentherd_workers/processes.py."""
    isolation: str
    ceiling_enforcement: str
    gate: GateReport
    breaker: BreakerReport | None = None
    """Why the fleet takes no jobs, as far as this worker knows; None: it does."""
