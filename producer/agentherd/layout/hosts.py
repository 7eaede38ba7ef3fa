"""The live workers, as they report themselves every few seconds."""

from collections.abc import Iterable

from agentherd.contract.hosts import WorkerReport
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Pipeline
from agentherd.layout.replies import text

LIVE_MS = 15_000
"""A worker that has not reported for so long is gone."""
REPORT_EVERY_S = 4.0


def announce(keys: Keys, report: WorkerReport) -> Operation[None]:
    """Note that a worker lives, and which memory classes it serves, for `LIVE_MS`."""
    until_ms = (yield from _now_ms()) + LIVE_MS
    lists = _lists(keys, report.capacity)
    yield Pipeline(
        Command("SET", keys.worker(report.worker), report.model_dump_json(), "PX", LIVE_MS),
        *(Command("ZADD", key, until_ms, report.worker) for key in lists),
        *(Command("PEXPIRE", key, LIVE_MS) for key in lists),
        *(Command("ZREMRANGEBYSCORE", key, "-inf", until_ms - LIVE_MS) for key in lists),
    )


def retire(keys: Keys, worker: str, classes: Iterable[str]) -> Operation[None]:
    """A worker ends."""
    yield Pipeline(
        Command("DEL", keys.worker(worker)),
        *(Command("ZREM", key, worker) for key in _lists(keys, classes)),
    )


def live_workers(keys: Keys) -> Operation[list[WorkerReport]]:
    """Every live worker, by name."""
    now_ms = yield from _now_ms()
    names = yield Command("ZRANGE", keys.workers, now_ms, "+inf", "BYSCORE")
    reports = yield Pipeline(*(Command("GET", keys.worker(text(name))) for name in names))
    found = [WorkerReport.model_validate_json(report) for report in reports if report]
    return sorted(found, key=lambda report: report.worker)


def consumed(keys: Keys, queue: str) -> Operation[bool]:
    """Whether a live worker consumes this queue."""
    now_ms = yield from _now_ms()
    return bool((yield Command("ZCOUNT", keys.queue_workers(queue), now_ms, "+inf")))


def _lists(keys: Keys, classes: Iterable[str]) -> list[str]:
    """The sorted sets that name a worker that serves these memory classes."""
    return [keys.workers, *(keys.queue_workers(keys.queue(memory)) for memory in classes)]


def _now_ms() -> Operation[int]:
    seconds, microseconds = yield Command("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000
