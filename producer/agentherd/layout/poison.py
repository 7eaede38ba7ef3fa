"""Messages that were no jobs: set aside by the worker that got them, for a person to look at."""

from agentherd.contract.base import KiB, Report
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Pipeline
from agentherd.layout.replies import text

KEPT = 100
"""Messages kept; the oldest go first."""
_MAX_CONTENT = 4 * KiB


class PoisonMessage(Report):
    """One message that no worker could run, and why."""

    at_ms: int
    """When it was set aside, on Redis's clock."""
    queue: str
    worker: str
    reason: str
    size_bytes: int
    content: str
    """Its first 4 KiB, as text; what is no UTF-8 is replaced."""


def keep(keys: Keys, raw: bytes, *, queue: str, worker: str, reason: str) -> Operation[None]:
    """Set a message aside."""
    seconds, microseconds = yield Command("TIME")
    message = PoisonMessage(
        at_ms=int(seconds) * 1000 + int(microseconds) // 1000,
        queue=queue,
        worker=worker,
        reason=reason,
        size_bytes=len(raw),
        content=raw[:_MAX_CONTENT].decode(errors="replace"),
    )
    yield Pipeline(
        Command("LPUSH", keys.poison, message.model_dump_json()),
        Command("LTRIM", keys.poison, 0, KEPT - 1),
    )


def kept(keys: Keys, limit: int = KEPT) -> Operation[list[PoisonMessage]]:
    """The messages set aside, the newest first."""
    found = yield Command("LRANGE", keys.poison, 0, limit - 1)
    return [PoisonMessage.model_validate_json(text(one)) for one in found]


def count(keys: Keys) -> Operation[int]:
    """How many messages are kept."""
    return int((yield Command("LLEN", keys.poison)))
