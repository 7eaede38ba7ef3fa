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
"""State → the states that may follow it. Scripts get their allowed source states from here."""

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
LIVE = frozenset(JobState) - TERMINAL


def sources_of(target: JobState) -> tuple[JobState, ...]:
    """The states from which `target` can be reached, in declaration order."""
    return tuple(state for state in JobState if target in TRANSITIONS[state])
