"""Driving operations over asyncio: a task that is cancelled ends, whatever it was about to do."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from agentherd.layout.operations import Command, Operation, Pipeline, Request, run_async
from agentherd_workers.devkit.redis_server import RedisServer

PING = Command("PING")
ATTEMPTS = 100


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client with time-outs, as the worker's."""
    async with Redis.from_url(redis_server.url, socket_timeout=5) as client:
        yield client


@pytest.mark.parametrize("request_", [PING, Pipeline(PING, PING)], ids=["command", "pipeline"])
async def test_no_cancellation_is_lost(redis: Redis, request_: Request) -> None:
    """redis-py loses about half of those that come while it sends, before Python 3.12."""

    def ask() -> Operation[object]:
        return (yield request_)

    async def for_ever() -> None:
        while True:
            await run_async(ask(), redis)

    for attempt in range(ATTEMPTS):
        task = asyncio.create_task(for_ever())
        for _ in range(20 + attempt % 40):  # turns of the event loop
            await asyncio.sleep(0)
        task.cancel()
        ended, _ = await asyncio.wait([task], timeout=1)
        assert ended, f"attempt {attempt} goes on"
        assert task.cancelled()
