"""Session transcripts in Redis: keys and operations, usable on a cluster.

| key | type | lives |
|---|---|---|
| meta | hash: mtime, size, fence, summary, entries per transcript | `ttl_s` after the last use |
| entries | hash: "<number>:<subpath>" → entry as JSON | as meta |
| uuids | set: what dedupes | as meta |
| tombstone | string | `tombstone_ttl_s` after a delete |
| sessions | sorted set of a tenant's sessions by last write (ms) | as the youngest session |

The first four share a hash tag, so each script stays in one cluster slot; all transcripts of
a session (the main one and its subagents') share three keys, so that one script keeps all of
them alive. The index is maintained on its own and repairs itself when read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from agentherd.errors import AgentherdError
from agentherd.layout.operations import Command, Operation, Pipeline, Script
from agentherd.layout.replies import scored, text

Entry = dict[str, Any]
"""One line of a transcript: the CLI's own format, passed through."""

PAGE_ENTRIES = 500
PAGE_BYTES = 4 * 1024 * 1024
"""A page of a load aims at this; its entries are counted by their average size."""
_COUNT = "count:"


class CorruptTranscript(AgentherdError, ValueError):
    """An entry is missing or is not JSON: someone else wrote to our keys."""


@dataclass(frozen=True)
class SessionKeys:
    """The keys of one session."""

    tenant: str
    session_id: str
    prefix: str = "agentherd"

    def _key(self, name: str) -> str:
        # Percent-encoded, so that no `:`, `/` or brace in a part can look like another key.
        tag = f"{quote(self.tenant, safe='')}/{quote(self.session_id, safe='')}"
        return f"{self.prefix}:session:{{{tag}}}:{name}"

    @property
    def meta(self) -> str:
        """What is known about the session: a hash."""
        return self._key("meta")

    @property
    def entries(self) -> str:
        """The entries of all its transcripts: a hash."""
        return self._key("entries")

    @property
    def data(self) -> dict[str, str]:
        """The three keys that live and die together."""
        return {"meta": self.meta, "entries": self.entries, "uuids": self._key("uuids")}

    @property
    def all(self) -> dict[str, str]:
        """And the tombstone, which outlives them."""
        return self.data | {"tombstone": self._key("tombstone")}

    @property
    def index(self) -> str:
        """All sessions of the tenant, by last write (ms): a sorted set."""
        return sessions_index(self.tenant, self.prefix)


def sessions_index(tenant: str, prefix: str) -> str:
    """A tenant's sessions by last write (ms): a sorted set."""
    return f"{prefix}:sessions:{{{quote(tenant, safe='')}}}"


@dataclass(frozen=True)
class Appended:
    """Stored. `added` entries were new; `mtime_ms` is Redis's time."""

    mtime_ms: int
    added: int


@dataclass(frozen=True)
class Conflict:
    """Nothing stored: the summary was made from an older one than this."""

    version: int
    summary: str


@dataclass(frozen=True)
class AppendRefused:
    """Nothing stored. `reason`: `stale`, `deleted` or `too_large`."""

    reason: str
    detail: str = ""


def append(
    session: SessionKeys,
    subpath: str,
    entries: Sequence[Entry],
    *,
    fence: int,
    ttl_ms: int,
    max_bytes: int,
    summary: str = "",
    summary_version: int = 0,
) -> Operation[Appended | Conflict | AppendRefused]:
    """Add entries; those whose uuid is there already are left out. See transcript_append.lua."""
    rest: list[str] = []
    for entry in entries:
        uuid = entry.get("uuid")
        rest.append(json.dumps([subpath, uuid]) if isinstance(uuid, str) else "")
        rest.append(json.dumps(entry, separators=(",", ":"), ensure_ascii=False))
    reply = yield Script(
        "transcript_append",
        keys=session.all,
        args={
            "subpath": subpath,
            "fence": fence,
            "ttl_ms": ttl_ms,
            "max_bytes": max_bytes,
            "summary": summary,
            "summary_version": summary_version,
        },
        rest=rest,
    )
    match text(reply[0]):
        case "appended":
            return Appended(mtime_ms=int(reply[1]), added=int(reply[2]))
        case "conflict":
            return Conflict(version=int(reply[1]), summary=text(reply[2]))
        case reason:
            return AppendRefused(reason, text(reply[1]) if len(reply) > 1 else "")


def load(
    session: SessionKeys, subpath: str = "", *, ttl_ms: int = 0
) -> Operation[list[Entry] | None]:
    """A transcript's entries in order, read in pages; None: there is none.

    What is appended meanwhile is not part of it.

    Raises:
        CorruptTranscript: an entry is missing or is not JSON.
    """
    count, size_bytes = yield Script(
        "transcript_open",
        keys=session.data,
        args={"subpath": subpath, "ttl_ms": ttl_ms},
    )
    if not count:
        return None
    page = max(1, min(PAGE_ENTRIES, PAGE_BYTES * count // max(size_bytes, 1)))
    entries: list[Entry] = []
    for start in range(0, count, page):
        fields = [f"{number}:{subpath}" for number in range(start, min(start + page, count))]
        rows = yield Command("HMGET", session.entries, *fields)
        entries += _parse(rows, session.session_id, start)
    return entries


def _parse(rows: list[bytes | None], session_id: str, start: int) -> list[Entry]:
    """A page at once, which is faster than entry by entry; one by one only to name the bad one."""
    try:
        parsed: list[Entry] = json.loads(b"[" + b",".join(row or b"" for row in rows) + b"]")
    except ValueError:
        parsed = []
    if len(parsed) == len(rows) and all(isinstance(entry, dict) for entry in parsed):
        return parsed
    for number, row in enumerate(rows, start):
        try:
            good = row is not None and isinstance(json.loads(row), dict)
        except ValueError:
            good = False
        if not good:
            raise CorruptTranscript(f"session {session_id}: entry {number} is missing or not JSON")
    raise CorruptTranscript(f"session {session_id}: entries from {start} on do not parse")


def exists(session: SessionKeys) -> Operation[bool]:
    """Whether the session has a main transcript."""
    return bool((yield Command("HEXISTS", session.meta, _COUNT)))


def delete(session: SessionKeys, subpath: str, *, tombstone_ttl_ms: int) -> Operation[bool]:
    """Remove a session, or one of its further transcripts; whether there was one."""
    existed = yield Script(
        "transcript_delete",
        keys=session.all,
        args={"subpath": subpath, "tombstone_ttl_ms": tombstone_ttl_ms},
    )
    if not subpath:
        yield Command("ZREM", session.index, session.session_id)
    return bool(existed)


def list_subpaths(session: SessionKeys) -> Operation[list[str]]:
    """The session's further transcripts, sorted."""
    fields = yield Command("HKEYS", session.meta)
    names = (text(field) for field in fields)
    return sorted(
        name.removeprefix(_COUNT)
        for name in names
        if len(name) > len(_COUNT) and name.startswith(_COUNT)
    )


def index(session: SessionKeys, mtime_ms: int, ttl_ms: int) -> Operation[None]:
    """Note a session's last write in its tenant's index."""
    yield Pipeline(
        Command("ZADD", session.index, "GT", mtime_ms, session.session_id),
        Command("ZREMRANGEBYSCORE", session.index, "-inf", mtime_ms - ttl_ms),
        Command("PEXPIRE", session.index, ttl_ms),
    )


@dataclass(frozen=True)
class StoredSession:
    """One session of a tenant."""

    session_id: str
    mtime_ms: int
    summary: str
    """The SDK's summary as JSON; empty where none was made."""


def list_sessions(tenant: str, prefix: str) -> Operation[list[StoredSession]]:
    """A tenant's sessions, the latest first; those that are gone leave the index."""
    index_key = sessions_index(tenant, prefix)
    indexed = yield Command("ZRANGE", index_key, 0, -1, "REV", "WITHSCORES")
    found, gone = [], []
    for session_id, _mtime_ms in scored(indexed):
        mtime_ms, summary = yield Command(
            "HMGET", SessionKeys(tenant, session_id, prefix).meta, "mtime_ms", "summary"
        )
        if mtime_ms is None:
            gone.append(session_id)
        else:
            found.append(StoredSession(session_id, int(mtime_ms), text(summary or "")))
    if gone:
        yield Command("ZREM", index_key, *gone)
    return found
