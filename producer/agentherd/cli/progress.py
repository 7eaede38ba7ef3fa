"""A job's events as lines for a person, one a line."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from agentherd.cli.screen import STATE_STYLES, write_line
from agentherd.cli.times import clock_time, local_time
from agentherd.cli.untrusted import one_line
from agentherd.contract.events import EventKind, JobEvent
from agentherd.contract.hosts import BreakerReport
from agentherd.contract.states import JobState

WIDTH = 160
"""Characters of an event's text that are shown; `transcript` has all of it."""
WAITING: Mapping[str, str] = {
    JobState.QUEUED: "queued; no worker has taken it yet",
    JobState.SCHEDULED: "scheduled; waits for its time",
}
"""Where a job is that no worker has."""
NOT_SERVED = "no live worker serves its memory class"


def refusal_text(breaker: BreakerReport) -> str:
    """Why no worker takes jobs."""
    return (
        f"no worker takes jobs: the model API refuses the fleet"
        f" ({breaker.kind}: {breaker.message}) since {local_time(breaker.opened_at_ms)};"
        " one job is tried now and then"
    )


_STYLES: Mapping[str, str] = {
    EventKind.THINKING: "dim",
    EventKind.TOOL_STARTED: "cyan",
    EventKind.API_RETRY: "yellow",
    EventKind.RATE_LIMIT: "yellow",
    EventKind.SESSION_DEGRADED: "yellow",
    EventKind.CANCELLING: "magenta",
    EventKind.REQUEUED: "yellow",
}

Data = Mapping[str, Any]


def write_event(event: JobEvent, *, err: bool = False) -> None:
    """Print one event."""
    style = STATE_STYLES.get(str(event.data.get("state")), "")
    write_line(
        (f"{clock_time(event.at_ms)}  ", "dim"),
        (one_line(f"{event.kind}: {description(event)}", WIDTH), _STYLES.get(event.kind, style)),
        err=err,
    )


def event_json(event: JobEvent) -> dict[str, Any]:
    """One line of a JSON stream."""
    return {"type": "event", **event.model_dump(mode="json")}


def description(event: JobEvent) -> str:
    """What an event says. Its data comes from a worker and may hold anything."""
    describe = _DESCRIBE.get(event.kind, _any)
    text = describe(event.data)
    if event.data.get("subagent"):
        text = f"[subagent] {text}"
    return text


def _any(data: Data) -> str:
    return json.dumps(data, ensure_ascii=False) if data else ""


def _field(name: str) -> Callable[[Data], str]:
    return lambda data: str(data.get(name, ""))


def _submitted(data: Data) -> str:
    return WAITING.get(str(data.get("state")), str(data.get("state", "")))


def _started(data: Data) -> str:
    resumed = ", goes on where the last attempt was" if data.get("resumed") else ""
    return f"on {data.get('worker', '?')}{resumed}"


def _agent_ready(data: Data) -> str:
    return f"{data.get('model', '?')}, CLI {data.get('cli_version', '?')}"


def _tool_started(data: Data) -> str:
    return f"{data.get('tool', '?')} {_text(data.get('input'))}"


def _tool_finished(data: Data) -> str:
    return f"{'error' if data.get('is_error') else 'ok'}: {_text(data.get('output'))}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _subagent(data: Data) -> str:
    return f"{data.get('status', '')} {data.get('description', '')}"


def _api_retry(data: Data) -> str:
    return (
        f"status {data.get('status', '?')}, attempt {data.get('attempt', '?')}"
        f" of {data.get('max_attempts', '?')}"
    )


def _cancelling(data: Data) -> str:
    return str(data.get("reason") or "asked for")


def _restored(data: Data) -> str:
    files = data.get("files")
    if files is None:
        return f"no files{f': {_lack(data)}' if _lack(data) else ''}"
    if data.get("complete"):
        return f"{files} files, all as they were left"
    later = f"; later {_lack(data)}" if _lack(data) else ""
    return f"{files} files, as of up to {data.get('age_s', '?')} s before the interruption{later}"


def _lack(data: Data) -> str:
    """Why files are not back."""
    if data.get("unreadable"):
        return "the stored copy could not be read"
    return f"too large to be stored: {data['too_large']}" if data.get("too_large") else ""


def _requeued(data: Data) -> str:
    delay = f", again in {data['delay_s']} s" if data.get("delay_s") else ""
    return f"{data.get('reason', '')}{delay}"


def _ended(data: Data) -> str:
    if not data.get("failure_kind"):
        return str(data.get("state", ""))
    return f"{data.get('state', '')}, {data['failure_kind']}: {data.get('message') or ''}"


_DESCRIBE: Mapping[str, Callable[[Data], str]] = {
    EventKind.SUBMITTED: _submitted,
    EventKind.RELEASED: lambda _data: WAITING[JobState.QUEUED],
    EventKind.STARTED: _started,
    EventKind.AGENT_READY: _agent_ready,
    EventKind.TEXT: _field("text"),
    EventKind.THINKING: _field("text"),
    EventKind.TOOL_STARTED: _tool_started,
    EventKind.TOOL_FINISHED: _tool_finished,
    EventKind.SUBAGENT: _subagent,
    EventKind.API_RETRY: _api_retry,
    EventKind.SESSION_DEGRADED: _field("error"),
    EventKind.CANCELLING: _cancelling,
    EventKind.RESTORED: _restored,
    EventKind.REQUEUED: _requeued,
    EventKind.ENDED: _ended,
}
