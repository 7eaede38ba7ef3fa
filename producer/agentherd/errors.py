"""Everything agentherd raises on purpose.

AgentherdError
├── InvalidJob            (ValueError)        a job that can't be accepted, every problem listed
│   └── UnknownWireVersion                    written by a newer agentherd
├── NotRetryable          (ValueError)        the job has not failed, so it can't be tried again
├── IdempotencyConflict   (ValueError)        the key was used for a different job
├── SessionBusy                               another job of that session has not ended
├── SubmitIncomplete                          of many jobs, some were queued and some were not
├── BrokerUnavailable     (ConnectionError)   Redis did not answer in time
├── JobNotFound           (LookupError)       no record: never submitted, or past its retention
├── ArtifactNotFound      (LookupError)       the job left no artifact of that name
├── ResultTimeout         (TimeoutError)      the job has not ended yet
├── JobFailed                                 the job ended without succeeding
└── InvalidSettings       (ValueError)        settings out of range, every problem listed

ClassNotServed            (UserWarning)       no live worker serves the job's memory class
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from agentherd.contract.results import JobResult

__all__ = [
    "AgentherdError",
    "ArtifactNotFound",
    "BrokerUnavailable",
    "ClassNotServed",
    "IdempotencyConflict",
    "InvalidJob",
    "InvalidSettings",
    "JobFailed",
    "JobNotFound",
    "NotRetryable",
    "Problem",
    "ResultTimeout",
    "SessionBusy",
    "SubmitIncomplete",
    "UnknownWireVersion",
]


_SHOWN = 10
"""Jobs that the text of `SubmitIncomplete` names."""


class Problem(NamedTuple):
    """One thing that is wrong with one field."""

    field: str
    """Where: `prompt`, `files.3.path`, …"""
    message: str
    """What is wrong and what is allowed."""


class AgentherdError(Exception):
    """Base of every error that agentherd raises on purpose."""


class _ProblemList(AgentherdError, ValueError):
    """Names every problem at once, so that one round of corrections is enough."""

    noun = "value"

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(Problem(*problem) for problem in problems)
        lines = "".join(f"\n  {field}: {message}" for field, message in self.problems)
        super().__init__(f"{len(self.problems)} invalid {self.noun}(s):{lines}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class InvalidJob(_ProblemList):
    """A job that can't be accepted; nothing was sent. `problems` lists every one."""

    noun = "job field"


class NotRetryable(AgentherdError, ValueError):
    """Only a job that ended without success can be tried again. Wait for its end, or cancel it."""

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id} is {state}; only one that failed, timed out, expired or was cancelled"
            " can be tried again"
        )
        self.job_id = job_id
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job_id, self.state)


class UnknownWireVersion(InvalidJob):
    """The job was written by an agentherd whose wire version this one can't read."""


class InvalidSettings(_ProblemList):
    """Settings out of range. `problems` lists every one."""

    noun = "setting"


class ClassNotServed(UserWarning):
    """The job waits: no live worker serves its memory class now."""

    def __init__(self, memory: str) -> None:
        self.memory = memory
        super().__init__(f"no live worker serves the memory class {memory}; the job waits for one")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.memory,)


class IdempotencyConflict(AgentherdError, ValueError):
    """The idempotency key already belongs to a job with another content."""

    def __init__(self, key: str, job_id: str) -> None:
        self.key = key
        self.job_id = job_id
        super().__init__(
            f"idempotency key {key!r} belongs to job {job_id}, whose content differs;"
            " use a new key, or submit the same content"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.job_id)


class SessionBusy(AgentherdError):
    """The session belongs to a job that has not ended; two agents can't share one transcript."""

    def __init__(self, session_id: str, job_id: str) -> None:
        self.session_id = session_id
        self.job_id = job_id
        super().__init__(
            f"session {session_id} is in use by job {job_id};"
            " wait for that job to end, or fork the session"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.session_id, self.job_id)


class SubmitIncomplete(AgentherdError):
    """Of the jobs of one `submit_many`, some were not queued.

    `job_ids` has the id of each job that is queued, `failures` what stood against each one that
    was refused, both by position, from 0. Positions in neither were not sent.
    """

    def __init__(self, job_ids: Mapping[int, str], failures: Mapping[int, AgentherdError]) -> None:
        self.job_ids = dict(job_ids)
        self.failures = dict(failures)
        shown = [f"\n  job {at}: {why}" for at, why in list(self.failures.items())[:_SHOWN]]
        if len(self.failures) > _SHOWN:
            shown.append(f"\n  and {len(self.failures) - _SHOWN} more")
        super().__init__(
            f"{len(self.job_ids)} job(s) queued, {len(self.failures)} refused:{''.join(shown)}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job_ids, self.failures)


class BrokerUnavailable(AgentherdError, ConnectionError):
    """Redis did not answer within the time-out, or refused the connection."""


class JobNotFound(AgentherdError, LookupError):
    """No record of this job: it was never submitted, or its retention has passed."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"no job {job_id}: never submitted, or past its retention")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job_id,)


class ArtifactNotFound(AgentherdError, LookupError):
    """The job left no artifact of this name, or its retention has passed."""

    def __init__(self, job_id: str, name: str) -> None:
        self.job_id = job_id
        self.name = name
        super().__init__(f"job {job_id} has no artifact {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job_id, self.name)


class ResultTimeout(AgentherdError, TimeoutError):
    """The job had not ended when the caller's time-out passed. The job goes on."""

    def __init__(self, job_id: str, state: str, timeout_s: float) -> None:
        self.job_id = job_id
        self.state = state
        self.timeout_s = timeout_s
        super().__init__(f"job {job_id} is still {state} after {timeout_s:g} s; it goes on")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job_id, self.state, self.timeout_s)


class JobFailed(AgentherdError):
    """The job ended as failed, timed_out, cancelled or expired.

    `result` is the whole `JobResult`; it is None where only the text crossed a
    process boundary, as through Celery's result backend.
    """

    def __init__(self, message: str, result: "JobResult | None" = None) -> None:
        self.result = result
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.result)
