"""Messages that a worker took and never acknowledged, of jobs that have ended or have no record.

kombu keeps what workers hold in two keys of its own, and gives up on an entry only after its
visibility timeout, which is a month here (kombu/transport/redis.py, `QoS`). A worker that was
killed leaves one; perhaps it died before it told Celery how the job ended, or before it wrote a
record of a job that came by plain Celery. So the message goes back into its queue: who takes it
finds the job's result, or the job.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentherd.contract.states import TERMINAL
from agentherd.layout.keys import Keys, queue_list
from agentherd.layout.messages import TASK_NAME
from agentherd.layout.operations import Command, Operation, Pipeline, Script
from agentherd.layout.replies import text

UNACKED = "unacked"
UNACKED_INDEX = "unacked_index"
LEAST_AGE_S = 60
"""What was delivered, or ended, less than this ago may still be acknowledged."""
PAGE = 50
"""Deliveries looked at in one round."""


@dataclass(frozen=True)
class Delivery:
    """One message in a worker's hands."""

    tag: str
    delivered_at_s: str
    """By the clock of the worker that took it, as Redis shows it."""
    job_id: str
    queue: str
    """The list that it came from."""
    message: str
    eta_s: float
    """When a plain Celery client wants it to start (Unix time)."""


def redeliver_stale(keys: Keys, offset: int) -> Operation[tuple[int, list[str]]]:
    """Look at one page of deliveries; where the next one begins, and whose messages went back."""
    seconds, _ = yield Command("TIME")
    before_s = int(seconds) - LEAST_AGE_S
    page = yield Command(
        "ZRANGE", UNACKED_INDEX, "-inf", before_s, "BYSCORE", "LIMIT", offset, PAGE, "WITHSCORES"
    )
    if not page:
        return 0, []
    tags = dict(_with_scores(page))
    raw = yield Command("HMGET", UNACKED, *tags)
    ours = [
        found
        for (tag, at_s), value in zip(tags.items(), raw, strict=True)
        if (found := _delivery(keys, tag, at_s, value)) is not None
    ]
    stale = yield from _stale(keys, ours, before_s)
    replies = yield Pipeline(*map(_redeliver, stale), keep_errors=True)
    back = [one.job_id for one, reply in zip(stale, replies, strict=True) if reply == 1]
    return (offset + len(tags) - len(back) if len(tags) == PAGE else 0), back


def _stale(keys: Keys, deliveries: list[Delivery], before_s: int) -> Operation[list[Delivery]]:
    """Those of jobs that ended long ago, or that should have a record by now and have none."""
    records = yield Pipeline(
        *(Command("HMGET", keys.job(one.job_id), "state", "finished_at_ms") for one in deliveries)
    )
    return [
        one
        for one, (state, finished_at_ms) in zip(deliveries, records, strict=True)
        if (
            one.eta_s < before_s
            if state is None
            else text(state) in TERMINAL and int(finished_at_ms or 0) < before_s * 1000
        )
    ]


def _redeliver(delivery: Delivery) -> Script:
    return Script(
        "redeliver",
        keys={"unacked": UNACKED, "unacked_index": UNACKED_INDEX, "queue": delivery.queue},
        args={
            "tag": delivery.tag,
            "delivered_at_s": delivery.delivered_at_s,
            "message": delivery.message,
        },
    )


def _delivery(keys: Keys, tag: str, delivered_at_s: str, value: Any) -> Delivery | None:
    """What kombu noted of it; None: it is no job of this fleet."""
    try:
        message, _exchange, queue = json.loads(value)
        headers, properties = message["headers"], message["properties"]
        if headers["task"] != TASK_NAME or not keys.is_queue(queue):
            return None
        return Delivery(
            tag=tag,
            delivered_at_s=delivered_at_s,
            job_id=str(headers["id"]),
            queue=queue_list(queue, int(properties.get("priority") or 0)),
            message=json.dumps(message),
            eta_s=_unix_s(headers.get("eta")),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def _unix_s(eta: str | None) -> float:
    if not eta:
        return 0.0
    at = datetime.fromisoformat(eta)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _with_scores(reply: list[Any]) -> Iterable[tuple[str, str]]:
    """(member, score as text) of a WITHSCORES reply of either protocol version."""
    pairs = (
        reply if isinstance(reply[0], list | tuple) else zip(reply[::2], reply[1::2], strict=True)
    )
    return ((text(tag), text(score)) for tag, score in pairs)
