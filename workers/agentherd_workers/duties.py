"""What a worker does all the time besides its jobs, on the supervisor's event loop."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from agentherd.contract.hosts import WorkerReport
from agentherd.layout import breaker, hosts, queues
from agentherd.layout.operations import run_async
from agentherd_workers import processes
from agentherd_workers.admission.gate import Gate, GateReason
from agentherd_workers.attempt import STOP_FOR, Attempt
from agentherd_workers.breaker import LOOK_EVERY_S as BREAKER_EVERY_S
from agentherd_workers.ceilings.meter import Excess
from agentherd_workers.guard import Guard
from agentherd_workers.host import Host
from agentherd_workers.leader import Leader

log = logging.getLogger(__name__)

MEASURE_EVERY_S = 0.25
"""How often what jobs take is measured."""
LOOK_EVERY_S = 0.5
"""How often queues of larger memory classes are looked at, and whether the gate has changed."""
COLLECT_EVERY_S = 5.0
"""How often ended orphans are looked for."""
SWEEP_EVERY_S = 3600.0
"""How often checkpoints are looked for whose jobs have ended. The worker that ends a job removes
its own."""
PAUSE_S = 1.0
"""After a failure that was not expected."""

Duty = Callable[[], Coroutine[Any, Any, None]]


class Duties:
    """Begun once; they end with the loop.

    Args:
        booked: the attempts that run, by their reservation; changes all the time.
        report: this worker as operators see it.
    """

    def __init__(
        self,
        host: Host,
        gate: Gate,
        guard: Guard,
        booked: Mapping[str, Attempt],
        report: Callable[[], WorkerReport],
    ) -> None:
        self._host = host
        self._gate = gate
        self._guard = guard
        self._booked = booked
        self._report = report
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Begin all of them, each on its own."""
        duties = (
            Leader(self._host).stand,
            self._measure_jobs,
            self._look_at_queues,
            self._look_at_breaker,
            self._announce,
            self._sweep_checkpoints,
            _collect_orphans,
        )
        self._tasks = [asyncio.create_task(_keep_up(duty)) for duty in duties]

    async def _measure_jobs(self) -> None:
        """Hold the ceilings, and tell the book what sessions use."""
        while True:
            await asyncio.sleep(MEASURE_EVERY_S)
            self._guard.keep()
            attempts = dict(self._booked)
            if not attempts:
                continue
            excesses = await asyncio.to_thread(self._measure, attempts)
            for name, excess in excesses.items():
                attempts[name].stop(STOP_FOR[excess.what], excess.detail)

    def _measure(self, attempts: Mapping[str, Attempt]) -> dict[str, Excess]:
        pids_by_mark = processes.by_mark()
        found = {name: attempt.sample(pids_by_mark) for name, attempt in attempts.items()}
        self._gate.measure({name: attempt.memory_bytes for name, attempt in attempts.items()})
        return {name: excess for name, excess in found.items() if excess is not None}

    async def _look_at_queues(self) -> None:
        """Tell the gate which queues of larger classes hold messages."""
        least = min(self._gate.ceilings.values())
        larger = [queue for queue, size in self._gate.ceilings.items() if size > least]
        while larger:
            with suppress(RedisError, OSError):
                waiting = await run_async(queues.with_messages(larger), self._host.redis)
                self._gate.note_waiting(waiting)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look_at_breaker(self) -> None:
        """Learn how the breaker stands; while it is open, perhaps get leave to try one job."""
        probe_ms = int(self._host.settings.breaker_probe_s * 1000)
        while True:
            with suppress(RedisError, OSError):
                wants = self._gate.state.reason is GateReason.BREAKER  # and nothing else
                report, granted = await run_async(
                    breaker.look(
                        self._host.keys, self._host.worker, wants=wants, probe_ms=probe_ms
                    ),
                    self._host.redis,
                )
                self._host.breaker.note(report)
                if granted:
                    self._host.breaker.allow_probe()
            await asyncio.sleep(BREAKER_EVERY_S)

    async def _sweep_checkpoints(self) -> None:
        """Remove what is stored outside of Redis for jobs that have ended."""
        checkpoints = self._host.checkpoints
        while True:
            try:
                await checkpoints.sweep()
            except Exception as error:  # fsspec's have no common class
                log.warning("checkpoints not swept: %s", checkpoints.shown(error))
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _announce(self) -> None:
        """Tell the fleet that this worker lives, and how its gate stands."""
        while True:
            with suppress(RedisError, OSError):
                # In a thread: it asks the host's book, which another worker may hold.
                report = await asyncio.to_thread(self._report)
                await run_async(hosts.announce(self._host.keys, report), self._host.redis)
            shown = self._gate.state.since_s
            again_s = time.monotonic() + hosts.REPORT_EVERY_S
            while self._gate.state.since_s == shown and time.monotonic() < again_s:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_S)  # it changes in another thread


async def _keep_up(duty: Duty) -> None:
    """Do it for ever: what it does not expect may end one round of it, not the duty."""
    while True:
        try:
            return await duty()
        except Exception:
            log.exception("%s failed and begins again", getattr(duty, "__name__", duty))
            await asyncio.sleep(PAUSE_S)


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
