"""What a job leaves: its result, its usage, its artifacts."""

from typing import Annotated

from pydantic import Field

from agentherd.contract.base import AgentJson, AgentText, Report
from agentherd.contract.failures import FailureKind
from agentherd.contract.states import JobState
from agentherd.errors import JobFailed


class Usage(Report):
    """Tokens and money, subagents included. Money is the CLI's estimate."""

    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    by_model: dict[str, "Usage"] = {}
    """The same per model id."""

    def __add__(self, other: "Usage") -> "Usage":
        """The sum, model by model."""
        models = self.by_model.keys() | other.by_model.keys()
        nothing = Usage()
        return Usage(
            cost_usd=self.cost_usd + other.cost_usd,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            by_model={
                model: self.by_model.get(model, nothing) + other.by_model.get(model, nothing)
                for model in sorted(models)
            },
        )


class Failure(Report):
    """Why a job did not succeed."""

    kind: FailureKind
    message: AgentText
    """For a person: what happened and what to do. Never holds a key."""
    retryable: bool = False
    retry_after_s: float | None = None
    """What the model API asked for, where it did."""


class Artifact(Report):
    """One file kept from the workspace."""

    name: str
    """Its path in the workspace."""
    size_bytes: int
    sha256: str


class Resources(Report):
    """What a job took of its host at most, over all attempts, its tools included.

    Measured a few times a second, so that a short peak may be missed.
    """

    peak_memory_bytes: int = 0
    """PSS of its processes, or what its cgroup was charged without reclaimable page cache."""
    peak_processes: int = 0
    peak_disk_bytes: int = 0
    """Of its directory: workspace, temporary files, the CLI's own."""
    cpu_s: float = 0.0
    """CPU time, all attempts together."""

    def followed_by(self, later: "Resources") -> "Resources":
        """Both attempts together: the larger peaks, the sum of CPU time."""
        return Resources(
            peak_memory_bytes=max(self.peak_memory_bytes, later.peak_memory_bytes),
            peak_processes=max(self.peak_processes, later.peak_processes),
            peak_disk_bytes=max(self.peak_disk_bytes, later.peak_disk_bytes),
            cpu_s=round(self.cpu_s + later.cpu_s, 2),
        )


class JobResult(Report):
    """How a job ended. Also what `AsyncResult.get()` returns, as a JSON object."""

    version: int = 1
    job_id: str
    state: JobState
    failure: Failure | None = None
    text: AgentText | None = None
    """The agent's last answer."""
    structured_output: AgentJson = None
    """Fits the job's `output_schema`; None where none was asked for."""
    session_id: str
    """Resume or fork it in a later job."""
    session_degraded: bool = False
    """Part of the transcript could not be stored; a resume may miss steps."""
    model: str | None = None
    """What the agent ran on."""
    stop_reason: str | None = None
    """The model API's, of the last response."""
    turns: int = 0
    """Turns of all attempts."""
    usage: Usage = Usage()
    """Of all attempts."""
    resources: Resources = Resources()
    attempts: int = 0
    artifacts: tuple[Artifact, ...] = ()
    permission_denials: tuple[str, ...] = ()
    """Tools that the agent asked for and no rule allowed, in order."""
    submitted_at_ms: Annotated[int, Field(description="Unix time")] = 0
    started_at_ms: int | None = None
    """Start of the first attempt."""
    finished_at_ms: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether the job did what it was asked."""
        return self.state is JobState.SUCCEEDED

    def raise_for_failure(self) -> "JobResult":
        """Return the result itself if the job succeeded.

        Raises:
            JobFailed: it did not; carries this result.
        """
        if self.succeeded:
            return self
        raise JobFailed(failure_text(self), self)


def failure_text(result: JobResult) -> str:
    """One line that says how a job failed."""
    if result.failure is None:
        return f"job {result.job_id}: {result.state}"
    return f"job {result.job_id}: {result.state}, {result.failure.kind}: {result.failure.message}"
