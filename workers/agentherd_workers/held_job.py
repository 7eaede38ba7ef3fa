"""A claimed job for as long as its lease holds: every write presents the fencing token."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from redis.exceptions import RedisError

from agentherd.contract.results import Failure, JobResult
from agentherd.contract.states import JobState
from agentherd.layout import breaker, cancelling, records, transcripts
from agentherd.layout.breaker import JobsOwnFault, StaleRefusal
from agentherd.layout.operations import Operation, run_async
from agentherd.layout.records import Claim, Renewal, Requeued
from agentherd_workers.agent.messages import Event
from agentherd_workers.host import Host
from agentherd_workers.lease import Lease, LeaseLost
from agentherd_workers.retrying import Again

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S = 0.2


class HeldJob:
    """The record of a job that this worker runs; the lease is renewed until `release`.

    What must arrive is tried again while the lease holds; each such method raises `LeaseLost`
    where someone else owns the job, or Redis stayed away for as long as the lease lasts.

    Args:
        claimed_at_s: `time.monotonic()` from just before the claim was sent.
        on_lost: called once, if the lease is lost.
        on_cancel: called where a renewal brings the news that the job is to be cancelled.
    """

    def __init__(
        self,
        host: Host,
        claim: Claim,
        *,
        claimed_at_s: float,
        on_lost: Callable[[], None],
        on_cancel: Callable[[], None],
    ) -> None:
        self.record = claim.record
        self._fence = claim.fence
        self._claimed_at_ms = claim.record.released_at_ms + claim.waited_ms
        self._host = host
        self._lease = Lease(
            self._renew, host.settings.lease_s, on_lost, on_cancel, claimed_at_s=claimed_at_s
        )

    @property
    def lease_s(self) -> float:
        """How long the lease holds without renewal."""
        return self._host.settings.lease_s

    def lose(self) -> None:
        """Note that a write was refused."""
        self._lease.lose()

    def check(self) -> None:
        """Raise `LeaseLost` if it is."""
        self._lease.check()

    @property
    def is_held(self) -> bool:
        """Whether writes may still succeed."""
        try:
            self.check()
        except LeaseLost:
            return False
        return True

    @contextmanager
    def guarded(self, mark: int) -> Iterator[None]:
        """Meanwhile the guard kills what carries this mark once the lease is over."""
        deadlines = self._host.deadlines
        self._lease.watch(partial(deadlines.hold, mark))
        try:
            yield
        finally:
            self._lease.watch(None)
            deadlines.drop(mark)

    async def release(self) -> None:
        """Stop renewing."""
        await self._lease.release()

    async def report(self, events: list[Event], progress: Mapping[str, str]) -> bool:
        """Append events and note progress, tried once; False: the lease is gone."""
        return await self._ask(
            records.report(self._host.keys, self.record.job_id, self._fence, events, dict(progress))
        )

    async def has_conversation(self) -> bool:
        """Whether an attempt before stored what the CLI can go on with.

        Raises:
            CorruptTranscript: what is stored can't be read.
        """
        session = transcripts.SessionKeys(
            self.record.tenant, self.record.session_id, self._host.keys.prefix
        )
        ttl_ms = int(self._host.settings.session_ttl_s * 1000)
        return await self._insist(
            lambda: transcripts.is_conversation(session, ttl_ms=ttl_ms, fence=self._fence)
        )

    async def keep_artifact(self, name: str, content: bytes) -> None:
        """Store one artifact."""
        kept = await self._insist(
            lambda: records.keep_artifact(
                self._host.keys, self.record.job_id, self._fence, name, content
            )
        )
        if not kept:
            raise LeaseLost

    async def trip_breaker(self, failure: Failure) -> bool:
        """Close the fleet's gates: every job would fail so. False: it is this job's own fault."""
        host = self._host
        tripped = await self._insist(
            lambda: breaker.trip(
                host.keys,
                self.record,
                failure,
                worker=host.worker,
                probe_ms=int(host.settings.breaker_probe_s * 1000),
            )
        )
        if isinstance(tripped, StaleRefusal):
            raise LeaseLost
        if isinstance(tripped, JobsOwnFault):
            return False
        host.breaker.note(tripped)
        return True

    async def close_breaker(self) -> None:
        """Open the fleet's gates: the model answered this job."""
        report = await self._insist(
            lambda: breaker.close(self._host.keys, claimed_at_ms=self._claimed_at_ms)
        )
        self._host.breaker.note(report)

    async def finish(self, result: JobResult) -> JobResult:
        """End the job; its result with the time of its end, and why where it was cancelled."""
        if result.state is JobState.CANCELLED:
            reason = await self._insist(
                lambda: cancelling.reason_of(self._host.keys, self.record.job_id)
            )
            result = result.model_copy(update={"failure": cancelling.failure(reason)})
        retention_ms = int(self._host.settings.retention_s * 1000)
        finished_at_ms = await self._insist(
            lambda: records.finish(self._host.keys, self.record, result, retention_ms=retention_ms)
        )
        if finished_at_ms is None:
            raise LeaseLost
        return result.model_copy(update={"finished_at_ms": finished_at_ms})

    async def give_back(self, spent: JobResult, ran_s: float, again: Again) -> JobResult | None:
        """Let the job wait for another attempt, which adds to what was spent so far.

        Where someone asked meanwhile to cancel it, it ends so: its result.
        """
        progress = {
            "usage": spent.usage.model_dump_json(),
            "turns": str(spent.turns),
            "resources": spent.resources.model_dump_json(),
            "ran_s": f"{ran_s:.3f}",
            "idle_resumes": str(self.record.idle_resumes + again.after_silence),
        }
        await self._insist(
            lambda: records.report(self._host.keys, self.record.job_id, self._fence, [], progress)
        )
        given = await self._insist(
            lambda: records.requeue(
                self._host.keys,
                self.record,
                delay_ms=int(again.delay_s * 1000),
                reason=again.reason,
                refund=again.refund,
            )
        )
        if given is Requeued.GONE:
            raise LeaseLost
        if given is Requeued.CANCELLING:
            return await self.finish(spent.model_copy(update={"state": JobState.CANCELLED}))
        return None

    async def _renew(self) -> Renewal:
        lease_ms = int(self.lease_s * 1000)
        return await self._ask(
            records.renew(self._host.keys, self.record.job_id, self._fence, lease_ms)
        )

    async def _ask(self, operation: Operation[T]) -> T:
        return await run_async(operation, self._host.redis)

    async def _insist(self, make: Callable[[], Operation[T]]) -> T:
        """Ask until Redis answers, while the lease holds."""
        while True:
            try:
                return await self._ask(make())
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("job %s: Redis does not answer: %s", self.record.job_id, error)
                self.check()
                await asyncio.sleep(RETRY_S)
