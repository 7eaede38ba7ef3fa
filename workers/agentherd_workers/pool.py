"""Celery's threads pool, with what it lacks: terminating one job, and ending all of them."""

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool  # type: ignore[attr-defined]
from celery.platforms import EX_OK
from celery.signals import task_revoked
from celery.worker import state
from celery.worker.state import revoked

from agentherd_workers.agent.outcome import Stop
from agentherd_workers.shutdown import drain_on_signals
from agentherd_workers.supervisor import HostNotReady, reservation
from agentherd_workers.task import queue_of_request

if TYPE_CHECKING:
    from agentherd_workers.celery_app import HerdApp


class AgentPool(TaskPool):
    """One thread a job, which only waits: the agents live in the supervisor.

    A slot costs 0.1 MB instead of the 20-67 MB of a prefork child, and one supervisor sees
    every agent of the process.
    """

    app: "HerdApp"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tickets = itertools.count(1)
        self._jobs: dict[int, str] = {}

    def on_start(self) -> None:
        """Make the host ready before the first message is taken."""
        self.app.supervisor.on_drained = self._end_when_done
        try:
            self.app.supervisor.start(self.limit, list(self.app.amqp.queues.consume_from))
        except HostNotReady as error:
            raise SystemExit(f"agentherd worker: this host can't run agents: {error}") from error
        task_revoked.connect(self._on_revoked)
        drain_on_signals(self.app.supervisor)

    def on_stop(self) -> None:
        """Shutdown: after a drain no job runs, but `celery control shutdown` comes without one."""
        self.app.supervisor.drain()
        super().on_stop()
        self.app.supervisor.stop()

    def on_terminate(self) -> None:
        """Cold shutdown: give the jobs back to the queue at once."""
        self.app.supervisor.drain(at_once=True)
        self.on_stop()

    def _end_when_done(self) -> None:
        """Let Celery's loop end once the supervisor has no job and no thread tells of one."""
        if self.app.supervisor.is_drained and not self._jobs:
            state.should_stop = EX_OK  # type: ignore[assignment] # celery-types

    def _on_revoked(self, request: Any, terminated: bool, **_: Any) -> None:
        """Celery dropped the message of a job that was revoked before it started."""
        if not terminated:
            self.app.supervisor.withdraw(request.id)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> ApplyResult:
        """Run a task in a thread, now or when there is room for it.

        It runs under a ticket that Celery takes for a process id.
        """
        ticket = next(self._tickets)
        _name, job_id, request, *_more = args or ("", "", {})  # as Celery's tracer takes them
        gate = self.app.supervisor.gate
        ended: Future[None] = Future()

        def start(booked: str) -> None:
            context = copy_context()
            context.run(reservation.set, booked)
            self._jobs[ticket] = str(job_id)
            running = self.executor.submit(  # type: ignore[attr-defined] # not in celery-types
                context.run, apply_target, target, args, kwargs, callback, accept_callback, ticket
            )

            def done(_running: object) -> None:
                self._jobs.pop(ticket, None)
                self._end_when_done()
                gate.release(booked)
                ended.set_result(None)

            running.add_done_callback(done)

        gate.admit(queue_of_request(self.app, request), start)
        return ApplyResult(ended)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """End the agent of one job: `revoke(terminate=True)`, Flower's Terminate, cold shutdown.

        Celery calls it in each case alike. Who revokes says so first; a job that nobody
        revoked is given back.
        """
        job_id = self._jobs.get(pid)
        if job_id is not None:
            reason = Stop.CANCELLED if job_id in revoked else Stop.DRAINED
            self.app.supervisor.stop_job(job_id, reason)
