"""`RedisSessionStore`: Claude agent sessions in Redis, with or without the fleet.

    store = RedisSessionStore(redis.asyncio.Redis(), project_key="acme")
    options = ClaudeAgentOptions(session_store=store, session_store_flush="eager", …)

It differs from the SDK's example adapter in what an operator would miss: entries are deduped by
uuid, a session's keys expire together, deleted sessions stay deleted, loads are paged, writers
are fenced, sizes are capped, and every script stays in one cluster slot.
"""

import json
import time
from dataclasses import dataclass
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

from agentherd.contract.base import MiB
from agentherd.errors import AgentherdError
from agentherd.layout import transcripts
from agentherd.layout.operations import Operation, run_async
from agentherd.layout.transcripts import Appended, AppendRefused, Conflict, SessionKeys

T = TypeVar("T")

INDEX_EVERY_S = 5.0
"""A session that is written to all the time is indexed this often."""
_MAX_CONFLICTS = 20


class StaleWriter(AgentherdError):
    """A writer with a newer fencing token owns the session now."""


class SessionDeleted(AgentherdError):
    """The session was deleted; a late append does not bring it back."""


class SessionTooLarge(AgentherdError):
    """The append would exceed `max_session_bytes`; nothing of it was stored."""


_REFUSALS: dict[str, tuple[type[AgentherdError], str]] = {
    "stale": (StaleWriter, "a writer with token {detail} owns it now"),
    "deleted": (SessionDeleted, "it was deleted"),
    "too_large": (SessionTooLarge, "{detail} bytes would exceed the cap"),
}


@dataclass
class _Summary:
    """The summary of a session as this store last saw it."""

    version: int = 0
    entry: SessionSummaryEntry | None = None


class RedisSessionStore(SessionStore):
    """A `SessionStore` on one Redis, or on a cluster.

    Args:
        redis: a client without `decode_responses`; the caller closes it.
        prefix: of every key.
        project_key: stands in for the SDK's, which it derives from the working directory; a
            tenant's name keeps tenants apart and lets a session go on in another directory.
        ttl_s: how long a session lives after its last append or load.
        tombstone_ttl_s: how long appends to a deleted session are refused.
        max_session_bytes: all transcripts of a session together.
        fence: this writer's token; an append is refused once one with a higher token was made.
            None: a writer outside the fleet, which is neither refused nor refuses others.
    """

    def __init__(
        self,
        redis: "Redis | RedisCluster",
        *,
        prefix: str = "agentherd",
        project_key: str | None = None,
        ttl_s: int = 30 * 24 * 3600,
        tombstone_ttl_s: int = 24 * 3600,
        max_session_bytes: int = 256 * MiB,
        fence: int | None = None,
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._project_key = project_key
        self._ttl_ms = ttl_s * 1000
        self._tombstone_ttl_ms = tombstone_ttl_s * 1000
        self._max_bytes = max_session_bytes
        self._fence = fence or 0
        self._summaries: dict[SessionKeys, _Summary] = {}
        self._indexed_at_s: dict[SessionKeys, float] = {}

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Store entries in one step.

        Raises:
            StaleWriter: another writer owns the session.
            SessionDeleted: it was deleted.
            SessionTooLarge: it would exceed its cap.
        """
        if not entries:
            return
        session = self._session(key)
        subpath = key.get("subpath", "")
        if subpath:
            outcome = await self._append(session, subpath, entries)
        else:
            outcome = await self._append_main(session, key, entries)
        if isinstance(outcome, AppendRefused):
            error, why = _REFUSALS[outcome.reason]
            raise error(f"session {key['session_id']}: {why.format(detail=outcome.detail)}")
        if not subpath and isinstance(outcome, Appended):
            await self._index(session, outcome.mtime_ms)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """A transcript's entries, or None; raises `CorruptTranscript`."""
        loaded = await self._run(
            transcripts.load(self._session(key), key.get("subpath", ""), ttl_ms=self._ttl_ms)
        )
        return cast("list[SessionStoreEntry] | None", loaded)

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """The project's sessions, the latest first."""
        found = await self._run(self._sessions_of(project_key))
        return [{"session_id": session.session_id, "mtime": session.mtime_ms} for session in found]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """The SDK's summaries of the project's sessions, the latest first."""
        found = await self._run(self._sessions_of(project_key))
        return [
            {
                "session_id": session.session_id,
                "mtime": session.mtime_ms,
                "data": json.loads(session.summary),
            }
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
        return SessionKeys(self._tenant(key["project_key"]), key["session_id"], self._prefix)

    def _sessions_of(self, project_key: str) -> Operation[list[transcripts.StoredSession]]:
        return transcripts.list_sessions(self._tenant(project_key), self._prefix)

    async def _append_main(
        self, session: SessionKeys, key: SessionKey, entries: list[SessionStoreEntry]
    ) -> Appended | AppendRefused:
        """Append and fold the summary, again where another writer folded meanwhile."""
        known = self._summaries.setdefault(session, _Summary())
        for _ in range(_MAX_CONFLICTS):
            folded = fold_session_summary(known.entry, key, entries)
            outcome = await self._append(session, "", entries, folded, known.version)
            if isinstance(outcome, Appended):
                known.version, known.entry = known.version + 1, folded
                return outcome
            if isinstance(outcome, AppendRefused):
                return outcome
            known.version = outcome.version
            known.entry = _summary_entry(session.session_id, outcome.summary)
        raise StaleWriter(f"session {session.session_id}: too many writers at once")

    async def _append(
        self,
        session: SessionKeys,
        subpath: str,
        entries: list[SessionStoreEntry],
        summary: SessionSummaryEntry | None = None,
        summary_version: int = 0,
    ) -> Appended | Conflict | AppendRefused:
        return await self._run(
            transcripts.append(
                session,
                subpath,
                cast("list[transcripts.Entry]", entries),
                fence=self._fence,
                ttl_ms=self._ttl_ms,
                max_bytes=self._max_bytes,
                summary="" if summary is None else json.dumps(summary["data"]),
                summary_version=summary_version,
            )
        )

    async def _index(self, session: SessionKeys, mtime_ms: int) -> None:
        now_s = time.monotonic()
        before_s = self._indexed_at_s.get(session, float("-inf"))
        if now_s - before_s >= INDEX_EVERY_S:
            await self._run(transcripts.index(session, mtime_ms, self._ttl_ms))
            self._indexed_at_s[session] = now_s

    async def _run(self, operation: Operation[T]) -> T:
        return await run_async(operation, cast("Any", self._redis))


def _summary_entry(session_id: str, summary: str) -> SessionSummaryEntry | None:
    if not summary:
        return None
    return {"session_id": session_id, "mtime": 0, "data": json.loads(summary)}
