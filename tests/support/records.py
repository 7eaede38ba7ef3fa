"""Moving a job through its life as a worker would, without running anything."""

from typing import Any

from agentherd import EventKind, Herd, JobResult, JobState, Usage
from agentherd.layout import records
from agentherd.layout.records import Claim, JobRecord, Overdue, Refused

LEASE_MS = 60_000
RETENTION_MS = 60_000


def try_claim(
    herd: Herd, job_id: str, *, tenant: str = "default", worker: str = "w1@host"
) -> Claim | Refused | Overdue:
    """Ask for the job."""
    return herd.connection.run(records.claim(herd.keys, job_id, tenant, worker, LEASE_MS))


def claim(herd: Herd, job_id: str, *, tenant: str = "default", worker: str = "w1@host") -> Claim:
    """Take the job; it must be to be had."""
    outcome = try_claim(herd, job_id, tenant=tenant, worker=worker)
    assert isinstance(outcome, Claim)
    return outcome


def report(herd: Herd, held: Claim, *events: tuple[EventKind, dict[str, Any]]) -> bool:
    """Append events."""
    return herd.connection.run(
        records.report(herd.keys, held.record.job_id, held.fence, list(events), {})
    )


def result_of(record: JobRecord, state: JobState = JobState.SUCCEEDED, **fields: Any) -> JobResult:
    """A result of the job."""
    return JobResult(
        job_id=record.job_id,
        state=state,
        session_id=record.session_id,
        usage=Usage(cost_usd=0.25, input_tokens=10, output_tokens=5),
        attempts=record.attempt,
        **fields,
    )


def finish(
    herd: Herd, record: JobRecord, state: JobState = JobState.SUCCEEDED, **fields: Any
) -> int | None:
    """End the job; None: refused."""
    return herd.connection.run(
        records.finish(
            herd.keys, record, result_of(record, state, **fields), retention_ms=RETENTION_MS
        )
    )


def run_to_end(herd: Herd, job_id: str, **fields: Any) -> None:
    """Claim and finish a queued job of the default tenant."""
    assert finish(herd, claim(herd, job_id).record, **fields) is not None
