"""Every agent of this worker process, on one event loop in a thread of its own.

The loop's thread lives as long as the process, because a CLI dies with the *thread* that
started it (parent-death signal, prctl(2)).
"""

import asyncio
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from socket import gethostname
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from agentherd import __version__
from agentherd.contract.hosts import WorkerReport
from agentherd.layout import hosts
from agentherd.layout.keys import Keys
from agentherd.layout.operations import run_async
from agentherd_workers import metrics, processes
from agentherd_workers.admission.capacity import NoCapacity
from agentherd_workers.admission.gate import Gate
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.admission.wiring import capacity_of, classes_of, make_gate
from agentherd_workers.agent.cli import find_cli
from agentherd_workers.agent.outcome import Stop
from agentherd_workers.attempt import Attempt
from agentherd_workers.cancellations import hear_cancellations
from agentherd_workers.ceilings.cgroups import CgroupsUnavailable, choose_cgroups
from agentherd_workers.checkpoints.blobs import Blobs
from agentherd_workers.checkpoints.store import CheckpointStore
from agentherd_workers.concealment import conceal_settings, forbid_inspection
from agentherd_workers.confinement import Means
from agentherd_workers.deadlines import Deadlines
from agentherd_workers.drain import Drain
from agentherd_workers.duties import Duties
from agentherd_workers.guard import Guard
from agentherd_workers.host import Host
from agentherd_workers.intake import Dropped, Intake, Settled
from agentherd_workers.isolation import IsolationUnavailable, choose_isolation
from agentherd_workers.janitor import sweep_leftovers
from agentherd_workers.processes import Marks
from agentherd_workers.roster import Roster
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.workspace import OwnedDirectory, make_root, make_worker_directory

log = logging.getLogger(__name__)
T = TypeVar("T")

SOCKET_TIMEOUT_S = 5.0
RETIRE_S = 2.0
"""How long the fleet may take to hear that the worker ends; it would notice in some seconds."""


reservation: ContextVar[str] = ContextVar("reservation")
"""The RAM that is booked for the job which this thread handles."""


class HostNotReady(RuntimeError):
    """This host can't run agents: no CLI, no workspace root. Says what to change."""


class Supervisor:
    """Runs claimed jobs. Thread-safe; started once, by the worker's pool."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.worker = f"{gethostname()}:{os.getpid()}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="agentherd", daemon=True)
        self._roster = Roster()
        self._directory: OwnedDirectory | None = None
        self._gate: Gate | None = None
        self._marks = Marks()
        self._guard: Guard | None = None
        self._intake: Intake | None = None
        self._capacity: dict[str, int] = {}
        self._started_at_ms = int(time.time() * 1000)
        self._drain = Drain(
            self._roster,
            settings.drain_grace_s,
            on_begin=self._on_drain_begin,
            on_end=self._on_drain_end,
        )
        self.is_draining = False
        """The worker takes no more jobs. Read from any thread."""
        self.is_drained = False
        """It has none left, either."""
        self.on_drained: Callable[[], None] = lambda: None
        """Called from the event loop's thread when it has none left; set by the pool."""

    def start(self, slots: int, consumed: Collection[str]) -> None:
        """Make this host ready for so many jobs at once, of these Celery queues.

        Raises:
            HostNotReady: it can't run agents; says what to change.
        """
        conceal_settings()
        forbid_inspection()
        try:
            cli = find_cli(self.settings.cli_path)
            make_root(self.settings.workspace_root)
            self.settings.api_key()
            for path in sweep_leftovers(self.settings.workspace_root):
                log.warning("removed what a dead worker left: %s", path)
            self._directory = make_worker_directory(
                self.settings.workspace_root, self._marks.worker
            )
            means = self._means(cli)
            blobs = self._blobs()
            memory = HostMemory()
            capacity = capacity_of(self.settings, memory)
            classes = classes_of(self.settings, capacity, consumed)
            self._capacity = {name: capacity.agents(name) for name in classes}
            self._gate = make_gate(self.settings, capacity, memory, slots=slots, classes=classes)
        except (OSError, NoCapacity, IsolationUnavailable, CgroupsUnavailable) as error:
            if self._directory is not None:
                self._directory.remove()
            raise HostNotReady(str(error)) from error
        log.info(
            "agents run by %s under isolation %s, ceilings held by %s; this host holds %s",
            cli,
            means.isolation,
            means.ceiling_enforcement,
            ", ".join(f"{count} {memory}" for memory, count in self._capacity.items()),
        )
        # The SDK writes a resumed transcript into Python's temp directory.
        tempfile.tempdir = str(self._directory.path)
        processes.become_subreaper()
        deadlines = Deadlines()
        redis, keys = self._connect(), Keys(self.settings.prefix)
        ttl_ms = int(self.settings.session_ttl_s * 1000)  # without its transcript it is of no use
        self._intake = Intake(
            Host(
                settings=self.settings,
                keys=keys,
                redis=redis,
                launcher=write_launcher(self._directory.path),
                means=means,
                deadlines=deadlines,
                ceilings=self._gate.ceilings,
                breaker=self._gate.breaker,
                checkpoints=CheckpointStore(redis, keys, blobs, ttl_ms=ttl_ms),
                worker=self.worker,
            )
        )
        self._guard = Guard(self._marks.worker, deadlines)
        metrics.observe(self.report)
        self._thread.start()
        duties = Duties(
            self._accepts.host, self.gate, self._guard, self._roster.attempts, self.report
        )
        self._call(duties.begin())
        self._call(self._begin_hearing())

    @property
    def gate(self) -> Gate:
        """What decides whether another message is asked for."""
        if self._gate is None:
            raise HostNotReady("the supervisor was not started")
        return self._gate

    def run(self, job_id: str, document: Any, queue: str) -> Settled | Dropped:
        """Run one job to its end; blocks the calling thread.

        Args:
            document: the job as a plain Celery client sent it, or None: it is in the record.
            queue: the Celery queue that its message came from.
        """
        try:
            return self._call(self._run(job_id, document, queue, reservation.get()))
        except CancelledError:
            return Dropped("the worker ends, and Redis does not answer")

    def stop_job(self, job_id: str, reason: Stop) -> bool:
        """End a job that runs here, soon; False: it does not."""
        return self._call(self._stop_job(job_id, reason))

    def withdraw(self, job_id: str) -> None:
        """End a job that waits as cancelled; returns at once."""
        withdrawn = asyncio.run_coroutine_threadsafe(self._accepts.withdraw(job_id), self._loop)
        withdrawn.add_done_callback(lambda done: _log_failure(job_id, done))

    def begin_drain(self, *, at_once: bool = False) -> None:
        """Take no more jobs; agents end within `drain_grace_s`, or their jobs are given back.

        Returns at once; safe in a signal handler. A second call grants them no more time.
        """
        with suppress(RuntimeError):  # the loop has ended, and with it the last job
            self._loop.call_soon_threadsafe(partial(self._drain.begin, at_once=at_once))

    def drain(self, *, at_once: bool = False) -> None:
        """Return when no job is left here; begins to drain where nobody has."""
        if self._thread.is_alive():
            self._call(self._drain.end(at_once=at_once))

    def stop(self) -> None:
        """Drain, then end the loop and remove the worker's directory."""
        if not self._thread.is_alive():
            return
        self.drain()
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if self._guard is not None:
            self._guard.dismiss()
        if self._directory is not None:
            self._directory.remove()

    def _means(self, cli: Path) -> Means:
        return Means(
            isolation=choose_isolation(self.settings.isolation),
            cgroups=choose_cgroups(self.settings.ceiling_enforcement),
            marks=self._marks,
            cli=cli,
            readable=self.settings.readable_paths,
        )

    def _blobs(self) -> Blobs | None:
        url = self.settings.checkpoint_url
        return None if url is None else Blobs(url, self.settings.prefix)

    def _connect(self) -> Redis:
        redis: Redis = Redis.from_url(
            self.settings.redis_url.get_secret_value(),
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            health_check_interval=30,
            client_name=f"agentherd-worker-{os.getpid()}",
        )
        return redis

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def _accepts(self) -> Intake:
        if self._intake is None:
            raise HostNotReady("the supervisor was not started")
        return self._intake

    async def _run(self, job_id: str, document: Any, queue: str, booked: str) -> Settled | Dropped:
        with self._roster.place(job_id, booked):
            opened = await self._accepts.open(job_id, document, queue)
            if not isinstance(opened, Attempt):
                return opened
            self._roster.run(booked, opened)
            return await self._accepts.close(opened)

    async def _stop_job(self, job_id: str, reason: Stop) -> bool:
        return self._roster.stop_job(job_id, reason)

    async def _begin_hearing(self) -> None:
        host = self._accepts.host
        self._hearing = asyncio.create_task(
            hear_cancellations(
                host.redis,
                host.keys.cancellations,
                lambda job_id: self._roster.stop_job(job_id, Stop.CANCELLED),
            )
        )

    def _on_drain_begin(self) -> None:
        self.is_draining = True
        self.gate.wake()

    def _on_drain_end(self) -> None:
        self.is_drained = True
        self.on_drained()

    def report(self) -> WorkerReport:
        """This worker as operators see it."""
        means = self._accepts.host.means
        return WorkerReport(
            worker=self.worker,
            host=gethostname(),
            version=__version__,
            started_at_ms=self._started_at_ms,
            slots=self.gate.limits.slots,
            running=len(self._roster.attempts),
            capacity=self._capacity,
            mark=self._marks.worker,
            isolation=means.isolation,
            ceiling_enforcement=means.ceiling_enforcement,
            gate=self.gate.report(),
            breaker=self.gate.breaker.report,
        )

    async def _close(self) -> None:
        host = self._accepts.host
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(RETIRE_S):
                await run_async(hosts.retire(host.keys, self.worker, self._capacity), host.redis)
        me = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not me]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await host.redis.aclose()


def _log_failure(job_id: str, withdrawn: "Future[None]") -> None:
    if not withdrawn.cancelled() and (error := withdrawn.exception()) is not None:
        log.error("job %s: could not be withdrawn", job_id, exc_info=error)


def write_launcher(directory: Path) -> Path:
    """The executable that the SDK is given as its CLI; see launcher.py."""
    path = directory / "launch"
    with as_file(files("agentherd_workers") / "launcher.py") as launcher:
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{launcher}" "$@"\n')
    path.chmod(0o500)
    return path
