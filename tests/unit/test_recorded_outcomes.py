"""Ends that the real CLI can't be brought to in a test's time; the rest is in tests/e2e."""

import pytest

from agentherd import FailureKind, JobState, Usage
from agentherd_workers.agent.outcome import CliResult, Ending, Observed, Stop, verdict

LIMITED = CliResult(
    subtype="success",
    is_error=True,
    text="API Error: Request rejected (429)",
    stop_reason="stop_sequence",
    terminal_reason="api_error",
    api_error_status=429,
    structured_output=None,
    errors=(),
    turns=1,
    usage=Usage(),
)
DONE = CliResult(
    subtype="success",
    is_error=False,
    text="done",
    stop_reason="end_turn",
    terminal_reason="completed",
    api_error_status=None,
    structured_output=None,
    errors=(),
    turns=1,
    usage=Usage(),
)


@pytest.mark.parametrize(
    ("seen", "kind", "retryable"),
    [
        (Observed(), FailureKind.CRASHED, True),
        (
            Observed(ending=Ending.START_TIMEOUT, error="Control request timeout: initialize"),
            FailureKind.START_TIMEOUT,
            True,
        ),
        (Observed(ending=Ending.GARBLED, error="not JSON"), FailureKind.CRASHED, True),
        (Observed(ending=Ending.EXITED, exit_code=0), FailureKind.CRASHED, True),
        (Observed(ending=Ending.EXITED, exit_code=-9), FailureKind.CRASHED, True),
        (Observed(ending=Ending.EXITED, exit_code=143), FailureKind.CRASHED, True),
        (Observed(ending=Ending.NOT_FOUND), FailureKind.CONFIGURATION, False),
        (Observed(ending=Ending.REJECTED, error="bad"), FailureKind.CONFIGURATION, False),
        (
            Observed(ending=Ending.EXITED, exit_code=1, stderr="error: unknown option"),
            FailureKind.CONFIGURATION,
            False,
        ),
        (
            Observed(ending=Ending.EXITED, exit_code=1, stderr="No conversation found with id"),
            FailureKind.SESSION_MISSING,
            False,
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_end_without_a_result(seen: Observed, kind: FailureKind, *, retryable: bool) -> None:
    """What is left to judge by are exit code, exception and stderr."""
    judged = verdict(seen)
    assert judged.state is JobState.FAILED
    assert judged.failure is not None
    assert (judged.failure.kind, judged.failure.retryable) == (kind, retryable)
    assert judged.failure.message


def test_rejected_rate_limit_says_how_long_to_wait() -> None:
    """The wait is up to `resets_at`, never negative; without it back-off decides."""
    waits = [
        verdict(Observed(result=LIMITED, resets_at_s=resets_at_s, now_s=1000.0)).failure
        for resets_at_s in (1090, 900, None)
    ]
    assert [failure and failure.retry_after_s for failure in waits] == [90.0, 0.0, None]
    assert {failure and failure.kind for failure in waits} == {FailureKind.RATE_LIMITED}


@pytest.mark.parametrize("stop", Stop)
def test_work_that_was_done_counts(stop: Stop) -> None:
    """A stop that comes after the last answer takes nothing away."""
    assert verdict(Observed(stop=stop, result=DONE)).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("stop", "state"),
    [
        (Stop.CANCELLED, JobState.CANCELLED),
        (Stop.WALL, JobState.TIMED_OUT),
        (Stop.IDLE, JobState.TIMED_OUT),
        (Stop.LEASE_LOST, JobState.FAILED),
        (Stop.DRAINED, JobState.FAILED),
    ],
)
def test_our_stop_comes_before_what_it_caused(stop: Stop, state: JobState) -> None:
    """The exit code of a CLI that we ended says nothing about the job."""
    seen = Observed(stop=stop, ending=Ending.EXITED, exit_code=1, error="killed")
    assert verdict(seen).state is state
