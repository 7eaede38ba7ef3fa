"""Where checkpoints go: to Redis, or to another place and word of it to Redis."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from redis.asyncio import Redis

from agentherd.layout import checkpoints
from agentherd.layout.checkpoints import Checkpoint
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Operation, run_async
from agentherd.layout.records import Claim
from agentherd_workers.checkpoints.archive import CorruptCheckpoint, Packed
from agentherd_workers.checkpoints.blobs import Blobs

log = logging.getLogger(__name__)
T = TypeVar("T")

_THREADS = 4
"""Of its own: a store that hangs must not keep agents from being started and ended."""
_FORGET_S = 10.0
"""How long the end of a job may wait for its blobs to be removed; the next sweep does it else."""


class CheckpointStore:
    """Keeps, finds and forgets checkpoints. Its errors are of any kind: fsspec has no base class.

    Args:
        blobs: None keeps them in Redis.
        ttl_ms: how long what is in Redis stays where no end of a job removes it.
    """

    def __init__(self, redis: Redis, keys: Keys, blobs: Blobs | None, *, ttl_ms: int) -> None:
        self.turn = asyncio.Semaphore(1)
        """One workspace at a time is packed and stored: each takes a core, and its size of RAM."""
        self._redis = redis
        self._keys = keys
        self._blobs = blobs
        self._ttl_ms = ttl_ms
        self._numbers = itertools.count(1)
        self._threads = ThreadPoolExecutor(_THREADS, "checkpoints")

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def keep(self, claim: Claim, packed: Packed, *, complete: bool) -> bool:
        """Store a packed workspace in the place of the one before; False: the lease is gone."""
        job_id = claim.record.job_id
        location = ""
        if self._blobs is not None:
            name = f"{claim.fence}-{next(self._numbers)}.tar.zst"
            location = await self.in_thread(partial(self._blobs.put, job_id, name, packed.blob))
        checkpoint = Checkpoint(
            attempt=claim.record.attempt,
            sha256=packed.sha256,
            size_bytes=len(packed.blob),
            content_bytes=packed.content_bytes,
            files=packed.files,
            left_out=packed.left_out,
            location=location,
            complete=complete,
        )
        kept = await self._ask(
            checkpoints.keep(
                self._keys,
                job_id,
                claim.fence,
                checkpoint,
                None if location else packed.blob,
                ttl_ms=self._ttl_ms,
            )
        )
        if kept and self._blobs is not None:
            await self.in_thread(partial(self._blobs.keep_only, job_id, location))
        return kept

    async def note(self, claim: Claim, about: Mapping[str, str | int]) -> bool:
        """Note something about what is stored; False: the lease is gone."""
        return await self._ask(
            checkpoints.note(
                self._keys, claim.record.job_id, claim.fence, about, ttl_ms=self._ttl_ms
            )
        )

    async def find(self, job_id: str) -> Checkpoint | None:
        """What is stored of a job's workspace."""
        return await self._ask(checkpoints.find(self._keys, job_id))

    async def load(self, job_id: str, checkpoint: Checkpoint) -> bytes:
        """The packed workspace.

        Raises:
            CorruptCheckpoint: it is not where it should be.
        """
        if not checkpoint.location:
            content = await self._ask(checkpoints.content_of(self._keys, job_id))
        elif self._blobs is not None:
            content = await self.in_thread(partial(self._blobs.get, checkpoint.location))
        else:
            content = None  # stored by a worker with another AGENTHERD_CHECKPOINT_URL
        if content is None:
            raise CorruptCheckpoint("it is not where it should be")
        return content

    async def forget(self, job_id: str) -> None:
        """Remove what Redis does not remove by itself as the job ends; the next sweep may too."""
        if self._blobs is None:
            return
        try:
            async with asyncio.timeout(_FORGET_S):
                await self.in_thread(partial(self._blobs.forget, job_id))
        except Exception as error:
            log.warning("job %s: checkpoints not removed: %s", job_id, self.shown(error))

    async def sweep(self) -> None:
        """Remove the blobs of all jobs that have ended, whoever ended them."""
        if self._blobs is None:
            return
        job_ids = await self.in_thread(self._blobs.job_ids)
        for job_id in await self._ask(checkpoints.ended(self._keys, job_ids)) if job_ids else ():
            await self.forget(job_id)

    def shown(self, error: BaseException) -> str:
        """An error of this store as text without secrets."""
        return self._blobs.shown(error) if self._blobs else f"{type(error).__name__}: {error}"

    async def _ask(self, operation: Operation[T]) -> T:
        return await run_async(operation, self._redis)
