"""The Celery app: every setting that matters to agents, with its reason."""

from functools import cached_property
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from agentherd.layout.keys import PRIORITY_STEPS, Keys
from agentherd_workers.admission.bootstep import GateStep
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.admission.wiring import capacity_of, slots_of
from agentherd_workers.broker import mend_transport
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.supervisor import Supervisor
from agentherd_workers.task import register

VISIBILITY_TIMEOUT_S = 30 * 24 * 3600
"""Longer than any job, so that no message comes back while its job runs. One that does, as where
another client of this Redis has a shorter one, is refused by the job's record. No job waits for
it: lost ones are recovered from the records (leader.py)."""

_TRANSPORT_OPTIONS = {
    "visibility_timeout": VISIBILITY_TIMEOUT_S,
    "priority_steps": list(PRIORITY_STEPS),
    # The gate. By name: Celery shows these options as JSON.
    "queue_order_strategy": "agentherd_workers.admission.cycle:GatedQueues",
    "socket_keepalive": True,
    "health_check_interval": 10,  # a half-open connection is noticed in twice this
}
_SAME_ON_EVERY_HOST: dict[str, Any] = {
    "broker_transport_options": _TRANSPORT_OPTIONS,
    "result_backend_transport_options": {"visibility_timeout": VISIBILITY_TIMEOUT_S},
    "broker_connection_retry_on_startup": True,
    # A lost connection ends no agent: the record decides who runs a job, not the message. kombu
    # puts the messages of running jobs back into their queues then; the claim refuses those.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A message is acknowledged when its job has ended or been given back, not when it is taken: so
    # one that a dying worker has not claimed yet is still there to be delivered again.
    "task_acks_late": True,
    # Also of a job that failed. Whether another attempt follows is the job's retry policy, and
    # that puts a message of its own into the queue.
    "task_acks_on_failure_or_timeout": True,
    # Off, as by default. It would put a message back where a pool's process is lost; ours has only
    # threads. A job whose whole worker is lost comes back when its lease ends.
    "task_reject_on_worker_lost": False,
    # A worker holds no message that it does not run: the gate asks for one at a time. Celery
    # itself must not count (0): it would stop reading a reply that may hold a message.
    "worker_prefetch_multiplier": 0,
    "worker_pool": "agentherd_workers.pool:AgentPool",
    "task_default_priority": 3,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_track_started": True,
    "worker_send_task_events": True,
    # Prompts don't belong into the result backend: no result_extended.
    "task_store_errors_even_if_ignored": False,
    "worker_hijack_root_logger": True,
}


class HerdApp(Celery):
    """A Celery app with one supervisor of agents."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__("agentherd", set_as_current=True)
        self.settings = settings

    @cached_property
    def supervisor(self) -> Supervisor:
        """The agents of this process; started by the pool."""
        return Supervisor(self.settings)


def create_app(settings: WorkerSettings) -> HerdApp:
    """A Celery app that runs `agentherd.run` on this host."""
    mend_transport()
    app = HerdApp(settings)
    app.conf.update(_SAME_ON_EVERY_HOST, **_of_this_host(settings))
    app.steps["consumer"].add(GateStep)
    register(app)
    return app


def _of_this_host(settings: WorkerSettings) -> dict[str, Any]:
    capacity = capacity_of(settings, HostMemory())
    keys = Keys(settings.prefix)
    url = settings.redis_url.get_secret_value()
    return {
        "broker_url": url,
        "result_backend": url,
        "worker_concurrency": slots_of(settings, capacity),
        "task_queues": [_queue(keys.queue(memory)) for memory in capacity.served],
        "task_default_queue": keys.queue(),
        "result_expires": int(settings.retention_s),
    }


def _queue(name: str) -> Queue:
    """A queue under its own name, as Celery's clients declare it."""
    return Queue(name, Exchange(name), routing_key=name)
