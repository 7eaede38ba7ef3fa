"""The Celery side of the gate: keeps the event loop turning, and shows the gate's state."""

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

        Each turn offers the queues anew (kombu's on_poll_start).
        """
        hub.call_repeatedly(TICK_S, _turn)
        _gate(consumer).wake = lambda: hub.call_soon(_turn)

    def info(self, consumer: Any) -> dict[str, Any]:  # type: ignore[override] # celery-types
        """What `celery inspect stats` shows."""
        return {"gate": _gate(consumer).report().model_dump(mode="json")}

    def shutdown(self, consumer: Any) -> None:
        """The worker ends: book nothing more."""
        _gate(consumer).stop()


def _gate(consumer: Any) -> "Gate":
    gate: Gate = consumer.app.supervisor.gate
    return gate


def _turn() -> None:
    """Nothing: that the loop turns is all."""
