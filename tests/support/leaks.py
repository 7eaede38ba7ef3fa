"""What a fleet may leave in Redis: nothing without an end, but for what is written here."""

import re
from typing import Any

from agentherd.contract.states import LIVE

EXEMPT = {
    r"{prefix}:fence": "a fencing token must never come twice",
    r"agents(\.\d+g)?(\x06\x16\d)?": "Celery's queues, while messages wait",
    r"_kombu\.binding\..*": "Celery's: one a queue, however many jobs",
    r"unacked(_index|_mutex)?": "Celery's: messages that a worker holds",
}
"""Keys that may stand without TTL at any time, and why."""

EXEMPT_WHILE_LIVE = {
    rf"{{prefix}}:jobs:({'|'.join(sorted(LIVE))})": "index of jobs that have not ended",
    rf"{{prefix}}:tenant:[^:]+:({'|'.join(sorted(LIVE))})": "the tenant's index of them",
    r"{prefix}:job:[^:]+(:events|:artifacts)?": "record of a job that has not ended",
    r"{prefix}:session-owner:[^:]+:[^:]+": "held by a job that has not ended",
    r"{prefix}:leases": "jobs that run",
    r"{prefix}:scheduled": "jobs that wait for their time",
}
"""Keys that may stand without TTL while a job has not ended, and why."""


def keys_without_ttl(
    redis_client: Any, live_jobs_allowed: bool = False, *, prefix: str = "agentherd"
) -> list[str]:
    """The keys that would stay for ever and have no exemption; empty where nothing leaks.

    Args:
        redis_client: a blocking client of the fleet's Redis.
        live_jobs_allowed: whether jobs may not have ended yet. The record and its streams
            are then exempt only for jobs that really are live.
    """
    patterns = [*EXEMPT, *(EXEMPT_WHILE_LIVE if live_jobs_allowed else ())]
    exempt = [re.compile(pattern.format(prefix=re.escape(prefix))) for pattern in patterns]
    leaked = []
    for raw in redis_client.scan_iter(count=1000):
        key = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
        if redis_client.pttl(raw) != -1:
            continue
        if any(pattern.fullmatch(key) for pattern in exempt) and not _of_ended_job(
            redis_client, key, prefix
        ):
            continue
        leaked.append(key)
    return sorted(leaked)


def _of_ended_job(redis_client: Any, key: str, prefix: str) -> bool:
    """Whether the key belongs to one job, and that one is not live."""
    found = re.fullmatch(rf"({re.escape(prefix)}:job:[^:]+)(:events|:artifacts)?", key)
    if found is None:
        return False
    state = redis_client.hget(found[1], "state")
    return state is None or (state.decode() if isinstance(state, bytes) else state) not in LIVE
