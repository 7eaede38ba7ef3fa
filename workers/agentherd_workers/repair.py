"""The leader's repair of the queues: what the records say must be there, is."""

import logging
import time
from typing import TypeVar

from agentherd.layout import deliveries, missing
from agentherd.layout.operations import Operation, run_async
from agentherd_workers.host import Host

log = logging.getLogger(__name__)
T = TypeVar("T")

COUNT_EVERY_S = 5.0
"""How often jobs and messages are counted, at the same cost however many there are."""
COMPARE_EVERY_S = 300.0
"""How often they are compared one by one where the numbers are right. A message of no queued job,
as of one that was cancelled, hides that one is missing."""
COMPARE_SHARE = 0.1
"""Comparing takes at most this much of the time."""
DELIVERIES_EVERY_S = 10.0
"""How often some messages are looked at that workers took and have not acknowledged."""
_SHOWN = 10


class Repair:
    """Does what is due; called about once a second, by the leader."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._count_at_s = 0.0
        self._compare_from_s = 0.0
        self._compare_at_s = time.monotonic() + COMPARE_EVERY_S
        self._deliveries_at_s = 0.0
        self._offset = 0

    async def turn(self) -> None:
        """Do what is due now."""
        now_s = time.monotonic()
        if now_s >= self._count_at_s:
            self._count_at_s = now_s + COUNT_EVERY_S
            await self._republish_missing(now_s)
        if now_s >= self._deliveries_at_s:
            self._deliveries_at_s = now_s + DELIVERIES_EVERY_S
            await self._redeliver_stale()

    async def _republish_missing(self, now_s: float) -> None:
        keys = self._host.keys
        short = await self._ask(missing.shortage(keys)) > 0
        if now_s < (self._compare_from_s if short else self._compare_at_s):
            return
        job_ids = await self._ask(missing.missing(keys))
        published = await self._ask(missing.republish(keys, job_ids))
        ended_s = time.monotonic()
        self._compare_from_s = ended_s + (ended_s - now_s) / COMPARE_SHARE
        self._compare_at_s = max(self._compare_from_s, ended_s + COMPARE_EVERY_S)
        if published:
            log.warning("queued again, for no queue had their message: %s", _some(published))

    async def _redeliver_stale(self) -> None:
        self._offset, back = await self._ask(
            deliveries.redeliver_stale(self._host.keys, self._offset)
        )
        if back:
            log.info("queued again, for a worker never acknowledged them: %s", _some(back))

    async def _ask(self, operation: Operation[T]) -> T:
        return await run_async(operation, self._host.redis)


def _some(job_ids: list[str]) -> str:
    more = len(job_ids) - _SHOWN
    return ", ".join(job_ids[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
