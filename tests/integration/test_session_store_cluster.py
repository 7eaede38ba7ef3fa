"""The session store on a real cluster of three masters."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from claude_agent_sdk import SessionKey
from claude_agent_sdk.testing import run_session_store_conformance
from redis.asyncio.cluster import RedisCluster as ClusterClient

from agentherd_workers.agent.session_store import RedisSessionStore
from agentherd_workers.devkit.redis_server import RedisCluster, redis_binaries


@pytest.fixture(scope="module", params=sorted(redis_binaries()))
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    with RedisCluster(binary=redis_binaries()[request.param]) as running:
        yield running


@pytest.fixture
async def client(cluster: RedisCluster) -> AsyncIterator[ClusterClient]:
    async with ClusterClient.from_url(cluster.urls[0]) as connected:
        yield connected


async def test_conformance(client: ClusterClient) -> None:
    number = itertools.count()
    await run_session_store_conformance(
        lambda: RedisSessionStore(client, prefix=f"conformance-{next(number)}")
    )


async def test_sessions_of_a_tenant_spread_over_the_nodes(client: ClusterClient) -> None:
    store = RedisSessionStore(client, prefix="spread")
    keys: list[SessionKey] = [
        {"project_key": "te{na}nt:ü", "session_id": f"s:{{{n}}}/ü"} for n in range(60)
    ]
    for key in keys:
        for subpath in ({}, {"subpath": "subagents/{a}:b"}):
            await store.append({**key, **subpath}, [{"type": "user"}])  # type: ignore[typeddict-item]
    assert {one["session_id"] for one in await store.list_sessions("te{na}nt:ü")} == {
        key["session_id"] for key in keys
    }
    assert len(await store.list_session_summaries("te{na}nt:ü")) == 60
    assert await store.list_subkeys(
        {"project_key": "te{na}nt:ü", "session_id": keys[0]["session_id"]}
    ) == ["subagents/{a}:b"]
    nodes = {
        node.name
        for node in client.get_primaries()
        if await client.execute_command("DBSIZE", target_nodes=node)
    }
    assert len(nodes) == 3
