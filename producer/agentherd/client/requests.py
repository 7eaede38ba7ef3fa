"""What a client asks of Redis, once for both kinds of caller. No I/O of its own."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from uuid import uuid4

from redis.exceptions import RedisError, ResponseError

from agentherd.contract.cancelling import Cancellation
from agentherd.contract.hosts import WorkerReport
from agentherd.contract.job import DEFAULT_MEMORY, Job, NewSession, check_job_id
from agentherd.contract.listing import JobPage
from agentherd.contract.results import Artifact
from agentherd.contract.states import JobState
from agentherd.errors import (
    AgentherdError,
    ArtifactNotFound,
    BrokerUnavailable,
    ClassNotServed,
    IdempotencyConflict,
    InvalidJob,
    JobNotFound,
    SessionBusy,
    SubmitIncomplete,
)
from agentherd.layout import cancelling, hosts, listing, records, submissions, transcripts
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Script
from agentherd.layout.records import DEFAULT_RETENTION_S, JobRecord
from agentherd.layout.submissions import Accepted, Busy, Outcome, SessionBegun, Submission
from agentherd.layout.transcripts import Entry, SessionKeys

SUBMIT_CHUNK = 200
"""Jobs sent per round trip by `submit_many`."""


@dataclass(frozen=True, kw_only=True)
class SubmitRules:
    """How this client submits."""

    idempotency_ttl_s: float = 24 * 3600
    """How long an idempotency key is remembered."""
    preview_chars: int = 80
    """How much of a prompt listings and Flower may show; 0: nothing."""
    retention_s: float = DEFAULT_RETENTION_S
    """How long the record of a job is kept that is cancelled before a worker took it. For all
    other ends the worker's `AGENTHERD_RETENTION_S` decides; let them be the same."""


def new_submission(job: Job, job_id: str | None) -> Submission:
    """`job` with the ids that are fixed at submit.

    Raises:
        InvalidJob: the id can't name a job, the job can only expire, or it is too large once
            encoded.
    """
    _check_can_start(job)
    return submissions.prepare(
        job,
        check_job_id(job_id) if job_id is not None else str(uuid4()),
        job.session_id or str(uuid4()),
    )


def _check_can_start(job: Job) -> None:
    if job.not_before is None or job.expires_s is None:
        return
    wait_s = job.not_before.timestamp() - time.time()
    if wait_s >= job.expires_s:
        raise InvalidJob(
            [("expires_s", f"passes before not_before, which is {wait_s:.0f} s from now")]
        )


def submit(keys: Keys, rules: SubmitRules, new: Submission) -> Operation[str]:
    """Put one job on the queue; its id, or that of the job that took the key before."""
    yield from _check_session(keys, new)
    [outcome] = yield from _send(keys, rules, [new])
    job_id = _accepted_id(new, outcome)
    _warn_of_unserved([(new, outcome)])
    return job_id


def submit_many(keys: Keys, rules: SubmitRules, jobs: Iterable[Job]) -> Operation[list[str]]:
    """Put jobs on the queue, `SUBMIT_CHUNK` a round trip; their ids in order."""
    job_ids: dict[int, str] = {}
    remaining = iter(jobs)
    for start in count(0, SUBMIT_CHUNK):
        new, failures = _prepare_chunk(remaining, start)
        try:
            failures |= yield from _unknown_sessions(keys, new)
            if not failures:
                accepted, failures = yield from _submit_chunk(keys, rules, new)
                job_ids |= accepted
        except (RedisError, OSError) as error:
            if not job_ids:
                raise
            failures |= dict.fromkeys(new, BrokerUnavailable(f"Redis is not available: {error}"))
        if failures:
            raise SubmitIncomplete(job_ids, failures)
        if len(new) < SUBMIT_CHUNK:
            break
    return list(job_ids.values())


_Failures = dict[int, AgentherdError]


def _prepare_chunk(jobs: Iterator[Job], start: int) -> tuple[dict[int, Submission], _Failures]:
    """The next jobs, ready to be sent, and what is wrong with them, by position."""
    new: dict[int, Submission] = {}
    failures: _Failures = {}
    for position in range(start, start + SUBMIT_CHUNK):
        try:
            new[position] = new_submission(next(jobs), None)
        except StopIteration:
            break
        except InvalidJob as error:  # perhaps of the caller's own `Job(...)` in a generator
            failures[position] = error
    return new, failures


def _unknown_sessions(keys: Keys, new: Mapping[int, Submission]) -> Operation[_Failures]:
    failures: _Failures = {}
    for position, one in new.items():
        try:
            yield from _check_session(keys, one)
        except InvalidJob as error:
            failures[position] = error
    return failures


def _submit_chunk(
    keys: Keys, rules: SubmitRules, new: Mapping[int, Submission]
) -> Operation[tuple[dict[int, str], _Failures]]:
    """Send jobs; the ids of those that Redis took, and why it did not take the others."""
    outcomes = yield from _send(keys, rules, list(new.values()))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, ResponseError)]
    if refusals and len(refusals) == len(new):
        raise refusals[0]
    job_ids: dict[int, str] = {}
    failures: _Failures = {}
    for (position, one), outcome in zip(new.items(), outcomes, strict=True):
        try:
            job_ids[position] = _accepted_id(one, outcome)
        except ResponseError as error:
            failures[position] = BrokerUnavailable(f"Redis refused the job: {error}")
        except AgentherdError as error:
            failures[position] = error
    if not failures:
        _warn_of_unserved(zip(new.values(), outcomes, strict=True))
    return job_ids, failures


def _send(
    keys: Keys, rules: SubmitRules, new: Sequence[Submission]
) -> Operation[list[Outcome | ResponseError]]:
    def script(one: Submission, vanished: str) -> Script:
        return submissions.submit(
            keys,
            one,
            idempotency_ttl_ms=int(rules.idempotency_ttl_s * 1000),
            preview_chars=rules.preview_chars,
            vanished=vanished,
        )

    return submissions.send(keys, new, script)


def _accepted_id(new: Submission, outcome: Outcome | ResponseError) -> str:
    if isinstance(outcome, ResponseError):
        raise outcome
    if isinstance(outcome, Busy):
        raise SessionBusy(new.session_id, outcome.owner)
    if isinstance(outcome, SessionBegun):
        raise new.session_taken()
    if outcome.digest != new.digest:
        raise IdempotencyConflict(new.job.idempotency_key or new.job_id, outcome.job_id)
    return outcome.job_id


def _warn_of_unserved(sent: Iterable[tuple[Submission, Outcome | ResponseError]]) -> None:
    """Told once all is sent: a caller may turn a warning into an error."""
    unserved = {
        new.job.memory
        for new, outcome in sent
        if isinstance(outcome, Accepted) and not outcome.served
    }
    for memory in sorted(unserved - {DEFAULT_MEMORY}):
        warnings.warn(ClassNotServed(memory), stacklevel=2)


def _check_session(keys: Keys, new: Submission) -> Operation[None]:
    """Refuse a job that could only fail for want of the session it continues.

    A session whose owner is live may not have been written yet: submit.lua decides on it.
    """
    session, tenant = new.job.session, new.job.tenant
    if isinstance(session, NewSession):
        return
    session_id = str(session.id)
    known = yield from transcripts.exists(SessionKeys(tenant, session_id, keys.prefix))
    if not known and not (yield Command("EXISTS", keys.session_owner(tenant, session_id))):
        raise InvalidJob(
            [("session.id", f"no session {session_id} of tenant {tenant!r} is in the store")]
        )


def record_of(keys: Keys, job_id: str) -> Operation[JobRecord]:
    """The job's record, without its content; see `records.read_record`.

    Raises:
        JobNotFound: never submitted, or past its retention.
    """
    record = yield from records.read_record(keys, job_id)
    if record is None:
        raise JobNotFound(job_id)
    if record.state is JobState.QUEUED:
        return replace(record, served=(yield from hosts.consumed(keys, record.queue)))
    return record


def state_of(keys: Keys, job_id: str) -> Operation[JobState]:
    """Where the job is; raises `JobNotFound`."""
    state = yield Command("HGET", keys.job(job_id), "state")
    if state is None:
        raise JobNotFound(job_id)
    return JobState(state.decode() if isinstance(state, bytes) else state)


def cancel(keys: Keys, rules: SubmitRules, job_id: str, reason: str) -> Operation[Cancellation]:
    """Cancel the job; raises `JobNotFound`."""
    cancelled = yield from cancelling.cancel(
        keys, job_id, reason, retention_ms=int(rules.retention_s * 1000)
    )
    if cancelled is None:
        raise JobNotFound(job_id)
    return cancelled


def artifact(keys: Keys, job_id: str, name: str) -> Operation[bytes]:
    """The bytes of one artifact; raises `ArtifactNotFound` or `JobNotFound`."""
    content = yield Command("HGET", keys.artifacts(job_id), name)
    if content is None:
        yield from state_of(keys, job_id)
        raise ArtifactNotFound(job_id, name)
    return content if isinstance(content, bytes) else str(content).encode()


def artifacts(keys: Keys, job_id: str) -> Operation[tuple[Artifact, ...]]:
    """What the job kept; empty while it runs. Raises `JobNotFound`."""
    record = yield from record_of(keys, job_id)
    return record.result.artifacts if record.result else ()


def transcript(keys: Keys, job_id: str) -> Operation[list[Entry]]:
    """The job's session as far as it is stored, entry by entry. Raises `JobNotFound`."""
    record = yield from record_of(keys, job_id)
    entries = yield from transcripts.load(
        SessionKeys(record.tenant, record.session_id, keys.prefix)
    )
    return entries or []


def jobs(
    keys: Keys,
    *,
    state: JobState | Sequence[JobState] | None,
    tenant: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> Operation[JobPage]:
    """One page of jobs, the newest first."""
    if not 1 <= limit <= listing.MAX_PAGE:
        raise ValueError(f"limit must be 1-{listing.MAX_PAGE}, not {limit}")
    states = tuple(JobState) if state is None else (state,) if isinstance(state, str) else state
    return (
        yield from listing.list_jobs(
            keys,
            states=[JobState(one) for one in states],
            tenant=tenant,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
    )


def workers(keys: Keys) -> Operation[list[WorkerReport]]:
    """Every live worker."""
    return (yield from hosts.live_workers(keys))
