"""The session store against the plainest way to keep transcripts in Redis.

The baseline does what the SDK documents of its example Redis adapter: RPUSH of one JSON text
an entry, ZADD of an index; LRANGE of everything, json.loads of each. It dedupes nothing, expires
nothing and fences nothing.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

from claude_agent_sdk import SessionKey, SessionStoreEntry
from redis.asyncio import Redis

from agentherd_workers.agent.session_store import RedisSessionStore
from agentherd_workers.devkit.redis_server import RedisServer, redis_binaries
from benchmarks.figures import Figure, compared

ROUNDS = 7
EAGER_SIZES = (1, 2, 3, 5, 1, 4) * 40
BATCH_ENTRIES = 500
BATCHES = 4
LOAD_ENTRIES = 10_000
TEXT_BYTES = 700


class Baseline:
    """RPUSH and LRANGE, as documented for the SDK's example adapter."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """One list a transcript, and the client's clock."""
        name = f"plain:{key['project_key']}:{key['session_id']}"
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.rpush(name, *(json.dumps(entry) for entry in entries))
            pipeline.zadd(f"plain:{key['project_key']}", {key["session_id"]: time.time() * 1000})
            await pipeline.execute()

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """The whole list in one reply."""
        name = f"plain:{key['project_key']}:{key['session_id']}"
        rows = await cast("Awaitable[list[bytes]]", self._redis.lrange(name, 0, -1))
        return [json.loads(row) for row in rows] or None


Store = Baseline | RedisSessionStore


def _entries(count: int) -> list[SessionStoreEntry]:
    """About 1 KB each, in the shape of the CLI's; two in eight have no uuid."""
    words = "The tests pass; one “quoted” word and a line break.\n"
    content = (words * (TEXT_BYTES // len(words) + 1))[:TEXT_BYTES]
    made: list[dict[str, Any]] = []
    for number in range(count):
        entry = {
            "type": "assistant" if number % 2 else "user",
            "timestamp": "2026-01-01T00:00:00.000Z",
            "sessionId": str(uuid.UUID(int=1)),
            "cwd": "/srv/jobs/1/workspace",
            "gitBranch": "main",
            "message": {"role": "user", "content": [{"type": "text", "text": content}]},
        }
        if number % 8 > 1:
            entry["uuid"] = str(uuid.uuid4())
            entry["parentUuid"] = str(uuid.uuid4())
        made.append(entry)
    return cast("list[SessionStoreEntry]", made)


def _key() -> SessionKey:
    return {"project_key": "bench", "session_id": str(uuid.uuid4())}


async def _eager(store: Store) -> float:
    """Appends of 1 to 5 entries, as with `session_store_flush="eager"`; s an append."""
    key = _key()
    batches = [_entries(size) for size in EAGER_SIZES]
    start_s = time.perf_counter()
    for batch in batches:
        await store.append(key, batch)
    return (time.perf_counter() - start_s) / len(batches)


async def _batch(store: Store) -> float:
    """Appends of 500 entries; s an append."""
    batches = [_entries(BATCH_ENTRIES) for _ in range(BATCHES)]
    key = _key()
    start_s = time.perf_counter()
    for batch in batches:
        await store.append(key, batch)
    return (time.perf_counter() - start_s) / len(batches)


async def _load(store: Store) -> float:
    """A load of 10,000 entries; s."""
    key = _key()
    made = _entries(LOAD_ENTRIES)
    for start in range(0, LOAD_ENTRIES, BATCH_ENTRIES):
        await store.append(key, made[start : start + BATCH_ENTRIES])
    start_s = time.perf_counter()
    loaded = await store.load(key)
    elapsed_s = time.perf_counter() - start_s
    assert loaded == made
    return elapsed_s


_MEASURED: dict[str, Callable[[Store], Awaitable[float]]] = {
    "append of 1-5 entries": _eager,
    "append of 500 entries": _batch,
    "load of 10,000 entries": _load,
}


async def _bytes_an_entry(store: Store, redis: Redis) -> float:
    """What Redis needs for one entry of a session, keys included."""
    await redis.execute_command("FLUSHALL", "SYNC")
    before = (await redis.info("memory"))["used_memory"]
    key = _key()
    for _ in range(10):
        await store.append(key, _entries(BATCH_ENTRIES))
    used = (await redis.info("memory"))["used_memory"] - before
    await redis.execute_command("FLUSHALL", "SYNC")
    return float(used) / (10 * BATCH_ENTRIES)


async def _measure(url: str, server: str) -> tuple[list[Figure], dict[str, Any]]:
    async with Redis.from_url(url) as redis:
        stores: dict[str, Store] = {"baseline": Baseline(redis), "ours": RedisSessionStore(redis)}
        times_ms: dict[str, dict[str, list[float]]] = {
            what: {name: [] for name in stores} for what in _MEASURED
        }
        for number in range(ROUNDS):
            for what, run in _MEASURED.items():
                # Turn about, so that neither always goes first.
                for name in sorted(stores, reverse=bool(number % 2)):
                    times_ms[what][name].append(await run(stores[name]) * 1000)
            await redis.execute_command("FLUSHALL", "SYNC")
        stored = {name: await _bytes_an_entry(store, redis) for name, store in stores.items()}
    figures = [
        compared(f"{what}, {server}", "ms", times["ours"], times["baseline"], at_most=1.0)
        for what, times in times_ms.items()
    ]
    name = f"stored, {server}"
    figures.append(compared(name, "bytes/entry", [stored["ours"]], [stored["baseline"]]))
    return figures, times_ms


def measure() -> dict[str, Any]:
    """Run it on every server binary here.

    Returns:
        The figures, and every round's milliseconds per server and kind of call.
    """
    figures: list[Figure] = []
    times_ms = {}
    for name, binary in redis_binaries().items():
        with RedisServer(binary=binary) as server:
            found, times_ms[name] = asyncio.run(_measure(server.url, name))
            figures += found
    return {"figures": figures, "times_ms": times_ms}
