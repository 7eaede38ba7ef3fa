"""A real Redis for each module: Valkey's, and Redis' own where one is installed."""

from collections.abc import AsyncIterator, Iterator

import pytest

from agentherd import AsyncHerd, Herd
from agentherd_workers.devkit.redis_server import RedisServer, redis_binaries


@pytest.fixture(scope="module", params=sorted(redis_binaries()))
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One server of each kind."""
    with RedisServer(binary=redis_binaries()[request.param]) as running:
        yield running


@pytest.fixture
def herd(redis_server: RedisServer) -> Iterator[Herd]:
    """A client on an empty Redis."""
    with Herd(redis_server.url) as client:
        client.connection.redis.flushall()
        yield client


@pytest.fixture
async def async_herd(redis_server: RedisServer, herd: Herd) -> AsyncIterator[AsyncHerd]:
    """An asyncio client on the same Redis."""
    async with AsyncHerd(redis_server.url) as client:
        yield client
