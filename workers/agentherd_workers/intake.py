"""From a Celery message to an attempt: adopt, claim, check. Every message is safe to repeat."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import uuid4

from redis.exceptions import RedisError, ResponseError

from agentherd.contract.failures import FailureKind
from agentherd.contract.job import Job, check_job_id
from agentherd.contract.results import Failure, JobResult
from agentherd.contract.states import TERMINAL, JobState
from agentherd.contract.wire import decode_job, job_from_wire
from agentherd.errors import InvalidJob
from agentherd.layout import records, submissions
from agentherd.layout.operations import Command, Operation, Script, run_async
from agentherd.layout.records import Claim, JobRecord, Overdue
from agentherd.layout.replies import text
from agentherd.layout.submissions import Busy, Outcome, SessionBegun, Submission
from agentherd_workers.attempt import Attempt, GivenBack
from agentherd_workers.host import Host
from agentherd_workers.lease import LeaseLost
from agentherd_workers.recovery import NOT_STARTED

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S = 0.5
IDEMPOTENCY_TTL_MS = 24 * 3600 * 1000
"""For keys of jobs that came by plain Celery; the producer has a setting of its own."""
PREVIEW_CHARS = 80
_MAX_INVALID_SPEC = 64 * 1024
"""What is kept of a job that can't be read."""


@dataclass(frozen=True)
class Settled:
    """The job has ended, now or before this message."""

    result: JobResult


@dataclass(frozen=True)
class Dropped:
    """The message is done with, and another one will end the same Celery task.

    Never for a job that no message will end: who waits for its task would wait for ever.
    `reason` is for the log.
    """

    reason: str


class Intake:
    """Turns messages into attempts, and attempts into what Celery is told."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def open(self, job_id: str, document: Any, queue: str) -> Attempt | Settled | Dropped:
        """Claim the job that a message names.

        Args:
            document: the job as a plain Celery client sent it, or None: it is in the record.
            queue: the Celery queue that the message came from.
        """
        if document is not None:
            try:
                check_job_id(job_id)
            except InvalidJob as error:
                return _unrecorded(job_id, _invalid(error))
            duplicate = await self._adopt(job_id, document, queue)
            if duplicate is not None:
                return duplicate
        place = await self._ask(lambda: _place(self.host, job_id))
        if place is None:
            return _no_record(job_id)
        tenant, own_queue = place
        if own_queue != queue:  # a queue is a memory class: RAM was booked for another one
            return Dropped(f"the job's own message is in the queue {own_queue}")
        return await self._claim(job_id, tenant)

    async def _claim(self, job_id: str, tenant: str) -> Attempt | Settled | Dropped:
        claimed_at_s = time.monotonic()
        lease_ms = int(self.host.settings.lease_s * 1000)
        outcome = await self._ask(
            lambda: records.claim(self.host.keys, job_id, tenant, self.host.worker, lease_ms)
        )
        match outcome:
            case Claim():
                return await self._attempt(outcome, claimed_at_s)
            case Overdue():
                failure = Failure(kind=FailureKind.EXPIRED, message=NOT_STARTED)
                return await self._end_unclaimed(job_id, JobState.EXPIRED, failure)
            case _ if outcome.state in TERMINAL:
                return await self._settled(job_id)
            case _ if outcome.state is None:
                return _no_record(job_id)
            case _:
                return Dropped(f"the job is {outcome.state}")

    async def close(self, attempt: Attempt) -> Settled | Dropped:
        """Run the attempt to its end."""
        try:
            ended = await attempt.run()
        except LeaseLost:
            return await self._settled(attempt.record.job_id)
        if isinstance(ended, GivenBack):
            return Dropped(f"given back: {ended.reason}")
        return Settled(ended)

    async def withdraw(self, job_id: str) -> None:
        """End a job that waits: its message was revoked."""
        record = await self._read(job_id)
        if record is not None and record.state in (JobState.QUEUED, JobState.SCHEDULED):
            failure = Failure(kind=FailureKind.CANCELLED, message="revoked before it started")
            await self._end(record, JobState.CANCELLED, failure)

    async def _attempt(self, claim: Claim, claimed_at_s: float) -> Attempt | Settled | Dropped:
        try:
            job = decode_job(claim.record.spec)
            self._check_env(job)
        except InvalidJob as error:
            return await self._end(claim.record, JobState.FAILED, _invalid(error))
        return Attempt(self.host, claim, job, claimed_at_s)

    def _check_env(self, job: Job) -> None:
        refused = [name for name in job.env if not self.host.settings.allows_env(name)]
        if refused:
            raise InvalidJob(
                [
                    (f"env.{name}", "not allowed on this worker; see AGENTHERD_JOB_ENV_ALLOW")
                    for name in refused
                ]
            )

    async def _adopt(self, job_id: str, document: Any, queue: str) -> Settled | None:
        """Record a job that came by plain Celery, as submit would have. Known ids stay.

        One that names another memory class than that of `queue` gets a message there. One
        whose idempotency key is taken is not run: it has the result of the job that has it.
        """
        try:
            job = job_from_wire(document)
            new = submissions.prepare(job, job_id, job.session_id or str(uuid4()))
        except InvalidJob as error:
            await self._record_failed(_unreadable(job_id, document), _invalid(error))
            return None
        own_queue = self.host.keys.queue(job.memory)
        reply = await self._submit(new, owns_session=True, publish=own_queue != queue)
        if isinstance(reply, Busy):
            message = f"session {new.session_id} is in use by job {reply.owner}"
            await self._record_failed(new, Failure(kind=FailureKind.SESSION_BUSY, message=message))
        elif isinstance(reply, SessionBegun):
            await self._record_failed(new, _invalid(new.session_taken()))
        elif reply.job_id != job_id:
            return await self._duplicate(new, reply)
        return None

    async def _duplicate(self, new: Submission, first: submissions.Accepted) -> Settled | None:
        """The first job's result, if that has ended; else this one fails at once.

        Waiting for the first would hold a slot, and deadlock where it is the last one.
        """
        if first.digest == new.digest:
            record = await self._read(first.job_id)
            if record is not None and record.result is not None:
                return Settled(record.result)
            why = "which has no result yet"
        else:
            why = "which has other content"
        message = f"idempotency_key: taken by job {first.job_id}, {why}"
        keyless = replace(new, job=new.job.model_copy(update={"idempotency_key": None}))
        failure = Failure(kind=FailureKind.INVALID_JOB, message=message)
        await self._record_failed(keyless, failure)
        return None

    async def _submit(
        self, new: Submission, *, owns_session: bool, publish: bool = False
    ) -> Outcome:
        def script(one: Submission, vanished: str) -> Script:
            return submissions.submit(
                self.host.keys,
                one,
                idempotency_ttl_ms=IDEMPOTENCY_TTL_MS,
                preview_chars=PREVIEW_CHARS,
                publish=publish,
                owns_session=owns_session,
                vanished=vanished,
            )

        def operation() -> Operation[Outcome]:
            [outcome] = yield from submissions.send(self.host.keys, [new], script)
            if isinstance(outcome, ResponseError):
                raise outcome
            return outcome

        return await self._ask(operation)

    async def _record_failed(self, new: Submission, failure: Failure) -> None:
        """Record a job that can't be run, and end it."""
        reply = await self._submit(new, owns_session=False)
        if isinstance(reply, submissions.Accepted) and reply.created:
            await self._end_unclaimed(new.job_id, JobState.FAILED, failure)

    async def _end_unclaimed(
        self, job_id: str, state: JobState, failure: Failure
    ) -> Settled | Dropped:
        record = await self._read(job_id)
        if record is None or record.state in TERMINAL:
            return await self._settled(job_id)
        return await self._end(replace(record, fence=None), state, failure)

    async def _end(self, record: JobRecord, state: JobState, failure: Failure) -> Settled | Dropped:
        result = records.ended_without_agent(record, state, failure)
        retention_ms = int(self.host.settings.retention_s * 1000)
        await self._ask(
            lambda: records.finish(self.host.keys, record, result, retention_ms=retention_ms)
        )
        return await self._settled(record.job_id)

    async def _settled(self, job_id: str) -> Settled | Dropped:
        record = await self._read(job_id)
        if record is None:
            return _no_record(job_id)
        if record.result is None:
            return Dropped("another worker owns the job")
        return Settled(record.result)

    async def _read(self, job_id: str) -> JobRecord | None:
        return await self._ask(lambda: records.read_record(self.host.keys, job_id))

    async def _ask(self, make: Callable[[], Operation[T]]) -> T:
        """Ask until Redis answers: a message in hand is not given up because Redis is away."""
        while True:
            try:
                return await run_async(make(), self.host.redis)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("Redis does not answer, trying again: %s", error)
                await asyncio.sleep(RETRY_S)


def _place(host: Host, job_id: str) -> Operation[tuple[str, str] | None]:
    """The job's tenant and queue."""
    tenant, queue = yield Command("HMGET", host.keys.job(job_id), "tenant", "queue")
    return None if tenant is None else (text(tenant), text(queue))


def _invalid(error: InvalidJob) -> Failure:
    return Failure(kind=FailureKind.INVALID_JOB, message=str(error))


def _unrecorded(job_id: str, failure: Failure) -> Settled:
    """What Celery is told of a task that has no record and gets none."""
    result = JobResult(
        job_id=job_id, state=JobState.FAILED, failure=failure, session_id=str(uuid4())
    )
    return Settled(result)


def _no_record(job_id: str) -> Settled:
    """A message that brings no job, whose id no record has."""
    message = "no job in the message, and no record: never submitted, or past its retention"
    return _unrecorded(job_id, Failure(kind=FailureKind.INVALID_JOB, message=message))


def _unreadable(job_id: str, document: Any) -> Submission:
    """A record for a job that can't be read, so that it can be found and inspected."""
    return Submission(
        job_id=job_id,
        job=Job(prompt="(invalid job)"),
        session_id=str(uuid4()),
        spec=json.dumps(document, default=str)[:_MAX_INVALID_SPEC],
    )
