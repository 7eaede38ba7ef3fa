"""Whatever is done to a store, it equals a plain model of it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from claude_agent_sdk import SessionKey, SessionStoreEntry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from agentherd_workers.agent.session_store import RedisSessionStore, SessionDeleted
from agentherd_workers.devkit.redis_server import RedisServer

Entry = dict[str, Any]
NAMES = st.sampled_from(["a", "a:b", "b", "{a}", "a/b", "ü", "%3A", "", "a\nb", '"'])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
UUIDS = st.sampled_from(["1", "2", "3", 'q"', "ü", "a\nb", ""])
ENTRIES = st.lists(
    st.fixed_dictionaries({"type": st.just("x"), "v": VALUES}, optional={"uuid": UUIDS}),
    max_size=5,
)
KEYS = st.tuples(NAMES, NAMES, NAMES)
Step = tuple[str, tuple[str, str, str], list[Entry], int]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.just("append"), KEYS, ENTRIES, st.integers(0, 1))
    | st.tuples(st.sampled_from(["delete", "load"]), KEYS, st.just([]), st.integers(0, 1)),
    max_size=15,
)


@dataclass
class Model:
    """What a store should hold."""

    data: dict[tuple[str, str, str], list[Entry]] = field(default_factory=dict)
    deleted: set[tuple[str, ...]] = field(default_factory=set)

    def append(self, key: tuple[str, str, str], entries: list[Entry]) -> bool:
        if not entries:
            return True
        if key in self.deleted or key[:2] in self.deleted:
            return False
        stored = self.data.setdefault(key, [])
        for entry in entries:
            if "uuid" not in entry or all(entry["uuid"] != one.get("uuid") for one in stored):
                stored.append(entry)
        return True

    def delete(self, key: tuple[str, str, str]) -> None:
        if not key[2]:
            self.deleted.add(key[:2])
            self.data = {one: rows for one, rows in self.data.items() if one[:2] != key[:2]}
        elif self.data.pop(key, None) is not None:
            self.deleted.add(key)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def key_of(parts: tuple[str, str, str]) -> SessionKey:
    key: SessionKey = {"project_key": parts[0], "session_id": parts[1]}
    return {**key, "subpath": parts[2]} if parts[2] else key


async def play(url: str, steps: list[Step]) -> None:
    model = Model()
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        stores = [RedisSessionStore(redis), RedisSessionStore(redis, page_bytes=1)]
        for action, parts, entries, which in steps:
            store, key = stores[which], key_of(parts)
            if action == "append":
                try:
                    await store.append(key, cast("list[SessionStoreEntry]", entries))
                except SessionDeleted:
                    assert not model.append(parts, entries)
                else:
                    assert model.append(parts, entries)
            elif action == "delete":
                await store.delete(key)
                model.delete(parts)
            assert await store.load(key) == model.data.get(parts)
        for tenant in {parts[0] for parts in model.data}:
            sessions = {parts[1] for parts in model.data if parts[0] == tenant and not parts[2]}
            listed = await stores[0].list_sessions(tenant)
            assert {one["session_id"] for one in listed} == sessions
        for parts, expected in model.data.items():
            assert await stores[1].load(key_of(parts)) == expected
            subkeys = await stores[0].list_subkeys(
                {"project_key": parts[0], "session_id": parts[1]}
            )
            assert subkeys == sorted(o[2] for o in model.data if o[:2] == parts[:2] and o[2])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
def test_a_store_equals_its_model(server: RedisServer, steps: list[Step]) -> None:
    asyncio.run(play(server.url, steps))
