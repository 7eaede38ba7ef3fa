"""What becomes of jobs that time has run out for: their worker's lease, or their own expiry."""

from dataclasses import dataclass
from enum import StrEnum

from agentherd.contract.failures import FailureKind
from agentherd.contract.results import Failure
from agentherd.contract.states import JobState
from agentherd.contract.wire import decode_job
from agentherd.errors import InvalidJob
from agentherd.layout import cancelling, leading, records
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation
from agentherd.layout.records import JobRecord, Requeued
from agentherd_workers.agent.outcome import Verdict
from agentherd_workers.retrying import another_attempt

NOT_STARTED = "not started within expires_s"


class Fate(StrEnum):
    """What was done with it."""

    GIVEN_BACK = "given_back"
    """It is next in its queue, with the session of the attempt that was lost."""
    LOST = "lost"
    """It ended: no attempt is left."""
    CANCELLED = "cancelled"
    """It ended: someone had asked for that."""


@dataclass(frozen=True)
class Recovered:
    """A job that was taken from a lost worker."""

    worker: str | None
    attempt: int
    fate: Fate


def recover(keys: Keys, job_id: str, *, retention_ms: int) -> Operation[Recovered | None]:
    """Take a running job whose lease is over from its worker; None: there is nothing to take.

    It was renewed meanwhile, or another leader took it, if so.

    Args:
        retention_ms: how long the record is kept where the job ends here.
    """
    record = yield from records.read_record(keys, job_id, content=True)
    if record is None or record.state is not JobState.RUNNING:
        yield from leading.set_aside(keys, keys.leases, job_id)
        return None
    if record.cancel_reason is not None:
        failure = cancelling.failure(record.cancel_reason)
        return (yield from _end(keys, record, Fate.CANCELLED, failure, retention_ms))
    reason = f"worker {record.worker} was lost"
    lost = Failure(kind=FailureKind.LOST, message=f"{reason}; no attempt follows", retryable=True)
    if not _goes_on(record, lost):
        return (yield from _end(keys, record, Fate.LOST, lost, retention_ms))
    given = yield from records.requeue(
        keys, record, delay_ms=0, reason=reason, refund=False, lease_over=True
    )
    # One that was cancelled just now is found so at the next tick.
    return _recovered(record, Fate.GIVEN_BACK) if given is Requeued.GIVEN_BACK else None


def expire(keys: Keys, job_id: str, *, retention_ms: int) -> Operation[bool]:
    """End a job that was not started within its `expires_s`; False: it was, or has moved."""
    record = yield from records.read_record(keys, job_id)
    waits = (JobState.QUEUED, JobState.SCHEDULED)
    expires = record is not None and record.state in waits and record.started_at_ms is None
    if record is not None and expires:
        failure = Failure(kind=FailureKind.EXPIRED, message=NOT_STARTED)
        ended = yield from records.end_waiting(
            keys, record, JobState.EXPIRED, failure, retention_ms=retention_ms
        )
        if not ended:
            return False  # it was released or claimed just now: the next tick sees
    yield Command("ZREM", keys.expiring, job_id)
    return expires


def _goes_on(record: JobRecord, lost: Failure) -> bool:
    """Whether another attempt follows; at once, for it was not the job's fault."""
    try:
        job = decode_job(record.spec)
    except InvalidJob:
        return True  # who claims it finds out, and ends it with the reason
    return another_attempt(job, record, None, Verdict(JobState.FAILED, lost)) is not None


def _end(
    keys: Keys, record: JobRecord, fate: Fate, failure: Failure, retention_ms: int
) -> Operation[Recovered | None]:
    state = JobState.CANCELLED if fate is Fate.CANCELLED else JobState.FAILED
    ended = yield from records.finish(
        keys,
        record,
        records.ended_without_agent(record, state, failure),
        retention_ms=retention_ms,
        lease_over=True,
    )
    return None if ended is None else _recovered(record, fate)


def _recovered(record: JobRecord, fate: Fate) -> Recovered:
    return Recovered(record.worker, record.attempt, fate)
