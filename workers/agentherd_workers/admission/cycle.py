"""How kombu is told what to ask Redis for: its `queue_order_strategy` is a class of ours.

kombu's Redis transport asks this object for the queues of its next BRPOP, sends none where
there are none, and tells it from which queue a message came, just before it delivers that
(kombu/transport/redis.py, `_brpop_start` and `_brpop_read`). That is all a gate needs: nothing
is patched, and the reply of a BRPOP that was sent is always read.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from celery import current_app

from agentherd.layout.keys import Keys
from agentherd_workers.admission.gate import Gate

if TYPE_CHECKING:
    from agentherd_workers.celery_app import HerdApp


class GatedQueues:
    """The queues of one channel; those with jobs are offered through the gate.

    Flower and `celery inspect` have channels of this app too, and no gate: they never ask for
    jobs.
    """

    def __init__(self) -> None:
        self._queues: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """The channel's queues changed."""
        self._queues = sorted(queues)

    def consume(self, count: int) -> list[str]:
        """The queues for the next BRPOP, `count` at most; empty: ask for nothing now."""
        jobs = list(filter(_is_job_queue, self._queues[:count]))
        others = [queue for queue in self._queues[:count] if queue not in jobs]
        return (_gate().offer(jobs) if jobs else []) + others

    def rotate(self, last_used: str) -> str:
        """A message came from this queue and is about to be delivered."""
        if _is_job_queue(last_used):
            _gate().arrived(last_used)
        return last_used

    def is_gated(self, queue: str) -> bool:
        """Whether jobs come from this queue."""
        return _is_job_queue(queue)

    def accepts(self) -> bool:
        """Whether a job that was asked for a moment ago is still wanted."""
        return _gate().breaker.refusal() is None

    def owner(self) -> tuple[Keys, str]:
        """The fleet's keys, and the name of this worker in it."""
        app = _app()
        return Keys(app.settings.prefix), app.supervisor.worker


def _is_job_queue(queue: str) -> bool:
    return Keys(_app().settings.prefix).is_queue(queue)


def _gate() -> Gate:
    return _app().supervisor.gate


def _app() -> "HerdApp":
    """The app whose worker this is: kombu makes its queue orders without arguments."""
    return cast("HerdApp", current_app)
