"""A worker hears of cancellations, also after the connection was lost."""

import asyncio

from redis.asyncio import Redis

from agentherd import Herd, Job
from agentherd_workers.cancellations import hear_cancellations
from agentherd_workers.devkit.redis_server import RedisServer
from support.records import claim
from support.waiting import wait_until_async


async def test_a_lost_connection_is_made_again(redis_server: RedisServer, herd: Herd) -> None:
    """What is told in between comes by the renewal; what is told after that, by the channel."""
    handle = herd.submit(Job(prompt="x"))
    claim(herd, handle.id)
    heard: list[str] = []
    redis = Redis.from_url(redis_server.url, socket_timeout=5)
    hearing = asyncio.create_task(hear_cancellations(redis, herd.keys.cancellations, heard.append))

    async def is_told() -> bool:
        """Told again and again: what is told while there is no connection is lost."""
        handle.cancel()
        return bool(heard)

    try:
        for _ in range(2):
            await wait_until_async(is_told, "the worker was told", 30)
            assert set(heard) == {handle.id}
            herd.connection.redis.client_kill_filter(_type="pubsub")
            heard.clear()
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await redis.aclose()
