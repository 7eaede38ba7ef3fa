"""What one worker does for the whole fleet: release, recover, repair. Every worker stands by."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import TypeVar

from redis.exceptions import RedisError, ResponseError

from agentherd.layout import leading, records
from agentherd.layout.operations import Operation, run_async
from agentherd_workers import metrics
from agentherd_workers.host import Host
from agentherd_workers.recovery import Recovered, expire, recover
from agentherd_workers.repair import Repair

log = logging.getLogger(__name__)
T = TypeVar("T")

TICK_S = 1.0
"""How often jobs are looked for whose time has come or whose lease is over."""
RESIGN_S = 1.0
_DAMAGED = (ResponseError, ValueError, TypeError, LookupError)
"""What a record that can't be read, or moved, shows itself by."""


class Leader:
    """This worker as the fleet's leader, which it is whenever no other one is."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._repair = Repair(host)
        self.leads = False

    async def stand(self) -> None:
        """Tick for ever; when cancelled, let another worker take over at once."""
        try:
            while True:
                with suppress(RedisError, OSError, TimeoutError):
                    await self.tick()
                await asyncio.sleep(TICK_S)
        finally:
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(RESIGN_S):
                    await self._ask(leading.resign(self._host.keys, self._host.worker))

    async def tick(self) -> None:
        """Lead if no other worker does, and do what is to be done now."""
        keys = self._host.keys
        duty = await self._ask(leading.tick(keys, self._host.worker, leads=self.leads))
        if self.leads is not (duty is not None):
            self.leads = duty is not None
            log.info("this worker %s the fleet", "leads" if self.leads else "no longer leads")
        if duty is None:
            return
        ticked_s = time.monotonic()
        for job_id in duty.due:
            await self._move(keys.scheduled, job_id, records.release(keys, job_id))
        retention_ms = int(self._host.settings.retention_s * 1000)
        for job_id, ended_at_ms in duty.expired:
            recovered = await self._move(
                keys.leases, job_id, recover(keys, job_id, retention_ms=retention_ms)
            )
            if recovered is not None:
                late_s = (duty.now_ms - ended_at_ms) / 1000 + time.monotonic() - ticked_s
                _tell(job_id, recovered, late_s)
        for job_id in duty.overdue:
            await self._move(keys.expiring, job_id, expire(keys, job_id, retention_ms=retention_ms))
        await self._repair.turn()

    async def _move(self, index: str, job_id: str, move: Operation[T]) -> T | None:
        """Make a move; a damaged record does not hold up those behind it in the index."""
        try:
            return await self._ask(move)
        except _DAMAGED as error:
            log.error("job %s can't be moved, tried again later: %r", job_id, error)  # noqa: TRY400
            await self._ask(leading.set_aside(self._host.keys, index, job_id))
            return None

    async def _ask(self, operation: Operation[T]) -> T:
        return await run_async(operation, self._host.redis)


def _tell(job_id: str, recovered: Recovered, late_s: float) -> None:
    log.warning(
        "job %s: worker %s was lost in attempt %d; %s %.1f s after its lease ended",
        job_id,
        recovered.worker,
        recovered.attempt,
        recovered.fate.replace("_", " "),
        late_s,
    )
    metrics.count_recovery(recovered.fate)
