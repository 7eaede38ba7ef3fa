"""Which step of which script a request asks for: derived from the conversation alone."""

import re
from dataclasses import dataclass
from typing import Any

from agentherd_workers.devkit.model_api.steps import find_script

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)
"""What the CLI adds to the user's words."""
_SYNTHETIC = ("No response requested.",)
"""What the CLI writes in the model's name when it resumes an interrupted turn."""


@dataclass(frozen=True)
class Position:
    """Where a conversation stands."""

    prompt: str
    """The newest text of the user, without the CLI's reminders."""
    script: str | None
    """The newest script in the user's messages."""
    answered: int
    """Answers since that script was first given, so that a repeated prompt goes on."""


def position_of(body: dict[str, Any]) -> Position:
    """The position of a `/v1/messages` request."""
    messages = body.get("messages", [])
    said = [
        (index, _REMINDER.sub("", text_of(message)))
        for index, message in enumerate(messages)
        if message.get("role") == "user"
    ]
    prompts = [(index, words) for index, words in said if words]
    prompt = prompts[-1][1] if prompts else ""
    scripts = [(index, find_script(text)) for index, text in prompts]
    script = next((found for _, found in reversed(scripts) if found is not None), None)
    if script is None:
        return Position(prompt, None, 0)
    first = next(index for index, found in scripts if found == script)
    return Position(prompt, script, _answers(messages[first:]))


def _answers(messages: list[dict[str, Any]]) -> int:
    return sum(
        message.get("role") == "assistant" and text_of(message) not in _SYNTHETIC
        for message in messages
    )


def text_of(message: dict[str, Any]) -> str:
    """A message's text blocks; not those inside tool results."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content if block.get("type") == "text")
