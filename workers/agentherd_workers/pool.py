"""Celery's threads pool, with what it lacks: terminating one job, and ending all of them."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool  # type: ignore[attr-defined]
from celery.signals import task_revoked
from celery.worker.state import revoked

from agentherd_workers.agent.outcome import Stop
from agentherd_workers.supervisor import HostNotReady

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
        try:
            self.app.supervisor.start()
        except HostNotReady as error:
            raise SystemExit(f"agentherd worker: this host can't run agents: {error}") from error
        task_revoked.connect(self._on_revoked)

    def on_stop(self) -> None:
        """Warm shutdown: wait for the jobs that run."""
        super().on_stop()
        self.app.supervisor.stop()

    def on_terminate(self) -> None:
        """Cold shutdown: give the jobs back to the queue, their agents ended."""
        self.app.supervisor.drain()
        self.on_stop()

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
        """Run a task in a thread, under a ticket that Celery takes for a process id."""
        ticket = next(self._tickets)
        self._jobs[ticket] = str((args or ("", ""))[1])  # Celery's tracer: (name, id, ...)
        future = self.executor.submit(  # type: ignore[attr-defined] # not in celery-types
            apply_target, target, args, kwargs, callback, accept_callback, ticket
        )
        future.add_done_callback(lambda _future: self._jobs.pop(ticket, None))
        return ApplyResult(future)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """End the agent of one job: `revoke(terminate=True)`, Flower's Terminate, cold shutdown.

        Celery calls it in each case alike. Who revokes says so first; a job that nobody
        revoked is given back.
        """
        job_id = self._jobs.get(pid)
        if job_id is not None:
            reason = Stop.CANCELLED if job_id in revoked else Stop.DRAINED
            self.app.supervisor.stop_job(job_id, reason)
