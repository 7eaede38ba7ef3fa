"""What happens to a job while it is on its way, as a stream."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentherd.contract.base import Json, Report


class EventKind(StrEnum):
    """What an event reports; in brackets what its `data` holds."""

    SUBMITTED = "submitted"
    """[state, session_id]"""
    RELEASED = "released"
    """A scheduled job went into its queue. []"""
    STARTED = "started"
    """An attempt began. [worker, resumed]"""
    AGENT_READY = "agent_ready"
    """The CLI answered. [model, tools, cli_version, spawned_after_ms: since submit or release]"""
    TEXT = "text"
    """The agent said something. [text, subagent]"""
    THINKING = "thinking"
    """The agent thought. [text, subagent]"""
    TOOL_STARTED = "tool_started"
    """[tool, tool_use_id, input, subagent]"""
    TOOL_FINISHED = "tool_finished"
    """[tool_use_id, is_error, output, subagent]"""
    SUBAGENT = "subagent"
    """A subagent's progress. [status, description]"""
    API_RETRY = "api_retry"
    """The CLI tries a request again. [status, attempt, max_attempts, delay_ms]"""
    RATE_LIMIT = "rate_limit"
    """The account's rate limit changed. [status, resets_at_s, type]"""
    SESSION_DEGRADED = "session_degraded"
    """Part of the transcript could not be stored. [error]"""
    CANCELLING = "cancelling"
    """Someone asked to cancel the running job; its agent is about to be ended. [reason]"""
    RESTORED = "restored"
    """What a further attempt finds of its files; none is back where `files` is None.
    [files, complete: as they were left, age_s: else as of so long before the interruption,
    too_large: why they, or later ones, were not stored, unreadable]"""
    REQUEUED = "requeued"
    """The attempt ended without an end of the job. [reason, delay_s]"""
    ENDED = "ended"
    """The job reached a terminal state; the last event. [state, failure_kind, message, cost_usd]"""


class JobEvent(Report):
    """One event. Long texts are cut to 4 KiB and end in `…`; the transcript has them whole."""

    id: str
    """Position in the stream; give it as `after` to go on from here."""
    job_id: str
    attempt: int
    at_ms: int
    """Redis's clock, Unix time."""
    kind: Annotated[EventKind | str, Field(union_mode="left_to_right")]
    """An `EventKind`; a plain string where a newer worker sent one this version doesn't know."""
    data: dict[str, Json] = {}
