"""What became of the wish to cancel a job."""

from enum import StrEnum

from agentherd.contract.base import Report
from agentherd.contract.states import JobState


class CancelOutcome(StrEnum):
    """How far the job is on its way to its end."""

    CANCELLED = "cancelled"
    """It waited, and has ended."""
    ASKED = "asked"
    """It runs. Its state says `cancelled` once nothing of its agent is left; if it was done at
    that moment, it ends as it did."""
    ENDED = "ended"
    """It had ended before, in `Cancellation.state`."""


class Cancellation(Report):
    """The answer to `cancel`."""

    job_id: str
    outcome: CancelOutcome
    state: JobState
    """Of the job, just after."""
