"""Redis replies as Python values, whichever protocol version the client speaks."""

from typing import Any


def text(value: Any) -> str:
    """A string reply as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def pairs(reply: Any) -> dict[str, str]:
    """A hash or stream-entry reply as text pairs."""
    if isinstance(reply, dict):
        return {text(name): text(value) for name, value in reply.items()}
    values = [text(value) for value in reply]
    return dict(zip(values[::2], values[1::2], strict=True))


def scored(reply: Any) -> list[tuple[str, int]]:
    """A WITHSCORES reply as (member, whole score)."""
    if reply and not isinstance(reply[0], list | tuple):
        reply = zip(reply[::2], reply[1::2], strict=True)
    return [(text(member), int(float(text(score)))) for member, score in reply]


def stream_entries(reply: Any) -> list[Any]:
    """The (id, fields) entries of an XREAD reply over one stream."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return [entry for batches in reply.values() for batch in batches for entry in batch]
    return [entry for _stream, entries in reply for entry in entries]
