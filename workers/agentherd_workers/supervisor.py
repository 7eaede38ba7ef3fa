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
from contextlib import suppress
from contextvars import ContextVar
from importlib.resources import as_file, files
from pathlib import Path
from socket import gethostname
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from agentherd import __version__
from agentherd.contract.hosts import WorkerReport
from agentherd.layout import hosts, queues, records
from agentherd.layout.keys import Keys
from agentherd.layout.operations import run_async
from agentherd_workers import metrics, processes
from agentherd_workers.admission.capacity import NoCapacity
from agentherd_workers.admission.gate import Gate
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.admission.wiring import capacity_of, classes_of, make_gate
from agentherd_workers.agent.cli import find_cli
from agentherd_workers.agent.outcome import Stop
from agentherd_workers.attempt import STOP_FOR, Attempt, Host
from agentherd_workers.ceilings.cgroups import CgroupsUnavailable, choose_cgroups
from agentherd_workers.ceilings.meter import Excess
from agentherd_workers.concealment import conceal_settings, forbid_inspection
from agentherd_workers.confinement import Means
from agentherd_workers.guard import Guard
from agentherd_workers.intake import Dropped, Intake, Settled
from agentherd_workers.isolation import IsolationUnavailable, choose_isolation
from agentherd_workers.processes import Marks
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.workspace import (
    OwnedDirectory,
    make_root,
    make_worker_directory,
    sweep_leftovers,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

RELEASE_EVERY_S = 1.0
"""How often scheduled jobs are looked for."""
COLLECT_EVERY_S = 5.0
"""How often ended orphans are looked for."""
MEASURE_EVERY_S = 0.25
"""How often what jobs take is measured."""
LOOK_EVERY_S = 0.5
"""How often queues of larger memory classes are looked at, and whether the gate has changed."""
DUTY_PAUSE_S = 1.0
SOCKET_TIMEOUT_S = 5.0


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
        self._running: dict[str, Attempt] = {}
        self._booked: dict[str, Attempt] = {}
        """Those that run, by their reservation."""
        self._directory: OwnedDirectory | None = None
        self._gate: Gate | None = None
        self._marks = Marks()
        self._guard: Guard | None = None
        self._intake: Intake | None = None
        self._capacity: dict[str, int] = {}
        self._started_at_ms = int(time.time() * 1000)
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

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
            self._directory = make_worker_directory(self.settings.workspace_root)
            memory = HostMemory()
            capacity = capacity_of(self.settings, memory)
            classes = classes_of(capacity, consumed)
            self._capacity = {name: capacity.agents(name) for name in classes}
            self._gate = make_gate(self.settings, capacity, memory, slots=slots, classes=classes)
            means = self._means(cli)
        except (OSError, NoCapacity, IsolationUnavailable, CgroupsUnavailable) as error:
            raise HostNotReady(str(error)) from error
        # The SDK writes a resumed transcript into Python's temp directory.
        tempfile.tempdir = str(self._directory.path)
        processes.become_subreaper()
        self._intake = Intake(
            Host(
                settings=self.settings,
                keys=Keys(self.settings.prefix),
                redis=self._connect(),
                launcher=write_launcher(self._directory.path),
                means=means,
                ceilings=self._gate.ceilings,
                worker=self.worker,
            )
        )
        self._guard = Guard(self._marks.worker)
        metrics.observe(self.report)
        self._thread.start()
        duties = (
            self._release_scheduled,
            self._measure_jobs,
            self._look_at_queues,
            self._announce,
            _collect_orphans,
        )
        for duty in duties:
            asyncio.run_coroutine_threadsafe(_keep_up(duty), self._loop)

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
        return self._call(self._run(job_id, document, queue, reservation.get()))

    def stop_job(self, job_id: str, reason: Stop) -> bool:
        """End a job that runs here, soon; False: it does not."""
        return self._call(self._stop_job(job_id, reason))

    def withdraw(self, job_id: str) -> None:
        """End a job that waits as cancelled; returns at once."""
        asyncio.run_coroutine_threadsafe(self._accepts.withdraw(job_id), self._loop)

    def drain(self) -> None:
        """Give every job back to the queue; returns when no agent is left."""
        if not self._thread.is_alive():
            return
        self._draining = True
        self._call(self._stop_all(Stop.DRAINED))

    def stop(self) -> None:
        """Give back what still runs, then end the loop and remove the worker's directory."""
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
        opened = await self._accepts.open(job_id, document, queue)
        if not isinstance(opened, Attempt):
            return opened
        self._running[job_id] = opened
        self._booked[booked] = opened
        self._idle.clear()
        if self._draining:
            opened.stop(Stop.DRAINED)
        try:
            return await self._accepts.close(opened)
        finally:
            del self._running[job_id]
            del self._booked[booked]
            if not self._running:
                self._idle.set()

    async def _stop_job(self, job_id: str, reason: Stop) -> bool:
        attempt = self._running.get(job_id)
        if attempt is not None:
            attempt.stop(reason)
        return attempt is not None

    async def _stop_all(self, reason: Stop) -> None:
        for attempt in self._running.values():
            attempt.stop(reason)
        await self._idle.wait()

    async def _release_scheduled(self) -> None:
        host = self._accepts.host
        while True:
            with suppress(RedisError, OSError):
                await run_async(records.release_due(host.keys), host.redis)
            await asyncio.sleep(RELEASE_EVERY_S)

    async def _measure_jobs(self) -> None:
        """Hold the ceilings, and tell the book what sessions use."""
        while True:
            await asyncio.sleep(MEASURE_EVERY_S)
            if self._guard is not None:
                self._guard.keep()
            if not self._booked:
                continue
            attempts = dict(self._booked)
            try:
                excesses = await asyncio.to_thread(self._measure, attempts)
            except OSError:
                log.exception("jobs could not be measured")
                continue
            for name, excess in excesses.items():
                attempts[name].stop(STOP_FOR[excess.what], excess.detail)

    def _measure(self, attempts: dict[str, Attempt]) -> dict[str, Excess]:
        pids_by_mark = processes.by_mark()
        found = {name: attempt.sample(pids_by_mark) for name, attempt in attempts.items()}
        self.gate.measure({name: attempt.memory_bytes for name, attempt in attempts.items()})
        return {name: excess for name, excess in found.items() if excess is not None}

    async def _look_at_queues(self) -> None:
        """Tell the gate which queues of larger classes hold messages."""
        host = self._accepts.host
        least = min(self.gate.ceilings.values())
        larger = [queue for queue, size in self.gate.ceilings.items() if size > least]
        while larger:
            with suppress(RedisError, OSError):
                waiting = await run_async(queues.with_messages(larger), host.redis)
                self.gate.note_waiting(waiting)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _announce(self) -> None:
        """Tell the fleet that this worker lives, and how its gate stands."""
        host = self._accepts.host
        while True:
            with suppress(RedisError, OSError):
                await run_async(hosts.announce(host.keys, self.report()), host.redis)
            shown = self.gate.state.since_s
            again_s = time.monotonic() + hosts.REPORT_EVERY_S
            while self.gate.state.since_s == shown and time.monotonic() < again_s:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_S)  # it changes in another thread

    def report(self) -> WorkerReport:
        """This worker as operators see it."""
        means = self._accepts.host.means
        return WorkerReport(
            worker=self.worker,
            host=gethostname(),
            version=__version__,
            started_at_ms=self._started_at_ms,
            slots=self.gate.limits.slots,
            running=len(self._running),
            capacity=self._capacity,
            mark=self._marks.worker,
            isolation=means.isolation,
            ceiling_enforcement=means.ceiling_enforcement,
            gate=self.gate.report(),
        )

    async def _close(self) -> None:
        host = self._accepts.host
        with suppress(RedisError, OSError):
            await run_async(hosts.retire(host.keys, self.worker, self._capacity), host.redis)
        me = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not me]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await host.redis.aclose()


async def _keep_up(duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it for ever: what it does not expect may end one round of it, not the duty."""
    while True:
        try:
            return await duty()
        except Exception:
            log.exception("%s failed and begins again", getattr(duty, "__name__", duty))
            await asyncio.sleep(DUTY_PAUSE_S)


async def _collect_orphans() -> None:
    """Collect ended tools that became our children when their CLI died (subreaper).

    Who starts a child here collects it at once, so one that is still there a round later is
    an orphan. Waiting for any child instead would take the CLIs' exit codes from the SDK.
    """
    before: set[int] = set()
    while True:
        ended = await asyncio.to_thread(processes.zombie_children)
        for pid in ended & before:
            processes.reap(pid)
        before = ended
        await asyncio.sleep(COLLECT_EVERY_S)


def write_launcher(directory: Path) -> Path:
    """The executable that the SDK is given as its CLI; see launcher.py."""
    path = directory / "launch"
    with as_file(files("agentherd_workers") / "launcher.py") as launcher:
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{launcher}" "$@"\n')
    path.chmod(0o500)
    return path
