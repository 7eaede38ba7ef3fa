"""How much waits in the Celery queues."""

from collections.abc import Iterable

from agentherd.layout.keys import PRIORITY_STEPS, queue_list
from agentherd.layout.operations import Command, Operation, Pipeline


def lists_of(queue: str) -> list[str]:
    """The Redis lists of a queue, one a step of priority."""
    return [queue_list(queue, step) for step in PRIORITY_STEPS]


def with_messages(queues: Iterable[str]) -> Operation[frozenset[str]]:
    """Those of the queues that hold a message; one command while none does."""
    queues = list(queues)
    if not (yield Command("EXISTS", *(key for queue in queues for key in lists_of(queue)))):
        return frozenset()
    replies = yield Pipeline(*(Command("EXISTS", *lists_of(queue)) for queue in queues))
    return frozenset(queue for queue, found in zip(queues, replies, strict=True) if found)


def depths(queues: Iterable[str]) -> Operation[dict[str, int]]:
    """Messages waiting in each queue."""
    queues = list(queues)
    replies = yield Pipeline(*(Command("LLEN", key) for queue in queues for key in lists_of(queue)))
    steps = len(PRIORITY_STEPS)
    return {queue: sum(replies[i * steps : (i + 1) * steps]) for i, queue in enumerate(queues)}
