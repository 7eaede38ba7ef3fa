"""What may happen to the workers of a fleet, and to what they depend on."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random

import psutil

from agentherd_workers.devkit.proxy import Proxy
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.processes import mark_of
from drills.fleet import DrillBroken, Fleet, await_

_END_S = 60.0
_LOG_CHARS = 3000
_DOWN_S = 2.0
"""A worker that died is started again within this."""


class Station:
    """A place where one worker runs, and the next one when that has died.

    It has a way of its own to Redis, which can be cut.
    """

    def __init__(self, fleet: Fleet, proxy: Proxy, chance: Random) -> None:
        self._fleet = fleet
        self._proxy = proxy
        self.chance = chance
        self.worker = self.start()

    def start(self) -> WorkerProcess:
        """Start a worker here."""
        url = f"redis://127.0.0.1:{self._proxy.port}/0"
        self.worker = self._fleet.start_worker(redis_url=url)
        return self.worker

    def check(self, after: str) -> None:
        """A worker must survive all but its own end."""
        if not self.worker.is_running:
            log = self.worker.output()[-_LOG_CHARS:]
            raise DrillBroken(f"a worker ended by itself after: {after}\n{log}")

    def cut_off(self, for_s: float) -> None:
        """Keep the worker from Redis for so long."""
        self._proxy.cut()
        try:
            time.sleep(for_s)
        finally:
            self._proxy.restore()


@dataclass(frozen=True)
class Hit:
    """What happened to a worker, and when."""

    trouble: str
    worker_pid: int
    at_ms: int
    """Unix time."""
    ends_leases: bool
    """The jobs that ran there must go on elsewhere."""


Trouble = Callable[[Station, float], bool]
"""Causes it and mends it again, given the lease's length; whether leases must have ended."""


def _kill_worker(station: Station, _lease_s: float) -> bool:
    station.worker.kill()
    time.sleep(station.chance.uniform(0, _DOWN_S))
    station.start()
    return True


def _kill_cli(station: Station, _lease_s: float) -> bool:
    """One of the worker's agents."""
    started = psutil.Process(station.worker.pid).children()
    clis = [child for child in started if mark_of(child.pid) is not None]
    if clis:
        with suppress(psutil.NoSuchProcess):
            station.chance.choice(clis).kill()
    return False


def _stop_worker(station: Station, lease_s: float) -> bool:
    """Past its lease, then let it go on."""
    os.kill(station.worker.pid, signal.SIGSTOP)
    try:
        time.sleep(lease_s + station.chance.uniform(0.5, 4.0))
    finally:
        os.kill(station.worker.pid, signal.SIGCONT)
    return True


def _shut_down(station: Station, _lease_s: float) -> bool:
    os.kill(station.worker.pid, signal.SIGTERM)
    await_(lambda: not station.worker.is_running, "a worker that was told to end has ended", _END_S)
    station.start()
    return False


def _cut_off(station: Station, lease_s: float) -> bool:
    for_s = station.chance.choice((1.0, 3.0, lease_s, station.chance.uniform(lease_s, 30.0)))
    station.cut_off(for_s)
    return for_s > lease_s


TROUBLES: dict[str, Trouble] = {
    "worker SIGKILL": _kill_worker,
    "CLI SIGKILL": _kill_cli,
    "worker SIGSTOP past its lease": _stop_worker,
    "worker SIGTERM": _shut_down,
    "cut off from Redis": _cut_off,
}


class Chaos:
    """Causes trouble at random moments, at several stations at once, until `end`.

    What a thread started dies with it (parent-death signal), so these stay until the block's end.
    """

    def __init__(self, fleet: Fleet, stations: list[Station], *, lease_s: float) -> None:
        self.hits: list[Hit] = []
        self.redis_restarts = 0
        self._fleet = fleet
        self._lease_s = lease_s
        self._calm = threading.Event()
        self._leave = threading.Event()
        self._errors: list[BaseException] = []
        works: list[Callable[[], None]] = [self._restart_redis]
        works += [partial(self._trouble, station) for station in stations]
        self._mended = threading.Barrier(len(works) + 1)
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]

    def __enter__(self) -> "Chaos":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._calm.set()
        self._mended.abort()
        self._leave.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Raise what went wrong with the drill itself."""
        for error in self._errors:
            raise error

    def end(self) -> None:
        """No more trouble; all is mended when this returns."""
        self._calm.set()
        self._mended.wait()
        self.check()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._errors.append(error)
        with suppress(threading.BrokenBarrierError):
            self._mended.wait()
        self._leave.wait()

    def _trouble(self, station: Station) -> None:
        while not self._calm.wait(station.chance.uniform(2.0, 8.0)):
            name = station.chance.choice(sorted(TROUBLES))
            pid, at_ms = station.worker.pid, int(time.time() * 1000)
            ends_leases = TROUBLES[name](station, self._lease_s)
            self.hits.append(Hit(name, pid, at_ms, ends_leases))
            station.check(name)

    def _restart_redis(self) -> None:
        while not self._calm.wait(self._fleet.chance.uniform(15.0, 30.0)):
            if self._fleet.chance.random() < 0.5:
                self._fleet.redis.kill()
            self._fleet.redis.restart()
            self.redis_restarts += 1
