"""Holding a job: its lease is renewed for as long as its agent runs.

Redis counts a lease from when it gets the renewal, on its own clock. We count it from when the
renewal was *sent*, on this host's, and end it a margin earlier: so the agent is dead before Redis
lets another worker have the job. In that margin the worker, or its guard where the worker does
not come to it, finds the agent's processes and kills them, which takes some 50 ms; the rest is for
clocks that run at different speeds and for a busy host. With the default of 15 s: renewed after
5 s, given up after 13.5 s. A clock of Redis's host that is *set* forward by more than the margin
defeats this.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.exceptions import RedisError

from agentherd.layout.records import Renewal

log = logging.getLogger(__name__)


_LEAST_MARGIN_S = 0.3
_MOST_MARGIN_S = 2.0


def margin_s(length_s: float) -> float:
    """How long before its end in Redis a lease is given up here."""
    return min(max(_LEAST_MARGIN_S, 0.1 * length_s), _MOST_MARGIN_S, length_s / 3)


class LeaseLost(Exception):
    """Someone else owns the job, or may: nothing more of it may be written here."""


class Lease:
    """Renews every third of its length until released; tells `on_lost` once if it can't.

    Where a renewal brings the news that the job is to be cancelled, `on_cancel` is told, each time.

    `watch` names who is told until when it holds.
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
        self._holds_s = length_s - margin_s(length_s)
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._held_until_s = claimed_at_s + self._holds_s
        self._tell_until: Callable[[float], None] | None = None
        self._task = asyncio.create_task(self._keep())
        self.lost = False

    async def release(self) -> None:
        """Stop renewing."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def watch(self, tell_until: Callable[[float], None] | None) -> None:
        """Have `tell_until` called now and after each renewal with the time (`time.monotonic()`)
        at which the lease ends without another one; None: no more."""
        self._tell_until = tell_until
        self._tell()

    def _tell(self) -> None:
        if self._tell_until is not None:
            self._tell_until(self._held_until_s)

    def check(self) -> None:
        """Raise `LeaseLost` if it is, also where we were paused and have not noticed so far."""
        if time.monotonic() >= self._held_until_s:
            self.lose()
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
            self._held_until_s = sent_s + self._holds_s
            self._tell()
        if renewed is Renewal.CANCELLING:
            self._on_cancel()
        return self._length_s / 3
