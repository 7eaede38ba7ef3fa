"""The session store on real servers, one by one."""

import asyncio
import itertools
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from claude_agent_sdk import SessionKey, SessionStoreEntry
from claude_agent_sdk.testing import run_session_store_conformance
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from agentherd.layout import transcripts
from agentherd.layout.operations import Operation, Script, run_async
from agentherd.layout.transcripts import CorruptTranscript, SessionKeys
from agentherd_workers.agent import session_store
from agentherd_workers.agent.session_store import (
    RedisSessionStore,
    SessionDeleted,
    SessionTooLarge,
    StaleWriter,
)
from agentherd_workers.devkit.proxy import Proxy
from agentherd_workers.devkit.redis_server import RedisServer, redis_binaries
from support.waiting import wait_until_async

KEY: SessionKey = {"project_key": "acme", "session_id": "s1"}
SUB: SessionKey = {**KEY, "subpath": "subagents/agent-1"}
KEYS = SessionKeys("acme", "s1")
EXEMPT_FROM_TTL: set[bytes] = set()
"""Keys of the store that may live for ever, each with a reason: none."""


@pytest.fixture(scope="module", params=sorted(redis_binaries()))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binary=redis_binaries()[request.param]) as running:
        yield running


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        yield client


def entry(number: int, **fields: object) -> SessionStoreEntry:
    made: Any = {"type": "user", "uuid": str(uuid.UUID(int=number)), "n": number, **fields}
    return cast("SessionStoreEntry", made)


def bare(number: int) -> SessionStoreEntry:
    """Without uuid, as a title or a tag."""
    return cast("SessionStoreEntry", {"type": "mode", "n": number})


def numbers(loaded: list[SessionStoreEntry] | None) -> list[int]:
    return [cast("Any", one)["n"] for one in loaded or []]


@pytest.mark.parametrize("decode", [False, True])
async def test_conformance(server: RedisServer, redis: Redis, decode: bool) -> None:
    number = itertools.count()
    async with Redis.from_url(server.url, decode_responses=decode) as client:
        await run_session_store_conformance(
            lambda: RedisSessionStore(client, prefix=f"conformance-{next(number)}")
        )


async def test_who_goes_on_with_a_session_has_seen_all_of_it(redis: Redis) -> None:
    """What an older writer appends after the load is refused, before the first append here."""
    older = RedisSessionStore(redis, fence=5)
    await older.append(KEY, [entry(1)])
    newer = RedisSessionStore(redis, fence=6, goes_on_with="s1")
    assert numbers(await newer.load(KEY)) == [1]
    with pytest.raises(StaleWriter):
        await older.append(KEY, [entry(2)])
    await newer.append(KEY, [entry(3)])
    assert numbers(await newer.load(KEY)) == [1, 3]


async def test_a_session_that_is_only_read_stays_its_writers(redis: Redis) -> None:
    """As when a running job's session is forked."""
    writer = RedisSessionStore(redis, fence=5)
    await writer.append(KEY, [entry(1)])
    await RedisSessionStore(redis, fence=6, goes_on_with="another").load(KEY)
    await RedisSessionStore(redis).load(KEY)
    await writer.append(KEY, [entry(2)])
    assert numbers(await writer.load(KEY)) == [1, 2]


async def test_doubles_within_and_across_appends_and_stores(redis: Redis) -> None:
    one, other = RedisSessionStore(redis), RedisSessionStore(redis)
    await one.append(KEY, [entry(1), bare(2), entry(1), bare(2)])
    await other.append(KEY, [entry(3), entry(1), bare(2), entry(4)])
    await one.append(KEY, [entry(4), entry(3)])
    assert numbers(await one.load(KEY)) == [1, 2, 2, 3, 2, 4]
    await one.append(SUB, [entry(1)])
    assert numbers(await one.load(SUB)) == [1], "uuids count per transcript"


async def test_entries_that_are_there_do_not_change_the_summary_again(redis: Redis) -> None:
    old, new = entry(1, customTitle="old"), entry(2, customTitle="new")
    await RedisSessionStore(redis).append(KEY, [old])
    store = RedisSessionStore(redis)
    await store.append(KEY, [new])
    await RedisSessionStore(redis).append(KEY, [old, entry(3)])
    (summary,) = await store.list_session_summaries("acme")
    assert summary["data"]["custom_title"] == "new"


async def test_the_project_key_can_be_the_tenant(redis: Redis) -> None:
    store = RedisSessionStore(redis, project_key="acme")
    await store.append({"project_key": "-srv-jobs-1", "session_id": "s1"}, [entry(1)])
    assert numbers(await store.load({"project_key": "-srv-jobs-2", "session_id": "s1"})) == [1]
    assert numbers(await RedisSessionStore(redis).load(KEY)) == [1]


async def test_a_late_append_does_not_bring_back_what_was_deleted(redis: Redis) -> None:
    store = RedisSessionStore(redis, tombstone_ttl_s=1)
    await store.append(KEY, [entry(1)])
    await store.append(SUB, [entry(1)])
    await store.delete(SUB)
    with pytest.raises(SessionDeleted):
        await store.append(SUB, [entry(2)])
    await store.delete(KEY)
    for key in (KEY, SUB):
        with pytest.raises(SessionDeleted):
            await store.append(key, [entry(2)])
        assert await store.load(key) is None
    assert await store.list_sessions("acme") == []
    assert await store.list_subkeys({"project_key": "acme", "session_id": "s1"}) == []

    async def tombstone_is_gone() -> bool:
        return not await redis.exists(KEYS.session)

    await wait_until_async(tombstone_is_gone, "the tombstone expires")
    await store.append(KEY, [entry(2)])
    assert numbers(await store.load(KEY)) == [2]


async def test_every_key_has_a_ttl_that_each_use_renews(redis: Redis) -> None:
    store = RedisSessionStore(redis, ttl_s=1000)
    await store.append(KEY, [entry(1), bare(2)])
    await store.append(SUB, [entry(1)])
    await store.append({"project_key": "acme", "session_id": "s2"}, [entry(1)])
    await store.delete({"project_key": "acme", "session_id": "s2"})
    keys = [key async for key in redis.scan_iter()]
    assert len(keys) == 3
    assert [key for key in keys if key not in EXEMPT_FROM_TTL and await redis.ttl(key) < 0] == []
    for use in (store.append(KEY, [entry(3)]), store.append(SUB, [entry(3)]), store.load(SUB)):
        await redis.expire(KEYS.session, 10)
        await use
        assert await redis.ttl(KEYS.session) > 990


async def test_a_session_that_is_only_read_stays_listed(redis: Redis) -> None:
    store = RedisSessionStore(redis, ttl_s=1000)
    await store.append(KEY, [entry(1)])
    await redis.zadd(KEYS.index, {"s1": 1})  # As if it had been about to expire.
    await store.load(KEY)
    await store.append({"project_key": "acme", "session_id": "s2"}, [entry(1)])
    listed = await store.list_sessions("acme")
    assert [one["session_id"] for one in listed] == ["s2", "s1"]


async def test_listing_drops_what_is_gone(redis: Redis) -> None:
    store = RedisSessionStore(redis)
    for number in range(1200):
        await redis.zadd(KEYS.index, {f"gone-{number}": 4e12})
    await store.append(KEY, [entry(1)])
    assert [one["session_id"] for one in await store.list_sessions("acme")] == ["s1"]
    assert await redis.zcard(KEYS.index) == 1


async def test_fencing(redis: Redis) -> None:
    first, second = (RedisSessionStore(redis, fence=fence) for fence in (7, 8))
    outside = RedisSessionStore(redis)
    await first.append(KEY, [entry(1)])
    await second.append(KEY, [entry(2)])
    for key in (KEY, SUB):
        with pytest.raises(StaleWriter) as refused:
            await first.append(key, [entry(3)])
    assert refused.value.session_id == "s1"
    await outside.append(KEY, [entry(4)])
    await second.append(KEY, [entry(5)])
    with pytest.raises(StaleWriter):
        await first.append(KEY, [entry(6)])
    assert numbers(await outside.load(KEY)) == [1, 2, 4, 5]


async def test_notes_alone_are_no_conversation(redis: Redis) -> None:
    """The CLI can't resume a session of which its worker stored nothing but its own notes."""

    async def is_conversation() -> bool:
        operation = transcripts.is_conversation(KEYS, ttl_ms=60_000, fence=3)
        return await run_async(operation, redis)

    store = RedisSessionStore(redis, fence=3)
    assert not await is_conversation()
    assert await redis.ttl(KEYS.session) > 0
    with pytest.raises(StaleWriter):  # else the answer might not stay true
        await RedisSessionStore(redis, fence=2).append(KEY, [entry(0)])
    assert await store.load(KEY) is None
    for number in range(2):
        await store.append(KEY, [bare(number)])
    assert not await is_conversation()
    await store.append(KEY, [entry(2)])
    assert await is_conversation()
    for number in range(3, 40):
        await store.append(KEY, [bare(number)])
    assert await is_conversation()


async def test_who_holds_a_session_waits_for_redis() -> None:
    """The SDK would go on without the entries after a second."""
    with RedisServer(appendonly=True) as server:
        async with Redis.from_url(server.url) as client:
            holds = True
            store = RedisSessionStore(client, holds=lambda: holds)
            await store.append(KEY, [entry(0)])
            server.kill()
            waiting = asyncio.create_task(store.append(KEY, [entry(1), bare(2)]))
            done, _ = await asyncio.wait([waiting], timeout=1.5)
            assert not done
            server.restart()
            await asyncio.wait_for(waiting, 30)
            assert numbers(await store.load(KEY)) == [0, 1, 2]


async def test_who_holds_a_session_no_more_leaves_no_gap() -> None:
    """Entries whose turn came too late must not be followed by later ones."""
    with RedisServer() as server:
        async with Redis.from_url(server.url) as client:
            holds = True
            store = RedisSessionStore(client, holds=lambda: holds)
            await store.append(KEY, [entry(0)])
            with Proxy(server.port) as proxy:
                through = Redis.from_url(f"redis://127.0.0.1:{proxy.port}/0", retry=None)
                cut_off = RedisSessionStore(through, holds=lambda: holds)
                proxy.cut()
                waiting = asyncio.create_task(cut_off.append(KEY, [entry(1)]))
                later = asyncio.create_task(cut_off.append(KEY, [entry(2)]))
                done, _ = await asyncio.wait([waiting, later], timeout=0.5)
                assert not done
                holds = False
                proxy.restore()
                for one in (waiting, later):
                    with pytest.raises(StaleWriter):
                        await one
                await through.aclose()
            assert numbers(await store.load(KEY)) == [0]


async def test_an_append_above_the_cap_stores_nothing(redis: Redis) -> None:
    store = RedisSessionStore(redis, max_session_bytes=5000)
    await store.append(KEY, [entry(1, text="x" * 3000)])
    before = await redis.hgetall(KEYS.session)
    for key in (KEY, SUB):
        with pytest.raises(SessionTooLarge, match="exceed the cap"):
            await store.append(key, [entry(2), entry(3, text="x" * 3000)])
    assert await redis.hgetall(KEYS.session) == before
    await store.append(KEY, [entry(2)])
    assert numbers(await store.load(KEY)) == [1, 2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("0:", b"not JSON"),
        ("0:", b"[1]"),
        ("1:", b'[{"n":1},{"n":2}]'),
        ("0:", b"[\xff]"),
        ("1:", None),
    ],
)
async def test_what_is_damaged_is_reported(redis: Redis, field: str, value: bytes | None) -> None:
    store = RedisSessionStore(redis)
    await store.append(KEY, [entry(1)])
    await store.append(KEY, [entry(2)])
    if value is None:
        await redis.hdel(KEYS.session, field)
    else:
        await redis.hset(KEYS.session, field, value)
    with pytest.raises(CorruptTranscript, match="s1"):
        await store.load(KEY)


async def test_a_damaged_summary_is_reported(redis: Redis) -> None:
    store = RedisSessionStore(redis)
    await store.append(KEY, [entry(1)])
    await redis.hset(KEYS.session, "summary", "{")
    with pytest.raises(CorruptTranscript, match="summary"):
        await store.list_session_summaries("acme")


async def test_ten_thousand_entries_in_pages(redis: Redis) -> None:
    store = RedisSessionStore(redis, page_bytes=100_000)
    made = [entry(n, text="ü" * 500) for n in range(10_000)]
    for start, end in ((0, 1), (1, 4), (4, 9000), (9000, 10_000)):
        await store.append(KEY, made[start:end])
    await RedisSessionStore(redis).append(KEY, made)
    assert await store.load(KEY) == made


async def test_a_page_ends_before_it_is_too_large(redis: Redis) -> None:
    store = RedisSessionStore(redis)
    for size in (100, 100, 100, 5000, 100):
        await store.append(KEY, [entry(size, uuid=None, text="x" * size)])

    def page_end(first: int, end: int) -> Operation[int]:
        args: dict[str, str | int] = {"subpath": "", "first": first, "end": end, "page_bytes": 600}
        keys = {"session": KEYS.session}
        reply: int = yield Script("transcript_page", keys=keys, args=args)
        return reply

    pages = ((0, 5), (3, 5), (4, 5), (0, 2), (5, 5))
    ends = [await run_async(page_end(first, end), redis) for first, end in pages]
    assert ends == [3, 4, 5, 2, 5]


async def test_a_load_ends_where_the_transcript_ended_at_its_start(redis: Redis) -> None:
    store = RedisSessionStore(redis, page_bytes=1)
    for number in range(200):
        await store.append(KEY, [entry(number)])

    async def append_more() -> None:
        for number in range(200, 400):
            await store.append(KEY, [entry(number)])

    loaded, _ = await asyncio.gather(store.load(KEY), append_more())
    found = numbers(loaded)
    assert found == list(range(len(found)))
    assert len(found) >= 200


async def test_appends_at_once_are_stored_in_the_order_of_their_calls(redis: Redis) -> None:
    store = RedisSessionStore(redis)
    await asyncio.gather(*(store.append(KEY, [bare(number)]) for number in range(100)))
    assert numbers(await store.load(KEY)) == list(range(100))


async def test_a_store_remembers_only_its_last_sessions(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_store, "_REMEMBERED_SESSIONS", 3)
    store = RedisSessionStore(redis)
    for number in range(20):
        key: SessionKey = {"project_key": "acme", "session_id": str(number % 10)}
        await store.append(key, [entry(number)])
    assert len(store._known) == 3
    assert len(await store.list_session_summaries("acme")) == 10


PROCESS = """
import asyncio, sys
from redis.asyncio import Redis
from agentherd_workers.agent.session_store import RedisSessionStore

async def main(url, me):
    async with Redis.from_url(url) as redis:
        store = RedisSessionStore(redis)
        key = {"project_key": "acme", "session_id": "s1"}
        for n in range(50):
            shared = {"type": "user", "uuid": f"shared-{n}", "n": -1}
            title = {"type": "custom-title", "customTitle": f"{me}-{n}", "n": n, "by": me}
            await store.append(key, [title, shared])

asyncio.run(main(*sys.argv[1:]))
"""


async def test_several_processes_lose_and_double_nothing(server: RedisServer, redis: Redis) -> None:
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, server.url, name, env={"PATH": "/usr/bin:/bin"}
        )
        for name in "abc"
    ]
    for writer in writers:
        assert await asyncio.wait_for(writer.wait(), 60) == 0
    store = RedisSessionStore(redis)
    loaded = cast("list[dict[str, Any]]", await store.load(KEY))
    for name in "abc":
        assert [one["n"] for one in loaded if one.get("by") == name] == list(range(50))
    shared = [one["uuid"] for one in loaded if "uuid" in one]
    assert sorted(shared) == sorted(f"shared-{n}" for n in range(50))
    (summary,) = await store.list_session_summaries("acme")
    titles = [one["customTitle"] for one in loaded if "customTitle" in one]
    assert summary["data"]["custom_title"] == titles[-1]


class DropsReplies:
    """A loopback proxy that swallows replies on demand, then cuts the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.drop_next = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "DropsReplies":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        forward = asyncio.create_task(self._forward(reader, up_writer))
        try:
            while data := await up_reader.read(65536):
                if self.drop_next:
                    self.drop_next = False
                    return
                writer.write(data)
                await writer.drain()
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            forward.cancel()
            await asyncio.gather(forward, return_exceptions=True)
            for one in (writer, up_writer):
                one.close()

    @staticmethod
    async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.mark.parametrize("tries", [0, 2])
async def test_a_lost_reply_and_a_second_try_store_once(
    server: RedisServer, redis: Redis, tries: int
) -> None:
    """Tried again by the client (tries=2) or by the caller, as the SDK does."""
    await redis.ping()
    async with DropsReplies(server.port) as proxy:
        retry = Retry(NoBackoff(), tries)
        async with Redis.from_url(proxy.url, retry=retry) as client:
            store = RedisSessionStore(client)
            await store.append(KEY, [entry(0)])
            new = [bare(1), entry(2), bare(3)]
            for key in (KEY, SUB):
                proxy.drop_next = True
                if tries:
                    await store.append(key, new)
                else:
                    with pytest.raises(RedisConnectionError):
                        await store.append(key, new)
                    await store.append(key, list(new))
                assert not proxy.drop_next
                await store.append(key, [bare(4)])
            assert numbers(await store.load(KEY)) == [0, 1, 2, 3, 4]
            assert numbers(await store.load(SUB)) == [1, 2, 3, 4]
