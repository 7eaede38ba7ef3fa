"""What a listing of jobs returns."""

from agentherd.contract.base import Report
from agentherd.contract.failures import FailureKind
from agentherd.contract.states import JobState


class JobSummary(Report):
    """One line of a listing. Times are Unix times on Redis's clock."""

    job_id: str
    state: JobState
    tenant: str
    model: str | None
    prompt_preview: str
    session_id: str
    attempt: int
    worker: str | None
    metadata: dict[str, str]
    submitted_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None
    cost_usd: float | None
    """None until the job has ended."""
    failure_kind: FailureKind | None
    failure_message: str | None = None
    retry_of: str | None = None
    """The ended job that this one tries again."""
    retried_as: str | None = None
    """The job that tries this one again."""


class JobPage(Report):
    """Some jobs, the newest first. `cursor` fetches the next page; None: there is none."""

    jobs: tuple[JobSummary, ...]
    cursor: str | None = None
