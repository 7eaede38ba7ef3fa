"""Keys that a fleet may leave in Redis without TTL, and why: one list for demo and tests."""

import re
from collections.abc import Mapping

from redis import Redis

from agentherd.contract.states import LIVE

NO_EXPIRY = -1
"""What PTTL says of a key that stays for ever."""

ALWAYS = {
    r"{prefix}:fence": "counts fencing tokens: none may ever come twice",
    r"{prefix}:queues": "names of Celery queues: a few",
    r"{prefix}:breaker": "whether the model API refuses the fleet",
    r"{prefix}:poison": "messages that were no jobs: the last 100",
    r"_kombu\.binding.*": "Celery's routing tables: a line a queue",
}
WHILE_MESSAGES_WAIT = {
    r"({prefix}\.)?agents(\.\d+g)?(\x06\x16\d)?": "Celery's queue of a memory class and priority",
    r"unacked(_index|_mutex)?": "messages that a worker holds",
}
_LIVE = "|".join(sorted(LIVE))
WHILE_JOBS_LIVE = {
    rf"{{prefix}}:jobs:({_LIVE})": "index of jobs that have not ended",
    rf"{{prefix}}:tenant:[^:]+:({_LIVE})": "the tenant's index of them",
    r"{prefix}:job:[^:]+(:events|:artifacts|:checkpoint)?": "record of a job that has not ended",
    r"{prefix}:session-owner:[^:]+:[^:]+": "held by a job that has not ended",
    r"{prefix}:leases": "jobs that run",
    r"{prefix}:scheduled": "jobs that wait for their time",
}


def lasting_keys(
    redis: Redis, *allowed: Mapping[str, str], prefix: str = "agentherd"
) -> dict[str, str | None]:
    """Every key without TTL, sorted, and why it may stay; None: it leaks.

    Args:
        redis: a blocking client of the fleet's Redis.
        allowed: some of this module's tables.
    """
    reasons = {
        re.compile(pattern.format(prefix=re.escape(prefix))): why
        for table in allowed
        for pattern, why in table.items()
    }
    lasting = sorted(
        name.decode(errors="replace")
        for name in redis.scan_iter(count=1000)
        if redis.pttl(name) == NO_EXPIRY
    )
    return {
        name: next((why for pattern, why in reasons.items() if pattern.fullmatch(name)), None)
        for name in lasting
    }
