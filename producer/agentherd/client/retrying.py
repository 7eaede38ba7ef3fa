"""Trying an ended job again, as a new job of the same content. No I/O of its own."""

import time
from contextlib import suppress
from dataclasses import replace
from uuid import NAMESPACE_OID, UUID, uuid5

from agentherd.client import requests
from agentherd.client.requests import SubmitRules
from agentherd.contract.job import ForkSession, Job, NewSession, ResumeSession, Session
from agentherd.contract.wire import decode_job
from agentherd.errors import IdempotencyConflict, InvalidJob, JobNotFound, NotRetryable
from agentherd.layout import records, retries, transcripts
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation
from agentherd.layout.records import JobRecord
from agentherd.layout.transcripts import SessionKeys

RESUME_PROMPT = (
    "A run at this task ended before it was done. The conversation so far is above; files of the"
    " working directory may be missing. Check what is there, do not repeat finished steps, and"
    " complete the task. The task was:\n\n"
)


def retry(keys: Keys, rules: SubmitRules, job_id: str, *, resume: bool) -> Operation[str]:
    """Submit a job that ended without success once more; the new job's id.

    However often it is called for a job, there is one new job.

    Args:
        resume: go on with the job's session, where it has a transcript.

    Raises:
        JobNotFound: never submitted, or past its retention.
        NotRetryable: it has not ended, or succeeded.
        InvalidJob: its content can't be read here.
    """
    record = yield from records.read_record(keys, job_id, content=True)
    if record is None:
        raise JobNotFound(job_id)
    if record.state not in retries.RETRIED:
        raise NotRetryable(job_id, record.state)
    new_id = _new_id(keys, job_id)
    if not (yield Command("EXISTS", keys.job(new_id))):
        goes_on = resume and (yield from _has_conversation(keys, record))
        new = requests.new_submission(_again(record, goes_on=goes_on), new_id)
        with suppress(IdempotencyConflict):  # another caller was faster, and chose otherwise
            yield from requests.submit(keys, rules, replace(new, retry_of=job_id))
    yield from retries.note_retry(keys, job_id, new_id)
    return new_id


def _new_id(keys: Keys, job_id: str) -> str:
    """Follows from the old one, so that two who retry it at once submit one job."""
    return str(uuid5(NAMESPACE_OID, f"{keys.prefix}:{job_id}:retry"))


def _has_conversation(keys: Keys, record: JobRecord) -> Operation[bool]:
    session = SessionKeys(record.tenant, record.session_id, keys.prefix)
    return transcripts.is_conversation(session, ttl_ms=0, fence=0)


def _again(record: JobRecord, *, goes_on: bool) -> Job:
    """The same job, without what made it that one job."""
    try:
        job = decode_job(record.spec)
    except InvalidJob as error:
        what = f"job {record.job_id} can't be read, so it can't be tried again"
        raise InvalidJob([("job", what), *error.problems]) from None
    not_before = job.not_before
    if not_before is not None and not_before.timestamp() <= time.time():
        not_before = None
    session = ResumeSession(id=UUID(record.session_id)) if goes_on else _anew(job.session)
    return job.model_copy(
        update={
            "idempotency_key": None,
            "not_before": not_before,
            "session": session,
            "prompt": RESUME_PROMPT + job.prompt if goes_on else job.prompt,
        }
    )


def _anew(session: Session) -> Session:
    """A new session where the job began one; what it went on with it goes on with again."""
    match session:
        case NewSession():
            return NewSession()
        case ForkSession(id=original):
            return ForkSession(id=original)
        case _:
            return session
