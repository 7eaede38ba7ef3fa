"""The Celery side of the gate: keeps the event loop turning, and shows the gate's state."""

import queue
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

if TYPE_CHECKING:
    from agentherd_workers.admission.gate import Gate

TICK_S = 0.25
"""A closed gate is looked at this often."""


class GateStep(bootsteps.StartStopStep):
    """A step of the worker's consumer, started again after each reconnect."""

    requires = (Tasks,)

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Make the loop turn now and then, and at once when something was given back.

        After each turn the queues are offered anew (kombu's on_poll_start). While the worker
        drains, the loop turns on: it answers pings, and acknowledges what ends.
        """
        gate = _gate(consumer)
        supervisor = consumer.app.supervisor
        closed = False

        def turn() -> None:
            nonlocal closed
            if not supervisor.is_draining:
                gate.turn()
            elif not closed:
                closed = True
                self.close(consumer)

        hub.call_repeatedly(TICK_S, turn)
        gate.wake = lambda: hub.call_soon(turn)

    def info(self, consumer: Any) -> dict[str, Any]:  # type: ignore[override] # celery-types
        """What `celery inspect stats` shows."""
        return {"gate": _gate(consumer).report().model_dump(mode="json")}

    def close(self, consumer: Any) -> None:
        """The worker drains or ends: book nothing more, and put back what a last BRPOP pops.

        Nobody would read its reply until the jobs that run have ended.
        """
        _gate(consumer).stop()
        with suppress(queue.Empty, *consumer.connection_errors):
            consumer.task_consumer.cancel()  # what comes now has no taker, and goes back
            channel = consumer.task_consumer.channel
            if channel._in_poll:
                channel._brpop_read()


def _gate(consumer: Any) -> "Gate":
    gate: Gate = consumer.app.supervisor.gate
    return gate
