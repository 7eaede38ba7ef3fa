"""Putting a job on the queue: its record and its message, in one step."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from agentherd.contract.job import Job
from agentherd.contract.states import JobState
from agentherd.contract.wire import encode_job
from agentherd.layout.keys import Keys, queue_list, queue_of
from agentherd.layout.messages import task_message
from agentherd.layout.operations import Script
from agentherd.layout.replies import text


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job ready to be recorded: everything that is fixed at submit."""

    job_id: str
    job: Job
    session_id: str
    spec: str
    """The job as wire JSON."""

    @property
    def digest(self) -> str:
        """Same content, same digest."""
        return hashlib.sha256(self.spec.encode()).hexdigest()

    @property
    def queue(self) -> str:
        """The Celery queue of the job's memory class."""
        return queue_of(self.job.memory)


def prepare(job: Job, job_id: str, session_id: str) -> Submission:
    """`job` under its id and session.

    Raises:
        InvalidJob: too large once encoded.
    """
    return Submission(job_id=job_id, job=job, session_id=session_id, spec=encode_job(job))


@dataclass(frozen=True)
class Accepted:
    """Redis has the job: this one, or the earlier one of the same id or idempotency key."""

    job_id: str
    digest: str
    created: bool
    served: bool = True
    """Whether a live worker serves the job's memory class; known where it was created."""


@dataclass(frozen=True)
class Busy:
    """Nothing was written: the session belongs to the live job `owner`."""

    owner: str


def submit(
    keys: Keys,
    new: Submission,
    *,
    idempotency_ttl_ms: int,
    preview_chars: int,
    publish: bool = True,
    owns_session: bool = True,
) -> Script:
    """What records a job and queues its message in one step. See submit.lua.

    Its reply is read by `submitted`.
    """
    job = new.job
    preview = prompt_preview(job.prompt, preview_chars)
    key = job.idempotency_key
    fields = {
        "job_id": new.job_id,
        "tenant": job.tenant,
        "model": job.model or "",
        "preview": preview,
        "metadata": json.dumps(job.metadata),
        "session_id": new.session_id,
        "queue": new.queue,
        "priority": str(job.priority),
        "spec": new.spec,
    }
    description = json.dumps({"tenant": job.tenant, "model": job.model, "prompt": preview})
    return Script(
        "submit",
        keys={
            "record": keys.job(new.job_id),
            "idempotency": keys.idempotency(job.tenant, key or ""),
            "session_owner": keys.session_owner(job.tenant, new.session_id),
            "events": keys.events(new.job_id),
            "queue": queue_list(new.queue, job.priority),
            "scheduled": keys.scheduled,
            "queued_index": keys.state_index(JobState.QUEUED),
            "tenant_queued_index": keys.tenant_index(job.tenant, JobState.QUEUED),
            "scheduled_index": keys.state_index(JobState.SCHEDULED),
            "tenant_scheduled_index": keys.tenant_index(job.tenant, JobState.SCHEDULED),
            "queue_workers": keys.queue_workers(new.queue),
        },
        args={
            "job_id": new.job_id,
            "fields": json.dumps(fields),
            "digest": new.digest,
            "message": task_message(new.job_id, new.queue, job.priority, description),
            "not_before_ms": int(job.not_before.timestamp() * 1000) if job.not_before else 0,
            "expires_ms": math.ceil((job.expires_s or 0) * 1000),  # 0 is never
            "idempotency_ttl_ms": idempotency_ttl_ms if key else 0,
            "owns_session": int(owns_session),
            "publish": int(publish),
        },
    )


def submitted(new: Submission, reply: Any) -> Accepted | Busy:
    """What Redis did with `new`."""
    outcome, job_id = text(reply[0]), text(reply[1])
    if outcome == "busy":
        return Busy(owner=job_id)
    if outcome == "created":
        return Accepted(job_id, new.digest, created=True, served=int(reply[2]) > 0)
    return Accepted(job_id, text(reply[2]), created=False)


def prompt_preview(prompt: str, chars: int) -> str:
    """The first `chars` characters of a prompt on one line; nothing where `chars` is 0."""
    line = " ".join(prompt[: 4 * chars + 4].split())
    return line if len(line) <= chars else line[: max(chars - 1, 0)] + ("…" if chars else "")
