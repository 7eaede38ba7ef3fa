"""Jobs that are queued in their record and have no message in any queue.

A message is lost where Redis popped it for a worker that died before it noted so, or where
someone emptied a queue. The records know what is missing; one message too many does no harm,
since a claim refuses it.
"""

import re
from collections.abc import Iterable, Sequence

from agentherd.contract.states import JobState
from agentherd.layout import queues
from agentherd.layout.keys import Keys, queue_list
from agentherd.layout.operations import Command, Operation, Pipeline, Script
from agentherd.layout.replies import text

MAX_LOOKED_AT = 100_000
"""Queued jobs that one look compares, the oldest: about 15 MB."""
MAX_REPUBLISHED = 10_000
"""Jobs that one look publishes again."""
LEAST_AGE_MS = 5_000
"""A job that was released less than this ago is on its way."""
PAUSE_MS = 60_000
"""A job is published again at most this often."""
_INDEX_PAGE = 1_000
_LIST_PAGE = 100
"""Messages read at once: one that a plain Celery client sent may hold a whole job."""
_ID = re.compile(rb'"id"\s*:\s*"([^"\\]+)"')
"""The task's id in a message. In a text inside the JSON its quotes would be escaped."""


def shortage(keys: Keys) -> Operation[int]:
    """How many more jobs are queued than there are messages; one command while none is."""
    queued = yield Command("ZCARD", keys.state_index(JobState.QUEUED))
    if not queued:
        return 0
    names = yield from _queue_names(keys)
    depths = yield from queues.depths(names)
    return int(queued) - sum(depths.values())


def missing(keys: Keys) -> Operation[list[str]]:
    """The queued jobs without a message, the oldest first. Reads every message, page by page."""
    waiting = dict.fromkeys((yield from _queued(keys)))
    for queue in (yield from _queue_names(keys)):
        for key in queues.lists_of(queue):
            yield from _cross_off(waiting, key)
    return list(waiting)


def republish(keys: Keys, job_ids: Sequence[str]) -> Operation[list[str]]:
    """Put messages of queued jobs into their queues, in this order; which. See republish.lua."""
    published = list[str]()
    # Each goes to the head of its queue, so that the first comes last.
    for page in _pages(job_ids[:MAX_REPUBLISHED][::-1], _LIST_PAGE):
        places = yield Pipeline(
            *(Command("HMGET", keys.job(job_id), "queue", "priority") for job_id in page)
        )
        replies = yield Pipeline(
            *(_republish(keys, *one) for one in zip(page, places, strict=True)), keep_errors=True
        )
        published += [job_id for job_id, reply in zip(page, replies, strict=True) if reply == 1]
    return published[::-1]


def _republish(keys: Keys, job_id: str, place: list[bytes | str | None]) -> Script:
    queue, priority = (text(value) if value else "" for value in place)
    return Script(
        "republish",
        keys={
            "record": keys.job(job_id),
            "queue": queue_list(queue, int(priority) if priority.isdigit() else 0),
            "queued_index": keys.state_index(JobState.QUEUED),
        },
        args={"job_id": job_id, "least_age_ms": LEAST_AGE_MS, "pause_ms": PAUSE_MS},
    )


def _queue_names(keys: Keys) -> Operation[list[str]]:
    return sorted(text(name) for name in (yield Command("SMEMBERS", keys.queues)))


def _queued(keys: Keys) -> Operation[list[str]]:
    """Queued jobs, the oldest first. One that leaves meanwhile may hide another until next time."""
    found = list[str]()
    while len(found) < MAX_LOOKED_AT:
        page = yield Command(
            "ZRANGE",
            keys.state_index(JobState.QUEUED),
            len(found),
            len(found) + _INDEX_PAGE - 1,
        )
        if not page:
            break
        found += map(text, page)
    return found


def _cross_off(waiting: dict[str, None], key: str) -> Operation[None]:
    """Take those out that have a message in this list.

    From its left end: what is pushed meanwhile moves messages to where we still come by.
    """
    start = 0
    while waiting:
        page = yield Command("LRANGE", key, start, start + _LIST_PAGE - 1)
        for message in page:
            found = _ID.search(message if isinstance(message, bytes) else message.encode())
            if found is not None:
                waiting.pop(found[1].decode(errors="replace"), None)
        if len(page) < _LIST_PAGE:
            return
        start += _LIST_PAGE


def _pages(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
