"""The worker's way out: agents may end for a while, then their jobs go back to the queue."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from agentherd_workers.roster import Roster

log = logging.getLogger(__name__)

GIVE_BACK_S = 12.0
"""How long giving jobs back may take before they are left to other workers: Redis is away."""
GONE_S = 20.0
"""When the process ends whatever still holds it up, counted from the end of the grace."""


class Drain:
    """Begun at most once; belongs to the supervisor's event loop.

    Args:
        grace_s: how long agents may go on.
        on_begin: called as it begins.
        on_end: called once no job is left.
    """

    def __init__(
        self,
        roster: Roster,
        grace_s: float,
        *,
        on_begin: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._grace_s = grace_s
        self._on_begin = on_begin
        self._on_end = on_end
        self._at_once = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self, *, at_once: bool = False) -> "asyncio.Task[None]":
        """Begin it, or, where it has begun, grant agents no more time."""
        if self._task is None:
            self._on_begin()
            self._task = asyncio.create_task(self._drain())
        elif not self._at_once.is_set():
            log.warning("told a second time to shut down: agents end now")
            at_once = True
        if at_once:
            self._at_once.set()
        return self._task

    async def end(self, *, at_once: bool = False) -> None:
        """Return once no job is left; begins it where nobody has."""
        task = self._task or self.begin()
        if at_once:
            self._at_once.set()
        await asyncio.shield(task)

    async def _drain(self) -> None:
        self._roster.close()
        if len(self._roster) and not self._at_once.is_set():
            log.info("shutting down: %d jobs may end within %g s", len(self._roster), self._grace_s)
            await self._grace()
        _exit_within(GONE_S)
        if count := self._roster.stop_all():
            log.info("shutting down: %d jobs go back to the queue", count)
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_BACK_S):
                await self._roster.empty()
        if len(self._roster):
            log.error("%d jobs could not be given back; other workers take them", len(self._roster))
            self._roster.abandon()
            await self._roster.empty()
        self._on_end()

    async def _grace(self) -> None:
        """Return when no job is left, agents are to end now, or their time is over."""
        waited = [
            asyncio.ensure_future(self._roster.empty()),
            asyncio.ensure_future(self._at_once.wait()),
        ]
        await asyncio.wait(waited, timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED)
        for one in waited:
            one.cancel()


def _exit_within(seconds: float) -> None:
    """End the process by then: a thread that waits for Redis must not hold it up for minutes.

    Nothing is lost: jobs that are still held run out of their lease, and the guard ends what is
    left of their agents.
    """

    def exit_now() -> None:
        os.write(2, b"agentherd worker: could not shut down in order, ends now\n")
        os._exit(1)

    timer = threading.Timer(seconds, exit_now)
    timer.daemon = True
    timer.start()
