"""Sending a run's events and progress to Redis without making the agent wait."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from redis.exceptions import RedisError

from agentherd_workers.agent.messages import Event

log = logging.getLogger(__name__)

MAX_PENDING = 5_000
"""Events kept while Redis is away; the oldest go first."""
MAX_BATCH = 100
RETRY_S = 0.2


Progress = Mapping[str, str]
"""Fields of the job's record."""
Send = Callable[[list[Event], Progress], Awaitable[bool]]


class Reporter:
    """Appends events in order, in batches as large as they come; of progress the newest counts."""

    def __init__(self, send: Send, on_stale: Callable[[], None]) -> None:
        self._send = send
        self._on_stale = on_stale
        self._pending: list[Event] = []
        self._progress: Progress = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._work())

    def add(self, events: list[Event]) -> None:
        """Queue events; call from the event loop."""
        if events:
            self._pending += events
            del self._pending[:-MAX_PENDING]
            self._wake.set()

    def note(self, progress: Progress) -> None:
        """Queue what the record is to say; call from the event loop."""
        self._progress = progress
        self._wake.set()

    def abandon(self) -> None:
        """Send nothing more: the job may be someone else's."""
        self._task.cancel()

    async def close(self, timeout_s: float) -> None:
        """Send what is left, then end."""
        self._closing = True
        self._wake.set()
        done, _ = await asyncio.wait([self._task], timeout=timeout_s)
        if not done:
            self._task.cancel()
            log.warning("%d events were not sent", len(self._pending))

    async def _work(self) -> None:
        while self._pending or self._progress or not self._closing:
            if not self._pending and not self._progress:
                await self._wake.wait()
                self._wake.clear()
                continue
            batch, progress = self._pending[:MAX_BATCH], self._progress
            try:
                current = await self._send(batch, progress)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("events not sent, trying again: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            if not current:
                self._on_stale()
                return
            del self._pending[: len(batch)]
            if self._progress is progress:
                self._progress = {}
