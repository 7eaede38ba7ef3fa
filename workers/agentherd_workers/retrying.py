"""Whether an attempt that did not succeed is followed by another one. Pure, but for the jitter."""

import random
from dataclasses import dataclass

from agentherd.contract.failures import FailureKind
from agentherd.contract.job import Job, RetryPolicy
from agentherd.contract.results import Failure
from agentherd.contract.states import JobState
from agentherd.layout.records import JobRecord
from agentherd_workers.agent.outcome import Stop, Verdict


@dataclass(frozen=True, kw_only=True)
class Again:
    """The job goes back to wait for another attempt."""

    reason: str
    """For a person; in the `requeued` event."""
    delay_s: float = 0.0
    """0 puts it into its queue at once."""
    refund: bool = False
    """The attempt does not count."""
    after_silence: bool = False
    """The agent was alive and said nothing for too long."""


MAX_IDLE_RESUMES = 1
"""Attempts that may follow on silence. What makes a CLI silent twice will do so again."""


def another_attempt(job: Job, record: JobRecord, stop: Stop | None, ended: Verdict) -> Again | None:
    """What follows an attempt that ended so; None: its end is the job's.

    Args:
        record: as claimed, the attempt that ended included.
        stop: why we ended it ourselves, if we did.
    """
    if ended.state is JobState.SUCCEEDED:
        return None
    if stop is Stop.DRAINED:
        return Again(reason="the worker is shutting down", refund=True)
    failure = ended.failure
    if failure is None or record.attempt >= job.retry.max_attempts:
        return None
    if failure.kind is FailureKind.IDLE_TIMEOUT and record.idle_resumes < MAX_IDLE_RESUMES:
        return Again(reason=f"{failure.kind}: {failure.message}", after_silence=True)
    if failure.kind not in job.retry.kinds:
        return None
    return Again(
        reason=f"{failure.kind}: {failure.message}",
        delay_s=_backoff_s(job.retry, record.attempt, failure),
    )


def _backoff_s(policy: RetryPolicy, attempt: int, failure: Failure) -> float:
    backoff_s = min(policy.backoff_s * 2.0 ** (attempt - 1), policy.max_backoff_s)
    jittered_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
    return float(max(jittered_s, failure.retry_after_s or 0.0))
