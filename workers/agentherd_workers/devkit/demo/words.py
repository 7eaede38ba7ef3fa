"""A job's events in words for someone who sees agentherd for the first time."""

import json
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from agentherd import EventKind, JobEvent
from agentherd.cli.progress import WAITING, description

Data = Mapping[str, Any]


def in_words(event: JobEvent) -> str:
    """What happened; empty where it says nothing to a reader."""
    say = _SAY.get(event.kind)
    text = say(event.data) if say else f"{event.kind}: {description(event)}"
    return f"subagent: {text}" if text and event.data.get("subagent") else text


def _submitted(data: Data) -> str:
    return WAITING.get(str(data.get("state")), "waits")


def _started(_data: Data) -> str:
    return "the worker starts the CLI"


def _ready(data: Data) -> str:
    return f"CLI {data.get('cli_version', '?')} is ready"


def _spoken(data: Data) -> str:
    return f"“{data.get('text', '')}”"


def _called(data: Data) -> str:
    tool = str(data.get("tool"))
    given = _arguments(data.get("input"))
    if tool in _TOOLS and given is not None:
        return _TOOLS[tool](given)
    return f"calls {tool}"


def _arguments(encoded: Any) -> dict[str, Any] | None:
    """A tool's input; None where it was too long to be sent whole."""
    try:
        given = json.loads(encoded) if isinstance(encoded, str) else encoded
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _returned(data: Data) -> str:
    """An error by its last line; what went well shows in what follows."""
    lines = str(data.get("output", "")).strip().splitlines()
    return f"error: {lines[-1]}" if data.get("is_error") and lines else ""


def _subagent(data: Data) -> str:
    return f"subagent {data.get('status', '')}: {data.get('description', '')}"


def _ended(data: Data) -> str:
    if not data.get("failure_kind"):
        return f"{data.get('state')}, ${data.get('cost_usd') or 0:.4f}"
    return f"{data['failure_kind']}: {data.get('message') or ''}"


def _file(verb: str) -> Callable[[dict[str, Any]], str]:
    return lambda given: f"{verb} {PurePath(str(given.get('file_path', '?'))).name}"


_TOOLS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "Bash": lambda given: f"$ {given.get('command', '')}",
    "Edit": _file("edits"),
    "Read": _file("reads"),
    "Write": _file("writes"),
    "Task": lambda given: f"asks the subagent {given.get('subagent_type', '?')}",
    "Agent": lambda given: f"asks the subagent {given.get('subagent_type', '?')}",
    "StructuredOutput": lambda _given: "hands in its structured output",
}
_SAY: Mapping[str, Callable[[Data], str]] = {
    EventKind.SUBMITTED: _submitted,
    EventKind.STARTED: _started,
    EventKind.AGENT_READY: _ready,
    EventKind.TEXT: _spoken,
    EventKind.THINKING: _spoken,
    EventKind.TOOL_STARTED: _called,
    EventKind.TOOL_FINISHED: _returned,
    EventKind.SUBAGENT: _subagent,
    EventKind.ENDED: _ended,
}
