"""Listing jobs by state, tenant and time, a page at a time."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from agentherd.contract.listing import JobPage, JobSummary
from agentherd.contract.states import JobState
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Pipeline
from agentherd.layout.replies import scored, text

MAX_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLACK = 16
"""Jobs that may share the microsecond at which a page ended."""
_FIELDS = (
    "job_id",
    "state",
    "tenant",
    "model",
    "preview",
    "session_id",
    "attempt",
    "worker",
    "metadata",
    "submitted_at_us",
    "started_at_ms",
    "finished_at_ms",
    "result",
    "retry_of",
    "retried_as",
)


def list_jobs(
    keys: Keys,
    *,
    states: Sequence[JobState],
    tenant: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> Operation[JobPage]:
    """Jobs submitted in [since, until), the newest first. Index entries without record go."""
    newest, oldest = _bounds(since, until)
    indexes = [
        keys.state_index(state) if tenant is None else keys.tenant_index(tenant, state)
        for state in states
    ]
    before = _parse_cursor(cursor)
    top = newest if before is None else str(before[0])
    found = yield from _newest(indexes, top, oldest, before, limit + 1)
    chosen = found[:limit]
    rows = yield Pipeline(
        *(Command("HMGET", keys.job(job_id), *_FIELDS) for _, job_id, _ in chosen)
    )
    gone = [
        (index, job_id) for (_, job_id, index), row in zip(chosen, rows, strict=True) if not row[0]
    ]
    if gone:
        yield Pipeline(*(Command("ZREM", index, job_id) for index, job_id in gone))
    more = len(found) > limit
    return JobPage(
        jobs=tuple(_summary(row) for row in rows if row[0]),
        cursor=f"{chosen[-1][0]}:{chosen[-1][1]}" if more and chosen else None,
    )


_Found = tuple[int, str, str]
"""Time of submit (µs), job id, the index it stands in."""


def _newest(
    indexes: Sequence[str], top: str, oldest: str, before: tuple[int, str] | None, wanted: int
) -> Operation[list[_Found]]:
    """Entries below `before`, the newest first: the first `wanted` for certain, or all."""
    count = wanted + _SLACK
    while True:
        replies = yield Pipeline(
            *(
                Command(
                    "ZRANGE", index, top, oldest, "BYSCORE", "REV",
                    "LIMIT", 0, count, "WITHSCORES",
                )
                for index in indexes
            )
        )  # fmt: skip
        read = [scored(reply) for reply in replies]
        below = [
            [
                (score, job_id, index)
                for job_id, score in entries
                if before is None or (score, job_id) < before
            ]
            for index, entries in zip(indexes, read, strict=True)
        ]
        if all(
            len(entries) < count or len(left) >= wanted
            for entries, left in zip(read, below, strict=True)
        ):
            # By id: a job that moves on between two of the reads is in both answers.
            found = {one[1]: one for entries in below for one in entries}
            return sorted(found.values(), reverse=True)
        count *= 4  # more jobs than thought share the microsecond of the page's end


def _bounds(since: datetime | None, until: datetime | None) -> tuple[str, str]:
    newest = f"({_unix_us(until)}" if until else "+inf"
    oldest = str(_unix_us(since)) if since else "-inf"
    return newest, oldest


def _unix_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} needs a time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _parse_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    score, _, job_id = cursor.partition(":")
    if not score.isdigit() or not job_id:
        raise ValueError(f"cursor {cursor!r} is not one that a listing returned")
    return int(score), job_id


def _summary(row: Sequence[bytes | None]) -> JobSummary:
    fields = {
        name: text(value) for name, value in zip(_FIELDS, row, strict=True) if value is not None
    }
    result = json.loads(fields["result"]) if "result" in fields else {}
    return JobSummary(
        job_id=fields["job_id"],
        state=JobState(fields["state"]),
        tenant=fields["tenant"],
        model=fields.get("model") or None,
        prompt_preview=fields.get("preview", ""),
        session_id=fields["session_id"],
        attempt=int(fields["attempt"]),
        worker=fields.get("worker"),
        metadata=json.loads(fields.get("metadata", "{}")),
        submitted_at_ms=int(fields["submitted_at_us"]) // 1000,
        started_at_ms=int(fields["started_at_ms"]) if "started_at_ms" in fields else None,
        finished_at_ms=int(fields["finished_at_ms"]) if "finished_at_ms" in fields else None,
        cost_usd=result.get("usage", {}).get("cost_usd", 0.0) if result else None,
        failure_kind=(result.get("failure") or {}).get("kind"),
        failure_message=(result.get("failure") or {}).get("message"),
        retry_of=fields.get("retry_of"),
        retried_as=fields.get("retried_as"),
    )
