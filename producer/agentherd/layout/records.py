"""The record of a job: reading it, and the moves of its life as operations."""

import json
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from agentherd.contract.events import EventKind
from agentherd.contract.results import Failure, JobResult, Resources, Usage
from agentherd.contract.states import JobState
from agentherd.layout.keys import Keys, queue_list
from agentherd.layout.operations import Command, Operation, Script
from agentherd.layout.replies import pairs, text

MAX_EVENTS = 10_000
"""Events kept per job; the oldest go first."""
MAX_PEAKS = 2_000
"""Ended jobs of a queue whose peaks are kept; see `agentherd capacity --from-history`."""
DEFAULT_RETENTION_S = 7 * 24 * 3600.0
"""How long records, events and artifacts of ended jobs are kept where nothing else is set."""
_FIELDS = (
    "job_id", "state", "tenant", "session_id", "queue", "priority", "attempt", "preview", "model",
    "metadata", "submitted_at_us", "released_at_ms", "started_at_ms", "finished_at_ms", "worker",
    "fence", "usage", "resources", "turns", "ran_s", "idle_resumes", "result",
    "retry_of", "retried_as", "cancel_reason",
)  # fmt: skip
"""Of a record, without the job's content."""


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """What Redis knows about a job. Times are Unix times on Redis's clock."""

    job_id: str
    state: JobState
    tenant: str
    session_id: str
    queue: str
    priority: int
    spec: str
    """The job as wire JSON; empty where the record was read without its content."""
    attempt: int
    preview: str
    model: str | None
    metadata: dict[str, str]
    submitted_at_us: int
    released_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None
    worker: str | None
    fence: int | None
    usage: Usage
    """Of the attempts so far, as last reported."""
    resources: Resources
    """Of the attempts before this one."""
    turns: int
    """Likewise."""
    ran_s: float
    """How long their agents ran, likewise."""
    idle_resumes: int
    """Attempts that followed on one whose agent fell silent."""
    result: JobResult | None
    retry_of: str | None = None
    """The ended job that this one tries again."""
    retried_as: str | None = None
    """The job that tries this one again."""
    cancel_reason: str | None = None
    """Why someone asked to cancel it while it ran, which may be empty; None: nobody did."""
    served: bool | None = None
    """Of a job that waits in its queue: whether a live worker consumes that; None: not asked."""


def record_from(fields: dict[str, str]) -> JobRecord:
    """The record in a hash's fields."""
    finished_at_ms = _number(fields, "finished_at_ms")
    result = fields.get("result")
    return JobRecord(
        job_id=fields["job_id"],
        state=JobState(fields["state"]),
        tenant=fields["tenant"],
        session_id=fields["session_id"],
        queue=fields["queue"],
        priority=int(fields["priority"]),
        spec=fields.get("spec", ""),
        attempt=int(fields["attempt"]),
        preview=fields.get("preview", ""),
        model=fields.get("model") or None,
        metadata=json.loads(fields.get("metadata") or "{}"),
        submitted_at_us=int(fields["submitted_at_us"]),
        released_at_ms=int(fields["released_at_ms"]),
        started_at_ms=_number(fields, "started_at_ms"),
        finished_at_ms=finished_at_ms,
        worker=fields.get("worker"),
        fence=_number(fields, "fence"),
        usage=Usage.model_validate_json(fields.get("usage") or "{}"),
        resources=Resources.model_validate_json(fields.get("resources") or "{}"),
        turns=int(fields.get("turns") or 0),
        retry_of=fields.get("retry_of"),
        retried_as=fields.get("retried_as"),
        cancel_reason=fields.get("cancel_reason"),
        ran_s=float(fields.get("ran_s") or 0),
        idle_resumes=int(fields.get("idle_resumes") or 0),
        result=None
        if result is None
        else JobResult.model_validate_json(result).model_copy(
            update={"finished_at_ms": finished_at_ms or 0}
        ),
    )


def read_record(keys: Keys, job_id: str, *, content: bool = False) -> Operation[JobRecord | None]:
    """The job's record, or None.

    Args:
        content: with `spec`, which may be 12 MiB; else that is empty.
    """
    names = (*_FIELDS, "spec") if content else _FIELDS
    values = yield Command("HMGET", keys.job(job_id), *names)
    found = zip(names, values, strict=True)
    fields = {name: text(value) for name, value in found if value is not None}
    return record_from(fields) if fields else None


@dataclass(frozen=True)
class Claim:
    """The caller runs the job: its record, and the token that every write must present."""

    fence: int
    record: JobRecord
    waited_ms: int
    """From the job's release into its queue to this claim, on Redis's clock."""
    again: bool
    """The job was claimed before, if perhaps without an attempt being charged."""


@dataclass(frozen=True)
class Refused:
    """The job is not to be run: it is in `state`, or unknown (None)."""

    state: JobState | None


class Overdue:
    """The job was not started in time; the caller ends it as expired."""


def claim(
    keys: Keys, job_id: str, tenant: str, worker: str, lease_ms: int
) -> Operation[Claim | Refused | Overdue]:
    """Take a queued job. See claim.lua."""
    reply = yield Script(
        "claim",
        keys={
            "record": keys.job(job_id),
            "leases": keys.leases,
            "fence_counter": keys.fence_counter,
            "events": keys.events(job_id),
            "queued_index": keys.state_index(JobState.QUEUED),
            "tenant_queued_index": keys.tenant_index(tenant, JobState.QUEUED),
            "running_index": keys.state_index(JobState.RUNNING),
            "tenant_running_index": keys.tenant_index(tenant, JobState.RUNNING),
            "artifacts": keys.artifacts(job_id),
        },
        args={"job_id": job_id, "worker": worker, "lease_ms": lease_ms},
    )
    match text(reply[0]):
        case "claimed":
            return _claim(int(reply[1]), pairs(reply[2]), lease_ms)
        case "expired":
            return Overdue()
        case "refused":
            return Refused(JobState(text(reply[1])))
        case _:
            return Refused(None)


def _claim(fence: int, fields: dict[str, str], lease_ms: int) -> Claim:
    claimed_at_ms = int(fields["lease_until_ms"]) - lease_ms
    record = record_from(fields)
    return Claim(
        fence,
        record,
        waited_ms=claimed_at_ms - record.released_at_ms,
        again=record.started_at_ms != claimed_at_ms,
    )


class Renewal(IntEnum):
    """What became of the wish to hold a job longer."""

    GONE = 0
    """The lease is someone else's, or the job has ended."""
    RENEWED = 1
    CANCELLING = 2
    """Renewed, and someone asked to cancel the job: whoever holds it is to end it so."""


def renew(keys: Keys, job_id: str, fence: int, lease_ms: int) -> Operation[Renewal]:
    """Prolong the lease. See renew.lua."""
    reply = yield Script(
        "renew",
        keys={"record": keys.job(job_id), "leases": keys.leases},
        args={"job_id": job_id, "fence": fence, "lease_ms": lease_ms},
    )
    return Renewal(reply)


def report(
    keys: Keys,
    job_id: str,
    fence: int,
    events: list[tuple[EventKind, dict[str, Any]]],
    progress: dict[str, str],
) -> Operation[bool]:
    """Append events and note progress; False: the lease is gone. See report.lua."""
    reply = yield Script(
        "report",
        keys={"record": keys.job(job_id), "events": keys.events(job_id)},
        args={
            "fence": fence,
            "max_events": MAX_EVENTS,
            "events": json.dumps([[kind, json.dumps(data)] for kind, data in events]),
            "progress": json.dumps(progress),
        },
    )
    return bool(reply)


def keep_artifact(
    keys: Keys, job_id: str, fence: int, name: str, content: bytes
) -> Operation[bool]:
    """Store one artifact; False: the lease is gone. See keep_artifact.lua."""
    reply = yield Script(
        "keep_artifact",
        keys={"record": keys.job(job_id), "artifacts": keys.artifacts(job_id)},
        args={"fence": fence, "name": name, "content": content},
    )
    return bool(reply)


def finish(
    keys: Keys,
    record: JobRecord,
    result: JobResult,
    *,
    retention_ms: int,
    lease_over: bool = False,
) -> Operation[int | None]:
    """End a job: running under `record.fence`, or still waiting where that is None.

    Returns its time of end (Unix ms), or None where the lease is gone. See finish.lua.

    Args:
        lease_over: for who does not hold the job: end it only if its lease is over by now, and
            put its message into its queue, so that Celery learns of its end.
    """
    job_id = record.job_id
    to_index = keys.state_index(result.state)
    tenant_to_index = keys.tenant_index(record.tenant, result.state)
    reply = yield Script(
        "finish",
        keys={
            "record": keys.job(job_id),
            "events": keys.events(job_id),
            "artifacts": keys.artifacts(job_id),
            "leases": keys.leases,
            "scheduled": keys.scheduled,
            "session_owner": keys.session_owner(record.tenant, record.session_id),
            "from_index": keys.state_index(record.state),
            "tenant_from_index": keys.tenant_index(record.tenant, record.state),
            "to_index": to_index,
            "tenant_to_index": tenant_to_index,
            "peaks": keys.peaks(record.queue),
            "to_expiries": keys.expiries(to_index),
            "tenant_to_expiries": keys.expiries(tenant_to_index),
            "checkpoint": keys.checkpoint(job_id),
            "queue": queue_list(record.queue, record.priority),
        },
        args={
            "job_id": job_id,
            "fence": (record.fence or "") if record.state is JobState.RUNNING else "",
            "from_state": record.state,
            "to_state": result.state,
            "result": result.model_dump_json(exclude_defaults=True),
            "event": json.dumps(_ended_event(result)),
            "retention_ms": retention_ms,
            "peak": result.resources.model_dump_json() if result.started_at_ms else "",
            "max_peaks": MAX_PEAKS,
            "lease_over": int(lease_over),
        },
    )
    return int(reply[1]) if text(reply[0]) == "finished" else None


def _ended_event(result: JobResult) -> dict[str, Any]:
    failure = result.failure
    return {
        "state": result.state,
        "failure_kind": failure.kind if failure else None,
        "message": failure.message if failure else None,
        "cost_usd": result.usage.cost_usd,
    }


class Requeued(IntEnum):
    """What became of the wish to give a job back."""

    GONE = 0
    """The lease is someone else's, or the job has ended: nothing was written."""
    GIVEN_BACK = 1
    CANCELLING = 2
    """Nothing was written: someone asked to cancel the job, so the caller is to end it."""


def ended_without_agent(record: JobRecord, state: JobState, failure: Failure) -> JobResult:
    """The result of a job that no attempt ends, with what attempts before took."""
    return JobResult(
        job_id=record.job_id,
        state=state,
        failure=failure,
        session_id=record.session_id,
        turns=record.turns,
        usage=record.usage,
        resources=record.resources,
        attempts=record.attempt,
        submitted_at_ms=record.submitted_at_us // 1000,
        started_at_ms=record.started_at_ms,
    )


def end_waiting(
    keys: Keys, record: JobRecord, state: JobState, failure: Failure, *, retention_ms: int
) -> Operation[bool]:
    """End a job that is queued or scheduled; False: it has moved on."""
    ended = yield from finish(
        keys,
        replace(record, fence=None),
        ended_without_agent(record, state, failure),
        retention_ms=retention_ms,
        # One that waits for its time has no message in a list: it gets one, to tell Celery.
        lease_over=record.state is JobState.SCHEDULED,
    )
    return ended is not None


def requeue(
    keys: Keys,
    record: JobRecord,
    *,
    delay_ms: int,
    reason: str,
    refund: bool,
    lease_over: bool = False,
) -> Operation[Requeued]:
    """Give a running job back. See requeue.lua.

    Args:
        lease_over: for who does not hold the job: take it only if its lease is over by now.
    """
    target = JobState.SCHEDULED if delay_ms else JobState.QUEUED
    reply = yield Script(
        "requeue",
        keys={
            "record": keys.job(record.job_id),
            "events": keys.events(record.job_id),
            "leases": keys.leases,
            "scheduled": keys.scheduled,
            "queue": queue_list(record.queue, record.priority),
            "running_index": keys.state_index(JobState.RUNNING),
            "tenant_running_index": keys.tenant_index(record.tenant, JobState.RUNNING),
            "to_index": keys.state_index(target),
            "tenant_to_index": keys.tenant_index(record.tenant, target),
        },
        args={
            "job_id": record.job_id,
            "fence": record.fence or "",
            "delay_ms": delay_ms,
            "event": json.dumps({"reason": reason, "delay_s": delay_ms / 1000}),
            "refund": int(refund),
            "lease_over": int(lease_over),
        },
    )
    return Requeued(reply)


def release(keys: Keys, job_id: str) -> Operation[bool]:
    """Queue a scheduled job; False: it is not scheduled any more. See release.lua."""
    found = yield Command("HMGET", keys.job(job_id), "tenant", "queue", "priority")
    tenant, queue, priority = (text(value) if value else "" for value in found)
    reply = yield Script(
        "release",
        keys={
            "record": keys.job(job_id),
            "events": keys.events(job_id),
            "scheduled": keys.scheduled,
            "queue": queue_list(queue, int(priority or 0)),
            "scheduled_index": keys.state_index(JobState.SCHEDULED),
            "tenant_scheduled_index": keys.tenant_index(tenant, JobState.SCHEDULED),
            "queued_index": keys.state_index(JobState.QUEUED),
            "tenant_queued_index": keys.tenant_index(tenant, JobState.QUEUED),
        },
        args={"job_id": job_id},
    )
    return bool(reply)


def _number(fields: dict[str, str], name: str) -> int | None:
    value = fields.get(name)
    return int(value) if value else None
