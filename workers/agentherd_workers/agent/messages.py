"""The SDK's message stream as job events."""

import json
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from claude_agent_sdk.types import MirrorErrorMessage, TaskNotificationMessage, TaskStartedMessage

from agentherd.contract.base import KiB
from agentherd.contract.events import EventKind

Event = tuple[EventKind, dict[str, Any]]
MAX_TEXT = 4 * KiB
"""Longer texts are cut in events; the transcript has them whole."""


def events_of(message: Message) -> list[Event]:
    """What `message` tells a follower, perhaps nothing."""
    match message:
        case AssistantMessage():
            return _assistant(message)
        case UserMessage():
            return _tool_results(message)
        case RateLimitEvent(rate_limit_info=info):
            data = {
                "status": info.status,
                "resets_at_s": info.resets_at,
                "type": info.rate_limit_type,
            }
            return [(EventKind.RATE_LIMIT, data)]
        case SystemMessage():
            return _system(message)
        case _:
            return []


def _assistant(message: AssistantMessage) -> list[Event]:
    subagent = message.parent_tool_use_id
    events: list[Event] = []
    for block in message.content:
        match block:
            case TextBlock(text=text) if text:
                events.append((EventKind.TEXT, {"text": cut(text), "subagent": subagent}))
            case ThinkingBlock(thinking=thought) if thought:
                events.append((EventKind.THINKING, {"text": cut(thought), "subagent": subagent}))
            case ToolUseBlock(id=tool_use_id, name=tool, input=arguments):
                data = {"tool": tool, "tool_use_id": tool_use_id, "input": cut(_json(arguments))}
                events.append((EventKind.TOOL_STARTED, data | {"subagent": subagent}))
            case _:
                pass
    return events


def _tool_results(message: UserMessage) -> list[Event]:
    if isinstance(message.content, str):
        return []
    return [
        (
            EventKind.TOOL_FINISHED,
            {
                "tool_use_id": block.tool_use_id,
                "is_error": bool(block.is_error),
                "output": cut(_output(block.content)),
                "subagent": message.parent_tool_use_id,
            },
        )
        for block in message.content
        if isinstance(block, ToolResultBlock)
    ]


def _system(message: SystemMessage) -> list[Event]:
    data = message.data
    match message:
        case MirrorErrorMessage(error=error):
            return [(EventKind.SESSION_DEGRADED, {"error": cut(error)})]
        case TaskStartedMessage(description=description):
            return [(EventKind.SUBAGENT, {"status": "started", "description": cut(description)})]
        case TaskNotificationMessage(status=status, summary=summary):
            return [(EventKind.SUBAGENT, {"status": status, "description": cut(summary)})]
        case SystemMessage(subtype="api_retry"):
            retry = {
                "status": data.get("error_status"),
                "attempt": data.get("attempt"),
                "max_attempts": data.get("max_retries"),
                "delay_ms": data.get("retry_delay_ms"),
            }
            return [(EventKind.API_RETRY, retry)]
        case _:
            return []


def ready_event(message: SystemMessage, spawned_after_ms: int) -> Event:
    """The CLI's first word."""
    data = message.data
    return (
        EventKind.AGENT_READY,
        {
            "model": data.get("model"),
            "tools": data.get("tools"),
            "cli_version": data.get("claude_code_version"),
            "spawned_after_ms": spawned_after_ms,
        },
    )


def cut(text: str) -> str:
    """At most `MAX_TEXT` characters, ending in `…` where some are missing."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _output(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.get("text", "") for part in content if isinstance(part, dict))
