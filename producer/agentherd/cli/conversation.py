"""A transcript's entries as a conversation to read.

An entry is one line of the CLI's session file. Its shape is the CLI's own and not documented;
what is not recognised is left out here, and shown by `transcript --jsonl`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agentherd.cli.screen import write_line
from agentherd.cli.untrusted import excerpt

TEXT_LINES = 60
TOOL_LINES = 12
CHARS_A_LINE = 200
_UNCUT = 1_000_000_000

_STYLES = {"user": "bold blue", "assistant": "bold green", "error": "bold red"}


def write_entry(entry: Mapping[str, Any], *, full: bool) -> None:
    """Print what an entry adds to the conversation; nothing where it adds nothing."""
    side = "subagent " if entry.get("isSidechain") else ""
    for label, text, max_lines in _parts(entry):
        lines = _UNCUT if full else max_lines
        shown = excerpt(text, max_lines=lines, max_chars=lines * CHARS_A_LINE)
        style = _STYLES.get(label.split()[0], "bold cyan")
        write_line((f"{side}{label}", style))
        write_line(("  " + shown.replace("\n", "\n  "), ""))


def _parts(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(who or what, its text, lines to show) of an entry."""
    message = entry.get("message")
    role = entry.get("type")
    if role not in ("user", "assistant") or not isinstance(message, Mapping):
        return
    content = message.get("content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for block in blocks:
        if isinstance(block, Mapping):
            yield from _block(str(role), block)


def _block(role: str, block: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    match block.get("type"):
        case "text" if block.get("text"):
            yield role, str(block["text"]), TEXT_LINES
        case "thinking" if block.get("thinking"):
            yield f"{role} thinks", str(block["thinking"]), TOOL_LINES
        case "tool_use":
            yield f"tool call {block.get('name', '?')}", _tool_input(block.get("input")), TOOL_LINES
        case "tool_result":
            label = "error from the tool" if block.get("is_error") else "tool result"
            yield label, _tool_output(block.get("content")), TOOL_LINES
        case _:
            return


def _tool_input(value: Any) -> str:
    if not isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return "\n".join(f"{name}: {_value(item)}" for name, item in value.items())


def _value(item: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _tool_output(content: Any) -> str:
    if not isinstance(content, list):
        return _value(content)
    return "\n".join(
        str(block["text"]) if "text" in block else f"[{block.get('type', '?')}]"
        for block in content
        if isinstance(block, Mapping)
    )
