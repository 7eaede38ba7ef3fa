"""What a run ended in: from what was observed to a state and a `FailureKind`. Pure.

Checked in this order: our own stop, the CLI's result, the exception, nothing at all. Which
observation means what was measured with the real CLI; tests/e2e/test_outcomes.py causes each.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentherd.contract.failures import RETRYABLE, FailureKind
from agentherd.contract.results import Failure, Usage
from agentherd.contract.states import JobState


class Stop(StrEnum):
    """Why we ended the run ourselves."""

    CANCELLED = "cancelled"
    WALL = "wall"
    IDLE = "idle"
    LEASE_LOST = "lease_lost"
    DRAINED = "drained"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    TOO_MANY_PROCESSES = "too_many_processes"
    KEY_REFUSED = "key_refused"
    """The model API refuses the key, and the CLI would try it for minutes."""


AT_ONCE = frozenset({Stop.LEASE_LOST, Stop.OUT_OF_MEMORY, Stop.DISK_FULL, Stop.TOO_MANY_PROCESSES})
"""Stops that grant the agent no time: it must not write, or grow, any more."""


class Ending(StrEnum):
    """How the CLI's process ended, where it did not end by a result."""

    NOT_FOUND = "not_found"
    """No executable where it should be."""
    EXITED = "exited"
    """With `exit_code`, after a start."""
    START_TIMEOUT = "start_timeout"
    """It never answered the first control request."""
    REJECTED = "rejected"
    """The SDK refused the options, or could not start the process."""
    GARBLED = "garbled"
    """Its output could not be read."""
    STORE_AWAY = "store_away"
    """Redis did not answer when the session was to be loaded."""
    STORE_CORRUPT = "store_corrupt"
    """What is stored of the session can't be read."""


@dataclass(frozen=True, kw_only=True)
class CliResult:
    """The CLI's `result` message."""

    subtype: str
    is_error: bool
    text: str | None
    stop_reason: str | None
    terminal_reason: str | None
    api_error_status: int | None
    structured_output: Any
    errors: tuple[str, ...]
    turns: int
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class Observed:
    """All that is known about a run once it is over."""

    stop: Stop | None = None
    stop_detail: str = ""
    """What made us stop, with the numbers."""
    result: CliResult | None = None
    ending: Ending | None = None
    exit_code: int | None = None
    ready: bool = False
    """The CLI had said its first word."""
    error: str = ""
    """Text of the exception, where there was one."""
    stderr: str = ""
    """The end of the CLI's stderr."""
    api_error: str | None = None
    """Class of the last API error that the CLI named (`AssistantMessage.error`)."""
    resets_at_s: int | None = None
    """Unix time at which a rejected rate limit ends."""
    retry_delay_s: float | None = None
    """How long the CLI last waited before it asked again: `retry-after` where the API sent one."""
    wants_output: bool = False
    """The job has an output schema."""
    now_s: float = field(default=0.0)
    """Unix time of the observation."""


@dataclass(frozen=True)
class Verdict:
    """What the run means for the job."""

    state: JobState
    failure: Failure | None = None


_SUCCESS = Verdict(JobState.SUCCEEDED)
_OUR_STOPS = {
    Stop.CANCELLED: (JobState.CANCELLED, FailureKind.CANCELLED, "cancelled"),
    Stop.WALL: (JobState.TIMED_OUT, FailureKind.WALL_TIMEOUT, "timeout_s passed"),
    Stop.IDLE: (
        JobState.TIMED_OUT,
        FailureKind.IDLE_TIMEOUT,
        "no message from the agent for idle_timeout_s",
    ),
    Stop.LEASE_LOST: (JobState.FAILED, FailureKind.LOST, "another worker owns the job"),
    Stop.DRAINED: (JobState.FAILED, FailureKind.LOST, "the worker is shutting down"),
    Stop.KEY_REFUSED: (
        JobState.FAILED,
        FailureKind.AUTHENTICATION,
        "the model API refuses the key",
    ),
    Stop.OUT_OF_MEMORY: (
        JobState.FAILED,
        FailureKind.OUT_OF_MEMORY,
        "over its memory ceiling; a larger memory class may hold it",
    ),
    Stop.DISK_FULL: (JobState.FAILED, FailureKind.DISK_FULL, "over its disk ceiling"),
    Stop.TOO_MANY_PROCESSES: (
        JobState.FAILED,
        FailureKind.TOO_MANY_PROCESSES,
        "over its ceiling of processes",
    ),
}
_KINDS_BY_SUBTYPE = {
    "error_max_turns": FailureKind.MAX_TURNS,
    "error_max_budget_usd": FailureKind.BUDGET_EXCEEDED,
    "error_max_structured_output_retries": FailureKind.INVALID_OUTPUT,
}
_KINDS_BY_ENDING = {
    Ending.NOT_FOUND: FailureKind.CONFIGURATION,
    Ending.REJECTED: FailureKind.CONFIGURATION,
    Ending.START_TIMEOUT: FailureKind.START_TIMEOUT,
    Ending.STORE_AWAY: FailureKind.INTERNAL,
    Ending.STORE_CORRUPT: FailureKind.SESSION_CORRUPT,
}
_BILLING_WORDS = ("credit balance", "spend limit", "spending limit", "billing", "usage limit")
_KINDS_BY_STATUS = {
    401: FailureKind.AUTHENTICATION,
    403: FailureKind.AUTHENTICATION,
    402: FailureKind.BILLING,
    408: FailureKind.MODEL_UNAVAILABLE,
    429: FailureKind.RATE_LIMITED,
}
_KINDS_BY_NAME = {
    "authentication_failed": FailureKind.AUTHENTICATION,
    "oauth_org_not_allowed": FailureKind.AUTHENTICATION,
    "billing_error": FailureKind.BILLING,
    "rate_limit": FailureKind.RATE_LIMITED,
    "invalid_request": FailureKind.BAD_REQUEST,
    "model_not_found": FailureKind.BAD_REQUEST,
    "max_output_tokens": FailureKind.BAD_REQUEST,  # costs the same again
    "server_error": FailureKind.MODEL_UNAVAILABLE,
    "overloaded": FailureKind.MODEL_UNAVAILABLE,
}


def verdict(seen: Observed) -> Verdict:
    """What the run means for the job."""
    if seen.stop is Stop.OUT_OF_MEMORY or (seen.stop is not None and not _succeeded(seen)):
        state, kind, message = _OUR_STOPS[seen.stop]
        detail = f": {seen.stop_detail}" if seen.stop_detail else ""
        return Verdict(state, _failure(kind, message + detail))
    if seen.result is not None:
        return _by_result(seen, seen.result)
    return Verdict(JobState.FAILED, _by_ending(seen))


def _succeeded(seen: Observed) -> bool:
    """A run that was done when our stop came counts: its work is paid for.

    Not one that was over its memory ceiling: the kernel killed a part of it, and whether the
    agent still found an end is a matter of milliseconds.
    """
    return seen.result is not None and _by_result(seen, seen.result) == _SUCCESS


def _by_result(seen: Observed, result: CliResult) -> Verdict:
    if result.subtype == "success" and not result.is_error:
        return _by_answer(seen, result)
    return Verdict(JobState.FAILED, _failure_of(seen, result))


def _by_answer(seen: Observed, result: CliResult) -> Verdict:
    if result.stop_reason == "refusal":
        return Verdict(JobState.FAILED, _failure(FailureKind.REFUSED, "the model refused"))
    if seen.wants_output and result.structured_output is None:
        message = "the agent ended without structured output"
        return Verdict(JobState.FAILED, _failure(FailureKind.INVALID_OUTPUT, message))
    return _SUCCESS


def _failure_of(seen: Observed, result: CliResult) -> Failure:
    detail = "; ".join(result.errors) or result.text or result.subtype
    if result.subtype in _KINDS_BY_SUBTYPE:
        return _failure(_KINDS_BY_SUBTYPE[result.subtype], detail)
    if result.stop_reason == "refusal":
        return _failure(FailureKind.REFUSED, detail)
    if "No conversation found" in detail:
        return _failure(FailureKind.SESSION_MISSING, detail)
    if result.api_error_status is not None or seen.api_error is not None:
        return _by_api_error(seen, result.api_error_status, detail)
    unavailable = result.terminal_reason == "api_error"
    kind = FailureKind.MODEL_UNAVAILABLE if unavailable else FailureKind.AGENT_ERROR
    return _failure(kind, detail)


def _by_api_error(seen: Observed, status: int | None, detail: str) -> Failure:
    # A limit that ends by itself is waited for, whatever it is called.
    if seen.resets_at_s is None and any(word in detail.lower() for word in _BILLING_WORDS):
        return _failure(FailureKind.BILLING, detail)
    kind = _KINDS_BY_STATUS.get(status or 0)
    if kind is None and status is not None:
        kind = FailureKind.MODEL_UNAVAILABLE if status >= 500 else FailureKind.BAD_REQUEST
    if kind is None:
        kind = _KINDS_BY_NAME.get(seen.api_error or "", FailureKind.MODEL_UNAVAILABLE)
    return _failure(kind, detail, _wait_s(kind, seen))


def _wait_s(kind: FailureKind, seen: Observed) -> float | None:
    if kind not in (FailureKind.RATE_LIMITED, FailureKind.MODEL_UNAVAILABLE):
        return None
    if kind is FailureKind.RATE_LIMITED and seen.resets_at_s is not None:
        return max(0.0, seen.resets_at_s - seen.now_s)
    return seen.retry_delay_s


def _by_ending(seen: Observed) -> Failure:
    detail = seen.error
    if seen.stderr:
        detail = f"{detail}: {seen.stderr}" if detail else seen.stderr
    kind = _KINDS_BY_ENDING.get(seen.ending) if seen.ending else None
    if kind is None and seen.exit_code == 1 and not seen.ready:
        # The CLI rejected what it was told.
        missing = "No conversation found" in detail
        kind = FailureKind.SESSION_MISSING if missing else FailureKind.CONFIGURATION
    return _failure(kind or FailureKind.CRASHED, detail or "the CLI ended without a result")


def _failure(kind: FailureKind, message: str, retry_after_s: float | None = None) -> Failure:
    return Failure(
        kind=kind,
        message=message[:2000] or kind,
        retryable=kind in RETRYABLE,
        retry_after_s=retry_after_s,
    )
