"""Putting a job on the queue: its record and its message, in one step."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from agentherd.contract.job import ForkSession, Job, ResumeSession
from agentherd.contract.states import JobState
from agentherd.contract.wire import encode_job
from agentherd.errors import InvalidJob
from agentherd.layout.keys import Keys, queue_list
from agentherd.layout.messages import task_message
from agentherd.layout.operations import Command, Operation, Pipeline, Script
from agentherd.layout.replies import text
from agentherd.layout.transcripts import SessionKeys


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job ready to be recorded: everything that is fixed at submit."""

    job_id: str
    job: Job
    session_id: str
    spec: str
    """The job as wire JSON."""
    retry_of: str = ""
    """The ended job that it tries again, if it does."""

    @property
    def digest(self) -> str:
        """Same content, same digest."""
        return hashlib.sha256(self.spec.encode()).hexdigest()

    def session_taken(self) -> InvalidJob:
        """What is wrong with a job to which Redis answered `SessionBegun`."""
        field = "session.new_id" if isinstance(self.job.session, ForkSession) else "session.id"
        message = f"session {self.session_id} is already in the store; resume or fork it"
        return InvalidJob([(field, message)])


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


class SessionBegun:
    """Nothing was written: the session that the job would begin has a transcript."""


Outcome = Accepted | Busy | SessionBegun


def submit(
    keys: Keys,
    new: Submission,
    *,
    idempotency_ttl_ms: int,
    preview_chars: int,
    publish: bool = True,
    owns_session: bool = True,
    vanished: str = "",
) -> Script:
    """What records a job and queues its message in one step. See submit.lua.

    Its reply is read by `submitted`.

    Args:
        vanished: a job that took the idempotency key and seemed to have no record any more.
    """
    job = new.job
    queue = keys.queue(job.memory)
    preview = prompt_preview(job.prompt, preview_chars)
    description = json.dumps({"tenant": job.tenant, "model": job.model, "prompt": preview})
    return Script(
        "submit",
        keys={
            "record": keys.job(new.job_id),
            "idempotency": keys.idempotency(job.tenant, job.idempotency_key or ""),
            "session_owner": keys.session_owner(job.tenant, new.session_id),
            "events": keys.events(new.job_id),
            "queue": queue_list(queue, job.priority),
            "scheduled": keys.scheduled,
            "queued_index": keys.state_index(JobState.QUEUED),
            "tenant_queued_index": keys.tenant_index(job.tenant, JobState.QUEUED),
            "scheduled_index": keys.state_index(JobState.SCHEDULED),
            "tenant_scheduled_index": keys.tenant_index(job.tenant, JobState.SCHEDULED),
            "queue_workers": keys.queue_workers(queue),
            "session": SessionKeys(job.tenant, new.session_id, keys.prefix).session,
            "vanished_record": keys.job(vanished),
            "queues": keys.queues,
            "expiring": keys.expiring,
        },
        args={
            "job_id": new.job_id,
            "fields": json.dumps(_fields(new, queue, preview)),
            "digest": new.digest,
            "message": task_message(new.job_id, queue, job.priority, description),
            "not_before_ms": int(job.not_before.timestamp() * 1000) if job.not_before else 0,
            "expires_ms": math.ceil((job.expires_s or 0) * 1000),  # 0 is never
            "idempotency_ttl_ms": idempotency_ttl_ms if job.idempotency_key else 0,
            "owns_session": int(owns_session),
            "publish": int(publish),
            "begins_session": int(not isinstance(job.session, ResumeSession)),
            "vanished": vanished,
            "queue_name": queue,
        },
    )


def _fields(new: Submission, queue: str, preview: str) -> dict[str, str]:
    """The record's fields that don't depend on time."""
    return {
        "job_id": new.job_id,
        "tenant": new.job.tenant,
        "model": new.job.model or "",
        "preview": preview,
        "metadata": json.dumps(new.job.metadata),
        "session_id": new.session_id,
        "queue": queue,
        "priority": str(new.job.priority),
        "spec": new.spec,
        **({"retry_of": new.retry_of} if new.retry_of else {}),
    }


def submitted(new: Submission, reply: Any) -> Outcome:
    """What Redis did with `new`."""
    match text(reply[0]):
        case "busy":
            return Busy(owner=text(reply[1]))
        case "begun":
            return SessionBegun()
        case "created":
            return Accepted(new.job_id, new.digest, created=True, served=int(reply[2]) > 0)
        case _:
            return Accepted(text(reply[1]), text(reply[2]), created=False)


MakeScript = Callable[[Submission, str], Script]
"""What submits a job, given the job that took its key and seems to have vanished, or nothing."""


def send(
    keys: Keys, new: Sequence[Submission], script: MakeScript
) -> Operation[list[Outcome | ResponseError]]:
    """Submit jobs in one round trip; what Redis did with each, its refusals included.

    A key whose job has no record any more is free: such a job is sent once more.
    """
    outcomes = yield from _send_once([(one, "") for one in new], script)
    earlier = {
        position: outcome.job_id
        for position, (one, outcome) in enumerate(zip(new, outcomes, strict=True))
        if isinstance(outcome, Accepted) and outcome.job_id != one.job_id
    }
    if not earlier:
        return outcomes
    found = yield Pipeline(*(Command("EXISTS", keys.job(job_id)) for job_id in earlier.values()))
    vanished = [item for item, there in zip(earlier.items(), found, strict=True) if not there]
    if vanished:
        pairs = [(new[position], job_id) for position, job_id in vanished]
        again = yield from _send_once(pairs, script)
        for (position, _job_id), outcome in zip(vanished, again, strict=True):
            outcomes[position] = outcome
    return outcomes


def _send_once(
    new: Sequence[tuple[Submission, str]], script: MakeScript
) -> Operation[list[Outcome | ResponseError]]:
    replies = yield Pipeline(*(script(*one) for one in new), keep_errors=True)
    return [
        reply if isinstance(reply, ResponseError) else submitted(one, reply)
        for (one, _vanished), reply in zip(new, replies, strict=True)
    ]


def prompt_preview(prompt: str, chars: int) -> str:
    """The first `chars` characters of a prompt on one line; nothing where `chars` is 0."""
    line = " ".join(prompt[: 4 * chars + 4].split())
    return line if len(line) <= chars else line[: max(chars - 1, 0)] + ("…" if chars else "")
