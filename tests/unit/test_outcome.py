"""What each observed end of a run means: one row for every line that was measured."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentherd import FailureKind, JobState, Usage
from agentherd.contract.failures import RETRYABLE
from agentherd_workers.agent.outcome import CliResult, Ending, Observed, Stop, verdict

S, F = JobState, FailureKind


def said(**fields: Any) -> CliResult:
    """A result message: a good one but for `fields`."""
    good: dict[str, Any] = {
        "subtype": "success",
        "is_error": False,
        "text": "done",
        "stop_reason": "end_turn",
        "terminal_reason": "completed",
        "api_error_status": None,
        "structured_output": None,
        "errors": (),
        "turns": 1,
        "usage": Usage(),
    }
    return CliResult(**good | fields)


def api_error(status: int | None, text: str = "API Error", **fields: Any) -> CliResult:
    """How the CLI reports that the model API gave up on it."""
    failed = {"is_error": True, "terminal_reason": "api_error", "api_error_status": status}
    return said(text=text, **failed | fields)


def broken(subtype: str, *errors: str, **fields: Any) -> CliResult:
    """A result of one of the error subtypes."""
    return said(subtype=subtype, is_error=True, text=None, errors=errors, **fields)


GOOD = said()
INTERRUPTED = broken("error_during_execution", terminal_reason="aborted_streaming")

# what was observed, the state it means, the kind of failure
ROWS: list[tuple[dict[str, Any], JobState, FailureKind | None]] = [
    ({"result": GOOD}, S.SUCCEEDED, None),
    ({"result": said(stop_reason=None, text=None)}, S.SUCCEEDED, None),
    ({"result": said(structured_output={}), "wants_output": True}, S.SUCCEEDED, None),
    ({"result": GOOD, "wants_output": True}, S.FAILED, F.INVALID_OUTPUT),
    ({"result": broken("error_max_structured_output_retries")}, S.FAILED, F.INVALID_OUTPUT),
    ({"result": said(stop_reason="refusal")}, S.FAILED, F.REFUSED),
    ({"result": said(stop_reason="refusal"), "wants_output": True}, S.FAILED, F.REFUSED),
    ({"result": api_error(None, stop_reason="refusal")}, S.FAILED, F.REFUSED),
    ({"result": broken("error_max_turns")}, S.FAILED, F.MAX_TURNS),
    ({"result": broken("error_max_budget_usd")}, S.FAILED, F.BUDGET_EXCEEDED),
    ({"result": INTERRUPTED, "stop": Stop.CANCELLED}, S.CANCELLED, F.CANCELLED),
    ({"result": INTERRUPTED, "stop": Stop.WALL}, S.TIMED_OUT, F.WALL_TIMEOUT),
    ({"result": INTERRUPTED, "stop": Stop.IDLE}, S.TIMED_OUT, F.IDLE_TIMEOUT),
    ({"result": INTERRUPTED, "stop": Stop.DRAINED}, S.FAILED, F.LOST),
    ({"result": INTERRUPTED, "stop": Stop.LEASE_LOST}, S.FAILED, F.LOST),
    ({"result": INTERRUPTED, "stop": Stop.KEY_REFUSED}, S.FAILED, F.AUTHENTICATION),
    ({"result": broken("error_during_execution", terminal_reason=None)}, S.FAILED, F.AGENT_ERROR),
    ({"result": api_error(429)}, S.FAILED, F.RATE_LIMITED),
    ({"result": api_error(None), "api_error": "rate_limit"}, S.FAILED, F.RATE_LIMITED),
    ({"result": api_error(429, "Your org's spend limit is reached")}, S.FAILED, F.BILLING),
    ({"result": api_error(500)}, S.FAILED, F.MODEL_UNAVAILABLE),
    ({"result": api_error(529)}, S.FAILED, F.MODEL_UNAVAILABLE),
    ({"result": api_error(408)}, S.FAILED, F.MODEL_UNAVAILABLE),
    ({"result": api_error(None), "api_error": "overloaded"}, S.FAILED, F.MODEL_UNAVAILABLE),
    ({"result": api_error(None), "api_error": "a new one"}, S.FAILED, F.MODEL_UNAVAILABLE),
    ({"result": api_error(None, "Connection refused")}, S.FAILED, F.MODEL_UNAVAILABLE),
    ({"result": api_error(401)}, S.FAILED, F.AUTHENTICATION),
    ({"result": api_error(403)}, S.FAILED, F.AUTHENTICATION),
    (
        {"result": api_error(None), "api_error": "authentication_failed"},
        S.FAILED,
        F.AUTHENTICATION,
    ),
    ({"result": api_error(402)}, S.FAILED, F.BILLING),
    ({"result": api_error(400, "Your credit balance is too low")}, S.FAILED, F.BILLING),
    ({"result": api_error(None), "api_error": "billing_error"}, S.FAILED, F.BILLING),
    ({"result": api_error(404)}, S.FAILED, F.BAD_REQUEST),
    ({"result": api_error(400)}, S.FAILED, F.BAD_REQUEST),
    ({"result": api_error(413)}, S.FAILED, F.BAD_REQUEST),
    ({"result": api_error(400, "Prompt is too long")}, S.FAILED, F.BAD_REQUEST),
    ({"result": api_error(None), "api_error": "model_not_found"}, S.FAILED, F.BAD_REQUEST),
    (
        {"result": broken("error_during_execution", "No conversation found with session ID x")},
        S.FAILED,
        F.SESSION_MISSING,
    ),
    (
        {"ending": Ending.EXITED, "exit_code": 1, "stderr": "No conversation found with ID x"},
        S.FAILED,
        F.SESSION_MISSING,
    ),
    ({"ending": Ending.EXITED, "exit_code": -9}, S.FAILED, F.CRASHED),
    ({"ending": Ending.EXITED, "exit_code": 137}, S.FAILED, F.CRASHED),
    ({"ending": Ending.EXITED, "exit_code": 143}, S.FAILED, F.CRASHED),
    (
        {"ending": Ending.EXITED, "exit_code": 143, "stop": Stop.CANCELLED},
        S.CANCELLED,
        F.CANCELLED,
    ),
    ({"ending": Ending.EXITED, "exit_code": 143, "stop": Stop.WALL}, S.TIMED_OUT, F.WALL_TIMEOUT),
    ({"ending": Ending.EXITED, "exit_code": 1, "stderr": "bad option"}, S.FAILED, F.CONFIGURATION),
    ({"ending": Ending.NOT_FOUND}, S.FAILED, F.CONFIGURATION),
    ({"ending": Ending.REJECTED, "error": "Working directory"}, S.FAILED, F.CONFIGURATION),
    ({"ending": Ending.START_TIMEOUT}, S.FAILED, F.START_TIMEOUT),
    ({"ending": Ending.GARBLED}, S.FAILED, F.CRASHED),
    ({}, S.FAILED, F.CRASHED),
    # Order: our own stop, the result, the exception, neither.
    ({"result": GOOD, "stop": Stop.CANCELLED}, S.SUCCEEDED, None),
    ({"result": GOOD, "stop": Stop.WALL}, S.SUCCEEDED, None),
    ({"result": GOOD, "stop": Stop.WALL, "wants_output": True}, S.TIMED_OUT, F.WALL_TIMEOUT),
    ({"result": api_error(500), "stop": Stop.CANCELLED}, S.CANCELLED, F.CANCELLED),
    ({"result": GOOD, "ending": Ending.EXITED, "exit_code": 1}, S.SUCCEEDED, None),
    (
        {"result": broken("error_max_turns"), "ending": Ending.EXITED, "exit_code": 1},
        S.FAILED,
        F.MAX_TURNS,
    ),
    ({"ending": Ending.START_TIMEOUT, "stop": Stop.CANCELLED}, S.CANCELLED, F.CANCELLED),
    ({"stop": Stop.IDLE}, S.TIMED_OUT, F.IDLE_TIMEOUT),
    # An exact subtype speaks before an API error that was survived.
    (
        {"result": broken("error_max_turns"), "api_error": "overloaded"},
        S.FAILED,
        F.MAX_TURNS,
    ),
    ({"result": GOOD, "api_error": "overloaded"}, S.SUCCEEDED, None),
]


@pytest.mark.parametrize(("seen", "state", "kind"), ROWS)
def test_each_observation_has_its_meaning(
    seen: dict[str, Any], state: JobState, kind: FailureKind | None
) -> None:
    ended = verdict(Observed(**seen))
    assert ended.state is state
    assert (ended.failure.kind if ended.failure else None) is kind
    if ended.failure is not None:
        assert ended.failure.retryable == (kind in RETRYABLE)
        assert ended.failure.message


@pytest.mark.parametrize(
    ("kind", "retried"),
    [
        (F.RATE_LIMITED, True), (F.MODEL_UNAVAILABLE, True), (F.AGENT_ERROR, True),
        (F.CRASHED, True), (F.START_TIMEOUT, True), (F.LOST, True), (F.INTERNAL, True),
        (F.BUDGET_EXCEEDED, False), (F.MAX_TURNS, False), (F.AUTHENTICATION, False),
        (F.BILLING, False), (F.BAD_REQUEST, False), (F.SESSION_MISSING, False),
        (F.CONFIGURATION, False), (F.REFUSED, False), (F.INVALID_OUTPUT, False),
        (F.CANCELLED, False), (F.WALL_TIMEOUT, False), (F.IDLE_TIMEOUT, False),
        (F.EXPIRED, False), (F.INVALID_JOB, False), (F.SESSION_BUSY, False),
        (F.ARTIFACTS_TOO_LARGE, False), (F.OUT_OF_MEMORY, False),
    ],
)  # fmt: skip
def test_what_another_attempt_can_cure(kind: FailureKind, retried: bool) -> None:
    assert (kind in RETRYABLE) == retried


@pytest.mark.parametrize(("now_s", "wait_s"), [(1000.0, 60.0), (1060.0, 0.0), (2000.0, 0.0)])
def test_a_rate_limit_is_waited_for(now_s: float, wait_s: float) -> None:
    seen = Observed(result=api_error(429), resets_at_s=1060, now_s=now_s)
    failure = verdict(seen).failure
    assert failure is not None
    assert failure.retry_after_s == wait_s


def test_only_a_rate_limit_says_when_to_come_back() -> None:
    failure = verdict(Observed(result=api_error(500), resets_at_s=1060, now_s=0)).failure
    assert failure is not None
    assert failure.retry_after_s is None


@pytest.mark.parametrize(
    ("status", "resets_at_s", "wait_s"),
    [(429, None, 37.0), (529, None, 37.0), (429, 1060, 60.0), (400, None, None), (401, None, None)],
)
def test_the_clis_last_wait_holds_what_the_api_asked_for(
    status: int, resets_at_s: int | None, wait_s: float | None
) -> None:
    """Unless the API named the time; and only where another attempt follows."""
    seen = Observed(
        result=api_error(status), resets_at_s=resets_at_s, retry_delay_s=37.0, now_s=1000
    )
    failure = verdict(seen).failure
    assert failure is not None
    assert failure.retry_after_s == wait_s


def test_a_message_says_what_was_seen_and_is_bounded() -> None:
    failure = verdict(
        Observed(ending=Ending.EXITED, exit_code=1, error="exit 1", stderr="x" * 5000)
    ).failure
    assert failure is not None
    assert failure.message.startswith("exit 1: xxx")
    assert len(failure.message) == 2000


maybe_text = st.none() | st.text(max_size=5) | st.sampled_from(["refusal", "api_error"])
results = st.builds(
    CliResult,
    subtype=st.sampled_from(["success", "error_max_turns", "error_during_execution", "new"]),
    is_error=st.booleans(),
    text=maybe_text,
    stop_reason=maybe_text,
    terminal_reason=maybe_text,
    api_error_status=st.none() | st.integers(100, 700),
    structured_output=st.none() | st.just({}),
    errors=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    turns=st.integers(0, 5),
    usage=st.just(Usage()),
)
observations = st.builds(
    Observed,
    stop=st.none() | st.sampled_from(Stop),
    result=st.none() | results,
    ending=st.none() | st.sampled_from(Ending),
    exit_code=st.none() | st.integers(-64, 255),
    error=st.text(max_size=5),
    stderr=st.text(max_size=5),
    api_error=maybe_text,
    resets_at_s=st.none() | st.integers(0, 2_000_000_000),
    wants_output=st.booleans(),
    now_s=st.floats(0, 2e9),
)


@given(observations)
def test_every_observation_has_a_verdict_that_fits_itself(seen: Observed) -> None:
    ended = verdict(seen)
    assert (ended.failure is None) == (ended.state is JobState.SUCCEEDED)
    if ended.state is JobState.SUCCEEDED:
        assert seen.result is not None
        assert not seen.result.is_error
        assert seen.stop is not Stop.OUT_OF_MEMORY
    elif seen.stop is Stop.CANCELLED:
        assert ended.state is JobState.CANCELLED
    elif seen.stop in (Stop.WALL, Stop.IDLE):
        assert ended.state is JobState.TIMED_OUT
    else:
        assert ended.state is JobState.FAILED
