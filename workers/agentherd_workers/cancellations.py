"""Hearing at once that a job is to be cancelled. What is missed, the next renewal tells."""

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from agentherd.layout.replies import text

log = logging.getLogger(__name__)

QUIET_S = 20.0
"""After such a silence the connection is tried; less than redis-py's own health check."""
ANSWER_S = 5.0
"""How long Redis may take to answer then."""
RETRY_S = 1.0


async def hear_cancellations(redis: Redis, channel: str, tell: Callable[[str], object]) -> None:
    """Tell each job id that comes by the channel; for ever, whatever becomes of the connection."""
    heard = True
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(channel)
                heard = True
                while True:
                    tell(text((await _next(subscription))["data"]))
        except (RedisError, OSError, TimeoutError) as error:
            if heard:  # said once, however long Redis is away
                log.warning("cancellations are heard by renewals only, for now: %s", error)
            heard = False
            await asyncio.sleep(RETRY_S)


async def _next(subscription: PubSub) -> dict[str, object]:
    """The next message of the channel.

    Raises:
        TimeoutError: the connection is dead.
    """
    tried = False
    while True:
        message = await subscription.get_message(timeout=ANSWER_S if tried else QUIET_S)
        if message is not None and message["type"] == "message":
            return dict(message)
        if message is None and tried:
            raise TimeoutError("Redis does not answer a subscriber's ping")
        tried = message is None
        if tried:
            await subscription.ping()
