"""A step as the events of a streamed Messages API response."""

import json
from collections.abc import Iterator
from typing import Any

from agentherd_workers.devkit.model_api.steps import Step, ToolCall

STRUCTURED_OUTPUT_TOOL = "StructuredOutput"
"""How the CLI asks for structured output (`--json-schema`)."""
_FILLER = "All work and no play makes a dull agent. "


def text_pieces(step: Step) -> list[str]:
    """The step's text, cut into its chunks."""
    text = step.text or ""
    if step.text_bytes:
        text += (_FILLER * (step.text_bytes // len(_FILLER) + 1))[: step.text_bytes]
    if not text:
        return []
    size = -(-len(text) // step.chunks)
    return [text[start : start + size] for start in range(0, len(text), size)]


def tool_calls(step: Step) -> tuple[ToolCall, ...]:
    """The step's tool calls, structured output among them."""
    if step.structured is None:
        return step.tools
    return (*step.tools, ToolCall(name=STRUCTURED_OUTPUT_TOOL, input=step.structured))


def stream(step: Step, model: str, request_number: int) -> Iterator[bytes]:
    """The response as server-sent events, one piece of text at a time."""
    usage = {"input_tokens": step.input_tokens, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": f"msg_{request_number:06}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    yield _event("message_start", message=message)
    index = 0
    if step.thinking is not None:
        yield from _block(
            index,
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": step.thinking},
                {"type": "signature_delta", "signature": "c2ltdWxhdGVk"},
            ],
        )
        index += 1
    if pieces := text_pieces(step):
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        yield from _block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    calls = tool_calls(step)
    for number, call in enumerate(calls):
        identity = f"toolu_{request_number:06}_{number}"
        block = {"type": "tool_use", "id": identity, "name": call.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call.input)}
        yield from _block(index + number, block, [delta])
    stop_reason = step.stop_reason or ("tool_use" if calls else "end_turn")
    yield _event(
        "message_delta",
        delta={"stop_reason": stop_reason, "stop_sequence": None},
        usage={"output_tokens": step.output_tokens},
    )
    yield _event("message_stop")


def _block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[bytes]:
    yield _event("content_block_start", index=index, content_block=start)
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
