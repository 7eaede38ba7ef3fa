"""Ending a job by request: at once where it waits, through its worker where it runs."""

import json

from agentherd.contract.cancelling import Cancellation, CancelOutcome
from agentherd.contract.failures import FailureKind
from agentherd.contract.results import Failure
from agentherd.contract.states import TERMINAL, JobState
from agentherd.layout import records
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Script
from agentherd.layout.records import JobRecord
from agentherd.layout.replies import text

MAX_REASON = 1000
"""Characters of a reason that are kept."""


def cancel(
    keys: Keys, job_id: str, reason: str, *, retention_ms: int
) -> Operation[Cancellation | None]:
    """Cancel the job, whatever its state; None: there is no such job.

    Args:
        retention_ms: how long the record of one that is ended here is kept.
    """
    reason = reason[:MAX_REASON]
    while True:
        record = yield from records.read_record(keys, job_id)
        if record is None:
            return None
        if record.state in TERMINAL:
            return Cancellation(job_id=job_id, outcome=CancelOutcome.ENDED, state=record.state)
        if record.state is JobState.RUNNING:
            if (yield from _ask(keys, job_id, reason)):
                return Cancellation(
                    job_id=job_id, outcome=CancelOutcome.ASKED, state=JobState.RUNNING
                )
        elif (yield from end_waiting(keys, record, reason, retention_ms=retention_ms)):
            return Cancellation(
                job_id=job_id, outcome=CancelOutcome.CANCELLED, state=JobState.CANCELLED
            )
        # It moved between our two looks; it can't do so for ever.


def end_waiting(
    keys: Keys, record: JobRecord, reason: str, *, retention_ms: int
) -> Operation[bool]:
    """End a job that is queued or scheduled as cancelled; False: it has moved on."""
    return (
        yield from records.end_waiting(
            keys, record, JobState.CANCELLED, failure(reason), retention_ms=retention_ms
        )
    )


def reason_of(keys: Keys, job_id: str) -> Operation[str]:
    """Why someone asked to cancel a running job; empty where nobody did, or gave no reason."""
    reason = yield Command("HGET", keys.job(job_id), "cancel_reason")
    return text(reason) if reason else ""


def failure(reason: str) -> Failure:
    """Why a cancelled job ended."""
    message = f"cancelled: {reason}" if reason else "cancelled"
    return Failure(kind=FailureKind.CANCELLED, message=message)


def _ask(keys: Keys, job_id: str, reason: str) -> Operation[bool]:
    reply = yield Script(
        "cancel",
        keys={
            "record": keys.job(job_id),
            "events": keys.events(job_id),
            "cancellations": keys.cancellations,
        },
        args={"job_id": job_id, "reason": reason, "event": json.dumps({"reason": reason})},
    )
    return bool(reply)
