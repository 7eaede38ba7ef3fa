"""Holding a job: its lease is renewed for as long as its agent runs."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.exceptions import RedisError

from agentherd.layout.records import Renewal

log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Someone else owns the job, or may: nothing more of it may be written here."""


class Lease:
    """Renews every third of its length until released; tells `on_lost` once if it can't.

    Where a renewal brings the news that the job is to be cancelled, `on_cancel` is told, each time.

    A lease counts from the moment its renewal was *sent*, so that we always give up before
    Redis does.
    """

    def __init__(
        self,
        renew: Callable[[], Awaitable[Renewal]],
        length_s: float,
        on_lost: Callable[[], None],
        on_cancel: Callable[[], None],
        *,
        claimed_at_s: float,
    ) -> None:
        self._renew = renew
        self._length_s = length_s
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._held_until_s = claimed_at_s + length_s
        self._task = asyncio.create_task(self._keep())
        self.lost = False

    async def release(self) -> None:
        """Stop renewing."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def check(self) -> None:
        """Raise `LeaseLost` if it is."""
        if self.lost:
            raise LeaseLost

    def lose(self) -> None:
        """Note that a write was refused."""
        if not self.lost:
            self.lost = True
            self._on_lost()

    async def _keep(self) -> None:
        pause_s = self._length_s / 3
        while not self.lost:
            await asyncio.sleep(min(pause_s, max(0.0, self._held_until_s - time.monotonic())))
            pause_s = await self._renewed()
            if time.monotonic() >= self._held_until_s:
                log.error("lease lost: Redis was out of reach for as long as it lasts")
                self.lose()

    async def _renewed(self) -> float:
        """Try once; how long to wait before the next try."""
        sent_s = time.monotonic()
        left_s = self._held_until_s - sent_s
        try:
            # Not by wait_for: before Python 3.12 that may go on when it is cancelled.
            async with asyncio.timeout(max(left_s, 0.001)):
                renewed = await self._renew()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("lease not renewed, trying again: %s", error)
            return min(0.5, self._length_s / 10)
        if renewed is Renewal.GONE:
            log.error("lease lost: renewal was refused")
            self.lose()
        else:
            self._held_until_s = sent_s + self._length_s
        if renewed is Renewal.CANCELLING:
            self._on_cancel()
        return self._length_s / 3
