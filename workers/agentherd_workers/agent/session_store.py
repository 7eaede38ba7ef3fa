"""`RedisSessionStore`: Claude agent sessions in Redis, with or without the fleet.

    store = RedisSessionStore(redis.asyncio.Redis(), project_key="acme")
    options = ClaudeAgentOptions(session_store=store, session_store_flush="eager", …)

It differs from the SDK's example adapter in what an operator would miss: entries are deduped by
uuid, a session's keys expire together, deleted sessions stay deleted, loads are paged, writers
are fenced, sizes are capped, and every script stays in one cluster slot.
"""

import asyncio
import json
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeVar, cast

from claude_agent_sdk import (
    SessionKey,
    SessionListSubkeysKey,
    SessionStore,
    SessionStoreEntry,
    SessionStoreListEntry,
    SessionSummaryEntry,
    fold_session_summary,
)
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agentherd.contract.base import MiB
from agentherd.errors import AgentherdError
from agentherd.layout import transcripts
from agentherd.layout.operations import Operation, run_async
from agentherd.layout.transcripts import (
    AlreadyStored,
    Appended,
    AppendName,
    AppendRefused,
    Conflict,
    CorruptTranscript,
    FoldedSummary,
    SessionKeys,
)

T = TypeVar("T")

INDEX_EVERY_S = 5.0
"""A session that is written to all the time is listed anew this often."""
_REMEMBERED_SESSIONS = 1024
_MAX_CONFLICTS = 100
_CONFLICT_PAUSE_S = 0.02
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
_RETRY_S = 0.2
_UNKNOWN = "?"
"""A summary version that never is in Redis: the next append asks for the real one."""


class SessionStoreError(AgentherdError):
    """An append that stored nothing. `session_id` names the session."""

    def __init__(self, session_id: str, why: str) -> None:
        self.session_id = session_id
        self.why = why
        super().__init__(f"session {session_id}: {why}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.session_id, self.why)


class StaleWriter(SessionStoreError):
    """A writer with a newer fencing token owns the session now."""


class SessionDeleted(SessionStoreError):
    """The session was deleted; a late append does not bring it back."""


class SessionTooLarge(SessionStoreError, ValueError):
    """The append would exceed `max_session_bytes`; nothing of it was stored."""


class SessionContended(SessionStoreError):
    """Other writers changed the summary each time this one tried; nothing was stored."""


_REFUSALS: dict[str, tuple[type[SessionStoreError], str]] = {
    "stale": (StaleWriter, "a writer with token {detail} owns it now"),
    "deleted": (SessionDeleted, "it was deleted"),
    "too_large": (SessionTooLarge, "{detail} bytes would exceed the cap"),
}


@dataclass
class _Unconfirmed:
    """An append that may or may not have reached Redis."""

    subpath: str
    entries: list[SessionStoreEntry]
    append_id: str


@dataclass
class _Known:
    """A session as this store last saw it, so that an append takes one round trip."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Appends are stored in the order of their calls."""
    version: str = "0"
    summary: SessionSummaryEntry | None = None
    indexed_at_s: float = float("-inf")
    unconfirmed: _Unconfirmed | None = None

    def named(self, subpath: str, entries: list[SessionStoreEntry]) -> _Unconfirmed:
        """An append under a new name, or the old one where a failed append is tried again."""
        last = self.unconfirmed
        if last is not None and (last.subpath, last.entries) == (subpath, entries):
            return last
        return _Unconfirmed(subpath, entries, secrets.token_hex(8))


class RedisSessionStore(SessionStore):
    """A `SessionStore` on one Redis (6.2 or later), or on a cluster.

    Args:
        redis: the caller closes it.
        prefix: of every key.
        project_key: stands in for the SDK's, which it derives from the working directory; a
            tenant's name keeps tenants apart and lets a session go on in another directory.
        ttl_s: how long a session lives after its last append or load.
        tombstone_ttl_s: how long appends to a deleted session are refused.
        max_session_bytes: all transcripts of a session together.
        fence: this writer's token; an append is refused once one with a higher token was made.
            None: a writer outside the fleet (say, who gives a session a title), which is
            neither refused nor makes others be refused.
        goes_on_with: the session whose load by this store refuses older writers already, so
            that none of them adds what this one has not seen. Others, such as one that is
            forked, are only read.
        page_bytes: a load reads at most so many bytes at a time, unless one entry is larger.
        redact: what is stored in place of each entry; must keep its `uuid`.
        holds: whether this writer still owns the session; asked before each append. While it
            does an append waits for Redis to answer: the SDK itself tries three times within a
            second, and then goes on without the entries.
    """

    def __init__(  # noqa: PLR0913 - all but one have defaults
        self,
        redis: "Redis | RedisCluster",
        *,
        prefix: str = "agentherd",
        project_key: str | None = None,
        ttl_s: int = 30 * 24 * 3600,
        tombstone_ttl_s: int = 24 * 3600,
        max_session_bytes: int = 256 * MiB,
        fence: int | None = None,
        goes_on_with: str | None = None,
        page_bytes: int = transcripts.PAGE_BYTES,
        redact: Callable[[SessionStoreEntry], SessionStoreEntry] | None = None,
        holds: Callable[[], bool] | None = None,
    ) -> None:
        if min(ttl_s, tombstone_ttl_s, max_session_bytes, page_bytes) < 1:
            raise ValueError("times and sizes must be 1 or more")
        if fence is not None and fence < 1:
            raise ValueError("fence must be 1 or more, or None")
        self._redis = redis
        self._prefix = prefix
        self._project_key = project_key
        self._ttl_ms = ttl_s * 1000
        self._tombstone_ttl_ms = tombstone_ttl_s * 1000
        self._max_bytes = max_session_bytes
        self._fence = fence or 0
        self._goes_on_with = goes_on_with
        self._page_bytes = page_bytes
        self._redact = redact
        self._holds = holds
        self._writer = secrets.token_hex(8)
        self._known: OrderedDict[SessionKeys, _Known] = OrderedDict()

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Store entries in one step, all or none.

        After a connection error they may be stored or not: an append of the same entries by
        this store then stores them once, also those without uuid.

        Raises:
            StaleWriter: another writer owns the session.
            SessionDeleted: it was deleted.
            SessionTooLarge: it would exceed its cap.
            SessionContended: try again.
            redis.RedisError: Redis did not answer.
        """
        if not entries:
            return
        if self._redact is not None:
            entries = [self._redact(entry) for entry in entries]
        session = self._session(key)
        known = self._remember(session)
        async with known.lock:
            subpath = key.get("subpath", "")
            # Still there if this fails or is cancelled: the next try has the same name then.
            known.unconfirmed = known.named(subpath, entries)
            append = partial(self._append_fresh, session, known, key, known.unconfirmed)
            await self._while_held(session, append)
            await self._while_held(session, partial(self._index, session, known))
            known.unconfirmed = None

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """A transcript's entries, or None; raises `CorruptTranscript`."""
        session = self._session(key)
        loaded = await self._run(
            transcripts.load(
                session,
                key.get("subpath", ""),
                ttl_ms=self._ttl_ms,
                fence=self._fence if key["session_id"] == self._goes_on_with else 0,
                page_bytes=self._page_bytes,
            )
        )
        if loaded is not None:
            await self._run(transcripts.index(session, self._listed_ms))
        return cast("list[SessionStoreEntry] | None", loaded)

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """The project's sessions, the latest first."""
        found = await self._run(self._sessions_of(project_key))
        return [{"session_id": session.session_id, "mtime": session.mtime_ms} for session in found]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """The SDK's summaries of the project's sessions, the latest first.

        Raises:
            CorruptTranscript: a summary is not JSON.
        """
        found = await self._run(self._sessions_of(project_key))
        return [
            _summary_entry(session.session_id, session.mtime_ms, session.summary)
            for session in found
            if session.summary
        ]

    async def delete(self, key: SessionKey) -> None:
        """Delete a session with all its transcripts, or one of the further ones."""
        await self._run(
            transcripts.delete(
                self._session(key),
                key.get("subpath", ""),
                tombstone_ttl_ms=self._tombstone_ttl_ms,
            )
        )

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """The session's further transcripts."""
        return await self._run(transcripts.list_subpaths(self._session(key)))

    def _tenant(self, project_key: str) -> str:
        return project_key if self._project_key is None else self._project_key

    def _session(self, key: SessionKey | SessionListSubkeysKey) -> SessionKeys:
        return _session_keys(self._tenant(key["project_key"]), key["session_id"], self._prefix)

    def _sessions_of(self, project_key: str) -> Operation[list[transcripts.StoredSession]]:
        return transcripts.list_sessions(self._tenant(project_key), self._prefix)

    def _remember(self, session: SessionKeys) -> _Known:
        """What is known of the session; of many sessions, only the last ones are remembered."""
        known = self._known.get(session)
        if known is None:
            known = self._known[session] = _Known()
        self._known.move_to_end(session)
        if len(self._known) > _REMEMBERED_SESSIONS:
            oldest, state = next(iter(self._known.items()))
            if not state.lock.locked():
                del self._known[oldest]
        return known

    async def _while_held(self, session: SessionKeys, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask, and again where Redis does not answer; raises `StaleWriter` once another owns it.

        What comes after a gap must not be stored either, which the token alone can't tell.
        """
        while True:
            if self._holds is not None and not self._holds():
                raise StaleWriter(session.session_id, "this writer owns it no more")
            try:
                return await ask()
            except _AWAY:
                if self._holds is None:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _append_fresh(
        self, session: SessionKeys, known: _Known, key: SessionKey, new: _Unconfirmed
    ) -> None:
        """Append what is not there already, and fold it into the summary of the main transcript.

        Again where another writer folded meanwhile.
        """
        entries = transcripts.without_doubles(new.entries)
        for attempt in range(_MAX_CONFLICTS):
            folded = None if new.subpath else fold_session_summary(known.summary, key, entries)
            outcome = await self._append(session, known, new, entries, folded)
            match outcome:
                case Appended(version=version):
                    if folded is not None:
                        known.summary, known.version = folded, version or _UNKNOWN
                    return
                case AppendRefused(reason=reason, detail=detail):
                    known.unconfirmed = None
                    error, why = _REFUSALS[reason]
                    raise error(session.session_id, why.format(detail=detail))
                case Conflict(version=version, summary=data):
                    known.version = version
                    known.summary = _summary_entry(session.session_id, 0, data) if data else None
                    if attempt:
                        await asyncio.sleep(random.uniform(0, _CONFLICT_PAUSE_S))  # noqa: S311
                case AlreadyStored(positions=positions):
                    entries = [
                        entry for place, entry in enumerate(entries) if place not in positions
                    ]
                    if not entries:
                        return
        known.unconfirmed = None
        raise SessionContended(session.session_id, f"{_MAX_CONFLICTS} conflicts in a row")

    async def _append(
        self,
        session: SessionKeys,
        known: _Known,
        new: _Unconfirmed,
        entries: list[SessionStoreEntry],
        folded: SessionSummaryEntry | None,
    ) -> Appended | Conflict | AlreadyStored | AppendRefused:
        summary = None
        if folded is not None:
            changed = known.summary is None or folded["data"] != known.summary["data"]
            summary = FoldedSummary(known.version, json.dumps(folded["data"]) if changed else "")
        return await self._run(
            transcripts.append(
                session,
                new.subpath,
                cast("list[transcripts.Entry]", entries),
                fence=self._fence,
                ttl_ms=self._ttl_ms,
                max_bytes=self._max_bytes,
                name=AppendName(self._writer, new.append_id),
                summary=summary,
            )
        )

    @property
    def _index_every_s(self) -> float:
        return min(INDEX_EVERY_S, self._ttl_ms / 10_000)

    @property
    def _listed_ms(self) -> int:
        """A little longer than the session lives, since it is not listed anew each time."""
        return self._ttl_ms + int(self._index_every_s * 1000)

    async def _index(self, session: SessionKeys, known: _Known) -> None:
        now_s = time.monotonic()
        if now_s - known.indexed_at_s >= self._index_every_s:
            await self._run(transcripts.index(session, self._listed_ms))
            known.indexed_at_s = now_s

    async def _run(self, operation: Operation[T]) -> T:
        return await run_async(operation, cast("Any", self._redis))


_session_keys = lru_cache(_REMEMBERED_SESSIONS)(SessionKeys)
"""The same object for the same session: it encodes its key once."""


def _summary_entry(session_id: str, mtime_ms: int, summary: str) -> SessionSummaryEntry:
    try:
        data = json.loads(summary)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise CorruptTranscript(f"session {session_id}: its summary is not a JSON object")
    return {"session_id": session_id, "mtime": mtime_ms, "data": data}
