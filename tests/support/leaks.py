"""What a fleet may leave: in Redis nothing without an end, on the host nothing at all."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agentherd.contract.states import LIVE
from agentherd_workers.devkit.lasting_keys import (
    ALWAYS,
    WHILE_JOBS_LIVE,
    WHILE_MESSAGES_WAIT,
    lasting_keys,
)
from agentherd_workers.processes import marked_by_worker


def keys_without_ttl(
    redis_client: Any, live_jobs_allowed: bool = False, *, prefix: str = "agentherd"
) -> list[str]:
    """The keys that would stay for ever and have no exemption; empty where nothing leaks.

    Args:
        redis_client: a blocking client of the fleet's Redis.
        live_jobs_allowed: whether jobs may not have ended yet. The record and its streams
            are then exempt only for jobs that really are live.
    """
    allowed = [ALWAYS, WHILE_MESSAGES_WAIT, *([WHILE_JOBS_LIVE] if live_jobs_allowed else [])]
    found = lasting_keys(redis_client, *allowed, prefix=prefix)
    return [
        key
        for key, reason in found.items()
        if reason is None or _of_ended_job(redis_client, key, prefix)
    ]


def worker_marks(workspace_root: Path) -> list[int]:
    """The marks of the workers that have a directory there; see `make_worker_directory`."""
    folders = (path for path in workspace_root.glob("workers/*") if path.is_dir())
    return [int(folder.name, 16) for folder in folders]


def assert_nothing_left(
    redis_client: Any, workspace_root: Path, marks: Iterable[int], *, prefix: str = "agentherd"
) -> None:
    """What holds once a fleet's workers have ended by themselves.

    Jobs that a test left in their queue keep their keys; all others' have a TTL.
    """
    assert not [pid for mark in marks for pid in marked_by_worker(mark)]
    assert not [*workspace_root.glob("jobs/*"), *workspace_root.glob("workers/*")]
    live = _any_live(redis_client, prefix)
    leaked = keys_without_ttl(redis_client, live_jobs_allowed=live, prefix=prefix)
    # Another fleet may have the same Redis, under its own prefix.
    assert [key for key in leaked if ":" not in key or key.startswith(f"{prefix}:")] == []


def _any_live(redis_client: Any, prefix: str) -> bool:
    records = redis_client.scan_iter(f"{prefix}:job:*", count=1000, _type="hash")
    states = {redis_client.hget(key, "state") for key in records}
    return not states.isdisjoint(state.encode() for state in LIVE)


def _of_ended_job(redis_client: Any, key: str, prefix: str) -> bool:
    """Whether the key belongs to one job, and that one is not live."""
    found = re.fullmatch(rf"({re.escape(prefix)}:job:[^:]+)(:events|:artifacts|:checkpoint)?", key)
    if found is None:
        return False
    state = redis_client.hget(found[1], "state")
    return state is None or (state.decode() if isinstance(state, bytes) else state) not in LIVE
