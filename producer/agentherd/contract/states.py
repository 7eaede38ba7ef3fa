"""The states of a job and the moves between them. The only place that knows."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is."""

    SCHEDULED = "scheduled"
    """Recorded; waits for its time (`not_before`, retry back-off)."""
    QUEUED = "queued"
    """In a queue; waits for a worker."""
    RUNNING = "running"
    """A worker holds its lease."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Ended without success; `JobResult.failure.kind` says why."""
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    """One of the job's own deadlines passed."""
    EXPIRED = "expired"
    """Not started within `expires_s`."""


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.QUEUED: frozenset(
        {JobState.RUNNING, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
    ),
    JobState.RUNNING: frozenset(
        {
            JobState.QUEUED,
            JobState.SCHEDULED,
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
            JobState.TIMED_OUT,
        }
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.TIMED_OUT: frozenset(),
    JobState.EXPIRED: frozenset(),
}
"""State → the states that may follow it.

claim, release and requeue each make one move, which stands in the script; finish is told the
state it must find. A test compares the scripts with this table.
"""

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
LIVE = frozenset(JobState) - TERMINAL
