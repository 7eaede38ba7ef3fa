"""When the workspace of one attempt is stored: beside its agent, and once more after it."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from agentherd.layout.records import Claim
from agentherd_workers.checkpoints.archive import pack
from agentherd_workers.checkpoints.store import CheckpointStore
from agentherd_workers.checkpoints.survey import Interrupted, TooLarge, survey
from agentherd_workers.settings import WorkerSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

_SHARE = 0.1
"""At most this share of the time goes into it: a large workspace is stored less often."""
STORE_TIMEOUT_S = 60.0
"""A store that takes longer is tried again in the next round: others wait for their turn."""


class Keeper:
    """Stores a workspace that changed. Whatever fails is logged and tried again, never raised.

    Args:
        directory: the agent's working directory.
        on_stale: called where someone else owns the job by now.
    """

    def __init__(
        self,
        store: CheckpointStore,
        claim: Claim,
        directory: Path,
        settings: WorkerSettings,
        on_stale: Callable[[], None],
    ) -> None:
        self._store = store
        self._claim = claim
        self._directory = directory
        self._every_s = settings.checkpoint_every_s
        self._max_blob_bytes = int(settings.max_checkpoint_bytes)
        self._max_content_bytes = int(settings.job_disk_bytes)
        self._on_stale = on_stale
        self._fingerprint: int | None = None
        """Of the workspace as it needs not be stored again."""
        self._stored = False
        """Whether this attempt has stored it."""
        self._too_large = ""
        """What was last noted of it."""
        self._took_s = 0.0
        self._over = threading.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, fresh: bool) -> None:
        """Begin to look at it; before the agent starts.

        Args:
            fresh: it holds the job's input files only, which need not be stored.
        """
        if fresh and self._max_blob_bytes:
            with suppress(TooLarge):
                self._fingerprint = await self._look()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Look no more; the agent has ended."""
        if self._task is not None:
            self._over.set()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def store_last(self, within_s: float) -> None:
        """Store it as it is in the end, for the next attempt, unless that takes too long."""
        if not self._max_blob_bytes:
            return
        self._over.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._round(complete=True)
        except TimeoutError:
            log.warning("job %s: no time for a last checkpoint", self._job_id)
        finally:
            self._over.set()

    async def _keep(self) -> None:
        while self._max_blob_bytes:
            await asyncio.sleep(max(self._every_s, self._took_s / _SHARE))
            with suppress(TimeoutError):
                await self._round(complete=False)

    async def _round(self, *, complete: bool) -> None:
        """Store the workspace if it changed."""
        try:
            async with self._store.turn, asyncio.timeout(STORE_TIMEOUT_S):
                begun_s = time.monotonic()
                try:
                    current = await self._keep_changes(complete=complete)
                except TooLarge as error:
                    current = await self._note_too_large(str(error))
                self._took_s = time.monotonic() - begun_s
            if not current:
                self._on_stale()
        except Interrupted:
            return
        except TimeoutError:
            log.warning("job %s: checkpoint not stored in time", self._job_id)
            raise
        except Exception as error:
            # fsspec's errors have no common class; and no defect here is worth a job.
            log.warning("job %s: checkpoint not stored: %s", self._job_id, self._store.shown(error))

    async def _keep_changes(self, *, complete: bool) -> bool:
        """False: the lease is gone."""
        fingerprint = await self._look()
        unchanged = fingerprint == self._fingerprint and not self._too_large
        if unchanged and (self._stored or not complete):
            return not complete or await self._store.note(self._claim, {"complete": 1})
        packed = await self._in_thread(
            partial(
                pack,
                self._directory,
                max_blob_bytes=self._max_blob_bytes,
                max_content_bytes=self._max_content_bytes,
                interrupted=self._over.is_set,
            )
        )
        if not await self._store.keep(self._claim, packed, complete=complete):
            return False
        self._fingerprint, self._stored, self._too_large = fingerprint, True, ""
        return True

    async def _note_too_large(self, why: str) -> bool:
        if why != self._too_large:
            if not await self._store.note(self._claim, {"too_large": why}):
                return False
            self._too_large = why
            log.warning("job %s: workspace too large to be stored: %s", self._job_id, why)
        return True

    @property
    def _job_id(self) -> str:
        return self._claim.record.job_id

    async def _look(self) -> int:
        found = await self._in_thread(
            partial(
                survey,
                self._directory,
                max_content_bytes=self._max_content_bytes,
                interrupted=self._over.is_set,
            )
        )
        return found.fingerprint

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Run it; where this is cancelled it is told to end, and has ended."""
        running = asyncio.ensure_future(self._store.in_thread(call))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._over.set()
            await asyncio.wait([running])
            running.exception()
            raise
