"""Session transcripts in Redis: keys and operations, usable on a cluster.

| key | type | lives |
|---|---|---|
| session | hash, see below | `ttl_ms` after the last use |
| session, deleted | hash: `deleted` | `tombstone_ttl_ms` after the delete |
| index | sorted set of a tenant's sessions by the time they expire (ms) | as its longest session |

| field of a session | value |
|---|---|
| mtime_ms, size, fence | of the last append (Redis's clock); bytes of all blocks; highest seen |
| summary, version | the SDK's summary of the main transcript as JSON; changes with it |
| blocks:<subpath>, entries:<subpath> | how many there are; the main transcript's subpath is empty |
| <number>:<subpath> | a block: the entries of one append as a JSON array |
| "<uuid>"<subpath> | dedupes: this entry is there |
| last:<writer> | the writer's last append, so that a repetition of it is known |
| subpaths, deleted:<subpath> | the further transcripts; those that were removed |

One hash holds all transcripts of a session, so that they live and die together and an append is
four commands in one cluster slot; a block an append takes less memory than a field an entry. The
index is in another slot, maintained on its own; it repairs itself when read.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

from agentherd.errors import AgentherdError
from agentherd.layout.operations import Argument, Command, Operation, Pipeline, Script
from agentherd.layout.replies import scored, text

E = TypeVar("E", bound=Mapping[str, Any])
Entry = dict[str, Any]
"""One line of a transcript: the CLI's own format, passed through."""

BLOCK_ENTRIES = 100
BLOCK_BYTES = 256 * 1024
"""A block is smaller than both, unless it is one larger entry."""
_NOTES_BLOCKS = 16
"""No session begins with more than that of the CLI's notes."""
_SAID = ("user", "assistant")
PAGE_BLOCKS = 500
PAGE_BYTES = 1024 * 1024
"""A page of a load is smaller than both, unless it is one larger block."""
_LISTED_AT_ONCE = 500
_BLOCKS = "blocks:"
# Made once: json.dumps makes a new encoder for each call with options.
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_ENCODE_ASCII = json.JSONEncoder(separators=(",", ":")).encode
_QUOTE = json.encoder.encode_basestring_ascii


class CorruptTranscript(AgentherdError, ValueError):
    """Something stored is missing or is not what we write: someone else wrote to our keys."""


@dataclass(frozen=True)
class SessionKeys:
    """The key of one session, and that of its tenant's index."""

    tenant: str
    session_id: str
    prefix: str = "agentherd"

    @cached_property
    def session(self) -> str:
        """All that is stored of the session: a hash."""
        # Percent-encoded, so that no `:`, `/` or brace in a part can look like another key.
        tag = f"{quote(self.tenant, safe='')}/{quote(self.session_id, safe='')}"
        return f"{self.prefix}:session:{{{tag}}}"

    @property
    def entries(self) -> str:
        """Where the blocks of entries are: the session's hash."""
        return self.session

    @property
    def index(self) -> str:
        """All sessions of the tenant, by the time they expire (ms): a sorted set."""
        return sessions_index(self.tenant, self.prefix)


def sessions_index(tenant: str, prefix: str) -> str:
    """A tenant's sessions by the time they expire (ms): a sorted set."""
    return f"{prefix}:sessions:{{{quote(tenant, safe='')}}}"


@dataclass(frozen=True)
class Appended:
    """Stored, now or by the append that this one repeats. `mtime_ms` is Redis's time."""

    mtime_ms: int
    version: str = ""
    """Of the summary as it is now; empty for the repetition of an append."""


@dataclass(frozen=True)
class Conflict:
    """Nothing stored: the summary was folded from an older one than this."""

    version: str
    summary: str


@dataclass(frozen=True)
class AlreadyStored:
    """Nothing stored: leave these entries out, also of the summary, and append the others."""

    positions: frozenset[int]


@dataclass(frozen=True)
class AppendRefused:
    """Nothing stored. `reason`: `stale`, `deleted` or `too_large`."""

    reason: str
    detail: str = ""


AppendOutcome = Appended | Conflict | AlreadyStored | AppendRefused


@dataclass(frozen=True)
class FoldedSummary:
    """A summary of the main transcript that takes the new entries into account."""

    version: str
    """Of the one it was folded from; "0" where there was none."""
    data: str
    """As JSON; empty where the new entries change nothing."""


@dataclass(frozen=True)
class AppendName:
    """Tells an append that is tried again from another one."""

    writer: str
    append_id: str


UNNAMED = AppendName("", "")
"""Every append is another one; only uuids dedupe."""


def append(
    session: SessionKeys,
    subpath: str,
    entries: Sequence[Entry],
    *,
    fence: int,
    ttl_ms: int,
    max_bytes: int,
    name: AppendName = UNNAMED,
    summary: FoldedSummary | None = None,
) -> Operation[AppendOutcome]:
    """Add entries, all or none; none of them may be there already.

    The entries themselves have no uuid twice; `without_doubles` sees to it.

    Args:
        fence: the writer's token; 0 for a writer outside the fleet, which is neither refused
            nor makes others be refused.
        ttl_ms: the life of the whole session from now.
        max_bytes: all entries of the session together, as stored.
        name: makes a repetition of the writer's last append store nothing, also where entries
            have no uuid.
        summary: compared and set; None leaves it alone.

    Raises:
        TypeError, ValueError: an entry is not JSON; nothing was sent.
    """
    uuids = {
        _QUOTE(entry["uuid"]): position
        for position, entry in enumerate(entries)
        if isinstance(entry.get("uuid"), str)
    }
    reply = yield Script(
        "transcript_append",
        keys={"session": session.session},
        args={
            "subpath": subpath,
            "fence": fence,
            "ttl_ms": ttl_ms,
            "max_bytes": max_bytes,
            "writer": name.writer,
            "append_id": name.append_id,
            "summary": summary.data if summary else "",
            "summary_version": summary.version if summary else "",
            "uuids": "\n".join(uuids),
            "entries": len(entries),
        },
        rest=_blocks(entries),
    )
    return _append_outcome(reply, list(uuids.values()))


def _append_outcome(reply: Any, positions: Sequence[int]) -> AppendOutcome:
    """What Redis did; `positions` are those of the entries whose uuids were sent."""
    match text(reply[0]):
        case "appended":
            return Appended(int(reply[1]), text(reply[2]))
        case "repeated":
            return Appended(int(reply[1]))
        case "conflict":
            return Conflict(text(reply[1]), text(reply[2]))
        case "known":
            return AlreadyStored(frozenset(positions[int(line)] for line in reply[1:]))
        case reason:
            return AppendRefused(reason, text(reply[1]) if len(reply) > 1 else "")


def without_doubles(entries: Sequence[E]) -> list[E]:
    """The entries without those whose uuid came before."""
    seen: set[str] = set()
    kept = []
    for entry in entries:
        uuid = entry.get("uuid")
        if isinstance(uuid, str):
            if uuid in seen:
                continue
            seen.add(uuid)
        kept.append(entry)
    return kept


def _blocks(entries: Sequence[Entry]) -> list[bytes]:
    blocks = []
    for start in range(0, len(entries), BLOCK_ENTRIES):
        some = entries[start : start + BLOCK_ENTRIES]
        block = _encode(some)
        if len(block) <= BLOCK_BYTES:
            blocks.append(block)
        else:
            share = max(1, len(some) * BLOCK_BYTES // (2 * len(block)))
            blocks += [_encode(some[at : at + share]) for at in range(0, len(some), share)]
    return blocks


def _encode(entries: Sequence[Entry]) -> bytes:
    try:
        return _ENCODE(entries).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, where JavaScript cut a text within an emoji.
        return _ENCODE_ASCII(entries).encode()


def load(
    session: SessionKeys,
    subpath: str = "",
    *,
    ttl_ms: int = 0,
    fence: int = 0,
    page_bytes: int = PAGE_BYTES,
) -> Operation[list[Entry] | None]:
    """A transcript's entries in order, read in pages; None: there is none.

    What is appended meanwhile is not part of it. Deleted meanwhile: None.

    Args:
        ttl_ms: the life of the whole session from now; 0 leaves it as it is.
        fence: of a writer that goes on with the session: what older ones append from now on is
            refused, so that it is no surprise to who has read the session; 0 for a reader.

    Raises:
        CorruptTranscript: an entry is missing or is not a JSON object.
    """
    blocks, count = yield Script(
        "transcript_open",
        keys={"session": session.session},
        args={"subpath": subpath, "ttl_ms": ttl_ms, "fence": fence},
    )
    if not blocks:
        return None
    try:
        entries = yield from _load_blocks(session, subpath, blocks, page_bytes)
        if len(entries) != count:
            raise _corrupt(session, f"{len(entries)} entries instead of {count}")
    except CorruptTranscript:
        if not (yield Command("HEXISTS", session.session, _BLOCKS + subpath)):
            return None
        raise
    return entries


def _load_blocks(
    session: SessionKeys, subpath: str, blocks: int, page_bytes: int
) -> Operation[list[Entry]]:
    """The entries of the first `blocks` blocks."""

    def page_end(first: int) -> Script:
        end = min(first + PAGE_BLOCKS, blocks)
        return Script(
            "transcript_page",
            keys={"session": session.session},
            args={"subpath": subpath, "first": first, "end": end, "page_bytes": page_bytes},
        )

    entries: list[Entry] = []
    first, end = 0, (yield page_end(0))
    while first < blocks:
        fields = (f"{number}:{subpath}" for number in range(first, end))
        # The page, and where the next one ends.
        rows, next_end = yield Pipeline(Command("HMGET", session.session, *fields), page_end(end))
        for number, row in enumerate(rows, first):
            entries += _parse(session, number, row)
        first, end = end, next_end
    return entries


def _parse(session: SessionKeys, number: int, row: bytes | str | None) -> list[Entry]:
    if row is None:
        raise _corrupt(session, f"block {number} is missing")
    try:
        block = json.loads(text(row))
    except ValueError:
        block = None
    if not isinstance(block, list) or not all(isinstance(entry, dict) for entry in block):
        raise _corrupt(session, f"block {number} is not a JSON array of objects")
    return block


def _corrupt(session: SessionKeys, what: str) -> CorruptTranscript:
    return CorruptTranscript(f"session {session.session_id}: {what}")


def exists(session: SessionKeys) -> Operation[bool]:
    """Whether the session has a main transcript."""
    return bool((yield Command("HEXISTS", session.session, _BLOCKS)))


def is_conversation(session: SessionKeys, *, ttl_ms: int, fence: int) -> Operation[bool]:
    """Whether the CLI can resume the main transcript: something was said in it.

    The first entries of a session are the CLI's own notes; where nothing else was stored it
    finds no conversation (measured with 2.1.331).

    What older writers append from now on is refused, also where there is nothing yet: an answer
    of no must stay true. Arguments as of `load`.
    """
    blocks, _count = yield Script(
        "transcript_open",
        keys={"session": session.session},
        args={"subpath": "", "ttl_ms": ttl_ms, "fence": fence},
    )
    if not blocks or blocks > _NOTES_BLOCKS:
        return bool(blocks)
    entries = yield from _load_blocks(session, "", blocks, PAGE_BYTES)
    return any(entry.get("type") in _SAID for entry in entries)


def size_bytes(session: SessionKeys) -> Operation[int]:
    """All entries of the session together, as `max_bytes` counts them; 0 where there is none."""
    return int((yield Command("HGET", session.session, "size")) or 0)


def delete(session: SessionKeys, subpath: str, *, tombstone_ttl_ms: int) -> Operation[bool]:
    """Remove a session, or one of its further transcripts; whether there was one.

    Late appends are refused: to a session for `tombstone_ttl_ms`, even if it never was there;
    to one of its further transcripts for as long as the session lives.
    """
    existed = yield Script(
        "transcript_delete",
        keys={"session": session.session},
        args={"subpath": subpath, "tombstone_ttl_ms": tombstone_ttl_ms},
    )
    if not subpath:
        yield Command("ZREM", session.index, session.session_id)
    return bool(existed)


def list_subpaths(session: SessionKeys) -> Operation[list[str]]:
    """The session's further transcripts, sorted."""
    subpaths = yield Command("HGET", session.session, "subpaths")
    return sorted(json.loads(text(subpaths))) if subpaths else []


def index(session: SessionKeys, ttl_ms: int) -> Operation[None]:
    """List the session under its tenant for `ttl_ms` from now."""
    yield Script(
        "transcript_index",
        keys={"index": session.index},
        args={"session_id": session.session_id, "ttl_ms": ttl_ms},
    )


@dataclass(frozen=True)
class StoredSession:
    """One session of a tenant that has a main transcript."""

    session_id: str
    mtime_ms: int
    summary: str
    """The SDK's summary as JSON; empty where none was made."""


def list_sessions(tenant: str, prefix: str) -> Operation[list[StoredSession]]:
    """A tenant's sessions, the latest first; those that are gone leave the index."""
    index_key = sessions_index(tenant, prefix)
    found: dict[str, StoredSession] = {}
    cursor: Argument = 0
    while True:
        cursor, rows = yield Command("ZSCAN", index_key, cursor, "COUNT", _LISTED_AT_ONCE)
        listed = dict(scored(rows))
        sessions, gone = yield from _look_up(tenant, prefix, listed)
        found |= sessions
        if gone:
            rest = [part for session_id in gone for part in (session_id, listed[session_id])]
            yield Script("transcript_forget", keys={"index": index_key}, args={}, rest=rest)
        if int(cursor) == 0:
            return sorted(found.values(), key=lambda session: session.mtime_ms, reverse=True)


def _look_up(
    tenant: str, prefix: str, session_ids: Iterable[str]
) -> Operation[tuple[dict[str, StoredSession], list[str]]]:
    """Those with a main transcript, and those that have nothing left."""
    session_ids = list(session_ids)
    if not session_ids:
        return {}, []
    keys = [SessionKeys(tenant, session_id, prefix).session for session_id in session_ids]
    replies = yield Pipeline(
        *(Command("HMGET", key, "mtime_ms", "summary", _BLOCKS) for key in keys)
    )
    found, gone = {}, []
    for session_id, (mtime_ms, summary, count) in zip(session_ids, replies, strict=True):
        if mtime_ms is None:
            gone.append(session_id)
        elif count is not None:
            found[session_id] = StoredSession(session_id, int(mtime_ms), text(summary or ""))
    return found, gone
