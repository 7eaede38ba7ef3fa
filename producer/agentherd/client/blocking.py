"""`Herd` and `JobHandle`: the client for a service that blocks."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Self

from agentherd.client import requests, retrying
from agentherd.client.connection import Connection, check_options
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


class Herd:
    """A fleet, seen from a service. Safe to share between threads; connects on first use.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://…` or `unix://…`.
        timeout_s: longest wait for Redis to answer one call, at most 300 s.
        rules: idempotency and privacy of submitted jobs.
        prefix: of every key and queue; the same for all producers and workers of a fleet.
            1-64 letters, digits, `_`, `.`, `-`.

    Raises:
        InvalidSettings: the URL, time-out or prefix can't be used.
    """

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
        self.connection = Connection(url, timeout_s)
        self.slice_ms = wait_slice_ms(timeout_s)

    def submit(self, job: Job, *, job_id: str | None = None) -> "JobHandle":
        """Put one job on the queue; return once Redis has accepted it.

        A second submit with the same `idempotency_key` (or `job_id`) returns the first job's
        handle and enqueues nothing. After `BrokerUnavailable` the job is either queued or not,
        never half: submit again with the same key.

        Args:
            job: at most 12 MiB once encoded, files included.
            job_id: 1-128 letters, digits, `_`, `.`, `-`; a UUID by default.

        Raises:
            InvalidJob: the session to continue is unknown, that to begin is in the store
                already, or the job is too large.
            IdempotencyConflict: the key or id belongs to a job with another content.
            SessionBusy: the session belongs to a job that has not ended.
            BrokerUnavailable: no answer within `timeout_s`.
        """
        new = requests.new_submission(job, job_id)
        return self.job(self.connection.run(requests.submit(self.keys, self.rules, new)))

    def submit_many(self, jobs: Iterable[Job]) -> list["JobHandle"]:
        """Put jobs on the queue in order, 200 a round trip; see `submit`.

        Nothing of a round trip is sent where one of its jobs is invalid. Of one that was sent,
        each job that Redis took is queued, also behind one that it refused; nothing is sent
        after that.

        Raises:
            SubmitIncomplete: it names the jobs that are queued, and what is wrong with others.
                Where Redis did not answer, those of the last round trip may be queued too:
                submit them again with the same `idempotency_key`.
            BrokerUnavailable: no answer to the first round trip; likewise.
        """
        job_ids = self.connection.run(requests.submit_many(self.keys, self.rules, jobs))
        return [self.job(job_id) for job_id in job_ids]

    def job(self, job_id: str) -> "JobHandle":
        """A handle on a job; asks Redis nothing yet. Raises `InvalidJob`: no job has such an id."""
        return JobHandle(self, check_job_id(job_id))

    def jobs(
        self,
        *,
        state: JobState | Sequence[JobState] | None = None,
        tenant: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """One page of jobs submitted in [since, until), the newest first.

        Args:
            since, until: with a time zone.
            limit: 1-1000.
            cursor: of the page before.

        Raises:
            ValueError: an argument is out of range.
        """
        return self.connection.run(
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

    def workers(self) -> list[WorkerReport]:
        """The live workers, as they reported themselves in the last seconds."""
        return self.connection.run(requests.workers(self.keys))

    def retry(self, job_id: str, *, resume: bool = False) -> "JobHandle":
        """Submit a job that ended without success once more, as a new job of the same content.

        However often it is called for a job, there is one new job. Its record names the old one
        (`retry_of`), and the old one's names it (`retried_as`).

        Args:
            resume: go on with the old job's session, where that has a transcript; else the new
                job begins as the old one did.

        Raises:
            JobNotFound: never submitted, or past its retention.
            NotRetryable: it has not ended, or it succeeded.
            InvalidJob: its content can't be read by this agentherd.
        """
        operation = retrying.retry(self.keys, self.rules, check_job_id(job_id), resume=resume)
        return self.job(self.connection.run(operation))

    def close(self) -> None:
        """Close every connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class JobHandle:
    """One job, seen from a service. Every method raises `JobNotFound` and `BrokerUnavailable`."""

    def __init__(self, herd: Herd, job_id: str) -> None:
        self.herd = herd
        self.id = job_id

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def state(self) -> JobState:
        """Where the job is."""
        return self.herd.connection.run(requests.state_of(self.herd.keys, self.id))

    def record(self) -> JobRecord:
        """All that Redis knows about the job, but not what was asked: its `spec` is empty."""
        return self.herd.connection.run(requests.record_of(self.herd.keys, self.id))

    def result(self, timeout_s: float | None = None) -> JobResult:
        """How the job ended, waiting for its end; also where it failed.

        Raises:
            ResultTimeout: it had not ended after `timeout_s`; it goes on.
        """
        wait = ResultWait(self.herd.keys, self.id, Deadline(timeout_s), self.herd.slice_ms)
        while (result := self.herd.connection.run(wait.step())) is None:
            pass
        return result

    def cancel(self, reason: str = "") -> Cancellation:
        """End the job, whatever its state; a second call does no harm.

        One that waits has ended when this returns. One that runs is told to its worker, which
        ends the agent with all that it started; `result()` waits for that. What it said and
        kept until then stays readable, and its session can be resumed.

        Args:
            reason: for a person; in the job's events and its failure's message. 1,000 characters
                are kept.
        """
        return self.herd.connection.run(
            requests.cancel(self.herd.keys, self.herd.rules, self.id, reason)
        )

    def events(self, after: str = FIRST, *, follow: bool = True) -> Iterator[JobEvent]:
        """The job's events from the one after `after` (an `event.id`) to its end.

        With `follow=False`, those so far.
        """
        feed = EventFeed(self.herd.keys, self.id, after, follow, self.herd.slice_ms)
        while not feed.done:
            yield from self.herd.connection.run(feed.step())

    def transcript(self) -> list[Entry]:
        """The session's transcript entries so far: the CLI's JSONL lines as objects."""
        return self.herd.connection.run(requests.transcript(self.herd.keys, self.id))

    def artifacts(self) -> tuple[Artifact, ...]:
        """The files the job kept; empty until it has ended."""
        return self.herd.connection.run(requests.artifacts(self.herd.keys, self.id))

    def artifact(self, name: str) -> bytes:
        """The bytes of one artifact; raises `ArtifactNotFound`."""
        return self.herd.connection.run(requests.artifact(self.herd.keys, self.id, name))

    def retry(self, *, resume: bool = False) -> "JobHandle":
        """Try the job again that ended without success; see `Herd.retry`."""
        return self.herd.retry(self.id, resume=resume)
