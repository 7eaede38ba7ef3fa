"""What the simulated model does in one request, and where a script of it stands in a prompt."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from agentherd.contract.base import Contract, Json

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class ToolCall(Contract):
    """A tool that the model calls; the CLI really runs it."""

    name: str
    input: dict[str, Json]


class Step(Contract):
    """One answer of the model, or one fault in its place.

    Answers: `text`, `thinking`, `tools`, `structured`, `text_bytes`, in that order where several
    are given. Faults: `error`, `drop`, `hang`; each is served `times` times and then makes way
    for the step behind it; as the last step it stays for ever.
    """

    text: str | None = None
    thinking: str | None = None
    tools: tuple[ToolCall, ...] = ()
    structured: dict[str, Json] | None = None
    """Structured output: a call of the CLI's StructuredOutput tool."""
    text_bytes: Annotated[int, Field(ge=0)] = 0
    """So much generated text."""
    chunks: Annotated[int, Field(ge=1)] = 1
    """Text comes in so many pieces,"""
    delay_s: Annotated[float, Field(ge=0)] = 0.0
    """with this pause before each."""
    input_tokens: int = 10
    output_tokens: int = 5
    stop_reason: str | None = None
    """Instead of `end_turn` or `tool_use`: `refusal`, `max_tokens`, …"""
    error: int | None = None
    """HTTP status."""
    message: str = "simulated by agentherd's devkit"
    headers: dict[str, str] = {}
    """Further headers of an error, such as `retry-after`."""
    drop: Literal["before", "during"] | None = None
    """Cut the connection, before the answer or in its middle."""
    hang: Literal["before", "during"] | None = None
    """Say nothing more until the client goes."""
    times: Annotated[int, Field(ge=1)] = 1

    @property
    def is_fault(self) -> bool:
        """Whether there is no answer in it."""
        return any(fault is not None for fault in (self.error, self.drop, self.hang))

    @property
    def error_body(self) -> dict[str, Json]:
        """The API's error document."""
        kind = _ERROR_TYPES.get(self.error or 0, "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}


_STEPS = TypeAdapter(tuple[Step, ...])


class Turn(Contract):
    """One answer, and the faults that come before it."""

    faults: tuple[Step, ...]
    answer: Step | None
    """None: the faults are all there is, the last one for ever."""


def turns_of(steps: Sequence[Step]) -> tuple[Turn, ...]:
    """The script by answers: a fault does not add to the conversation, an answer does."""
    turns: list[Turn] = []
    faults: list[Step] = []
    for step in steps:
        if step.is_fault:
            faults += [step] * step.times
        else:
            turns.append(Turn(faults=tuple(faults), answer=step))
            faults = []
    if faults:
        turns.append(Turn(faults=tuple(faults), answer=None))
    return tuple(turns)


def script_text(steps: Iterable[Step]) -> str:
    """`<script>…</script>`: steps as a prompt carries them."""
    documents = [step.model_dump(mode="json", exclude_defaults=True) for step in steps]
    # Escaped, so that no text in it can end the script early.
    return f"<script>{json.dumps(documents).replace('<', chr(92) + 'u003c')}</script>"


def find_script(text: str) -> str | None:
    """The last script in a text, as JSON text."""
    found = _SCRIPT.findall(text)
    return found[-1] if found else None


def parse_script(script: str) -> tuple[Step, ...]:
    """The steps of a script; raises pydantic's ValidationError."""
    return _STEPS.validate_json(script)


def parse_steps(steps: Sequence[Step | dict[str, Any]]) -> tuple[Step, ...]:
    """Steps from steps or plain dicts."""
    return _STEPS.validate_python(steps)
