"""Every Redis key of the fleet, by name. Session transcripts have their own: transcripts.py.

| key | type | lives | written by | read by | size a job |
|---|---|---|---|---|---|
| job | hash | while live, then `retention_s` | submit, worker | all | 1 KB + spec + result |
| events | stream | as job; ends at 10,000 entries | submit, worker | client | 0.2-4 KB an event |
| artifacts | hash | as job; of the last attempt | worker | client | what the job keeps |
| idempotency | hash | `idempotency_ttl_s` | submit | submit | 0.2 KB |
| session_owner | string | while the job is live | submit, worker | submit | 0.1 KB |
| state_index, tenant_index | sorted set | 2 x `retention_s` | all scripts | listing | 0.1 KB |
| expiries | sorted set | as the index it belongs to | finish | finish | 0.1 KB |
| leases | sorted set | while jobs run | claim, renew, finish | leader | 0.1 KB |
| scheduled | sorted set | while jobs wait for their time | submit, requeue | leader | 0.1 KB |
| expiring | sorted set | a day longer than its jobs | submit | leader | 0.1 KB |
| checkpoint | hash | while live, or `session_ttl_s` | worker | worker | workspace, or its place |
| leader | string | some seconds, renewed | worker | worker | - |
| queues | set | for ever; a few names | submit | leader | - |
| breaker | hash | for ever | worker | worker, doctor | - |
| poison | list | for ever; 100 entries | worker | doctor, listing | - |
| worker | string | 15 s, renewed | worker | listing | - |
| workers, queue_workers | sorted set | 15 s, renewed | worker | submit, listing | - |
| peaks | list | `retention_s` after the last end; 2,000 entries | finish | capacity | 0.1 KB |
| fence_counter | string | for ever: a token must never come twice | claim | claim | - |
| queue | list | while messages wait; Celery's | submit, Celery | Celery | 1 KB |
"""

from dataclasses import dataclass

from agentherd.contract.job import DEFAULT_MEMORY
from agentherd.contract.states import JobState

DEFAULT_PREFIX = "agentherd"
"""Of a fleet that has a Redis of its own."""
QUEUE = "agents"
"""The Celery queue of the default memory class in that fleet; see `Keys.queue`."""
PRIORITY_STEPS = (0, 3, 6, 9)
"""kombu's Redis transport keeps one list a step (kombu/transport/redis.py, `priority_steps`)."""
_PRIORITY_SEPARATOR = "\x06\x16"


@dataclass(frozen=True)
class Keys:
    """The fleet's keys under one prefix."""

    prefix: str = DEFAULT_PREFIX

    def queue(self, memory: str = DEFAULT_MEMORY) -> str:
        """The Celery queue of a memory class: `agents`, `agents.4g`, behind the prefix if set."""
        queue = QUEUE if self.prefix == DEFAULT_PREFIX else f"{self.prefix}.{QUEUE}"
        return queue if memory == DEFAULT_MEMORY else f"{queue}.{memory}"

    def is_queue(self, queue: str) -> bool:
        """Whether a Celery queue is one of the fleet's."""
        return queue == self.queue() or queue.startswith(f"{self.queue()}.")

    def job(self, job_id: str) -> str:
        """The record: a hash, the truth about the job."""
        return f"{self.prefix}:job:{job_id}"

    def events(self, job_id: str) -> str:
        """What happened to the job: a stream."""
        return f"{self.prefix}:job:{job_id}:events"

    def artifacts(self, job_id: str) -> str:
        """Name → bytes of each kept file: a hash."""
        return f"{self.prefix}:job:{job_id}:artifacts"

    def idempotency(self, tenant: str, key: str) -> str:
        """The job that took this idempotency key, and its digest: a hash."""
        return f"{self.prefix}:idempotency:{tenant}:{key}"

    def session_owner(self, tenant: str, session_id: str) -> str:
        """The live job that writes to this session: a string."""
        return f"{self.prefix}:session-owner:{tenant}:{session_id}"

    def state_index(self, state: JobState) -> str:
        """Jobs in `state` by time of submit (µs): a sorted set."""
        return f"{self.prefix}:jobs:{state}"

    def tenant_index(self, tenant: str, state: JobState) -> str:
        """One tenant's jobs in `state` by time of submit (µs): a sorted set."""
        return f"{self.prefix}:tenant:{tenant}:{state}"

    def expiries(self, index: str) -> str:
        """The jobs of an index of ended jobs by the time their record goes (ms): a sorted set."""
        return f"{index}:expiries"

    @property
    def leases(self) -> str:
        """Running jobs by the end of their lease (ms): a sorted set."""
        return f"{self.prefix}:leases"

    @property
    def scheduled(self) -> str:
        """Waiting jobs by the time they are due (ms): a sorted set."""
        return f"{self.prefix}:scheduled"

    @property
    def expiring(self) -> str:
        """Jobs with an `expires_s` by the time they expire unstarted (ms): a sorted set."""
        return f"{self.prefix}:expiring"

    def worker(self, worker: str) -> str:
        """A live worker's report: JSON."""
        return f"{self.prefix}:worker:{worker}"

    @property
    def workers(self) -> str:
        """Live workers by the time they count as gone (ms): a sorted set."""
        return f"{self.prefix}:workers"

    def queue_workers(self, queue: str) -> str:
        """Those that consume a queue, likewise."""
        return f"{self.prefix}:workers:{queue}"

    def peaks(self, queue: str) -> str:
        """What the last ended jobs of a queue took at most, the newest first: a list of JSON."""
        return f"{self.prefix}:peaks:{queue}"

    def checkpoint(self, job_id: str) -> str:
        """The stored workspace of a job that has not ended, or where it is: a hash."""
        return f"{self.prefix}:job:{job_id}:checkpoint"

    @property
    def leader(self) -> str:
        """The worker that recovers lost jobs and releases waiting ones: a string."""
        return f"{self.prefix}:leader"

    @property
    def queues(self) -> str:
        """Every Celery queue that a job was ever submitted to: a set."""
        return f"{self.prefix}:queues"

    @property
    def cancellations(self) -> str:
        """Where the ids of running jobs that are to be cancelled are told: a channel."""
        return f"{self.prefix}:cancellations"

    @property
    def breaker(self) -> str:
        """Whether the model API refuses the fleet, and why: a hash."""
        return f"{self.prefix}:breaker"

    @property
    def poison(self) -> str:
        """Messages that were no jobs, the newest first: a list of JSON."""
        return f"{self.prefix}:poison"

    @property
    def fence_counter(self) -> str:
        """The last fencing token given out: a string."""
        return f"{self.prefix}:fence"


def queue_list(queue: str, priority: int) -> str:
    """The Redis list in which kombu keeps a queue's messages of this priority."""
    step = max(step for step in PRIORITY_STEPS if step <= priority)
    return f"{queue}{_PRIORITY_SEPARATOR}{step}" if step else queue
