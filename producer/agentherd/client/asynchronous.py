"""`AsyncHerd` and `AsyncJobHandle`: the client for an asyncio service.

Calls, arguments and errors are those of blocking.py, where they are documented; only the
waiting differs. Nothing here blocks the event loop.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Self

from agentherd.client import requests, retrying
from agentherd.client.connection import AsyncConnection, check_options
from agentherd.client.requests import SubmitRules
from agentherd.client.waiting import Deadline, EventFeed, ResultWait, wait_slice_ms
from agentherd.contract.cancelling import Cancellation
from agentherd.contract.events import JobEvent
from agentherd.contract.hosts import WorkerReport
from agentherd.contract.job import Job, check_job_id
from agentherd.contract.listing import JobPage
from agentherd.contract.results import Artifact, JobResult
from agentherd.contract.states import JobState
from agentherd.layout.events import FIRST
from agentherd.layout.keys import Keys
from agentherd.layout.records import JobRecord
from agentherd.layout.transcripts import Entry


class AsyncHerd:
    """A fleet, seen from an asyncio service; see `Herd`. Belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        rules: SubmitRules | None = None,
        prefix: str = "agentherd",
    ) -> None:
        check_options(url, prefix=prefix, timeout_s=timeout_s)
        self.keys = Keys(prefix)
        self.rules = rules or SubmitRules()
        self.connection = AsyncConnection(url, timeout_s)
        self.slice_ms = wait_slice_ms(timeout_s)

    async def submit(self, job: Job, *, job_id: str | None = None) -> "AsyncJobHandle":
        """Put one job on the queue; see `Herd.submit`."""
        new = requests.new_submission(job, job_id)
        return self.job(await self.connection.run(requests.submit(self.keys, self.rules, new)))

    async def submit_many(self, jobs: Iterable[Job]) -> list["AsyncJobHandle"]:
        """Put jobs on the queue in order; see `Herd.submit_many`."""
        job_ids = await self.connection.run(requests.submit_many(self.keys, self.rules, jobs))
        return [self.job(job_id) for job_id in job_ids]

    def job(self, job_id: str) -> "AsyncJobHandle":
        """A handle on a job; see `Herd.job`."""
        return AsyncJobHandle(self, check_job_id(job_id))

    async def jobs(
        self,
        *,
        state: JobState | Sequence[JobState] | None = None,
        tenant: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """One page of jobs; see `Herd.jobs`."""
        return await self.connection.run(
            requests.jobs(
                self.keys,
                state=state,
                tenant=tenant,
                since=since,
                until=until,
                limit=limit,
                cursor=cursor,
            )
        )

    async def workers(self) -> list[WorkerReport]:
        """The live workers; see `Herd.workers`."""
        return await self.connection.run(requests.workers(self.keys))

    async def retry(self, job_id: str, *, resume: bool = False) -> "AsyncJobHandle":
        """Submit a job once more that ended without success; see `Herd.retry`."""
        operation = retrying.retry(self.keys, self.rules, check_job_id(job_id), resume=resume)
        return self.job(await self.connection.run(operation))

    async def close(self) -> None:
        """Close every connection."""
        await self.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


class AsyncJobHandle:
    """One job, seen from an asyncio service; see `JobHandle`."""

    def __init__(self, herd: AsyncHerd, job_id: str) -> None:
        self.herd = herd
        self.id = job_id

    def __repr__(self) -> str:
        return f"AsyncJobHandle({self.id!r})"

    async def state(self) -> JobState:
        """Where the job is."""
        return await self.herd.connection.run(requests.state_of(self.herd.keys, self.id))

    async def record(self) -> JobRecord:
        """All that Redis knows about the job; see `JobHandle.record`."""
        return await self.herd.connection.run(requests.record_of(self.herd.keys, self.id))

    async def result(self, timeout_s: float | None = None) -> JobResult:
        """How the job ended, waiting for its end; see `JobHandle.result`."""
        wait = ResultWait(self.herd.keys, self.id, Deadline(timeout_s), self.herd.slice_ms)
        while (result := await self.herd.connection.run(wait.step())) is None:
            pass
        return result

    async def cancel(self, reason: str = "") -> Cancellation:
        """End the job, whatever its state; see `JobHandle.cancel`."""
        return await self.herd.connection.run(
            requests.cancel(self.herd.keys, self.herd.rules, self.id, reason)
        )

    async def events(self, after: str = FIRST, *, follow: bool = True) -> AsyncIterator[JobEvent]:
        """The job's events; see `JobHandle.events`."""
        feed = EventFeed(self.herd.keys, self.id, after, follow, self.herd.slice_ms)
        while not feed.done:
            for event in await self.herd.connection.run(feed.step()):
                yield event

    async def transcript(self) -> list[Entry]:
        """The session's transcript entries so far."""
        return await self.herd.connection.run(requests.transcript(self.herd.keys, self.id))

    async def artifacts(self) -> tuple[Artifact, ...]:
        """The files the job kept; empty until it has ended."""
        return await self.herd.connection.run(requests.artifacts(self.herd.keys, self.id))

    async def artifact(self, name: str) -> bytes:
        """The bytes of one artifact; raises `ArtifactNotFound`."""
        return await self.herd.connection.run(requests.artifact(self.herd.keys, self.id, name))

    async def retry(self, *, resume: bool = False) -> "AsyncJobHandle":
        """Try the job again that ended without success; see `Herd.retry`."""
        return await self.herd.retry(self.id, resume=resume)
