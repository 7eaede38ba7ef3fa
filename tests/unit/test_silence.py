"""What follows on an agent that fell silent: another attempt, once."""

from dataclasses import replace

import pytest

from agentherd import FailureKind, Job, JobState, RetryPolicy
from agentherd.contract.results import Failure
from agentherd.layout.records import JobRecord, record_from
from agentherd_workers.agent.outcome import Verdict
from agentherd_workers.retrying import another_attempt

SILENT = Verdict(JobState.TIMED_OUT, Failure(kind=FailureKind.IDLE_TIMEOUT, message="no message"))


def record(attempt: int, idle_resumes: int) -> JobRecord:
    """A running job's."""
    fields = {
        "job_id": "j", "state": "running", "tenant": "t", "session_id": "s", "queue": "agents",
        "priority": "3", "submitted_at_us": "1", "released_at_ms": "1",
    }  # fmt: skip
    made = record_from(fields | {"attempt": str(attempt)})
    return replace(made, idle_resumes=idle_resumes)


@pytest.mark.parametrize(
    ("attempt", "idle_resumes", "max_attempts", "again"),
    [
        (1, 0, 3, True),
        (2, 0, 3, True),  # the attempt before ended for another reason
        (2, 1, 3, False),
        (3, 0, 3, False),
        (1, 0, 1, False),
    ],
)
def test_it_is_resumed_once(
    attempt: int, idle_resumes: int, max_attempts: int, again: bool
) -> None:
    """At once, whichever kinds the job's policy names, while attempts are left."""
    job = Job(prompt="x", retry=RetryPolicy(max_attempts=max_attempts, kinds=frozenset()))
    follows = another_attempt(job, record(attempt, idle_resumes), None, SILENT)
    assert (follows is not None) is again
    if follows is not None:
        assert (follows.delay_s, follows.refund, follows.after_silence) == (0, False, True)
        assert follows.reason == "idle_timeout: no message"
