"""What `agentherd doctor` asks Redis."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    ResponseError,
)

from agentherd.checks import Check, CheckStatus
from agentherd.cli.progress import refusal_text
from agentherd.client.blocking import Herd
from agentherd.client.connection import display_url
from agentherd.contract.failures import FailureKind
from agentherd.contract.hosts import BreakerReport
from agentherd.contract.states import LIVE, JobState
from agentherd.errors import BrokerUnavailable
from agentherd.layout import breaker, poison, queues
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Pipeline
from agentherd.layout.replies import text

OLDEST = (6, 2)
"""Older ones lack ZRANGE ... BYSCORE REV, which listings use."""
RECOMMENDED = (7, 0)
SLOW_MS = 50
CLOCK_S = 2.0
"""Difference of clocks from which times given by hand (`--since`, `not_before`) mislead."""
_SAMPLE = 1000
"""Queued jobs looked at for the names of their queues."""


def redis_checks(herd: Herd) -> Iterator[Check]:
    """Every check on Redis; only the first one where it can't be reached."""
    try:
        yield _reachable(herd)
        info = herd.connection.run(_info())
        yield version_check(str(info.get("redis_version", "")), info.get("valkey_version"))
        yield persistence_check(info, herd.connection.run(_snapshots()))
        yield eviction_check(int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", "")))
        yield clock_check(_clock_ahead_s(herd))
        yield jobs_check(*herd.connection.run(_live_jobs(herd.keys)))
        yield breaker_check(herd.connection.run(breaker.read(herd.keys)))
        yield poison_check(herd.connection.run(poison.count(herd.keys)))
    except BrokerUnavailable as error:
        yield Check(
            "Redis", CheckStatus.FAILED, " ".join(str(error).split()),
            _what_to_do(error.__cause__),
        )  # fmt: skip
    except ResponseError as error:
        yield Check("Redis", CheckStatus.FAILED, str(error), "let this user run the command (ACL)")


def _what_to_do(cause: BaseException | None) -> str:
    match cause:
        case NoPermissionError():
            return "let this user run it (ACL SETUSER), or name another one in AGENTHERD_REDIS_URL"
        case AuthenticationError():
            return "set user and password in AGENTHERD_REDIS_URL: redis://user:password@host:6379/0"
        case BusyLoadingError():
            return "wait: it is loading its data"
        case _:
            return "start it, or set AGENTHERD_REDIS_URL"


def version_check(redis_version: str, valkey_version: str | None) -> Check:
    """Whether this Redis knows the commands we use."""
    shown = f"Valkey {valkey_version}" if valkey_version else f"Redis {redis_version}"
    parts = [int(part) for part in redis_version.split(".")[:2] if part.isdigit()]
    # Valkey names the Redis version that it is compatible with.
    if tuple(parts) < OLDEST:
        return Check("version", CheckStatus.FAILED, shown, "6.2 is needed, 7 or later recommended")
    if tuple(parts) < RECOMMENDED:
        return Check("version", CheckStatus.WARNING, shown, "7 or later is recommended")
    return Check("version", CheckStatus.OK, shown)


def persistence_check(info: Mapping[str, Any], snapshots: bool | None) -> Check:
    """Whether jobs survive a restart of Redis. `snapshots` None: CONFIG is not allowed."""
    name = "persistence"
    if info.get("loading"):
        return Check(name, CheckStatus.WARNING, "Redis is loading its data", "wait")
    if int(info.get("aof_enabled", 0)):
        if info.get("aof_last_write_status") == "err":
            return Check(name, CheckStatus.FAILED, "AOF writes fail", "is its disk full?")
        return Check(name, CheckStatus.OK, "AOF")
    fix = "turn on AOF: CONFIG SET appendonly yes, and in redis.conf"
    if snapshots is None:
        return Check(name, CheckStatus.WARNING, "no AOF; snapshots unknown (CONFIG refused)", fix)
    if not snapshots:
        return Check(
            name, CheckStatus.WARNING, "neither AOF nor snapshots: a restart loses every job", fix
        )
    return Check(name, CheckStatus.OK, "snapshots; a crash loses what came after the last one")


def eviction_check(maxmemory_bytes: int, policy: str) -> Check:
    """Whether Redis may throw jobs away when it is full."""
    if not maxmemory_bytes:
        return Check("eviction", CheckStatus.OK, "no maxmemory")
    detail = f"maxmemory {maxmemory_bytes // 2**20} MiB, {policy}"
    if policy == "noeviction":
        return Check("eviction", CheckStatus.OK, detail)
    return Check(
        "eviction", CheckStatus.WARNING, f"{detail}: a full Redis drops jobs and transcripts",
        "CONFIG SET maxmemory-policy noeviction",
    )  # fmt: skip


def clock_check(ahead_s: float) -> Check:
    """How far Redis's clock is from ours. Leases and states go by Redis's alone."""
    detail = f"Redis is {abs(ahead_s):.3f} s {'ahead' if ahead_s >= 0 else 'behind'}"
    if abs(ahead_s) <= CLOCK_S:
        return Check("clock", CheckStatus.OK, detail)
    return Check("clock", CheckStatus.WARNING, detail, "synchronise both clocks (NTP)")


def jobs_check(states: Mapping[str, int], waiting: Mapping[str, int]) -> Check:
    """How many jobs are live, and how many messages wait in each queue."""
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    depths = ", ".join(f"{queue}: {count} waiting" for queue, count in waiting.items())
    detail = f"{counts}; queue {depths}"
    if states.get(JobState.QUEUED) and not states.get(JobState.RUNNING):
        return Check(
            "jobs", CheckStatus.WARNING, detail, "nothing runs: is a worker up? (agentherd worker)"
        )
    return Check("jobs", CheckStatus.OK, detail)


def breaker_check(open_for: BreakerReport | None) -> Check:
    """Whether the model API takes what all jobs use, the key and the account."""
    if open_for is None:
        return Check("breaker", CheckStatus.OK, "closed: workers take jobs")
    fix = (
        "the account: credit, spend limit"
        if open_for.kind is FailureKind.BILLING
        else "the key in the file that AGENTHERD_API_KEY_FILE names, or the gateway's"
    )
    return Check("breaker", CheckStatus.FAILED, refusal_text(open_for), f"correct {fix}")


def poison_check(messages: int) -> Check:
    """Whether someone sends messages that are no jobs."""
    if not messages:
        return Check("poison", CheckStatus.OK, "no message was set aside")
    return Check(
        "poison", CheckStatus.WARNING, f"{messages} messages that were no jobs are set aside",
        "look who sends them: agentherd failed --messages",
    )  # fmt: skip


def _reachable(herd: Herd) -> Check:
    latencies_ms = []
    for _ in range(5):
        started_s = time.perf_counter()
        herd.connection.run(_ping())
        latencies_ms.append((time.perf_counter() - started_s) * 1000)
    best_ms = min(latencies_ms)
    detail = f"{display_url(herd.connection.url)} answers in {best_ms:.1f} ms"
    if best_ms > SLOW_MS:
        return Check("Redis", CheckStatus.WARNING, detail, "put it nearer to its clients")
    return Check("Redis", CheckStatus.OK, detail)


def _ping() -> Operation[None]:
    yield Command("PING")


def _info() -> Operation[dict[str, Any]]:
    sections = yield Pipeline(
        Command("INFO", "server"), Command("INFO", "persistence"), Command("INFO", "memory")
    )
    return {name: value for section in sections for name, value in section.items()}


def _snapshots() -> Operation[bool | None]:
    try:
        reply = yield Command("CONFIG GET", "save")
    except ResponseError:
        return None
    return bool(text(reply.get("save") or reply.get(b"save") or ""))


def _clock_ahead_s(herd: Herd) -> float:
    before_s = time.time()
    seconds, microseconds = herd.connection.run(_time())
    after_s = time.time()
    return float(seconds + microseconds / 1e6 - (before_s + after_s) / 2)


def _time() -> Operation[tuple[int, int]]:
    seconds, microseconds = yield Command("TIME")
    return int(seconds), int(microseconds)


def _live_jobs(keys: Keys) -> Operation[tuple[dict[str, int], dict[str, int]]]:
    """Jobs by state, and messages by queue."""
    live = [state for state in JobState if state in LIVE]
    counts = yield Pipeline(*(Command("ZCARD", keys.state_index(state)) for state in live))
    job_ids = yield Command("ZRANGE", keys.state_index(JobState.QUEUED), 0, _SAMPLE - 1)
    names = yield Pipeline(
        *(Command("HGET", keys.job(text(job_id)), "queue") for job_id in job_ids)
    )
    waiting = yield from queues.depths(
        sorted({keys.queue()} | {text(name) for name in names if name})
    )
    return dict(zip(map(str, live), counts, strict=True)), waiting
